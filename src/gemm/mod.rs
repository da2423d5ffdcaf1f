//! Blocked products over packed matrices: packing, the way over panels and terms, output tiles.
//!
//! A matrix `B [depth, columns]` is packed once into panels of `KernelSet::panel` columns: for each term the
//! panel's columns side by side, padded to whole vectors, so that a tile reads it in one forward sweep and
//! there are no scalar tails. `c = init + a·B` then goes over the panels; within a panel, blocks of terms
//! that stay in a cache while all rows pass over them (`PackedMatrix::block_depth`); within a block, tiles.
//!
//! The order of panels, the blocks of terms and the tiles change no bit: partial sums go to memory and come
//! back as they are. Only [`segments`] change the order of the terms, and they depend on the layer's shape
//! alone.

mod packed;
mod product;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(feature = "training")]
mod transposed;

pub(crate) use packed::{PackedMatrix, gated_segments};
pub(crate) use product::{
    Init, Pass, Rows, block_of, calls_of_lone_row, for_lone_row, multiply, multiply_block,
    multiply_by_panels, over_panels, over_small_panels,
};
#[cfg(feature = "training")]
pub(crate) use transposed::{Copies, Left, Terms, multiply_over_rows};
