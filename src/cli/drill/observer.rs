//! Looks at every message of the agents: what came late, what was sent again, what the callers were told.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::base::Time;
use crate::cli::stage::{Tap, Who};
use crate::sip::{Index, Message, Method};

/// What passed so far.
pub struct Observer {
    t1: Duration,
    event: Time,
    index: Index,
    sent: HashSet<u64>,
    finals: BTreeMap<Exchange, Final>,
    told: BTreeMap<Vec<u8>, Vec<u16>>,
    late: u64,
    repeated: u64,
}

/// Call-ID, CSeq number and method: a request and its responses, end to end.
type Exchange = (Vec<u8>, u32, Vec<u8>);

/// A final that an agent has sent.
struct Final {
    by: Who,
    at: Time,
    /// The other agent has it.
    arrived: bool,
}

impl Observer {
    /// Nothing has passed; finals are late that take longer than `t1`.
    pub fn new(t1: Duration) -> Self {
        Self {
            t1,
            event: Time::NEVER,
            index: Index::new(),
            sent: HashSet::new(),
            finals: BTreeMap::new(),
            told: BTreeMap::new(),
            late: 0,
            repeated: 0,
        }
    }

    /// What an agent sends again from `event` on counts.
    pub fn count_from(&mut self, event: Time) {
        self.event = event;
    }

    /// Whether a caller has got this response to the INVITE that began its call.
    pub fn was_told(&self, call_id: &str, status: u16) -> bool {
        self.told.get(call_id.as_bytes()).is_some_and(|told| told.contains(&status))
    }

    /// Finals that reached the other agent more than T1 after they were first sent.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Messages that an agent sent again, octet for octet, after the event.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    fn sends(&mut self, now: Time, who: Who, bytes: &[u8]) {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let again = !self.sent.insert(hasher.finish());
        self.repeated += u64::from(again && now >= self.event);
        if let Some((exchange, 200..)) = answered(&self.index.message(bytes)) {
            self.finals.entry(exchange).or_insert(Final { by: who, at: now, arrived: false });
        }
    }

    fn gets(&mut self, now: Time, who: Who, bytes: &[u8]) {
        let Some((exchange, status)) = answered(&self.index.message(bytes)) else { return };
        if let Some(sent) = self.finals.get_mut(&exchange)
            && status >= 200
            && sent.by != who
            && !std::mem::replace(&mut sent.arrived, true)
            && now.since(sent.at) > self.t1
        {
            self.late += 1;
        }
        if who == Who::Caller && exchange.1 == 1 && exchange.2 == b"INVITE" {
            self.told.entry(exchange.0).or_default().push(status);
        }
    }
}

impl Tap for Observer {
    fn passed(&mut self, now: Time, who: Who, sent: bool, bytes: &[u8]) {
        // The node's probes of the media server are nothing of a call.
        let of_call = |index: &mut Index| {
            index.parse(bytes).is_ok() && !matches!(index.message(bytes).cseq().method, Method::Options)
        };
        match sent {
            _ if !of_call(&mut self.index) => {}
            true => self.sends(now, who, bytes),
            false => self.gets(now, who, bytes),
        }
    }
}

fn answered(message: &Message<'_>) -> Option<(Exchange, u16)> {
    let cseq = message.cseq();
    Some(((message.call_id().to_vec(), cseq.number, cseq.method.as_bytes().to_vec()), message.status()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, call_id: &str, cseq: &str) -> Vec<u8> {
        format!(
            "SIP/2.0 {status} X\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:c@d>;tag=2\r\nCall-ID: {call_id}\r\nCSeq: {cseq}\r\nContent-Length: 0\r\n\r\n"
        )
        .into_bytes()
    }

    #[test]
    fn late_is_what_takes_longer_than_t1_from_its_first_sending() {
        let ms = |n: u64| Time::from_micros(n * 1_000);
        let mut seen = Observer::new(Duration::from_millis(500));
        let (ok, bye, ring) =
            (response(200, "x", "1 INVITE"), response(200, "x", "2 BYE"), response(180, "y", "1 INVITE"));
        for (at, who, sent, bytes) in [
            (0, Who::Server, true, &ok),
            (400, Who::Server, true, &ok),
            (501, Who::Caller, false, &ok),
            (900, Who::Caller, false, &ok),
            (1_000, Who::Caller, true, &bye),
            (1_500, Who::Server, false, &bye),
            (1_600, Who::Server, true, &ring),
            (9_000, Who::Caller, false, &ring),
        ] {
            seen.passed(ms(at), who, sent, bytes);
        }
        assert_eq!((seen.late(), seen.repeated()), (1, 0));
        assert!(seen.was_told("x", 200) && seen.was_told("y", 180) && !seen.was_told("y", 200));
        seen.count_from(ms(10_000));
        seen.passed(ms(9_999), Who::Server, true, &ok);
        seen.passed(ms(10_000), Who::Server, true, &ok);
        seen.passed(ms(10_001), Who::Server, true, &response(200, "x", "3 OPTIONS"));
        seen.passed(ms(10_002), Who::Server, true, &response(200, "x", "3 OPTIONS"));
        assert_eq!(seen.repeated(), 1);
    }
}
