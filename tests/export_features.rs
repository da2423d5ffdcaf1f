//! Which formats a build writes: those of its features, and the others are named.

#![cfg(feature = "files")]

use elman::{Error, Format, Sequential, SimpleRnn};

#[test]
fn a_format_that_was_left_out_is_named() {
    let model = Sequential::new(3).add(SimpleRnn::new(2)).build(1).expect("the layer fits");
    let directory = tempfile::tempdir().expect("a directory");
    for (format, feature, is_there) in [
        (Format::Elman, "files", true),
        (Format::Torch, "torch", cfg!(feature = "torch")),
        (Format::Onnx, "onnx", cfg!(feature = "onnx")),
        (Format::KerasWeights, "keras", cfg!(feature = "keras")),
    ] {
        let path = directory.path().join(feature);
        match model.export(&path, format) {
            Ok(()) => assert!(is_there && path.is_file(), "{format:?}"),
            Err(Error::Unsupported(message)) => {
                assert!(!is_there && message.contains(&format!("`{feature}`")), "{message}");
                assert!(!path.exists());
            }
            Err(other) => panic!("{format:?}: {other:?}"),
        }
    }
}
