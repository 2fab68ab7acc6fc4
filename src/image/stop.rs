//! A wish to end, which is heard wherever an image is waited for: in a pause, in a registry's answer, in containerd's.
//!
//! Whoever hears it returns an error, and all that was begun is taken back on the way, as after any other error. What
//! hears nothing, a name that is looked up for example, has to be left behind: then the files are taken back from here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::staging;

static STOPPED: AtomicBool = AtomicBool::new(false);
static WISH: (Mutex<Vec<Hook>>, Condvar) = (Mutex::new(Vec::new()), Condvar::new());
static NAMED: Mutex<Named> = Mutex::new(Named::No);

/// Whether an image has its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// It has none.
    No,
    /// A registry or containerd may have been asked to give it, and has not answered.
    Asked,
    /// It has.
    Yes,
}

type Hook = Box<dyn FnOnce() + Send>;

/// Says that we are to end.
pub fn now() {
    let mut hooks = lock(&WISH.0);
    STOPPED.store(true, Ordering::SeqCst);
    WISH.1.notify_all();
    hooks.drain(..).for_each(|hook| hook());
}

/// Whether we are to end.
#[must_use]
pub fn is_set() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// Does this so long after we are to end.
pub(super) fn after(grace: Duration, hook: impl FnOnce() + Send + 'static) {
    let late = move || {
        // Where there is no thread to be had, what waits is left behind.
        let _ = thread::Builder::new().spawn(move || {
            thread::sleep(grace);
            hook();
        });
    };
    let mut hooks = lock(&WISH.0);
    match STOPPED.load(Ordering::SeqCst) {
        true => late(),
        false => hooks.push(Box::new(late)),
    }
}

/// A pause, which is over when we are to end. Returns whether we are not.
#[must_use]
pub(super) fn pause(time: Duration) -> bool {
    let end = Instant::now() + time;
    let mut hooks = lock(&WISH.0);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if is_set() || left.is_zero() {
            return !is_set();
        }
        let waited = WISH.1.wait_timeout(hooks, left);
        hooks = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Files that are on their way to where they belong. Until it is dropped, we do not end.
pub(super) struct Naming(MutexGuard<'static, Named>);

/// Says that somebody else is about to be asked to give an image its name.
pub(super) fn asking() {
    *lock(&NAMED) = Named::Asked;
}

/// Begins to move files to where they belong.
pub(super) fn naming() -> Naming {
    Naming(lock(&NAMED))
}

impl Naming {
    /// All of it is there, and has its name.
    pub(super) fn done(mut self) {
        *self.0 = Named::Yes;
    }
}

/// Removes what was begun on disk, where somebody still waits, unless an image has its name already and all is done. Else
/// none gets one from us any more.
#[must_use]
pub fn leave_behind() -> Named {
    let named = lock(&NAMED);
    let state = *named;
    if state != Named::Yes {
        staging::remove_all();
        std::mem::forget(named);
    }
    state
}

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
