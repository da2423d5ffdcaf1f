//! A layer's arrays: below folders named by class and count (Keras 3), or as a list under the layer's name
//! (before).

use std::collections::{HashMap, HashSet, VecDeque};

use super::super::bad;
use super::super::bytes::shown;
use super::hdf5::{Array, File, Object};
use super::line::Described;
use crate::error::Result;

/// Where weights are.
pub(super) struct Store<'f, 'a> {
    file: &'f File<'a>,
    /// Below which the layers are, and what is there: looked up once, as there may be many.
    root: Object<'a>,
    members: HashMap<&'a str, u64>,
    folders: bool,
}

/// The names that Keras 3 gives to folders: the class in snake case, and a number from the second of a class
/// on.
#[derive(Debug, Default)]
pub(crate) struct Names {
    counts: HashMap<String, usize>,
    given: HashSet<String>,
}

impl Names {
    /// The folder of the next layer of a class, given in snake case.
    pub(crate) fn folder(&mut self, class: &str) -> String {
        let count = self.counts.entry(class.to_owned()).or_default();
        let folder = if *count == 0 { class.to_owned() } else { format!("{class}_{count}") };
        *count += 1;
        self.given.insert(folder.clone());
        folder
    }
}

/// `SimpleRNN` as `simple_rnn`, by Keras's rules.
pub(super) fn snake_case(class: &str) -> String {
    let letters: Vec<char> = class.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut snake = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| letters[at]);
        let next_is_small = letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        let begins =
            letter.is_uppercase() && before.is_some_and(|before| before.is_lowercase() || next_is_small);
        if begins {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

impl<'f, 'a> Store<'f, 'a> {
    fn new(file: &'f File<'a>, root: Object<'a>, folders: bool) -> Result<Self> {
        let members = file.links(&root)?.into_iter().collect();
        Ok(Self { file, root, members, folders })
    }

    /// What is directly below the root under this name.
    fn member(&self, name: &str) -> Result<Option<Object<'a>>> {
        self.members.get(name).map(|&address| self.file.object(address)).transpose()
    }

    /// Keras 3's: `layers/<folder>/…/vars/<n>`, and `_layer_checkpoint_dependencies` of the first ones.
    pub(super) fn folders(file: &'f File<'a>) -> Result<Self> {
        for path in ["layers", "_layer_checkpoint_dependencies"] {
            if let Some(root) = file.find(path)? {
                return Self::new(file, root, true);
            }
        }
        Err(bad("HDF5: there are no layers"))
    }

    /// Either, of a file of weights alone.
    pub(super) fn of_weights(file: &'f File<'a>) -> Result<Self> {
        let root = file.root()?;
        let listed = ["layer_names", "layer_names0"];
        for name in listed {
            if file.texts(&root, name)?.is_some() {
                return Self::new(file, root, false);
            }
        }
        Self::folders(file)
    }

    pub(super) fn has_folders(&self) -> bool {
        self.folders
    }

    /// The older one: `model_weights/<layer>` with the attribute `weight_names`.
    pub(super) fn layers(file: &'f File<'a>) -> Result<Self> {
        let root = file.find("model_weights")?.map_or_else(|| file.root(), Ok)?;
        Self::new(file, root, false)
    }

    /// The arrays of a layer; `folder` is what its folder would be called.
    pub(super) fn of(&self, layer: &Described<'_>, folder: &str) -> Result<Source<'_, 'f, 'a>> {
        if self.folders {
            return Ok(self.of_folder(folder, layer.name));
        }
        self.of_list(layer.name)
    }

    /// The arrays that are listed under a layer's name.
    pub(super) fn of_list(&self, layer: &str) -> Result<Source<'_, 'f, 'a>> {
        let mut arrays = VecDeque::new();
        if let Some(group) = self.member(layer)? {
            for name in self.names(&group, "weight_names")? {
                let found = self.below(&group, &name)?;
                let found = found.ok_or_else(|| {
                    bad(format_args!("HDF5: weight {:?} is missing", shown(name.as_bytes())))
                })?;
                arrays.push_back((name, found));
            }
        }
        Ok(Source { store: self, layer: layer.to_owned(), place: Place::List(arrays) })
    }

    /// The names of the layers, in their order; none where the file has folders.
    pub(super) fn layer_names(&self) -> Result<Vec<String>> {
        if self.folders { Ok(Vec::new()) } else { self.names(&self.root, "layer_names") }
    }

    pub(super) fn of_folder(&self, folder: &str, layer: &str) -> Source<'_, 'f, 'a> {
        Source { store: self, layer: layer.to_owned(), place: Place::Folder(folder.to_owned()) }
    }

    /// A list of names, in one attribute or, where they are many, in several.
    fn names(&self, group: &Object<'a>, attribute: &str) -> Result<Vec<String>> {
        // An empty list is one of numbers.
        match self.file.texts(group, attribute) {
            Ok(Some(names)) => return Ok(names),
            Err(crate::error::Error::Unsupported(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error),
            Ok(None) => {}
        }
        let mut all = Vec::new();
        for part in 0.. {
            match self.file.texts(group, &format!("{attribute}{part}"))? {
                Some(names) => all.extend(names),
                None => break,
            }
        }
        Ok(all)
    }

    /// The object at a path below another one.
    fn below(&self, object: &Object<'a>, path: &str) -> Result<Option<Object<'a>>> {
        let mut parts = path.split('/').filter(|name| !name.is_empty());
        let Some(first) = parts.next() else { return Ok(None) };
        let step = |object: &Object<'a>, name: &str| {
            let links = self.file.links(object)?;
            links
                .iter()
                .find(|(link, _)| *link == name)
                .map(|(_, address)| self.file.object(*address))
                .transpose()
        };
        let mut at = step(object, first)?;
        for name in parts {
            match &at {
                Some(object) => at = step(object, name)?,
                None => return Ok(None),
            }
        }
        Ok(at)
    }

    /// Whether the file has folders with weights of layers that the model does not have.
    pub(super) fn check_folders(&self, names: &Names) -> Result<()> {
        if !self.folders {
            return Ok(());
        }
        for (name, &address) in &self.members {
            let object = self.file.object(address)?;
            if !names.given.contains(*name) && self.has_values(&object, 8)? {
                return Err(bad(format_args!(
                    "the model has no layer for {:?} of the file",
                    shown(name.as_bytes())
                )));
            }
        }
        Ok(())
    }

    /// Whether there are floats anywhere below; random generators have whole numbers.
    fn has_values(&self, object: &Object<'a>, depth: usize) -> Result<bool> {
        if object.is_dataset() {
            return Ok(self.file.floats(object, "").is_ok());
        }
        let Some(depth) = depth.checked_sub(1) else {
            return Err(bad("HDF5: too many groups inside each other"));
        };
        for (_, address) in self.file.links(object)? {
            if self.has_values(&self.file.object(address)?, depth)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The arrays of one layer, on their way out.
pub(super) struct Source<'s, 'f, 'a> {
    store: &'s Store<'f, 'a>,
    layer: String,
    place: Place<'a>,
}

enum Place<'a> {
    Folder(String),
    List(VecDeque<(String, Object<'a>)>),
}

impl Source<'_, '_, '_> {
    /// The layer's name, for messages.
    pub(super) fn layer(&self) -> String {
        shown(self.layer.as_bytes())
    }

    /// Arrays that a list has left; a folder does not say.
    pub(super) fn left(&self) -> Option<usize> {
        match &self.place {
            Place::Folder(_) => None,
            Place::List(list) => Some(list.len()),
        }
    }

    /// The next `count` arrays: those of the folder `below` the layer's, or of the list.
    pub(super) fn take(&mut self, below: &str, count: usize) -> Result<Vec<Array>> {
        let layer = shown(self.layer.as_bytes());
        let mut arrays = Vec::new();
        for at in 0..count {
            let (name, found) = match &mut self.place {
                Place::Folder(folder) => {
                    let path = format!("{below}/vars/{at}");
                    let found = match self.store.member(folder)? {
                        Some(member) => self.store.below(&member, &path)?,
                        None => None,
                    };
                    (format!("{folder}/{path}"), found)
                }
                Place::List(list) => match list.pop_front() {
                    Some((name, object)) => (name, Some(object)),
                    None => (format!("weight {at}"), None),
                },
            };
            let found = found.ok_or_else(|| {
                bad(format_args!("layer {layer:?}: {:?} is missing", shown(name.as_bytes())))
            })?;
            arrays.push(self.store.file.floats(&found, &name)?);
        }
        Ok(arrays)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_become_folders_as_in_keras() {
        for (class, folder) in [
            ("Dense", "dense"),
            ("SimpleRNN", "simple_rnn"),
            ("LSTM", "lstm"),
            ("LSTMCell", "lstm_cell"),
            ("GRU", "gru"),
            ("InputLayer", "input_layer"),
            ("BatchNormalization", "batch_normalization"),
            ("TimeDistributed", "time_distributed"),
            ("SpatialDropout1D", "spatial_dropout1d"),
            ("RNN", "rnn"),
            ("StackedRNNCells", "stacked_rnn_cells"),
            ("ReLU", "re_lu"),
            ("CuDNNLSTM", "cu_dnnlstm"),
        ] {
            assert_eq!(snake_case(class), folder);
        }
        let mut names = Names::default();
        assert_eq!(["a", "b", "a", "a"].map(|class| names.folder(class)), ["a", "b", "a_1", "a_2"]);
    }
}
