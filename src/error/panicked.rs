//! A panic as an error that says where it was. What it said is not kept: it might quote a secret.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;

/// Where the last panic was.
static PANICKED_AT: Mutex<String> = Mutex::new(String::new());

/// We failed in a way that nobody foresaw.
#[derive(Debug, thiserror::Error)]
#[error("internal error at {location}")]
pub struct Panicked {
    /// File and line.
    location: String,
}

/// From now on a panic prints nothing, and is only noted.
pub fn watch_panics() {
    panic::set_hook(Box::new(|panic| {
        if let (Ok(mut at), Some(location)) = (PANICKED_AT.lock(), panic.location()) {
            *at = location.to_string();
        }
    }));
}

/// What it returns.
///
/// # Errors
/// Its own; [`Panicked`] when it panics.
pub fn catch<T, E: From<Panicked>>(attempt: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    panic::catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|_| {
        let location = PANICKED_AT.lock().map(|at| at.clone()).unwrap_or_default();
        Err(Panicked { location }.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_its_words_are_not_kept() {
        let error = catch(|| -> Result<(), Panicked> { panic!("the PIN is 1234") }).unwrap_err();
        assert!(error.to_string().starts_with("internal error at "));
        assert!(!format!("{error} {error:?}").contains("1234"));
        assert_eq!(catch(|| Ok::<_, Panicked>(7)).unwrap(), 7);
    }
}
