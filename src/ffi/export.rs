//! Models for other frameworks.

use std::ffi::c_char;

use super::boundary::boundary;
use super::cancellation::uncancelled;
use super::enums::unknown;
use super::raw::path;
use super::sequential::{elman_sequential, reading};
use super::status::{Failure, elman_status};
use crate::export::Format;

/// A kind of file that elman_sequential_export writes: one of the ELMAN_FORMAT_ constants.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct elman_format(pub u32);

/// What elman_sequential_save writes.
pub const ELMAN_FORMAT_ELMAN: elman_format = elman_format(0);
/// A state dict of PyTorch, for load_state_dict(torch.load(path, weights_only=True)), or, where the path ends
/// in .safetensors, for load_state_dict(safetensors.torch.load_file(path)).
///
/// The names begin with the layer's number, as those of nn.ModuleList and nn.Sequential do: a list of one
/// module a layer takes it, nn.RNN, nn.LSTM or nn.GRU of one layer with batch_first=True for recurrent ones
/// (3.weight_ih_l0, and 3.weight_ih_l0_reverse with bidirectional=True), nn.Linear for dense ones,
/// nn.Embedding, nn.Dropout; bias=False where the layer has no bias. What a state dict does not say stays
/// with the module's forward: the functions of nn.RNN and behind nn.Linear, which output of a recurrent
/// module goes on, and states that are kept from call to call.
///
/// UNSUPPORTED are what these modules do not have: masks, walking backwards alone, other merge modes than
/// concat, a GRU's reset_after of 0, and other functions inside recurrent layers than theirs. A dense layer
/// without a bias at the bottom has one of zeros in the file, since a matrix alone is what an embedding has.
pub const ELMAN_FORMAT_TORCH: elman_format = elman_format(1);
/// An ONNX model (opset 14), for ONNX Runtime and others, which gives the same results. Its input is x, floats
/// [batch, steps, features], or, where the network begins with an embedding, ids, 64-bit integers [batch,
/// steps]; its output y is as elman_sequential_predict gives it. Of layer i, where it is stateful, the states
/// come in as layers.i.h0 (and .c0) and go out as layers.i.hn (and .cn), [directions, batch, units].
///
/// UNSUPPORTED are masks (mask_zero below a recurrent layer, masking), and networks beyond the 2 GiB that such
/// a file may have.
pub const ELMAN_FORMAT_ONNX: elman_format = elman_format(2);
/// A .weights.h5 file, for load_weights of a Keras 3 model of the same layers; it has their weights alone.
/// UNSUPPORTED are more than 2048 layers with weights.
pub const ELMAN_FORMAT_KERAS_WEIGHTS: elman_format = elman_format(3);

impl elman_format {
    fn read(self) -> Result<Format, Failure> {
        Ok(match self {
            ELMAN_FORMAT_ELMAN => Format::Elman,
            ELMAN_FORMAT_TORCH => Format::Torch,
            ELMAN_FORMAT_ONNX => Format::Onnx,
            ELMAN_FORMAT_KERAS_WEIGHTS => Format::KerasWeights,
            elman_format(other) => return Err(unknown("format", other)),
        })
    }
}

/// Writes a network, or its weights, to a file for another framework. The file is there complete or not at
/// all, as with elman_sequential_save, and path is as there. elman_sequential_load reads these files too, but
/// for ELMAN_FORMAT_KERAS_WEIGHTS, which elman_sequential_load_weights reads.
///
/// Fails with NOT_BUILT, IO, OUT_OF_MEMORY, INVALID_ARGUMENT (a format that is none; a path that is not UTF-8
/// where it must be), UNSUPPORTED (something that the format cannot say: elman_last_error has the layer, the
/// attribute and its value; elman_sequential_drop_weights has freed the weights; a library built without the
/// framework's files).
///
/// Threads: any number at once on one network. pthread_cancel acts after the call, not in it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_export(
    network: *const elman_sequential,
    path: *const c_char,
    format: elman_format,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let network = unsafe { reading(network) }?;
        // SAFETY: nul-terminated: the contract at the top of the header.
        let path = unsafe { self::path(path) }?;
        let format = format.read()?;
        uncancelled(|| network.export(path, format))?;
        Ok(())
    })
}
