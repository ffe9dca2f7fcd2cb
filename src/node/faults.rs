//! What came in and cannot be read, and what went out and did not arrive.

use crate::base::Time;
use crate::out::Out;
use crate::proxy::Io;
use crate::proxy::reject::{RETRY_AFTER, malformed_status};
use crate::sip::reply::{Reply, reason_phrase, refuse};
use crate::sip::{Index, Malformed, Via};

use super::probe::Prober;
use super::{Cell, Cells, Node, Received};

/// A refusal this small may be larger than the message that provoked it.
const SMALL_REFUSAL: usize = 512;

impl<K: Cells> Node<K> {
    /// Counts a message that could not be read, and answers it where a response can be built.
    pub(super) fn refuse(&self, received: &Received<'_>, index: &Index, malformed: Malformed, out: &mut Out) {
        let status = malformed_status(malformed);
        let retry = [("Retry-After", RETRY_AFTER.as_bytes())];
        let extra = if status == 503 { &retry[..] } else { &[] };
        let reply = Reply { status, reason: reason_phrase(status), to_tag: Some(b"unreadable"), extra };
        // Without a readable Via port the true source is the only way back that is not a guess (RFC 3581 §4).
        let answered = out.send(received.flow, |bytes| {
            let start = bytes.len();
            // The answer is never larger than what provoked it: nobody is flooded through us.
            refuse(index, received.bytes, &reply, received.flow.remote, bytes)
                && bytes.len() - start <= received.bytes.len().max(SMALL_REFUSAL)
        });
        self.hub.with(|hub| {
            hub.malformed[malformed as usize] += 1;
            hub.refusals += u64::from(answered);
        });
        // Who cannot be told by an answer is told by the end of the stream, instead of waiting for one.
        if !answered && !received.bytes.starts_with(b"SIP/") {
            out.close.extend(received.flow.conn);
        }
    }

    /// Octets of ours that did not arrive. The quotation in an ICMP error may be cut short, so only the start line and
    /// the first Via are read, and every shard is asked for the branch.
    pub(super) fn undelivered(&self, now: Time, octets: &[u8], out: &mut Out) {
        let Some((branch, cancel)) = own_branch(octets) else { return };
        if Prober::owns(branch) {
            let result = self.hub.with(|hub| hub.probe_undelivered(branch));
            self.publish_probes();
            if let Some((resource, probe)) = result {
                self.farm.with(|farm| farm.probed(now, resource, probe));
                self.spread_health(now, out);
            }
            return;
        }
        for n in 0..self.shards.len() {
            let found = self.with_shard(now, n, out, |shard, desk, out| {
                shard.run(now, desk, out, |proxy, io: &mut Io<'_>| proxy.undelivered(io, branch, cancel))
            });
            if found {
                return;
            }
        }
    }
}

/// The branch of the first Via of a request of ours, and whether the request is a CANCEL.
fn own_branch(octets: &[u8]) -> Option<(&[u8], bool)> {
    let mut lines = octets.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let start = lines.next()?;
    if start.starts_with(b"SIP/") {
        return None;
    }
    let via = lines.next()?.strip_prefix(b"Via: ")?;
    Some((Via::parse(via)?.branch?, start.starts_with(b"CANCEL ")))
}
