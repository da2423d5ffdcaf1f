//! Blocked products over packed matrices: packing, the walk over panels and terms, output tiles.
//!
//! A matrix `B [terms, columns]` is packed once into panels of `KernelSet::panel` columns: for each term the panel's
//! columns side by side, padded to whole vectors, so that a tile reads it in one forward sweep and there are no
//! scalar tails. `c = init + a·B` then walks the panels; within a panel, blocks of terms that stay in the first cache
//! while all rows pass over them; within a block, tiles.
//!
//! The order of panels, the blocks of terms and the tiles change no bit: partial sums go to memory and come back as
//! they are. Only [`segments`] change the order of the terms, and they depend on the layer's shape alone.

mod packed;
mod product;
#[cfg(feature = "training")]
mod transposed;

pub(crate) use packed::{PackedMatrix, gated_segments};
pub(crate) use product::{
    Init, Rows, block_of, calls_of_lone_row, for_lone_row, multiply, recur, walk, walk_by_panels, walk_share,
};
#[cfg(feature = "training")]
pub(crate) use transposed::{Copies, Terms, multiply_over_rows};
