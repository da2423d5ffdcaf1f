//! JSON of other frameworks, read with a bound on what it takes.

use serde_json::Value;

use super::bytes::shown;
use super::{bad, unsupported};
use crate::error::Result;

/// Bytes of a description, a hundred times those of a large one: what is read takes some twenty times as
/// many.
const MOST: usize = 1 << 24;

/// Any JSON of at most 128 levels.
pub(super) fn parse(text: &[u8]) -> Result<Value> {
    if text.len() > MOST {
        return Err(unsupported(format_args!("JSON of {} bytes; at most {MOST} are read", text.len())));
    }
    serde_json::from_slice(text).map_err(|error| bad(format_args!("JSON: {error}")))
}

/// A value for messages, cut where it is long.
pub(super) fn said(value: &Value) -> String {
    shown(value.to_string().as_bytes())
}
