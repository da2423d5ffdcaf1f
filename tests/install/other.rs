//! Another library in Rust, which brings a standard library of its own.

/// The sum of 0 to n - 1, counted by a thread; 99 where a panic was caught.
#[unsafe(no_mangle)]
pub extern "C" fn other_sum(n: u32) -> u32 {
    let sum = std::panic::catch_unwind(|| {
        assert!(n != 7, "as it should be: {n}");
        std::thread::spawn(move || (0..n).collect::<Vec<u32>>().iter().sum()).join()
    });
    sum.ok().and_then(Result::ok).unwrap_or(99)
}
