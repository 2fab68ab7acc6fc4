//! What happens, told: the record of each layer, warnings, and with `-v` every step.
//!
//! Rooms say what they do as `tracing` events and spans, and know nothing of where that goes. The one subscriber here
//! decides it: lines on standard error for an operator at a terminal, or the log for a decoder that containerd runs.
//! docs/decisions.md says why it is our own.
//!
//! Nothing here is ever a reason to fail, and nothing blocks a layer. No event may hold a secret.

mod fields;
mod record;
mod sink;
mod subscriber;
#[cfg(test)]
mod tests;

pub use self::record::LayerRecord;
pub use self::sink::LogTarget;
pub(crate) use self::sink::{JOURNALD, SYSLOG};

/// How much is told beside warnings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// Not even warnings and notes. A log has its records all the same.
    Silent,
    /// Nothing.
    #[default]
    Quiet,
    /// Each step, with its time.
    Steps,
    /// Each call of a PKCS#11 function as well.
    Calls,
}

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Somebody who reads standard error.
    Stderr,
    /// Readers of the log: containerd takes what a decoder says on standard error for the text of its error. Warnings
    /// become notes of the layer's record.
    Log(LogTarget),
}

impl Verbosity {
    /// As often as `-v` was given.
    #[must_use]
    pub fn of_count(count: u8) -> Self {
        match count {
            0 => Self::Quiet,
            1 => Self::Steps,
            _ => Self::Calls,
        }
    }
}

/// Target of what somebody should know who asked for no more than the result.
const NOTE: &str = "ocihsm::note";

/// Tells what is no warning, and no part of a command's result: what stays plain in an image, for example.
pub fn note(text: &str) {
    tracing::warn!(target: NOTE, "{text}");
}

/// Whether anything beside errors and results is told: where not, nobody wants to see progress either.
#[must_use]
pub fn is_silent() -> bool {
    !tracing::enabled!(target: NOTE, tracing::Level::WARN)
}

/// From now on what happens is told. Once a process; a second time changes nothing.
pub fn install(verbosity: Verbosity, audience: Audience) {
    let teller = subscriber::Teller::new(verbosity, audience);
    let _ = tracing::subscriber::set_global_default(teller);
}
