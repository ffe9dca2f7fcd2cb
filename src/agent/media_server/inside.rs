//! Requests inside the dialogs of a media server's calls, its own and theirs.

use super::machine::{ALLOW, MediaServer};
use crate::agent::heard::Asked;
use crate::agent::incoming::{Incoming, Phase};
use crate::agent::refer;
use crate::base::Time;
use crate::out::Out;
use crate::sip::{Message, Method};

impl MediaServer {
    pub(super) fn on_in_dialog(&mut self, now: Time, asked: &Asked<'_>, out: &mut Out) {
        let message = asked.message;
        let number = self.number_of(message);
        // RFC 3261 §15.1.1: after its own BYE the dialog is over, but a BYE that crosses it is still answered. A PRACK
        // comes in the early dialog.
        let any_phase = matches!(message.method(), Method::Bye | Method::Prack);
        let call = self.calls.get_mut(&number).filter(|call| call.phase == Phase::Answered || any_phase);
        let Some(dialog) = call.and_then(|call| call.dialog.as_mut()).filter(|dialog| dialog.covers(message)) else {
            return self.reply(now, asked, 481, "", out);
        };
        if message.cseq().number <= dialog.heard {
            self.violations.push(format!("call {number}: CSeq did not grow"));
            return self.reply(now, asked, 500, "", out);
        }
        dialog.heard = message.cseq().number;
        match message.method() {
            Method::Invite => {
                let bytes = self.ok(number, message, asked.flow);
                self.endpoint.respond(now, asked.key, 200, bytes.clone(), out);
                self.await_ack(now, number, asked.flow, message.cseq().number, bytes);
            }
            Method::Bye => {
                self.reply(now, asked, 200, "", out);
                self.end(now, number);
            }
            Method::Prack => {
                let due = self.calls.get_mut(&number).and_then(Incoming::pracked);
                due.into_iter().for_each(|due| self.arm(number, due));
                self.reply(now, asked, 200, "", out);
            }
            Method::Refer => {
                self.reply(now, asked, 202, &self.contact(), out);
                self.notify(now, number, message.cseq().number, out);
            }
            Method::Info | Method::Update | Method::Options => self.reply(now, asked, 200, "", out),
            _ => self.reply(now, asked, 405, ALLOW, out),
        }
    }

    pub(super) fn on_ack(&mut self, now: Time, message: &Message<'_>) {
        let number = self.number_of(message);
        let Some(call) = self.calls.get_mut(&number).filter(|call| call.phase == Phase::Answered) else { return };
        if call.ok.as_ref().is_some_and(|(_, cseq, _)| *cseq == message.cseq().number) {
            call.ok = None;
            let due = call.hang_up.take().map_or(Time::NEVER, |after| now + after);
            self.arm(number, due);
        }
    }

    /// RFC 3515 §2.4.4: at once, and no more.
    fn notify(&mut self, now: Time, number: u64, cseq: u32, out: &mut Out) {
        let extra = self.contact() + &refer::telling(cseq);
        self.ask(now, number, ("NOTIFY", &extra, refer::DONE), out);
        self.calls.get_mut(&number).into_iter().for_each(|call| call.notifying += 1);
    }

    pub(super) fn bye(&mut self, now: Time, number: u64, out: &mut Out) {
        // RFC 3261 §12.2.2: one that overtakes a NOTIFY makes it out of order.
        if self.calls.get(&number).is_some_and(|call| call.notifying > 0) {
            return self.arm(number, now + self.config.timing.t1);
        }
        self.ask(now, number, ("BYE", "", b""), out);
        self.end(now, number);
    }

    fn ask(&mut self, now: Time, number: u64, (method, extra, body): (&str, &str, &[u8]), out: &mut Out) {
        let Some(dialog) = self.calls.get_mut(&number).and_then(|call| call.dialog.as_mut()) else { return };
        match self.endpoint.inside(dialog, method, None, extra, body) {
            Some((branch, flow, bytes)) => _ = self.endpoint.request(now, number, branch, flow, bytes, out),
            None => self.violations.push(format!("call {number}: route set leads nowhere")),
        }
    }

    /// A request inside the dialog got this response, 408 also if none. One whose BYE is out has ended; a NOTIFY ends it
    /// if the other end knows of no dialog any more (RFC 3261 §12.2.1.2).
    pub(super) fn on_final(&mut self, now: Time, number: u64, status: u16, out: &mut Out) {
        let Some(call) = self.calls.get_mut(&number).filter(|call| status >= 200 && call.notifying > 0) else { return };
        call.notifying -= 1;
        if matches!(status, 408 | 481) && call.phase == Phase::Answered {
            self.bye(now, number, out);
        }
    }
}
