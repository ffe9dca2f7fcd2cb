//! The calls that a media server holds, as they pass on its wire.

use std::collections::{BTreeMap, BTreeSet};

use super::message::Message;

/// Calls from the INVITE in to the media server's own refusal, or to the answer to the BYE, out.
#[derive(Debug, Default)]
pub struct Held {
    now: BTreeSet<String>,
    /// Branches of the INVITEs by Call-ID: one that comes again is no new call.
    invited: BTreeMap<String, BTreeSet<String>>,
    most: usize,
}

impl Held {
    /// A message was `sent`, or came in.
    pub fn note(&mut self, sent: bool, message: &Message) {
        let id = message.call_id();
        match (sent, message.method(), message.status()) {
            (false, "INVITE", None) if self.is_new(message) => {
                self.now.insert(id.to_owned());
                self.most = self.most.max(self.now.len());
            }
            (true, "INVITE", Some(300..)) | (_, "BYE", Some(200..)) => _ = self.now.remove(id),
            _ => {}
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.now.len()
    }

    /// The most that there ever were at one instant.
    pub fn most(&self) -> usize {
        self.most
    }

    fn is_new(&mut self, invite: &Message) -> bool {
        let branches = self.invited.entry(invite.call_id().to_owned()).or_default();
        invite.parameter("to", "tag").is_none() && branches.insert(invite.branch().to_owned())
    }
}
