//! Which instruction set runs: detected once, or forced by `ELMAN_ISA`, and one static table of kernels for each.
//!
//! `ELMAN_ISA=portable|neon|avx2|avx512` forces a backend; a name that is unknown, or that this CPU does not
//! have, is an error wherever a model is built or loaded, never a quiet fallback. The environment is read once
//! a process.

mod wrappers;

use std::sync::atomic::{AtomicPtr, Ordering};

use crate::error::{Error, Result};
pub(crate) use crate::kernels::activation::Function;
pub(crate) use crate::kernels::cells::gru::RESET_GATES;
pub(crate) use crate::kernels::cells::{gate_column, gate_columns, gru, lone, lstm};
#[cfg(feature = "training")]
pub(crate) use crate::kernels::gradient::{LIFT, PackRow, SQUARE_LANES, WeightGradient, even_split};
use crate::kernels::peak::CHAINS;
pub(crate) use crate::kernels::tile::{Block, Epilogue};
pub(crate) use crate::simd::FloatMode;

/// An instruction set that elman has kernels for.
///
/// ```
/// use elman::Isa;
///
/// assert!(Isa::Portable.is_available());
/// assert!(elman::isa()?.is_available());
/// # Ok::<(), elman::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isa {
    /// The `wide` crate's 128-bit vectors: SSE2, NEON, simd128 or scalar code.
    Portable,
    /// NEON of 64-bit ARM.
    Neon,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, DQ, BW and VL.
    Avx512,
}

impl Isa {
    /// Every backend, the plainest first.
    pub const ALL: [Isa; 4] = [Isa::Portable, Isa::Neon, Isa::Avx2, Isa::Avx512];

    /// The name that `ELMAN_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        wrappers::kernel_set(self).is_some()
    }
}

/// The most vectors a panel is wide.
pub(crate) const MAX_WIDTH: usize = 4;

/// Carries out a [`Block`], and steps that follow it; the safety contract is `kernels::tile::steps`'s.
pub(crate) type StepsFn = unsafe fn(&Block, &[usize]);
/// (function, values, rows, columns, stride); the safety contract is `kernels::elementwise::apply`'s.
pub(crate) type ApplyFn = unsafe fn(Function, *mut f32, usize, usize, usize);

/// Carries out steps of one row, of an LSTM or a GRU with reset after; the safety contract is
/// `kernels::cells::lone::steps`'s.
pub(crate) type LoneFn = unsafe fn(&lone::Steps);
/// Carries out a step of an LSTM; the safety contract is `kernels::cells::lstm::step`'s.
pub(crate) type LstmFn = unsafe fn(&lstm::Step);
#[cfg(feature = "training")]
/// Carries out a step of an LSTM backwards; the safety contract is `kernels::cells::lstm::back`'s.
pub(crate) type LstmBackFn = unsafe fn(&lstm::Back);
/// Carries out (a half of) a step of a GRU; the safety contract is that of its namesake in `kernels::cells::gru`.
pub(crate) type GruFn = unsafe fn(&gru::Step);
#[cfg(feature = "training")]
/// Carries out (a part of) a step of a GRU backwards; the safety contract is that of its namesake in
/// `kernels::cells::gru`.
pub(crate) type GruBackFn = unsafe fn(&gru::Back);
#[cfg(feature = "training")]
/// Carries out a [`WeightGradient`]; the safety contract is `kernels::gradient::weight_gradient`'s.
pub(crate) type WeightGradientFn = unsafe fn(&WeightGradient);
#[cfg(feature = "training")]
/// Carries out a [`PackRow`]; the safety contract is `kernels::gradient::pack_row`'s.
pub(crate) type PackRowFn = unsafe fn(&PackRow);
#[cfg(feature = "training")]
/// (function, gradients, results, rows, columns, stride, squares); the safety contract is
/// `kernels::gradient::activation_backward`'s.
pub(crate) type ActivationBackwardFn =
    unsafe fn(Function, *mut f32, *const f32, usize, usize, usize, *mut f32);

/// Everything that depends on the instruction set, in one table.
pub(crate) struct KernelSet {
    pub(crate) isa: Isa,
    /// Floats in a vector.
    pub(crate) lanes: usize,
    /// Vectors in a full panel.
    width: usize,
    /// Full panels that one lone row takes at once: eight vectors of sums keep two ports of latency four busy.
    pub(crate) panels_per_call: usize,
    /// Terms of a panel that stay in the first cache (32 KiB) while many rows pass over them; see
    /// `PackedMatrix::block_depth`.
    pub(crate) depth_in_cache: usize,
    /// For several rows and for one, by vectors in the panel, less one; see [`KernelSet::steps_of`].
    steps: [[Option<StepsFn>; MAX_WIDTH]; 2],
    /// The same for a panel that is a block of gates, by their number less one; see [`KernelSet::block_steps_of`].
    block_steps: [[Option<StepsFn>; MAX_WIDTH]; 2],
    /// Over `panels_per_call` full panels, for lone rows.
    pub(crate) steps_together: StepsFn,
    pub(crate) apply: ApplyFn,
    pub(crate) apply_state: ApplyFn,
    /// Of an LSTM, and of a GRU with reset after, for matrices whose panels are their blocks.
    pub(crate) lone: &'static [LoneFn],
    /// [`multiply_adds`]; the CPU must have the instruction set.
    multiply_adds: unsafe fn(usize),
    pub(crate) lstm: LstmFn,
    #[cfg(feature = "training")]
    pub(crate) lstm_back: LstmBackFn,
    pub(crate) gru: GruFn,
    /// The halves of a step with reset before.
    pub(crate) gru_reset: GruFn,
    pub(crate) gru_update: GruFn,
    #[cfg(feature = "training")]
    pub(crate) gru_back: GruBackFn,
    #[cfg(feature = "training")]
    /// All of a step backwards with reset before but r, and then r.
    pub(crate) gru_back_update: GruBackFn,
    #[cfg(feature = "training")]
    pub(crate) gru_back_reset: GruBackFn,
    #[cfg(feature = "training")]
    pub(crate) weight_gradient: WeightGradientFn,
    /// By vectors in the panel, less one: the most rows of a tile of `weight_gradient`.
    #[cfg(feature = "training")]
    pub(crate) weight_gradient_rows: [usize; MAX_WIDTH],
    #[cfg(feature = "training")]
    pub(crate) pack_row: PackRowFn,
    /// `kernels::gradient::prefetch`; the CPU must have the instruction set.
    #[cfg(feature = "training")]
    pub(crate) prefetch: unsafe fn(*const f32, usize),
    #[cfg(feature = "training")]
    pub(crate) activation_backward: ActivationBackwardFn,
}

impl KernelSet {
    /// The kernels for a matrix of `columns` columns: of narrower vectors, with the same bits, where these
    /// would be half empty. A small network then never uses the widest vectors, the first of which takes ten
    /// nanoseconds more after narrow ones: a step of 1-8-1 took 37 ns, now 33.
    pub(crate) fn for_columns(&'static self, columns: usize) -> &'static Self {
        match self.isa {
            Isa::Avx512 if 2 * columns <= self.lanes => wrappers::kernel_set(Isa::Avx2).unwrap_or(self),
            _ => self,
        }
    }

    /// Columns of a full panel.
    pub(crate) fn panel(&self) -> usize {
        self.width * self.lanes
    }

    /// The kernel for a panel of `width` floats, whole vectors, and steps of one row each or of more.
    #[inline(always)]
    pub(crate) fn steps_of(&self, width: usize, rows: usize) -> StepsFn {
        match self.steps[usize::from(rows == 1)][(width >> self.lanes.trailing_zeros()) - 1] {
            Some(steps) => steps,
            None => unreachable!("a panel of {width} floats"),
        }
    }
}

impl KernelSet {
    /// Whether there are kernels for blocks of `gates` gates as panels: where a tile of them has rows enough.
    pub(crate) fn has_blocks_of(&self, gates: usize) -> bool {
        self.block_steps[0].get(gates - 1).is_some_and(Option::is_some)
    }

    /// As [`steps_of`](Self::steps_of), for a block of `gates` gates.
    #[inline(always)]
    pub(crate) fn block_steps_of(&self, gates: usize, rows: usize) -> StepsFn {
        match self.block_steps[usize::from(rows == 1)][gates - 1] {
            Some(steps) => steps,
            None => unreachable!("a block of {gates} gates"),
        }
    }
}

impl std::fmt::Debug for KernelSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KernelSet({})", self.isa.name())
    }
}

/// The kernels of this process.
pub(crate) fn kernels() -> Result<&'static KernelSet> {
    type Choice = std::result::Result<&'static KernelSet, String>;
    // No lock that another thread could hold when the process forks: threads at once all choose, and one is heard.
    static CHOSEN: AtomicPtr<Choice> = AtomicPtr::new(std::ptr::null_mut());
    let mut chosen = CHOSEN.load(Ordering::Acquire);
    if chosen.is_null() {
        // Each thread that is first leaks some bytes.
        let mine: *mut Choice = Box::leak(Box::new(choose(std::env::var_os("ELMAN_ISA").as_deref())));
        let null = std::ptr::null_mut();
        chosen = match CHOSEN.compare_exchange(null, mine, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => mine,
            Err(other) => other,
        };
    }
    // SAFETY: leaked above by this thread or another, so it lives for ever and never changes.
    let chosen: &'static Choice = unsafe { &*chosen };
    chosen.as_ref().copied().map_err(|why| Error::Unsupported(why.clone()))
}

/// The kernels of every instruction set that this CPU has.
#[cfg(test)]
pub(crate) fn available_kernels() -> impl Iterator<Item = &'static KernelSet> {
    Isa::ALL.into_iter().filter_map(wrappers::kernel_set)
}

/// The instruction set of this process.
///
/// # Errors
/// [`Error::Unsupported`] when `ELMAN_ISA` names a backend that is unknown or that this CPU does not have.
pub fn isa() -> Result<Isa> {
    kernels().map(|kernels| kernels.isa)
}

/// Does independent multiply-adds with vectors of this process's instruction set, `times` on each of twelve,
/// and nothing else. Timed, they tell what one core can do, and so which share of it a model uses. Gives the
/// floating-point operations, two a multiply-add.
///
/// ```
/// let begun = std::time::Instant::now();
/// let operations = elman::multiply_adds(60_000)?;
/// println!("{:.1} GF/s", operations as f64 / begun.elapsed().as_secs_f64() / 1e9);
/// # Ok::<(), elman::Error>(())
/// ```
///
/// # Errors
/// As [`isa`].
pub fn multiply_adds(times: usize) -> Result<u64> {
    let kernels = kernels()?;
    // SAFETY: the table is given away only where the CPU has its instruction set.
    unsafe { (kernels.multiply_adds)(times) };
    Ok(2 * (kernels.lanes * CHAINS) as u64 * times as u64)
}

fn choose(forced: Option<&std::ffi::OsStr>) -> std::result::Result<&'static KernelSet, String> {
    let Some(forced) = forced else {
        return Isa::ALL
            .into_iter()
            .rev()
            .find_map(wrappers::kernel_set)
            .ok_or_else(|| "no kernels".to_owned());
    };
    let name = forced.to_string_lossy();
    let isa = Isa::ALL
        .into_iter()
        .find(|isa| isa.name() == name)
        .ok_or_else(|| format!("ELMAN_ISA is {name:?}; it must be portable, neon, avx2 or avx512"))?;
    wrappers::kernel_set(isa).ok_or_else(|| format!("ELMAN_ISA is {name:?}, which this CPU does not have"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forced_backend_is_taken_or_refused_by_name() {
        for isa in Isa::ALL {
            match choose(Some(isa.name().as_ref())) {
                Ok(kernels) => assert_eq!(kernels.isa, isa),
                Err(why) => assert!(!isa.is_available() && why.contains(isa.name()), "{why}"),
            }
        }
        for wrong in ["", "AVX2", "sse2", "avx512 ", "Neon"] {
            let why = choose(Some(wrong.as_ref())).expect_err("an unknown name must be refused");
            assert!(why.contains(wrong), "{why}");
        }
    }

    #[test]
    fn the_widest_available_backend_is_the_default() {
        let best = Isa::ALL.into_iter().rfind(|isa| isa.is_available()).expect("portable is always there");
        assert_eq!(choose(None).expect("some backend").isa, best);
    }

    #[test]
    fn a_lone_row_s_steps_are_the_formulas_on_every_backend() {
        for kernels in available_kernels() {
            for (&steps, gates) in kernels.lone.iter().zip([4, 3]) {
                lone::tests::check(kernels.lanes, gates, steps);
            }
        }
    }
}
