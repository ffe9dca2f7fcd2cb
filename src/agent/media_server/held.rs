//! Calls that wait in a state of their own until they are told to go on.

use super::machine::MediaServer;
use crate::agent::heard::{Asked, server_key};
use crate::agent::hold::Hold;
use crate::agent::incoming::{Incoming, Phase, Withheld};
use crate::base::Time;
use crate::out::Out;
use crate::sip::{Index, Method};

impl MediaServer {
    /// Where a call waits at this moment; `None`: it has not come so far, was told to go on, or is unknown.
    pub fn waits(&self, call_id: &[u8]) -> Option<Hold> {
        self.calls.values().find(|call| call.is_of(call_id) && call.waits()).and_then(|call| call.hold)
    }

    /// Lets a call go on: what it withheld is answered, who rings is answered, who is up is hung up on.
    pub fn go_on(&mut self, now: Time, call_id: &[u8], out: &mut Out) {
        let of_call = self.calls.iter().filter(|(_, call)| call.is_of(call_id)).map(|(number, _)| *number);
        for number in of_call.collect::<Vec<_>>() {
            let Some(call) = self.calls.get_mut(&number) else { continue };
            match (call.hold.take(), call.withheld.take(), call.phase) {
                (Some(_), Some(withheld), _) => self.answer_withheld(now, &withheld, out),
                (Some(Hold::Trying | Hold::Ringing), None, Phase::Trying | Phase::Ringing) => {
                    self.answer(now, number, out);
                }
                (Some(Hold::Answered), None, Phase::Answered) => self.bye(now, number, out),
                _ => {}
            }
        }
    }

    /// Keeps a request for [`MediaServer::go_on`] if its call is to wait there; whether it does.
    pub(super) fn holds_back(&mut self, now: Time, asked: &Asked<'_>, out: &mut Out) -> bool {
        let message = asked.message;
        let hold = match (message.method(), message.to_tag()) {
            (Method::Invite, Some(_)) => Hold::ReInvite,
            (Method::Bye, Some(_)) => Hold::Bye,
            (Method::Cancel, None) => Hold::Cancel,
            _ => return false,
        };
        let found = match hold {
            Hold::Cancel => {
                let invite = server_key(message, Method::Invite);
                self.calls.values_mut().find(|call| call.key == invite)
            }
            _ => {
                let number = self.number_of(message);
                self.calls.get_mut(&number)
            }
        };
        let waits = |call: &&mut Incoming| call.hold == Some(hold) && call.withheld.is_none();
        let Some(call) = found.filter(waits) else { return false };
        call.withheld = Some(Withheld { key: asked.key.clone(), flow: asked.flow, bytes: message.bytes().to_vec() });
        if hold == Hold::ReInvite {
            self.reply(now, asked, 100, "", out);
        }
        true
    }

    fn answer_withheld(&mut self, now: Time, withheld: &Withheld, out: &mut Out) {
        let mut index = Index::new();
        if index.parse(&withheld.bytes).is_ok() {
            let message = index.message(&withheld.bytes);
            self.on_request(now, &Asked { key: &withheld.key, message: &message, flow: withheld.flow }, out);
        }
    }
}

impl Incoming {
    fn is_of(&self, call_id: &[u8]) -> bool {
        self.dialog.as_ref().is_some_and(|dialog| dialog.call_id == call_id)
    }

    fn waits(&self) -> bool {
        match self.hold {
            None => false,
            Some(Hold::Trying) => self.phase == Phase::Trying,
            Some(Hold::Ringing) => self.phase == Phase::Ringing,
            Some(Hold::Answered) => self.phase == Phase::Answered && self.ok.is_none(),
            Some(Hold::ReInvite | Hold::Bye | Hold::Cancel) => self.withheld.is_some(),
        }
    }
}
