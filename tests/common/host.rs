//! Hosts that change the processor's ways.

/// Calls `run` as a host does that has set flush-to-zero and denormals-are-zero.
#[cfg(target_arch = "x86_64")]
pub(crate) fn flushing(run: impl FnOnce()) {
    let mut before = 0_u32;
    // SAFETY: stores the control word to memory of its size.
    unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut before, options(nostack)) };
    let flush = before | 0x8040;
    // SAFETY: a valid control word, which the next block takes back; `run` is what is tested under it.
    unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const flush, options(nostack)) };
    run();
    // SAFETY: the word that was there before.
    unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const before, options(nostack)) };
}

/// Calls `run` as a host does that has set flush-to-zero, of operands too.
#[cfg(target_arch = "aarch64")]
pub(crate) fn flushing(run: impl FnOnce()) {
    let before: u64;
    // SAFETY: user code may read FPCR.
    unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) before, options(nostack)) };
    let flush = before | 1 << 24;
    // SAFETY: a valid control word, which the next block takes back; `run` is what is tested under it.
    unsafe { std::arch::asm!("msr fpcr, {}", in(reg) flush, options(nostack)) };
    run();
    // SAFETY: the word that was there before.
    unsafe { std::arch::asm!("msr fpcr, {}", in(reg) before, options(nostack)) };
}
