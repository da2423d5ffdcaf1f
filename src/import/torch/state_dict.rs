//! From names and shapes of tensors to a line of layers.
//!
//! A state dict has the weights of modules, and neither their kinds nor what stands between them. Names tell
//! recurrent modules, shapes the others. Modules that are named by numbers, as in `nn.Sequential`, stand in
//! their order. `torch.save` keeps the order in which modules were made; a safetensors file does not, and
//! there the one order in which the modules fit one behind the other is taken.

use std::collections::BTreeMap;

use super::super::bytes::shown;
use super::super::network::{Affine, Cell, Direction, GateOrder, Handed, Matrix, Network, Part, Rnn};
use super::super::{LoadOptions, Output, bad, unsupported};
use super::file::Tensor;
use crate::error::{Error, Result};
use crate::layers::{Activation, MergeMode};

/// PyTorch's default epsilon of batch normalisation, which no file has.
const EPSILON: f64 = 1e-5;

/// The tensors of a module, by the last part of their names.
#[derive(Debug, Default)]
struct Module<'t> {
    name: String,
    tensors: BTreeMap<&'t str, &'t Tensor<'t>>,
}

/// What a module does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Embedding,
    Recurrent,
    Linear,
    Normalization,
}

/// One thing that a module may be: what it reads (nothing, where that is token ids) and what it gives.
#[derive(Clone, Copy, Debug)]
struct Possible {
    role: Role,
    reads: Option<usize>,
    gives: usize,
}

/// The layers of a state dict; `ordered` where its order is the modules'.
pub(super) fn network(
    tensors: &[Tensor<'_>],
    ordered: bool,
    bytes: usize,
    options: &LoadOptions,
) -> Result<Network> {
    let mut modules = modules(tensors, options, bytes)?;
    let number = |module: &Module<'_>| module.name.parse::<u32>().ok();
    let are_numbered = modules.iter().all(|module| number(module).is_some());
    if !ordered && are_numbered {
        modules.sort_by_key(number);
    }
    let possible = modules.iter().map(|module| possible(module)).collect::<Result<Vec<_>>>()?;
    let order = order(&modules, &possible, ordered || are_numbered)?;
    let mut network = Network::default();
    let topmost = order.iter().rposition(|&(_, what)| what.role == Role::Recurrent);
    let mut below: Option<&Module<'_>> = None;
    for (place, &(at, what)) in order.iter().enumerate() {
        let module = &modules[at];
        if place == 0 {
            network.input = what.reads.unwrap_or(1);
        }
        match what.role {
            Role::Embedding => network.push(&module.name, embedding(module)?),
            Role::Recurrent => add_recurrent(&mut network, module, options, Some(place) == topmost)?,
            Role::Linear => {
                if let Some(below) = below {
                    add_between(&mut network, [below, module], options)?;
                }
                network.push(&module.name, linear(module)?);
            }
            Role::Normalization => network.push(&module.name, normalization(module)?),
        }
        below = match what.role {
            Role::Linear => Some(module),
            // Between two linear layers a function stands behind it, if any does.
            Role::Normalization => below,
            Role::Embedding | Role::Recurrent => None,
        };
    }
    network.push("LoadOptions::last", Part::Function(options.last));
    Ok(network)
}

fn add_between(network: &mut Network, [below, above]: [&Module<'_>; 2], options: &LoadOptions) -> Result<()> {
    let activation = options.between.ok_or_else(|| {
        unsupported(format_args!(
            "what stands between {:?} and {:?} is not in the file: name it in the load options (between)",
            shown(below.name.as_bytes()),
            shown(above.name.as_bytes())
        ))
    })?;
    network.push("LoadOptions::between", Part::Function(activation));
    Ok(())
}

/// The modules of the tensors that the options select, in the order of their first tensors.
fn modules<'t>(tensors: &'t [Tensor<'t>], options: &LoadOptions, bytes: usize) -> Result<Vec<Module<'t>>> {
    /// Modules that may be put in order; networks of layers have ten.
    const MOST: usize = 64;
    let mut modules: Vec<Module<'t>> = Vec::new();
    let mut values = 0usize;
    for tensor in tensors {
        let Some(name) = tensor.name.strip_prefix(&options.prefix[..]) else { continue };
        let name = name.strip_prefix('.').unwrap_or(name);
        let (module, leaf) = name.rsplit_once('.').unwrap_or(("", name));
        if leaf == "num_batches_tracked" {
            continue;
        }
        let count = tensor.shape.iter().fold(1, |all: usize, &dim| all.saturating_mul(dim));
        values = values.saturating_add(count);
        let at = modules.iter().position(|known| known.name == module).unwrap_or(modules.len());
        if at == MOST {
            return Err(unsupported(format_args!("more than {MOST} modules: select some by a prefix")));
        }
        if at == modules.len() {
            modules.push(Module { name: module.to_owned(), tensors: BTreeMap::new() });
        }
        modules[at].tensors.insert(leaf, tensor);
    }
    if modules.is_empty() {
        let prefix = shown(options.prefix.as_bytes());
        return Err(bad(format_args!("none of the {} tensors begins with {prefix:?}", tensors.len())));
    }
    // Tensors may share values, and tied weights do; a file that asks for much more has none.
    if values > bytes.saturating_mul(4) {
        return Err(bad(format_args!("the tensors have {values} values in a file of {bytes} bytes")));
    }
    Ok(modules)
}

/// The names of a recurrent module's tensors.
const OF_RECURRENT: [&str; 5] = ["weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh"];

/// What a module may be. A matrix alone may be an embedding or a linear layer without a bias.
fn possible(module: &Module<'_>) -> Result<Vec<Possible>> {
    let shape = |leaf: &str| module.tensors.get(leaf).map(|tensor| &tensor.shape[..]);
    if module.tensors.keys().any(|leaf| OF_RECURRENT.iter().any(|name| leaf.starts_with(name))) {
        let layers = layers(module)?;
        let (Some(first), Some(last)) = (layers.first(), layers.last()) else {
            return Err(refused(module, "weights of no layer"));
        };
        let gives = last.iter().map(Direction::units).sum();
        return Ok(vec![Possible { role: Role::Recurrent, reads: Some(first[0].inputs()), gives }]);
    }
    let known = ["weight", "bias", "running_mean", "running_var"];
    if let Some(leaf) = module.tensors.keys().find(|leaf| !known.contains(leaf)) {
        return Err(refused(module, format_args!("tensor {:?}", shown(leaf.as_bytes()))));
    }
    let normal = shape("running_mean").is_some();
    match (shape("weight"), shape("bias")) {
        (None | Some([_]), _) if normal => {
            let features = shape("running_mean").and_then(|shape| shape.first().copied()).unwrap_or(0);
            Ok(vec![Possible { role: Role::Normalization, reads: Some(features), gives: features }])
        }
        (Some(&[rows, columns]), bias) if !normal => {
            let linear = Possible { role: Role::Linear, reads: Some(columns), gives: rows };
            let embedding = Possible { role: Role::Embedding, reads: None, gives: columns };
            let named = module.name.to_ascii_lowercase().contains("emb");
            Ok(match bias {
                Some(_) => vec![linear],
                None if named => vec![embedding],
                None => vec![embedding, linear],
            })
        }
        (weight, _) => Err(refused(
            module,
            format_args!(
                "a weight of shape {:?} is of no recurrent, linear or embedding module; a prefix selects",
                weight.unwrap_or_default()
            ),
        )),
    }
}

fn refused(module: &Module<'_>, why: impl std::fmt::Display) -> Error {
    unsupported(format_args!("module {:?}: {why}", shown(module.name.as_bytes())))
}

/// The order of the modules, each with what it is in it.
fn order(
    modules: &[Module<'_>],
    possible: &[Vec<Possible>],
    ordered: bool,
) -> Result<Vec<(usize, Possible)>> {
    let mut search = Search { possible, found: Vec::new(), taken: Vec::new(), left: 100_000, most: 2 };
    if ordered {
        search.in_order(0)?;
        if let Some(found) = search.found.pop() {
            return Ok(found);
        }
    }
    // Embedding, recurrent, linear is how nearly all networks are; only where there is none such, others are
    // looked at.
    for sorted in [true, false] {
        search.any_order(sorted)?;
        if search.found.len() > 1 {
            return Err(unsupported(format_args!(
                "modules {:?} fit one behind the other in several orders, and the file does not say in which they stand: \
                 save with torch.save, or select some by a prefix",
                names(modules)
            )));
        }
        if let Some(found) = search.found.pop() {
            return Ok(found);
        }
    }
    Err(unsupported(format_args!(
        "modules {:?} do not fit one behind the other (reads and gives: {}); a prefix selects some",
        names(modules),
        sizes(possible)
    )))
}

fn names(modules: &[Module<'_>]) -> Vec<String> {
    modules.iter().take(8).map(|module| shown(module.name.as_bytes())).collect()
}

fn sizes(possible: &[Vec<Possible>]) -> String {
    let sizes = possible.iter().take(8).map(|possible| match possible[..] {
        [Possible { reads: Some(reads), gives, .. }] => format!("{reads} to {gives}"),
        [Possible { gives, .. }, ..] => format!("ids to {gives}"),
        [] => String::new(),
    });
    sizes.collect::<Vec<_>>().join(", ")
}

/// A search for orders in which modules fit.
struct Search<'p> {
    possible: &'p [Vec<Possible>],
    found: Vec<Vec<(usize, Possible)>>,
    taken: Vec<(usize, Possible)>,
    /// Steps that are left.
    left: usize,
    most: usize,
}

impl Search<'_> {
    fn fits(&self, next: &Possible) -> bool {
        match (self.taken.last(), next.reads) {
            (None, _) => true,
            (Some((_, last)), Some(reads)) => last.gives == reads,
            (Some(_), None) => false,
        }
    }

    /// Modules in the order of the file, each as what fits.
    fn in_order(&mut self, at: usize) -> Result<()> {
        self.step()?;
        let Some(here) = self.possible.get(at) else {
            self.found.push(self.taken.clone());
            return Ok(());
        };
        for &next in here {
            if self.found.is_empty() && self.fits(&next) {
                self.taken.push((at, next));
                self.in_order(at + 1)?;
                self.taken.pop();
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            unsupported("too many modules of equal sizes to find their order: select some by a prefix")
        })?;
        Ok(())
    }

    /// Modules in any order, or `sorted` by their roles.
    fn any_order(&mut self, sorted: bool) -> Result<()> {
        self.step()?;
        if self.taken.len() == self.possible.len() {
            self.found.push(self.taken.clone());
            return Ok(());
        }
        for at in 0..self.possible.len() {
            if self.taken.iter().any(|&(taken, _)| taken == at) {
                continue;
            }
            for &next in &self.possible[at] {
                let rises = self.taken.last().is_none_or(|(_, last)| rank(last.role) <= rank(next.role));
                if self.found.len() < self.most && self.fits(&next) && (rises || !sorted) {
                    self.taken.push((at, next));
                    self.any_order(sorted)?;
                    self.taken.pop();
                }
            }
        }
        Ok(())
    }
}

fn rank(role: Role) -> usize {
    match role {
        Role::Embedding => 0,
        Role::Recurrent => 1,
        Role::Linear | Role::Normalization => 2,
    }
}

fn matrix(tensor: &Tensor<'_>) -> Result<Matrix> {
    match tensor.shape[..] {
        [rows, columns] => Matrix::new(rows, columns, tensor.floats()?),
        _ => Err(bad(format_args!(
            "tensor {:?} should be a matrix, got {:?}",
            shown(tensor.name.as_bytes()),
            tensor.shape
        ))),
    }
}

fn embedding(module: &Module<'_>) -> Result<Part> {
    Ok(Part::Embedding { table: matrix(module.tensors["weight"])?, mask_zero: false })
}

fn linear(module: &Module<'_>) -> Result<Part> {
    let kernel = matrix(module.tensors["weight"])?.transposed()?;
    let bias = module.tensors.get("bias").map(|bias| bias.floats()).transpose()?;
    Ok(Part::Dense { kernel, bias, function: Activation::Linear })
}

fn normalization(module: &Module<'_>) -> Result<Part> {
    let list = |leaf: &str, default: f32, len: usize| -> Result<Vec<f64>> {
        let values = match module.tensors.get(leaf) {
            Some(tensor) => tensor.floats()?,
            None => vec![default; len],
        };
        if values.len() == len {
            Ok(values.into_iter().map(f64::from).collect())
        } else {
            Err(bad(format_args!(
                "module {:?}: {leaf} has {} values",
                shown(module.name.as_bytes()),
                values.len()
            )))
        }
    };
    let len = module.tensors["running_mean"].floats()?.len();
    let [mean, variance] = [list("running_mean", 0.0, len)?, list("running_var", 1.0, len)?];
    let [mut scale, mut shift] = [list("weight", 1.0, len)?, list("bias", 0.0, len)?];
    for i in 0..len {
        scale[i] /= (variance[i] + EPSILON).sqrt();
        shift[i] -= mean[i] * scale[i];
    }
    Ok(Part::Affine(Affine { scale, shift }))
}

/// Each layer of a recurrent module, in each of its directions.
fn layers(module: &Module<'_>) -> Result<Vec<Vec<Direction>>> {
    cells(module).map(|(_, layers)| layers)
}

/// The cell of a recurrent module and its layers.
fn cells(module: &Module<'_>) -> Result<(Cell, Vec<Vec<Direction>>)> {
    if let Some(leaf) = module.tensors.keys().find(|leaf| leaf.starts_with("weight_hr")) {
        return Err(refused(
            module,
            format_args!("tensor {:?}: projections (proj_size)", shown(leaf.as_bytes())),
        ));
    }
    let mut layers = Vec::new();
    let mut cell = None;
    let mut read = 0;
    // A cell by itself has no number.
    let is_cell = module.tensors.contains_key("weight_hh");
    loop {
        let layer = if is_cell { String::new() } else { format!("_l{}", layers.len()) };
        let mut directions = Vec::new();
        for reverse in ["", "_reverse"] {
            let get = |name: &str| module.tensors.get(&*format!("{name}{layer}{reverse}")).copied();
            let Some((input, recurrent)) = get("weight_ih").zip(get("weight_hh")) else { break };
            let (input, recurrent) = (matrix(input)?, matrix(recurrent)?);
            let this = cell_of(module, &recurrent)?;
            if *cell.get_or_insert(this) != this {
                return Err(bad(format_args!(
                    "module {:?}: layers of several kinds",
                    shown(module.name.as_bytes())
                )));
            }
            let biases = [get("bias_ih"), get("bias_hh")].map(|bias| bias.map(Tensor::floats).transpose());
            let [first, second] = biases;
            let (first, second) = (first?, second?);
            read += 2 + usize::from(first.is_some()) + usize::from(second.is_some());
            let biases = first.as_deref().zip(second.as_deref()).map(|(first, second)| [first, second]);
            directions.push(Direction::from_rows(this, GateOrder::TORCH, [&input, &recurrent], biases)?);
        }
        if directions.is_empty() {
            break;
        }
        layers.push(directions);
        if is_cell {
            break;
        }
    }
    if read != module.tensors.len() {
        let leaves: Vec<_> = module.tensors.keys().take(8).map(|leaf| shown(leaf.as_bytes())).collect();
        return Err(refused(
            module,
            format_args!("{read} of the tensors {leaves:?} are a recurrent module's"),
        ));
    }
    let cell = cell.ok_or_else(|| refused(module, "weights of no layer"))?;
    Ok((cell, layers))
}

/// A cell by its gates: rows over columns of `weight_hh`.
fn cell_of(module: &Module<'_>, recurrent: &Matrix) -> Result<Cell> {
    let (rows, columns) = (recurrent.rows(), recurrent.columns());
    match rows.checked_div(columns).filter(|gates| gates * columns == rows) {
        Some(1) => Ok(Cell::SimpleRnn),
        Some(3) => Ok(Cell::Gru { reset_after: true }),
        Some(4) => Ok(Cell::Lstm),
        _ => Err(refused(module, format_args!("weight_hh of {rows} x {columns} is of no RNN, GRU or LSTM"))),
    }
}

/// The layers of a recurrent module; the last one of the topmost module hands on what the options say.
fn add_recurrent(
    network: &mut Network,
    module: &Module<'_>,
    options: &LoadOptions,
    topmost: bool,
) -> Result<()> {
    let (cell, layers) = cells(module)?;
    let last = layers.len() - 1;
    for (at, directions) in layers.into_iter().enumerate() {
        let name = match module.name.as_str() {
            "" => format!("layer {at}"),
            name => format!("{}, layer {at}", shown(name.as_bytes())),
        };
        let mut directions = directions.into_iter();
        // A layer has one at least.
        let Some(forward) = directions.next() else { continue };
        let mut rnn = Rnn {
            backward: directions.next().map(|half| (half, MergeMode::Concat)),
            ..Rnn::new(cell, forward)
        };
        if cell == Cell::SimpleRnn {
            rnn.activation = options.activation;
        }
        let output = if topmost && at == last { options.output } else { Output::Sequence };
        if output == Output::LastState {
            rnn.handed = Handed::LastState;
        }
        network.push(&name, Part::Rnn(Box::new(rnn)));
        if output == Output::LastStep {
            network.push(&name, Part::LastStep);
        }
    }
    Ok(())
}
