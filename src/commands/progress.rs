//! What a terminal shows while layers are on their way: a bar for each, and one for all of them. And that a token is at work.
//!
//! Elsewhere, or where TERM is unset or `dumb`, nothing is shown. The bars are gone before an error is printed.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

use crate::image::Descriptor;
use crate::telemetry::is_silent;

/// The bars.
#[derive(Debug)]
pub(super) struct Progress {
    bars: MultiProgress,
    all: ProgressBar,
}

/// The bar of one layer; gone when it is dropped.
#[derive(Debug)]
pub(super) struct Bar {
    bars: MultiProgress,
    all: ProgressBar,
    own: ProgressBar,
}

/// Says what a token is doing, which takes as long as it takes; gone when it is dropped.
#[derive(Debug)]
pub(super) struct Waiting(ProgressBar);

impl Waiting {
    /// Says this, and for how long already.
    pub(super) fn on(what: String) -> Self {
        let bar = ProgressBar::new_spinner()
            .with_style(style("{spinner} {msg} ({elapsed})"))
            .with_message(what);
        if is_silent() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.tick();
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Progress {
    /// Bars for so many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        let bars = MultiProgress::new();
        if is_silent() {
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        let all = ProgressBar::new(bytes)
            .with_style(style(
                "all of it     {bar:32} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
            ))
            .with_finish(ProgressFinish::AndClear);
        let all = bars.add(all);
        Self { bars, all }
    }

    /// Says that there are more bytes.
    pub(super) fn more(&self, bytes: u64) {
        self.all.inc_length(bytes);
    }

    /// The bar of a blob that is begun.
    pub(super) fn begin(&self, blob: &Descriptor) -> Bar {
        let name: String = blob.digest.hex().chars().take(12).collect();
        let own = ProgressBar::new(blob.size)
            .with_style(style("{prefix}  {bar:32} {bytes} of {total_bytes}"))
            .with_prefix(name)
            .with_finish(ProgressFinish::AndClear);
        Bar {
            own: self.bars.insert_before(&self.all, own),
            all: self.all.clone(),
            bars: self.bars.clone(),
        }
    }
}

impl Bar {
    /// Says that so many bytes were read.
    pub(super) fn inc(&self, bytes: u64) {
        self.own.inc(bytes);
        self.all.inc(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.own.finish_and_clear();
        self.bars.remove(&self.own);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is sound")
}
