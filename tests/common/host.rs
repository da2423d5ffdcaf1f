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
