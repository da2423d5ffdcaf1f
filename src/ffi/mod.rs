//! The C ABI: one thin function for each function of `include/elman.h`.
//!
//! A function here stops panics, checks what C can get wrong, makes one call into the library and turns its
//! answer into a status. The rooms: `status` has the codes and each thread's last failure; `boundary` stops
//! panics; `raw` looks at C's pointers, `arrays` at the input and the output of a pass, `sized` at structs
//! that begin with their size; `cancellation` puts off what would unwind a thread; `enums`, `config` and
//! `options` read what C wrote into memory; `library` says what runs; `cell`, `gated`, `sequential`,
//! `import`, `stream`, `tape` and `trainer` are the functions, each beside its handle; `examples` and `fit` are the
//! trainer's on rows as one struct.
//!
//! The documentation of every public item is the header's: cbindgen copies it, so it is written for readers
//! of C. What a caller owes to all functions alike, valid pointers for the lengths given, is said once at the
//! top of the header (`cbindgen.toml`). After a change here, `ELMAN_BLESS=1 cargo test --test ffi_header`
//! writes the header anew.

#![allow(non_camel_case_types, reason = "the names are C's")]
#![allow(rustdoc::broken_intra_doc_links, reason = "[batch] is a shape in the header, no link")]
#![allow(
    clippy::missing_safety_doc,
    reason = "one contract for all functions, stated at the top of the header"
)]

mod arrays;
mod boundary;
mod cancellation;
mod cell;
#[cfg(all(feature = "files", feature = "training"))]
mod checkpoints;
mod config;
mod enums;
#[cfg(feature = "training")]
mod examples;
#[cfg(feature = "files")]
mod export;
#[cfg(feature = "files")]
mod files;
#[cfg(feature = "training")]
mod fit;
mod gated;
#[cfg(feature = "files")]
mod import;
mod library;
mod options;
mod raw;
mod sequential;
mod sized;
mod status;
mod stream;
#[cfg(feature = "training")]
mod tape;
#[cfg(feature = "training")]
mod trainer;

pub use cell::*;
#[cfg(all(feature = "files", feature = "training"))]
pub use checkpoints::*;
pub use config::*;
pub use enums::*;
#[cfg(feature = "training")]
pub use examples::*;
#[cfg(feature = "files")]
pub use export::*;
#[cfg(feature = "files")]
pub use files::*;
#[cfg(feature = "training")]
pub use fit::*;
pub use gated::*;
#[cfg(feature = "files")]
pub use import::*;
pub use library::*;
pub use options::*;
pub use sequential::*;
pub use status::*;
pub use stream::*;
#[cfg(feature = "training")]
pub use tape::*;
#[cfg(feature = "training")]
pub use trainer::*;
