//! The thread that asks the witness, again and again, for what the cluster wants.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::contract::{Silence, Witness};
use crate::base::Time;
use crate::cluster::{Ask, LEASE, Word};
use crate::runtime::sys;

/// How long an answer may take.
const WITHIN: Duration = Duration::from_millis(400);
/// Between two questions while the lease is wanted.
const RENEW: Duration = Duration::from_millis(LEASE.as_millis() as u64 / 6);
/// Between two questions of a node that only watches.
const LOOK: Duration = Duration::from_secs(1);
/// After a question without an answer.
const RETRY: Duration = Duration::from_millis(150);
/// At least between two questions, whatever changes.
const GAP: Duration = Duration::from_millis(20);
/// Without an answer for so long the witness is said to be silent: one lost datagram is no news.
const SILENT: Duration = Duration::from_secs(1);

/// Asks on a thread of its own. Dropped, it gives the lease back and ends.
pub struct Watch {
    wanted: Arc<Wanted>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Wanted {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    ask: Option<Ask>,
    changed: bool,
    stopping: bool,
}

impl Watch {
    /// Waits for the first [`Watch::want`]; `tell` hears every answer, and `None` while there is none.
    ///
    /// # Errors
    ///
    /// No thread could be made.
    pub fn start(witness: Box<dyn Witness>, tell: impl Fn(Option<Word>) + Send + 'static) -> std::io::Result<Self> {
        let wanted = Arc::new(Wanted::default());
        let asker = Asker { witness, tell, wanted: Arc::clone(&wanted), answered: sys::now(), silent: false };
        let thread = thread::Builder::new().name("witness".into()).spawn(move || asker.run())?;
        Ok(Self { wanted, thread: Mutex::new(Some(thread)) })
    }

    /// Asks for this from now on.
    pub fn want(&self, ask: Ask) {
        let mut state = self.wanted.state.lock();
        (state.ask, state.changed) = (Some(ask), true);
        self.wanted.bell.notify_one();
    }

    /// Gives the lease back and ends the thread.
    pub fn stop(&self) {
        self.wanted.state.lock().stopping = true;
        self.wanted.bell.notify_one();
        if let Some(thread) = self.thread.lock().take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Asker<T> {
    witness: Box<dyn Witness>,
    tell: T,
    wanted: Arc<Wanted>,
    /// When an answer came last.
    answered: Time,
    /// Its silence was told.
    silent: bool,
}

impl<T: Fn(Option<Word>)> Asker<T> {
    fn run(mut self) {
        let (mut pause, mut holds) = (LOOK, false);
        while let Some(ask) = self.next(pause) {
            // A question without an answer may have had its effect.
            holds = ask.hold;
            pause = match self.witness.ask(ask, WITHIN) {
                Ok(word) => self.heard(word, ask),
                Err(why) => self.unheard(&why),
            };
        }
        if holds && let Some(ask) = self.wanted.state.lock().ask {
            let _best_effort = self.witness.ask(Ask { hold: false, ..ask }, WITHIN);
        }
    }

    /// Waits until it is time to ask, or something else is wanted; `None` at the end.
    fn next(&self, pause: Duration) -> Option<Ask> {
        let mut state = self.wanted.state.lock();
        let begin = sys::now();
        while !state.stopping {
            let wanted = state.ask.map(|_| if state.changed { GAP } else { pause });
            let left = wanted.unwrap_or(LOOK).saturating_sub(sys::now().since(begin));
            if left.is_zero() && wanted.is_some() {
                break;
            }
            self.wanted.bell.wait_for(&mut state, left.max(GAP));
        }
        state.changed = false;
        state.ask.filter(|_| !state.stopping)
    }

    fn heard(&mut self, word: Word, ask: Ask) -> Duration {
        (self.answered, self.silent) = (sys::now(), false);
        (self.tell)(Some(word));
        if ask.hold { RENEW } else { LOOK }
    }

    fn unheard(&mut self, why: &Silence) -> Duration {
        if sys::now().since(self.answered) >= SILENT {
            if !std::mem::replace(&mut self.silent, true) {
                tracing::info!("the witness: {why}");
            }
            (self.tell)(None);
        }
        RETRY
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::cluster::Note;

    const LIMIT: Duration = Duration::from_secs(10);
    const HOLD: Ask = Ask { hold: true, note: Note::Alone };

    struct Fake {
        asked: mpsc::Sender<Ask>,
        answers: bool,
    }

    impl Witness for Fake {
        fn ask(&mut self, ask: Ask, _: Duration) -> Result<Word, Silence> {
            let _ = self.asked.send(ask);
            let word = Word { lease: None, holder: None, other_alone: false };
            if self.answers { Ok(word) } else { Err(Silence::Late) }
        }
    }

    fn watch(answers: bool) -> (Watch, mpsc::Receiver<Ask>, mpsc::Receiver<bool>) {
        let (asked, questions) = mpsc::channel();
        let (told, answered) = mpsc::channel();
        let tell = move |word: Option<Word>| {
            let _ = told.send(word.is_some());
        };
        (Watch::start(Box::new(Fake { asked, answers }), tell).unwrap(), questions, answered)
    }

    #[test]
    fn it_asks_for_what_is_wanted_again_and_again_and_gives_the_lease_back_at_the_end() {
        let (watch, questions, told) = watch(true);
        watch.want(HOLD);
        for _ in 0..2 {
            assert_eq!(questions.recv_timeout(LIMIT), Ok(HOLD));
            assert_eq!(told.recv_timeout(LIMIT), Ok(true));
        }
        watch.stop();
        assert_eq!(questions.iter().last(), Some(Ask { hold: false, ..HOLD }));
    }

    #[test]
    fn a_witness_that_does_not_answer_is_told_and_asked_again() {
        let (watch, questions, told) = watch(false);
        watch.want(HOLD);
        assert_eq!(told.recv_timeout(LIMIT), Ok(false));
        assert!(questions.try_iter().count() > 1, "one lost datagram is no news");
        drop(watch);
    }
}
