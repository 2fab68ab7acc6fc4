//! How an error is told to containerd, and a panic as an error. What can go wrong, each room says itself.

mod event;
mod panicked;

pub use self::event::event_line;
pub(crate) use self::event::fitted;
pub use self::panicked::{Panicked, catch, watch_panics};
