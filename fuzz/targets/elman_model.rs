#![no_main]

elman_fuzz::target!(elman_model);
