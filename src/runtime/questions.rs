//! Questions to a node that may keep silent: few at one time, each for a bounded time, on threads that may wait.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// How many may ask the node at one time. They take its locks one shard after the other, so more would only wait for each
/// other; a node that hangs blocks this many threads and no more.
pub const QUESTIONS: usize = 2;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Others were being answered all the time: nothing was begun.
    Crowded,
    /// It was begun and is not done yet.
    GoesOn,
    /// Another one of which there may be one only is not done yet: nothing was begun.
    Taken,
    /// It panicked.
    Failed,
}

/// Who may ask.
pub struct Questions {
    turns: Arc<Semaphore>,
    /// Of what may take long, e.g. until names are resolved: others do not wait for it.
    long: Arc<Semaphore>,
    patience: Duration,
}

impl Questions {
    /// Nobody waits longer than `patience`.
    pub fn new(patience: Duration) -> Self {
        Self { turns: Arc::new(Semaphore::new(QUESTIONS)), long: Arc::new(Semaphore::new(1)), patience }
    }

    /// Asks once it is this one's turn.
    ///
    /// # Errors
    ///
    /// There was no answer in time.
    pub async fn ask<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Unanswered> {
        let deadline = Instant::now() + self.patience;
        match timeout_at(deadline, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(Ok(place)) => answered(place, deadline, work).await,
            Ok(Err(_closed)) => Err(Unanswered::Failed),
            Err(_elapsed) => Err(Unanswered::Crowded),
        }
    }

    /// Likewise for what may take long, unless the one before is not done.
    ///
    /// # Errors
    ///
    /// There was no answer in time, or the one before is not done.
    pub async fn ask_long<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        let place = Arc::clone(&self.long).try_acquire_owned().map_err(|_| Unanswered::Taken)?;
        answered(place, Instant::now() + self.patience, work).await
    }
}

/// The place is taken until there is an answer, whoever still waits for it.
async fn answered<T: Send + 'static>(
    place: OwnedSemaphorePermit,
    deadline: Instant,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unanswered> {
    let working = tokio::task::spawn_blocking(move || {
        let _until_answered = place;
        work()
    });
    match timeout_at(deadline, working).await {
        Ok(answer) => answer.map_err(|_panicked| Unanswered::Failed),
        Err(_elapsed) => Err(Unanswered::GoesOn),
    }
}
