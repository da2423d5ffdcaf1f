//! Between Keras's order of gates, where all units of a gate stand together, and the kernels', where all gates of a block of
//! units do.

use crate::dispatch::{gate_column, gate_columns};
use crate::error::Result;
use crate::memory::checked_product;

/// The columns of some gates of `units` units, for vectors of `lanes` lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GateOrder {
    pub(crate) units: usize,
    pub(crate) gates: usize,
    pub(crate) lanes: usize,
}

impl GateOrder {
    /// Columns in the kernels' order, padding among them.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) where they overflow.
    pub(crate) fn columns(&self) -> Result<usize> {
        checked_product("gates", &[self.gates, self.units.saturating_add(self.lanes)])?;
        Ok(gate_columns(self.units, self.gates, self.lanes))
    }

    /// Where the column of `gate` and `unit` stands in the kernels' order.
    pub(crate) fn column(&self, gate: usize, unit: usize) -> usize {
        gate_column(self.units, self.gates, self.lanes, gate, unit)
    }

    /// Runs of columns `(to, from, len)` that stand together in both orders, `from` being counted in a row whose gates from
    /// `first_gate` on are these.
    pub(crate) fn runs(self, first_gate: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let Self { units, gates, lanes } = self;
        let run = move |(first, gate)| {
            let from = (first_gate + gate) * units + first;
            (self.column(gate, first), from, lanes.min(units - first))
        };
        (0..units).step_by(lanes).flat_map(move |first| (0..gates).map(move |gate| (first, gate))).map(run)
    }

    /// One row from Keras's order into the kernels'; padding stays as it is, and an empty row leaves all as it is.
    pub(crate) fn fill_row(&self, to: &mut [f32], from: &[f32]) {
        if !from.is_empty() {
            self.runs(0).for_each(|(at, begin, len)| to[at..at + len].copy_from_slice(&from[begin..][..len]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_the_columns_of_all_units() {
        for (units, gates, lanes) in [(1, 3, 8), (8, 4, 16), (20, 4, 16), (40, 3, 16), (33, 2, 8), (7, 1, 4)]
        {
            let order = GateOrder { units, gates, lanes };
            let mut seen = vec![None; order.columns().expect("small")];
            for (to, from, len) in order.runs(1) {
                (0..len).for_each(|i| assert_eq!(seen[to + i].replace(from + i), None));
            }
            for (gate, unit) in (0..gates).flat_map(|gate| (0..units).map(move |unit| (gate, unit))) {
                assert_eq!(seen[order.column(gate, unit)], Some((gate + 1) * units + unit));
            }
            assert_eq!(seen.iter().flatten().count(), gates * units);
        }
    }
}
