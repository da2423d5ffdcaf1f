//! The sources of the thread team, and of what it asks the machine for, under loom; see `sequence::parallel`.
#![cfg(all(loom, test))]
// What only asks for the time is not modelled.
#![allow(dead_code)]

mod dispatch {
    pub(crate) use crate::float_mode::FloatMode;
}
#[path = "../../../src/simd/float_mode.rs"]
mod float_mode;
mod process {
    pub(crate) use crate::time::thread_time;
}
mod sequence;
#[path = "../../../src/process/time.rs"]
mod time;
