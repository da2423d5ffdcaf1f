//! One step by hand, of any cell.

use elman::{Error, GruCell, LstmCell, SimpleRnnCell, Weight};

use super::network::{Network, Recurrent};

/// A cell; its states are arrays `[batch, units]`, h before c.
#[derive(Debug)]
pub(crate) enum Cell {
    SimpleRnn(SimpleRnnCell),
    Lstm(LstmCell),
    Gru(GruCell),
}

impl Cell {
    pub(crate) fn new(layer: Recurrent, input_size: usize, seed: u64) -> Result<Self, Error> {
        match layer.elman() {
            elman::Recurrent::SimpleRnn(layer) => {
                SimpleRnnCell::new(layer, input_size, seed).map(Self::SimpleRnn)
            }
            elman::Recurrent::Lstm(layer) => LstmCell::new(layer, input_size, seed).map(Self::Lstm),
            elman::Recurrent::Gru(layer) => GruCell::new(layer, input_size, seed).map(Self::Gru),
            other => panic!("no cell for {other:?}"),
        }
    }

    /// That of a network's first layer, with its weights.
    pub(crate) fn of(network: &Network) -> Self {
        let (layer, _) = network.layers[0].recurrent().expect("the layer is recurrent");
        let mut cell = Self::new(layer, network.input_size, 1).expect("the cell is valid");
        for array in &network.weights[0] {
            cell.set_weight(array.which, &array.values).expect("the weight fits");
        }
        cell
    }

    pub(crate) fn set_weight(&mut self, which: Weight, values: &[f32]) -> Result<(), Error> {
        match self {
            Self::SimpleRnn(cell) => cell.set_weight(which, values),
            Self::Lstm(cell) => cell.set_weight(which, values),
            Self::Gru(cell) => cell.set_weight(which, values),
        }
    }

    /// A value of the weight, to see that it was set.
    pub(crate) fn weight(&self, which: Weight) -> Result<&[f32], Error> {
        match self {
            Self::SimpleRnn(cell) => cell.weight(which),
            Self::Lstm(cell) => cell.weight(which),
            Self::Gru(cell) => cell.weight(which),
        }
        .map(elman::Variable::values)
    }

    /// The states after a step.
    pub(crate) fn step(
        &self,
        x: &[f32],
        before: &[Vec<f32>],
        batch: usize,
        next: &mut [Vec<f32>],
    ) -> Result<(), Error> {
        match (self, before, next) {
            (Self::SimpleRnn(cell), [h], [next]) => cell.step(x, h, batch, next),
            (Self::Lstm(cell), [h, c], [h_next, c_next]) => cell.step(x, [h, c], batch, [h_next, c_next]),
            (Self::Gru(cell), [h], [next]) => cell.step(x, h, batch, next),
            _ => panic!("{} states", before.len()),
        }
    }

    pub(crate) fn step_in_place(
        &self,
        x: &[f32],
        batch: usize,
        states: &mut [Vec<f32>],
    ) -> Result<(), Error> {
        match (self, states) {
            (Self::SimpleRnn(cell), [h]) => cell.step_in_place(x, batch, h),
            (Self::Lstm(cell), [h, c]) => cell.step_in_place(x, batch, h, c),
            (Self::Gru(cell), [h]) => cell.step_in_place(x, batch, h),
            (_, states) => panic!("{} states", states.len()),
        }
    }
}
