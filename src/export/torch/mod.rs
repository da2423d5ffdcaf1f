//! PyTorch's state dicts: safetensors, and the zip of `torch.save`.
//!
//! [`state_dict`](tensors) names the weights as PyTorch's modules do, [`pickle`] describes them as
//! `torch.save` would, and [`zip`] puts both into an archive.

mod pickle;
mod zip;

use std::path::Path;

use super::bytes::Bytes;
use super::tensor::{Tensor, Values};
use super::{refused, unsupported};
use crate::error::Result;
use crate::formats;
use crate::import::GateOrder;
use crate::layers::{Activation, Cell, Layer, MergeMode, Recurrent, Variable, Weight};
use crate::sequential::Sequential;

const FORMAT: &str = "a state dict of PyTorch";

/// Writes the state dict of a model whose weights are there.
pub(super) fn export(model: &Sequential, path: &Path) -> Result<()> {
    let tensors = tensors(model)?;
    let is_safetensors = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("safetensors"));
    let bytes = if is_safetensors { safetensors(&tensors)? } else { zipped(&tensors)? };
    formats::write_file(path, bytes.as_slice())
}

fn safetensors(tensors: &[Tensor<'_>]) -> Result<Bytes> {
    let named = tensors.iter().map(|tensor| (&tensor.name, &tensor.shape));
    let header = formats::safetensors_header(&[("format", "pt")], named)?;
    let data: usize = tensors.iter().map(Tensor::bytes).sum();
    let mut bytes = Bytes::with_room(size_of::<u64>() + header.len() + data)?;
    bytes.u64(header.len() as u64)?;
    bytes.put(&header)?;
    tensors.iter().try_for_each(|tensor| tensor.put(&mut bytes))?;
    Ok(bytes)
}

fn zipped(tensors: &[Tensor<'_>]) -> Result<Bytes> {
    let mut archive = zip::Writer::default();
    archive.add("archive/data.pkl", |to| pickle::write(to, tensors))?;
    archive.add("archive/byteorder", |to| to.put(b"little"))?;
    for (key, tensor) in tensors.iter().enumerate() {
        archive.add(&format!("archive/data/{key}"), |to| tensor.put(to))?;
    }
    archive.add("archive/version", |to| to.put(b"3\n"))?;
    archive.finish()
}

/// The weights of all layers under PyTorch's names.
fn tensors(model: &Sequential) -> Result<Vec<Tensor<'_>>> {
    let mut tensors = Vec::new();
    for (index, layer) in model.layers().iter().enumerate() {
        match layer {
            Layer::Embedding(embedding) => {
                if embedding.mask_zero {
                    return Err(refused(index, layer, "mask_zero", true, FORMAT));
                }
                let table = model.weight(index, Weight::Embedding)?;
                tensors.push(Tensor::new(
                    format!("{index}.weight"),
                    &table.shape(),
                    Values::Plain(table.values()),
                ));
            }
            Layer::Masking(masking) => {
                return Err(refused(index, layer, "mask_value", masking.mask_value, FORMAT));
            }
            Layer::Recurrent(rnn) => {
                if rnn.options().go_backwards {
                    return Err(refused(index, layer, "go_backwards", true, FORMAT));
                }
                check(index, layer, rnn)?;
                add_direction(&mut tensors, model, index, rnn.cell(), false)?;
            }
            Layer::Bidirectional(both) => {
                if both.merge_mode != MergeMode::Concat {
                    return Err(refused(index, layer, "merge_mode", both.merge_mode.name(), FORMAT));
                }
                check(index, layer, &both.layer)?;
                add_direction(&mut tensors, model, index, both.layer.cell(), false)?;
                add_direction(&mut tensors, model, index, both.layer.cell(), true)?;
            }
            Layer::Dense(_) => {
                let kernel = model.weight(index, Weight::Kernel)?;
                let [inputs, units] = kernel.shape();
                tensors.push(Tensor::new(
                    format!("{index}.weight"),
                    &[units, inputs],
                    Values::Transposed(kernel, vec![0]),
                ));
                let bias = match model.weight(index, Weight::Bias) {
                    Ok(bias) => Values::Plain(bias.values()),
                    // A matrix alone, and nothing below it, is what an embedding has.
                    Err(_) if tensors.len() == 1 => Values::Zeros(units),
                    Err(_) => continue,
                };
                tensors.push(Tensor::new(format!("{index}.bias"), &[units], bias));
            }
            Layer::Dropout(_) | Layer::LastStep(_) => {}
        }
    }
    if tensors.is_empty() {
        return Err(unsupported("the model has no weights, and a state dict has nothing else"));
    }
    Ok(tensors)
}

/// Whether PyTorch has a module that computes what this layer does.
fn check(index: usize, layer: &Layer, rnn: &Recurrent) -> Result<()> {
    let [of_gates, of_candidate] = rnn.activations();
    let function = |attribute, found: Activation, allowed: &[Activation]| match allowed.contains(&found) {
        true => Ok(()),
        false => Err(refused(index, layer, attribute, found.name(), FORMAT)),
    };
    match rnn.cell() {
        Cell::SimpleRnn => function("activation", of_candidate, &[Activation::Tanh, Activation::Relu]),
        Cell::Gru { reset_after: false } => Err(refused(index, layer, "reset_after", false, FORMAT)),
        Cell::Lstm | Cell::Gru { reset_after: true } => {
            function("activation", of_candidate, &[Activation::Tanh])?;
            function("recurrent_activation", of_gates, &[Activation::Sigmoid])
        }
    }
}

/// The weights of one half of a recurrent layer, or of all of it.
fn add_direction<'a>(
    tensors: &mut Vec<Tensor<'a>>,
    model: &'a Sequential,
    index: usize,
    cell: Cell,
    backward: bool,
) -> Result<()> {
    let of_half = |which: Weight| if backward { which.backward() } else { which };
    let name = |of: &str| format!("{index}.{of}_l0{}", if backward { "_reverse" } else { "" });
    let order = GateOrder::TORCH.keras_gates(cell);
    for (which, of) in [(Weight::Kernel, "weight_ih"), (Weight::RecurrentKernel, "weight_hh")] {
        let kernel = model.weight(index, of_half(which))?;
        let [inputs, columns] = kernel.shape();
        tensors.push(Tensor::new(name(of), &[columns, inputs], Values::Transposed(kernel, order.clone())));
    }
    if let Ok(bias) = model.weight(index, of_half(Weight::Bias)) {
        for (row, of) in ["bias_ih", "bias_hh"].into_iter().enumerate() {
            let [_, columns] = bias.shape();
            tensors.push(Tensor::new(name(of), &[columns], row_of(bias, row, &order)));
        }
    }
    Ok(())
}

/// A row of a bias: PyTorch has two everywhere, and here most layers have one.
fn row_of<'a>(bias: &'a Variable, row: usize, order: &[usize]) -> Values<'a> {
    let [rows, columns] = bias.shape();
    match row < rows {
        true => Values::Gates(&bias.values()[row * columns..][..columns], order.to_vec()),
        false => Values::Zeros(columns),
    }
}
