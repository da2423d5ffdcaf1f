#![no_main]

elman_fuzz::target!(rtneural);
