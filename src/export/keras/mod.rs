//! Keras's weights.
use super::unsupported;
use crate::error::Result;
use crate::sequential::Sequential;
use std::path::Path;
pub(super) fn export(_: &Sequential, _: &Path) -> Result<()> {
    Err(unsupported("Keras's files are not written yet"))
}
