#![no_main]

elman_fuzz::target!(keras_zip);
