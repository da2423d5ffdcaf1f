//! A progress line on standard error, where that is a terminal.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

/// The line of a task of `parts` parts.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// No line for a task of one part, which says nothing before its end.
    pub(crate) fn new(task: &'static str, parts: usize) -> Self {
        if parts < 2 || !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(parts as u64).with_prefix(task);
        Self(match ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {eta}") {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        })
    }

    /// One part more is done.
    pub(crate) fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
