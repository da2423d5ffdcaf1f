//! Target-feature wrappers: each generic body compiled with one instruction set's features, and the tables of
//! their addresses.
//!
//! A wrapper is a call boundary, so it stands around a panel or a run of steps, never around a vector. The macro
//! writes wrappers and tables only; every body is in `kernels`.

use super::{Isa, KernelSet};
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
use crate::simd::Neon;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Portable, Simd};

/// The kernels of `isa`, where this CPU has it.
pub(super) fn kernel_set(isa: Isa) -> Option<&'static KernelSet> {
    match isa {
        Isa::Portable => Some(&portable::KERNELS),
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        Isa::Neon => Neon::new().map(|_| &neon::KERNELS),
        #[cfg(not(all(target_arch = "aarch64", target_endian = "little")))]
        Isa::Neon => None,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Avx2::new().map(|_| &avx2::KERNELS),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Avx512::new().map(|_| &avx512::KERNELS),
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx2 | Isa::Avx512 => None,
    }
}

macro_rules! wrappers {
    (
        $(#[$features:meta])?
        $module:ident: $isa:ident, token $token:expr, $simd:ty, panels of $width:literal [$($nv:literal)*],
        blocks of [$($gates:literal)*], lone [$($cell:ident)*], panels_per_call $panels_per_call:literal
    ) => {
        mod $module {
            use super::*;
            #[cfg(feature = "training")]
            use crate::dispatch::{WeightGradient, PackRow};
            use crate::dispatch::{Block, Function, MAX_WIDTH, StepsFn};
            use crate::kernels::cells::{gru, lone, lstm};
            #[cfg(feature = "training")]
            use crate::kernels::gradient;
            use crate::kernels::{elementwise, peak, tile};

            const WIDTH: usize = $width;
            const LANES: usize = <$simd as Simd>::LANES;
            /// 32 KiB of a panel.
            const DEPTH_IN_CACHE: usize = 8192 / (WIDTH * LANES);

            /// # Safety
            /// The CPU must have the features of the wrapper; otherwise as `tile::steps`.
            $(#[$features])?
            unsafe fn steps<const NV: usize, const LONE: bool>(block: &Block, counts: &[usize]) {
                // SAFETY: the features, which the token stands for, and the arrays: the caller's promise.
                unsafe { tile::steps::<_, NV, WIDTH, LONE>($token, block, counts) }
            }

            /// # Safety
            /// The CPU must have the features of the wrapper; otherwise as `elementwise::apply`.
            $(#[$features])?
            unsafe fn apply<const STATE: bool>(
                function: Function,
                values: *mut f32,
                rows: usize,
                columns: usize,
                stride: usize,
            ) {
                // SAFETY: the features, which the token stands for, and the arrays: the caller's promise.
                unsafe { elementwise::apply::<_, STATE>($token, function, values, rows, columns, stride) }
            }

            #[allow(dead_code, reason = "a backend may have no blocks")]
            /// # Safety
            /// The CPU must have the features of the wrapper; otherwise as `lone::steps`.
            $(#[$features])?
            unsafe fn lone<C: lone::Cell>(steps: &lone::Steps) {
                // SAFETY: the caller's promise.
                unsafe { lone::steps::<_, C>($token, steps) }
            }

            /// # Safety
            /// The CPU must have the features of the wrapper; otherwise as `lstm::step`.
            $(#[$features])?
            unsafe fn lstm(step: &lstm::Step) {
                // SAFETY: the caller's promise.
                unsafe { lstm::step($token, step) }
            }

            #[cfg(feature = "training")]
            /// # Safety
            /// The CPU must have the features of the wrapper; otherwise as `lstm::back`.
            $(#[$features])?
            unsafe fn lstm_back(back: &lstm::Back) {
                // SAFETY: the caller's promise.
                unsafe { lstm::back($token, back) }
            }

            /// # Safety
            /// The CPU must have the features of the wrapper; otherwise as `gru::step`.
            $(#[$features])?
            unsafe fn gru(step: &gru::Step) {
                // SAFETY: the caller's promise.
                unsafe { gru::step($token, step) }
            }

            /// # Safety
            /// The CPU must have the features of the wrapper; otherwise as `gru::reset`.
            $(#[$features])?
            unsafe fn gru_reset(step: &gru::Step) {
                // SAFETY: the caller's promise.
                unsafe { gru::reset($token, step) }
            }

            /// # Safety
            /// The CPU must have the features of the wrapper; otherwise as `gru::update`.
            $(#[$features])?
            unsafe fn gru_update(step: &gru::Step) {
                // SAFETY: the caller's promise.
                unsafe { gru::update($token, step) }
            }

            #[cfg(feature = "training")]
            /// # Safety
            /// The CPU must have the features of the wrapper; otherwise as `gru::back`.
            $(#[$features])?
            unsafe fn gru_back<const BEFORE: bool>(back: &gru::Back) {
                // SAFETY: the caller's promise.
                unsafe { gru::back($token, back, BEFORE) }
            }

            #[cfg(feature = "training")]
            /// # Safety
            /// The CPU must have the features of the wrapper; otherwise as `gru::back_reset`.
            $(#[$features])?
            unsafe fn gru_back_reset(back: &gru::Back) {
                // SAFETY: the caller's promise.
                unsafe { gru::back_reset($token, back) }
            }

            #[cfg(feature = "training")]
            /// # Safety
            /// The CPU must have the features of the wrapper; otherwise as `gradient::weight_gradient`.
            $(#[$features])?
            unsafe fn weight_gradient(product: &WeightGradient) {
                // SAFETY: the features, which the token stands for, and the arrays: the caller's promise.
                unsafe { gradient::weight_gradient::<_, WIDTH>($token, product) }
            }

            #[cfg(feature = "training")]
            /// # Safety
            /// The CPU must have the features of the wrapper; otherwise as `gradient::pack_row`.
            $(#[$features])?
            unsafe fn pack_row(row: &PackRow) {
                // SAFETY: the features, which the token stands for, and the arrays: the caller's promise.
                unsafe { gradient::pack_row($token, row) }
            }

            #[cfg(feature = "training")]
            #[allow(unused_unsafe, reason = "the portable token needs no promise")]
            /// # Safety
            /// The CPU must have the features of the wrapper.
            $(#[$features])?
            unsafe fn prefetch(at: *const f32, floats: usize) {
                // SAFETY: the features, which the token stands for: the caller's promise.
                let token = unsafe { $token };
                gradient::prefetch(token, at, floats);
            }

            #[cfg(feature = "training")]
            /// # Safety
            /// The CPU must have the features of the wrapper; otherwise as `gradient::activation_backward`.
            $(#[$features])?
            unsafe fn activation_backward(
                function: Function,
                gradient: *mut f32,
                h: *const f32,
                rows: usize,
                columns: usize,
                stride: usize,
                squares: *mut f32,
            ) {
                // SAFETY: the features, which the token stands for, and the arrays: the caller's promise.
                unsafe { gradient::activation_backward($token, function, gradient, h, rows, columns, stride, squares) }
            }

            #[allow(unused_unsafe, reason = "the portable token needs no promise")]
            /// # Safety
            /// The CPU must have the features of the wrapper.
            $(#[$features])?
            unsafe fn multiply_adds(times: usize) {
                // SAFETY: the features, which the token stands for: the caller's promise.
                let token = unsafe { $token };
                peak::multiply_adds(token, times);
            }

            /// As `steps`, for whole blocks of as many gates.
            ///
            /// # Safety
            /// As `steps`.
            $(#[$features])?
            unsafe fn block_steps<const GATES: usize, const LONE: bool>(block: &Block, counts: &[usize]) {
                // SAFETY: as above.
                unsafe { tile::steps::<_, GATES, GATES, LONE>($token, block, counts) }
            }

            const fn by_gates<const LONE: bool>() -> [Option<StepsFn>; MAX_WIDTH] {
                let mut by_gates: [Option<StepsFn>; MAX_WIDTH] = [None; MAX_WIDTH];
                $(by_gates[$gates - 1] = Some(block_steps::<$gates, LONE>);)*
                by_gates
            }

            const fn by_vectors<const LONE: bool>() -> [Option<StepsFn>; MAX_WIDTH] {
                let mut by_vectors: [Option<StepsFn>; MAX_WIDTH] = [None; MAX_WIDTH];
                $(by_vectors[$nv - 1] = Some(steps::<$nv, LONE>);)*
                by_vectors
            }

            #[cfg(feature = "training")]
            const fn weight_gradient_rows() -> [usize; MAX_WIDTH] {
                let mut by_vectors = [0; MAX_WIDTH];
                $(by_vectors[$nv - 1] = gradient::most_rows(<$simd as Simd>::ACCUMULATORS, $nv);)*
                by_vectors
            }

            pub(super) static KERNELS: KernelSet = KernelSet {
                isa: Isa::$isa,
                lanes: LANES,
                width: WIDTH,
                panels_per_call: $panels_per_call,
                depth_in_cache: DEPTH_IN_CACHE,
                steps: [by_vectors::<false>(), by_vectors::<true>()],
                block_steps: [by_gates::<false>(), by_gates::<true>()],
                steps_together: steps::<{ WIDTH * $panels_per_call }, true>,
                apply: apply::<false>,
                apply_state: apply::<true>,
                lone: &[$(lone::<lone::$cell>),*],
                multiply_adds,
                lstm,
                #[cfg(feature = "training")]
                lstm_back,
                gru,
                gru_reset,
                gru_update,
                #[cfg(feature = "training")]
                gru_back: gru_back::<false>,
                #[cfg(feature = "training")]
                gru_back_update: gru_back::<true>,
                #[cfg(feature = "training")]
                gru_back_reset,
                #[cfg(feature = "training")]
                weight_gradient,
                #[cfg(feature = "training")]
                weight_gradient_rows: weight_gradient_rows(),
                #[cfg(feature = "training")]
                pack_row,
                #[cfg(feature = "training")]
                prefetch,
                #[cfg(feature = "training")]
                activation_backward,
            };
        }
    };
}

wrappers!(portable: Portable, token Portable, Portable, panels of 2 [1 2], blocks of [2], lone [], panels_per_call 4);

// SAFETY of the tokens: a wrapper of these modules is only reached through its table, and `kernel_set` gives
// that away only where the token could be made.
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
wrappers!(
    #[target_feature(enable = "neon")]
    neon: Neon, token Neon::assume(), Neon, panels of 4 [1 2 3 4], blocks of [3 4], lone [Lstm Gru], panels_per_call 2
);
#[cfg(target_arch = "x86_64")]
wrappers!(
    #[target_feature(enable = "avx2,fma")]
    avx2: Avx2, token Avx2::assume(), Avx2, panels of 2 [1 2], blocks of [3 4], lone [Lstm Gru], panels_per_call 4
);
#[cfg(target_arch = "x86_64")]
wrappers!(
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
    avx512: Avx512, token Avx512::assume(), Avx512, panels of 4 [1 2 3 4], blocks of [3 4], lone [Lstm Gru], panels_per_call 2
);
