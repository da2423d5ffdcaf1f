//! The progress line of `fit`: in a build without the feature `progress` there is none.

#[cfg(feature = "progress")]
use indicatif::{ProgressBar, ProgressStyle};

use super::BatchEnd;

/// The line of an epoch, from its first step to its last.
#[cfg(feature = "progress")]
#[derive(Default)]
pub(super) struct Line(Option<ProgressBar>);

#[cfg(feature = "progress")]
impl Line {
    /// One more step of one of `epochs` epochs.
    pub(super) fn step(&mut self, end: &BatchEnd, epochs: usize) {
        let line = self.0.get_or_insert_with(|| bar(end, epochs));
        line.inc(1);
        line.set_message(format!("loss {:.4}", end.score.loss));
    }

    /// The epoch is over.
    pub(super) fn end(&mut self) {
        self.0.take().iter().for_each(ProgressBar::finish_and_clear);
    }
}

#[cfg(feature = "progress")]
fn bar(end: &BatchEnd, epochs: usize) -> ProgressBar {
    let bar = ProgressBar::new(end.batches as u64);
    if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {msg} {eta}") {
        bar.set_style(style);
    }
    bar.set_prefix(format!("epoch {}/{epochs}", end.epoch + 1));
    bar
}

/// No line.
#[cfg(not(feature = "progress"))]
#[derive(Default)]
pub(super) struct Line;

#[cfg(not(feature = "progress"))]
impl Line {
    pub(super) fn step(&mut self, _: &BatchEnd, _: usize) {}

    pub(super) fn end(&mut self) {}
}
