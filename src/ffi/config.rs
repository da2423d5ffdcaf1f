//! The configuration of a layer or cell, and what those of all recurrent layers share.

use std::mem::offset_of;

use super::boundary::boundary;
use super::enums::*;
use super::raw::{at_least_one, flag};
use super::sized::{fill, read_fields, size_of_given};
use super::status::{Failure, elman_status};
use crate::layers::{Dense, Embedding, Initializer, SimpleRnn};

/// A way to make initial weights: one of the ELMAN_INITIALIZER_ constants. All are Keras's.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct elman_initializer_kind(pub u32);

/// All 0.
pub const ELMAN_INITIALIZER_ZEROS: elman_initializer_kind = elman_initializer_kind(0);
/// All 1.
pub const ELMAN_INITIALIZER_ONES: elman_initializer_kind = elman_initializer_kind(1);
/// All a.
pub const ELMAN_INITIALIZER_CONSTANT: elman_initializer_kind = elman_initializer_kind(2);
/// Uniform within sqrt(6 / (rows + columns)) of 0.
pub const ELMAN_INITIALIZER_GLOROT_UNIFORM: elman_initializer_kind = elman_initializer_kind(3);
/// Truncated normal with variance 2 / (rows + columns).
pub const ELMAN_INITIALIZER_GLOROT_NORMAL: elman_initializer_kind = elman_initializer_kind(4);
/// Uniform within sqrt(6 / rows) of 0.
pub const ELMAN_INITIALIZER_HE_UNIFORM: elman_initializer_kind = elman_initializer_kind(5);
/// Truncated normal with variance 2 / rows.
pub const ELMAN_INITIALIZER_HE_NORMAL: elman_initializer_kind = elman_initializer_kind(6);
/// Uniform within sqrt(3 / rows) of 0.
pub const ELMAN_INITIALIZER_LECUN_UNIFORM: elman_initializer_kind = elman_initializer_kind(7);
/// Truncated normal with variance 1 / rows.
pub const ELMAN_INITIALIZER_LECUN_NORMAL: elman_initializer_kind = elman_initializer_kind(8);
/// Normal with mean a and standard deviation b, at least 0.
pub const ELMAN_INITIALIZER_RANDOM_NORMAL: elman_initializer_kind = elman_initializer_kind(9);
/// Uniform from a (low) to b (high), which is not below it.
pub const ELMAN_INITIALIZER_RANDOM_UNIFORM: elman_initializer_kind = elman_initializer_kind(10);
/// A random orthogonal matrix times a (the gain; Keras's default is 1), with orthonormal rows where there are
/// more columns. Not for a bias.
pub const ELMAN_INITIALIZER_ORTHOGONAL: elman_initializer_kind = elman_initializer_kind(11);
/// The identity matrix times a (the gain; Keras's default is 1). Not for a bias.
pub const ELMAN_INITIALIZER_IDENTITY: elman_initializer_kind = elman_initializer_kind(12);

/// How a weight starts. A kind that has no use for a or b ignores them; those that it uses must be finite.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct elman_initializer {
    /// One of the ELMAN_INITIALIZER_ constants.
    pub kind: elman_initializer_kind,
    /// The kind's first parameter: value, mean, low or gain.
    pub a: f32,
    /// The kind's second parameter: standard deviation or high.
    pub b: f32,
}

/// What a SimpleRNN layer or cell is: h_t = activation(x_t W + b + h_{t-1} U). Fill it by
/// elman_simple_rnn_config_init, then change what you want; setting every field by hand leaves fields of
/// later versions unset. It is only read during a call; keep or discard it afterwards.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct elman_simple_rnn_config {
    /// Bytes of this struct that are filled; set by elman_simple_rnn_config_init.
    pub struct_size: usize,
    /// Outputs a step, at least 1.
    pub units: usize,
    /// Tanh (the default) or any other but softmax.
    pub activation: elman_activation,
    /// 1: a bias is added (the default).
    pub use_bias: u8,
    /// 1: the layer gives every step's output; 0: the last one's (the default). A cell ignores it.
    pub return_sequences: u8,
    /// 1: the layer walks the time axis from its end, padding included, and its outputs stay in processing
    /// order; default 0. A cell ignores it.
    pub go_backwards: u8,
    /// 1: as in Keras, each predict, run, training step and evaluation begins with the states that the last
    /// one left, unless it is given others or elman_sequential_reset_states has come between; default 0. A
    /// cell and a tape ignore it.
    pub stateful: u8,
    /// 1: a masked step gives zeros; 0: it repeats the previous output (the default). A cell ignores it, and
    /// so does a Bidirectional layer, whose masked steps give zeros.
    pub zero_output_for_mask: u8,
    /// Which driver walks the steps; the results have the same bits. A cell ignores it.
    pub unroll: elman_unroll,
    /// Share of the inputs dropped in training, 0 to 1; default 0. A cell ignores it.
    pub dropout: f32,
    /// Share of the state dropped in training, 0 to 1; default 0. A cell ignores it.
    pub recurrent_dropout: f32,
    /// How the kernel [input, units] starts; default glorot-uniform.
    pub kernel_initializer: elman_initializer,
    /// How the recurrent kernel [units, units] starts; default orthogonal with gain 1.
    pub recurrent_initializer: elman_initializer,
    /// How the bias [units] starts; default zeros.
    pub bias_initializer: elman_initializer,
}

/// Fills `config` with Keras's defaults for a layer of `units` outputs.
///
/// struct_size is `sizeof *config` as your compiler sees it: no more bytes than that are written, so programs
/// compiled against an older header meet a newer library safely, and the other way round.
///
/// Fails with INVALID_ARGUMENT where units is 0 or struct_size does not even hold struct_size and units.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_simple_rnn_config_init(
    config: *mut elman_simple_rnn_config,
    struct_size: usize,
    units: usize,
) -> elman_status {
    boundary(|| {
        at_least_one("units", units)?;
        let least = offset_of!(elman_simple_rnn_config, activation);
        // SAFETY: struct_size bytes to write: the contract at the top of the header.
        unsafe {
            fill("config", config, struct_size, least, |struct_size| elman_simple_rnn_config {
                struct_size,
                ..defaults(units)
            })
        }
    })
}

/// Keras's defaults for the fields that the configurations of all recurrent layers have, and `$name: $value`
/// for a configuration's own.
macro_rules! recurrent_defaults {
    ($config:ident, $units:expr $(, $name:ident: $value:expr)*) => {{
        let initializer = |kind, a| elman_initializer { kind, a, b: 0.0 };
        $config {
            struct_size: size_of::<$config>(),
            units: $units,
            activation: ELMAN_ACTIVATION_TANH,
            use_bias: 1,
            return_sequences: 0,
            go_backwards: 0,
            stateful: 0,
            zero_output_for_mask: 0,
            unroll: ELMAN_UNROLL_AUTO,
            dropout: 0.0,
            recurrent_dropout: 0.0,
            kernel_initializer: initializer(ELMAN_INITIALIZER_GLOROT_UNIFORM, 0.0),
            recurrent_initializer: initializer(ELMAN_INITIALIZER_ORTHOGONAL, 1.0),
            bias_initializer: initializer(ELMAN_INITIALIZER_ZEROS, 0.0),
            $($name: $value,)*
        }
    }};
}
pub(super) use recurrent_defaults;

/// Reads a recurrent layer's configuration over its `$defaults`: the fields, and the layer with those that
/// all recurrent layers have. `$own` are the configuration's own fields.
///
/// `$place` must be NULL or point to as many readable bytes as its first field says.
macro_rules! read_recurrent {
    ($place:expr, $config:ident { $($own:ident),* }, $defaults:expr, $layer:ty) => {{
        // SAFETY: NULL, or readable for the size that stands first: the caller's duty.
        let struct_size = unsafe { size_of_given("config", $place, offset_of!($config, activation)) }?;
        let mut given = $defaults;
        read_fields!($place, struct_size, given: $config {
            units, activation, use_bias, return_sequences, go_backwards, stateful, zero_output_for_mask, unroll,
            dropout, recurrent_dropout, kernel_initializer, recurrent_initializer, bias_initializer, $($own),*
        });
        let layer = <$layer>::new(given.units)
            .activation(given.activation.read()?)
            .use_bias(flag("use_bias", given.use_bias)?)
            .return_sequences(flag("return_sequences", given.return_sequences)?)
            .go_backwards(flag("go_backwards", given.go_backwards)?)
            .stateful(flag("stateful", given.stateful)?)
            .zero_output_for_mask(flag("zero_output_for_mask", given.zero_output_for_mask)?)
            .unroll(given.unroll.read()?)
            .dropout(given.dropout)
            .recurrent_dropout(given.recurrent_dropout)
            .kernel_initializer(given.kernel_initializer.read("kernel_initializer")?)
            .recurrent_initializer(given.recurrent_initializer.read("recurrent_initializer")?)
            .bias_initializer(given.bias_initializer.read("bias_initializer")?);
        (given, layer)
    }};
}
pub(super) use read_recurrent;

fn defaults(units: usize) -> elman_simple_rnn_config {
    recurrent_defaults!(elman_simple_rnn_config, units)
}

/// The configuration that C wrote.
///
/// # Safety
/// `config` is NULL or points to as many readable bytes as its first field says.
pub(super) unsafe fn read_config(config: *const elman_simple_rnn_config) -> Result<SimpleRnn, Failure> {
    let (_, layer) = read_recurrent!(config, elman_simple_rnn_config {}, defaults(0), SimpleRnn);
    Ok(layer)
}

/// What a fully connected layer is. Fill it by elman_dense_config_init, then change what you want. It is only
/// read during a call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct elman_dense_config {
    /// Bytes of this struct that are filled; set by elman_dense_config_init.
    pub struct_size: usize,
    /// Outputs, at least 1.
    pub units: usize,
    /// Any; default linear.
    pub activation: elman_activation,
    /// 1: a bias is added (the default).
    pub use_bias: u8,
    /// How the kernel [input, units] starts; default glorot-uniform.
    pub kernel_initializer: elman_initializer,
    /// How the bias [units] starts; default zeros.
    pub bias_initializer: elman_initializer,
}

/// Fills `config` with Keras's defaults for a fully connected layer of `units` outputs. struct_size is
/// `sizeof *config` as your compiler sees it: no more bytes than that are written.
///
/// Fails with INVALID_ARGUMENT where units is 0 or struct_size does not even hold struct_size and units.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_dense_config_init(
    config: *mut elman_dense_config,
    struct_size: usize,
    units: usize,
) -> elman_status {
    boundary(|| {
        at_least_one("units", units)?;
        let least = offset_of!(elman_dense_config, activation);
        let defaults = |struct_size| elman_dense_config { struct_size, ..dense_defaults(units) };
        // SAFETY: struct_size bytes to write: the contract at the top of the header.
        unsafe { fill("config", config, struct_size, least, defaults) }
    })
}

fn dense_defaults(units: usize) -> elman_dense_config {
    elman_dense_config {
        struct_size: size_of::<elman_dense_config>(),
        units,
        activation: ELMAN_ACTIVATION_LINEAR,
        use_bias: 1,
        kernel_initializer: elman_initializer { kind: ELMAN_INITIALIZER_GLOROT_UNIFORM, a: 0.0, b: 0.0 },
        bias_initializer: elman_initializer { kind: ELMAN_INITIALIZER_ZEROS, a: 0.0, b: 0.0 },
    }
}

/// The configuration that C wrote.
///
/// # Safety
/// `config` is NULL or points to as many readable bytes as its first field says.
pub(super) unsafe fn read_dense(config: *const elman_dense_config) -> Result<Dense, Failure> {
    // SAFETY: the caller's duty is the same.
    let struct_size = unsafe { size_of_given("config", config, offset_of!(elman_dense_config, activation)) }?;
    let mut given = dense_defaults(0);
    read_fields!(config, struct_size, given: elman_dense_config {
        units, activation, use_bias, kernel_initializer, bias_initializer,
    });
    Ok(Dense::new(given.units)
        .activation(given.activation.read()?)
        .use_bias(flag("use_bias", given.use_bias)?)
        .kernel_initializer(given.kernel_initializer.read("kernel_initializer")?)
        .bias_initializer(given.bias_initializer.read("bias_initializer")?))
}

/// What an embedding is. Fill it by elman_embedding_config_init, then change what you want. It is only read
/// during a call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct elman_embedding_config {
    /// Bytes of this struct that are filled; set by elman_embedding_config_init.
    pub struct_size: usize,
    /// Token ids are 0 to vocabulary - 1; at least 1.
    pub vocabulary: usize,
    /// Features of a token, at least 1.
    pub size: usize,
    /// 1: the layers above skip the steps whose token is 0; default 0.
    pub mask_zero: u8,
    /// How the table [vocabulary, size] starts; default uniform from -0.05 to 0.05.
    pub embeddings_initializer: elman_initializer,
}

/// Fills `config` with Keras's defaults for an embedding of `vocabulary` tokens in `size` features.
/// struct_size is `sizeof *config` as your compiler sees it: no more bytes than that are written.
///
/// Fails with INVALID_ARGUMENT where a size is 0 or struct_size does not even hold struct_size, vocabulary
/// and size.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_embedding_config_init(
    config: *mut elman_embedding_config,
    struct_size: usize,
    vocabulary: usize,
    size: usize,
) -> elman_status {
    boundary(|| {
        at_least_one("vocabulary", vocabulary)?;
        at_least_one("size", size)?;
        let least = offset_of!(elman_embedding_config, mask_zero);
        let defaults =
            |struct_size| elman_embedding_config { struct_size, ..embedding_defaults(vocabulary, size) };
        // SAFETY: struct_size bytes to write: the contract at the top of the header.
        unsafe { fill("config", config, struct_size, least, defaults) }
    })
}

fn embedding_defaults(vocabulary: usize, size: usize) -> elman_embedding_config {
    elman_embedding_config {
        struct_size: size_of::<elman_embedding_config>(),
        vocabulary,
        size,
        mask_zero: 0,
        embeddings_initializer: elman_initializer {
            kind: ELMAN_INITIALIZER_RANDOM_UNIFORM,
            a: -0.05,
            b: 0.05,
        },
    }
}

/// The configuration that C wrote.
///
/// # Safety
/// `config` is NULL or points to as many readable bytes as its first field says.
pub(super) unsafe fn read_embedding(config: *const elman_embedding_config) -> Result<Embedding, Failure> {
    // SAFETY: the caller's duty is the same.
    let struct_size =
        unsafe { size_of_given("config", config, offset_of!(elman_embedding_config, mask_zero)) }?;
    let mut given = embedding_defaults(0, 0);
    read_fields!(config, struct_size, given: elman_embedding_config {
        vocabulary, size, mask_zero, embeddings_initializer,
    });
    Ok(Embedding::new(given.vocabulary, given.size)
        .mask_zero(flag("mask_zero", given.mask_zero)?)
        .embeddings_initializer(given.embeddings_initializer.read("embeddings_initializer")?))
}

impl elman_initializer {
    pub(super) fn read(self, what: &str) -> Result<Initializer, Failure> {
        let Self { kind, a, b } = self;
        Ok(match kind {
            ELMAN_INITIALIZER_ZEROS => Initializer::Zeros,
            ELMAN_INITIALIZER_ONES => Initializer::Ones,
            ELMAN_INITIALIZER_CONSTANT => Initializer::Constant { value: a },
            ELMAN_INITIALIZER_GLOROT_UNIFORM => Initializer::GlorotUniform,
            ELMAN_INITIALIZER_GLOROT_NORMAL => Initializer::GlorotNormal,
            ELMAN_INITIALIZER_HE_UNIFORM => Initializer::HeUniform,
            ELMAN_INITIALIZER_HE_NORMAL => Initializer::HeNormal,
            ELMAN_INITIALIZER_LECUN_UNIFORM => Initializer::LecunUniform,
            ELMAN_INITIALIZER_LECUN_NORMAL => Initializer::LecunNormal,
            ELMAN_INITIALIZER_RANDOM_NORMAL => Initializer::RandomNormal { mean: a, stddev: b },
            ELMAN_INITIALIZER_RANDOM_UNIFORM => Initializer::RandomUniform { low: a, high: b },
            ELMAN_INITIALIZER_ORTHOGONAL => Initializer::Orthogonal { gain: a },
            ELMAN_INITIALIZER_IDENTITY => Initializer::Identity { gain: a },
            elman_initializer_kind(other) => {
                return Err(unknown(&format!("{what} kind"), other));
            }
        })
    }
}
