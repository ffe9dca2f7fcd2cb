//! Messages of several calls that come from one source, taken in the order in which a test asks for them.

use std::time::{Duration, Instant};

use super::message::Message;
use super::poll::SOON;

/// What has come and nobody has asked for.
#[derive(Default)]
pub struct Inbox {
    kept: Vec<Message>,
}

impl Inbox {
    /// The first message that `wanted` takes, of those that are here and those that `next` brings within a limit.
    #[track_caller]
    pub fn take(
        &mut self,
        what: &str,
        mut next: impl FnMut(Duration) -> Option<Message>,
        wanted: impl Fn(&Message) -> bool,
    ) -> Message {
        if let Some(n) = self.kept.iter().position(&wanted) {
            return self.kept.remove(n);
        }
        let end = Instant::now() + SOON;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            match next(left) {
                Some(message) if wanted(&message) => return message,
                Some(message) => self.kept.push(message),
                None => break,
            }
        }
        panic!("no {what}, but {:?}", self.kept)
    }

    /// Puts a message in that came while nobody asked.
    pub fn keep(&mut self, message: Message) {
        self.kept.push(message);
    }

    /// Takes out all that is left.
    pub fn empty(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.kept)
    }
}
