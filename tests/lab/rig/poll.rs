//! Waiting for a fact, never for a time.

use std::thread;
use std::time::{Duration, Instant};

/// How long anything that should happen at once may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(10);

/// Asks until there is an answer; panics with `what` when `limit` has passed.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, ask: impl FnMut() -> Option<T>) -> T {
    until_or(|| what.to_owned(), limit, ask)
}

/// [`until`] with words that are found only when `limit` has passed.
#[track_caller]
pub fn until_or<T>(what: impl FnOnce() -> String, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        if Instant::now() >= end {
            panic!("not within {limit:?}: {}", what());
        }
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// [`until`] for a condition.
#[track_caller]
pub fn until_true(what: &str, limit: Duration, mut ask: impl FnMut() -> bool) {
    until(what, limit, || ask().then_some(()));
}
