#![no_main]

elman_fuzz::target!(torch_legacy);
