//! Several pieces of work at once, on threads of their own: which, how many, and what happens when one fails.
//!
//! Knows nothing of layers. What is asked of a token is not asked here: that is one thread's affair.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::commands::{Error, Result};

/// Most pieces of work at once, unless a user says otherwise: each takes memory, and two keep two cores busy.
const MOST: usize = 4;

/// How many at once are meant where nobody says.
pub(super) fn usual() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST))
}

/// Whether another piece of the same work has failed, so that the others need not go on.
#[derive(Debug, Default)]
pub(super) struct Failed(AtomicBool);

impl Failed {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Does `work` for each of the numbers that `sizes` has, `jobs` of them at once, and gathers what comes of it in their
/// order. The largest begin first, so that none of them is left to be done alone at the end.
///
/// # Errors
/// The first that `work` returns; nothing begins after it, and what is under way sees it in `failed`.
pub(super) fn each<T: Send>(
    jobs: usize,
    sizes: &[u64],
    failed: &Failed,
    work: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&number| Reverse(sizes[number]));
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<T>>> = Mutex::new(sizes.iter().map(|_| None).collect());
    let first: Mutex<Option<Error>> = Mutex::new(None);
    let run = || {
        while let Some(&number) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            if failed.is_set() {
                return;
            }
            match work(number) {
                Ok(made) => lock(&done)[number] = Some(made),
                Err(error) => {
                    lock(&first).get_or_insert(error);
                    failed.0.store(true, Ordering::Relaxed);
                    return;
                }
            }
        }
    };
    thread::scope(|scope| {
        // The calling thread is one of them; where no other can be started, it does all of it.
        for _ in 1..jobs.min(sizes.len()) {
            let thread = thread::Builder::new().name("layers".to_owned());
            if thread.spawn_scoped(scope, run).is_err() {
                break;
            }
        }
        run();
    });
    match lock(&first).take() {
        Some(error) => Err(error),
        None => {
            let done = std::mem::take(&mut *lock(&done));
            Ok(done.into_iter().flatten().collect())
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn results_stand_in_order_and_the_largest_begins_first() {
        let begun = Mutex::new(Vec::new());
        let made = each(1, &[1, 9, 5], &Failed::default(), |number| {
            lock(&begun).push(number);
            Ok(number * 10)
        });
        assert_eq!(made.unwrap(), [0, 10, 20]);
        assert_eq!(*lock(&begun), [1, 2, 0]);
        assert!(each(4, &[], &Failed::default(), Ok).unwrap().is_empty());
    }

    #[test]
    fn as_many_at_once_as_was_said() {
        for jobs in [1, 3] {
            let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            each(jobs, &[1; 8], &Failed::default(), |_| {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let deadline = Instant::now() + Duration::from_secs(10);
                while most.load(Ordering::SeqCst) < jobs && Instant::now() < deadline {
                    thread::yield_now();
                }
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            })
            .unwrap();
            assert_eq!(most.into_inner(), jobs);
        }
    }

    #[test]
    fn the_first_error_ends_the_others() {
        let failed = Failed::default();
        let begun = AtomicUsize::new(0);
        let outcome = each(2, &[1; 100], &failed, |number| {
            begun.fetch_add(1, Ordering::SeqCst);
            if number == 0 {
                return Err(Error::ReaderGone);
            }
            let deadline = Instant::now() + Duration::from_secs(10);
            while !failed.is_set() && Instant::now() < deadline {
                thread::yield_now();
            }
            Err::<(), _>(Error::Stopped)
        });
        assert!(matches!(outcome, Err(Error::ReaderGone)), "{outcome:?}");
        assert!(begun.into_inner() <= 2);
    }
}
