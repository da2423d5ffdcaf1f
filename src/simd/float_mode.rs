//! How this thread's floating-point unit rounds, and what it does with denormal numbers.

/// A thread's control word: MXCSR on x86, FPCR on 64-bit ARM; elsewhere nothing that a host could change in
/// safe ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FloatMode(u64);

impl FloatMode {
    /// This thread's.
    #[inline]
    pub(crate) fn current() -> Self {
        Self(read())
    }

    /// One that was [taken apart](Self::bits).
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// Makes it this thread's until the guard is dropped.
    pub(crate) fn enter(self) -> Restore {
        let before = Self::current();
        if before != self {
            write(self.0);
        }
        Restore(before)
    }
}

/// Gives a thread its own mode back.
pub(crate) struct Restore(FloatMode);

impl Drop for Restore {
    fn drop(&mut self) {
        if FloatMode::current() != self.0 {
            write(self.0.0);
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn read() -> u64 {
    let mut word = 0_u32;
    // SAFETY: stores the control word to memory of its size; every x86-64 has it.
    unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack, preserves_flags)) };
    u64::from(word)
}

#[cfg(target_arch = "x86_64")]
fn write(word: u64) {
    let word = word as u32;
    // SAFETY: a control word that some thread of this process has or had, so no reserved bit is set. Rust
    // code compiled for the default mode computes in it only what it would compute if the host's own thread
    // ran it.
    unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack, preserves_flags)) };
}

#[cfg(target_arch = "aarch64")]
fn read() -> u64 {
    let word: u64;
    // SAFETY: user code may read FPCR.
    unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) word, options(nostack, preserves_flags)) };
    word
}

#[cfg(target_arch = "aarch64")]
fn write(word: u64) {
    // SAFETY: a control word that some thread of this process has or had.
    unsafe { std::arch::asm!("msr fpcr, {}", in(reg) word, options(nostack, preserves_flags)) };
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn read() -> u64 {
    0
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn write(_: u64) {}
