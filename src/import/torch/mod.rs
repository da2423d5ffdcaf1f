//! PyTorch's state dicts: safetensors, and the files of `torch.save`.
//!
//! [`file`] gives the tensors of a file by name, [`pickle`] reads the pickles in it without running anything,
//! and [`state_dict`] makes of names and shapes what they do not say outright: which modules there are, and
//! in which order.

mod file;
mod pickle;
mod state_dict;

use super::LoadOptions;
use super::network::Network;
use super::zip::Archive;
use crate::error::Result;

/// The layers of a safetensors file.
pub(super) fn safetensors(bytes: &[u8], options: &LoadOptions) -> Result<Network> {
    state_dict::network(&file::safetensors(bytes)?, false, bytes.len(), options)
}

/// The layers of a zip of `torch.save`.
pub(super) fn zip(archive: &Archive<'_>, bytes: usize, options: &LoadOptions) -> Result<Network> {
    state_dict::network(&file::zip(archive)?, true, bytes, options)
}

/// The layers of a file of `torch.save` that is no zip.
pub(super) fn legacy(bytes: &[u8], options: &LoadOptions) -> Result<Network> {
    state_dict::network(&file::legacy(bytes)?, true, bytes.len(), options)
}
