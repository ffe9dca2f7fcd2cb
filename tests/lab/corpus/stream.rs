//! Each message on a stream: whole, octet by octet, cut at every position, and with a sound OPTIONS glued to its end.
//! The outcome does not depend on the cuts.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::case::{Case, Fresh, Word, tagged_as};
use super::datagram::faithful;
use crate::rig::call;
use crate::rig::mcp::Mcp;
use crate::rig::message::Message;
use crate::rig::node::Node;
use crate::rig::poll::SOON;
use crate::rig::tcp::Tcp;
use crate::rig::world::World;

/// Messages below this size are cut everywhere.
const SMALL: usize = 600;
/// So many wrong cuts of one message tell enough.
const ENOUGH: usize = 2;
/// A stream that owes the rest of a message is closed after 5 s.
const DEADLINE: Duration = Duration::from_secs(15);

/// Every case in every piece.
pub fn replay(world: &World, node: &Node, server: &Mcp, cases: &[Case]) {
    let mut fresh = Fresh::default();
    let mut failures = Vec::new();
    for (n, case) in cases.iter().enumerate() {
        let from = IpAddr::V4(world.ip(20 + u8::try_from(n % 200).expect("below 200")));
        let small = case.octets.len() < SMALL && case.udp != [Word::Parse];
        let mut cuts = vec![Cut::Whole];
        if small {
            cuts.push(Cut::Octets);
            cuts.extend((1..case.octets.len()).map(Cut::At));
        }
        let wrong = pieces(&Way { from, to: node.sip }, case, &cuts, &mut fresh);
        if let Some((cut, what)) = wrong.first() {
            failures.push(format!("{}: {} of {} cuts, first {cut:?}: {what}", case.name, wrong.len(), cuts.len()));
        }
        if let Err(what) = forwarded(server, case) {
            failures.push(format!("{}: {what}", case.name));
        }
    }
    assert!(failures.is_empty(), "{} of {} wrong:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

struct Way {
    from: IpAddr,
    to: SocketAddr,
}

#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    Octets,
    At(usize),
}

/// All cuts of one case, many connections at a time: first pieces on all of them, then second pieces, then the ends.
fn pieces(way: &Way, case: &Case, cuts: &[Cut], fresh: &mut Fresh) -> Vec<(Cut, String)> {
    let mut wrong = Vec::new();
    for chunk in cuts.chunks(200) {
        let mut open: Vec<(Cut, Tcp, Vec<u8>)> = Vec::new();
        for cut in chunk {
            let octets = fresh.copy(&case.octets);
            let mut tcp = Tcp::connect(way.from, way.to);
            match cut {
                Cut::At(at) => tcp.send(&octets[..*at]),
                Cut::Octets => octets[..octets.len() - 1].iter().for_each(|octet| tcp.send([*octet])),
                Cut::Whole => {}
            }
            open.push((*cut, tcp, octets));
        }
        for (cut, tcp, octets) in &mut open {
            let mut rest = match cut {
                Cut::At(at) => octets[*at..].to_vec(),
                Cut::Octets => octets[octets.len() - 1..].to_vec(),
                Cut::Whole => octets.clone(),
            };
            if sentinel_is_due(case) {
                rest.extend_from_slice(
                    call::options(tcp.local(), way.to, fresh.number()).replace("UDP", "TCP").as_bytes(),
                );
            }
            tcp.send(rest);
        }
        for (cut, tcp, _) in &mut open {
            if let Err(what) = verdict(tcp, case) {
                wrong.push((*cut, what));
                // Each of them may have cost a deadline.
                if wrong.len() == ENOUGH {
                    return wrong;
                }
            }
        }
    }
    wrong
}

/// A sound OPTIONS is glued to what does not cost the stream its framing.
fn sentinel_is_due(case: &Case) -> bool {
    !case.tcp.iter().all(|word| word.closes()) && !case.tcp.contains(&Word::Wait)
}

fn verdict(tcp: &mut Tcp, case: &Case) -> Result<(), String> {
    let mut heard: Vec<Message> = Vec::new();
    let alone = sentinel_is_due(case);
    let limit = if case.tcp.contains(&Word::Wait) { DEADLINE } else { SOON };
    loop {
        if alone && heard.iter().any(sentinel) && case.tcp.iter().any(|w| complete(*w, case, &heard)) {
            return Ok(());
        }
        match tcp.message(limit) {
            Some(message) if message.status() == Some(100) => {}
            Some(message) => heard.push(message),
            None => break,
        }
    }
    let fits = case.tcp.iter().any(|word| tcp.closed && ended(*word, &heard));
    let starts: Vec<&str> = heard.iter().map(|m| m.start.as_str()).collect();
    if fits { Ok(()) } else { Err(format!("not {:?} but {starts:?}, closed: {}", case.tcp, tcp.closed)) }
}

/// Whether an open stream has said all that this outcome owes, and nothing else.
fn complete(word: Word, case: &Case, heard: &[Message]) -> bool {
    let others: Vec<&Message> = heard.iter().filter(|m| !sentinel(m)).collect();
    let refusals = others.iter().filter(|m| m.start.ends_with("Said")).count();
    let invite = case.octets.starts_with(b"INVITE ");
    match word {
        // Only an INVITE is placed; what else is forwarded has no answer that we could count on.
        Word::Forward if invite => refusals == 1 && others.len() == 1,
        Word::Forward => others.iter().all(|m| matches!(m.status(), Some(200..=299 | 404 | 405 | 481 | 501))),
        Word::ForwardBoth => refusals >= 1,
        Word::Status(status) => others.len() == 1 && others[0].status() == Some(status),
        Word::Drop | Word::Ignore => others.is_empty(),
        Word::Parse => true,
        _ => false,
    }
}

/// Whether a closed stream has said what this outcome owes.
fn ended(word: Word, heard: &[Message]) -> bool {
    match word {
        Word::StatusClose(status) => heard.len() == 1 && heard[0].status() == Some(status),
        Word::Close => heard.iter().all(|m| m.status().is_some_and(|s| (400..600).contains(&s))),
        // What is left has no Via to answer to, unless it looks like a request.
        Word::ResyncError => heard.iter().all(|m| m.start.ends_with("Said") || m.status() == Some(400)),
        Word::Wait => heard.is_empty() || heard.iter().all(|m| matches!(m.status(), Some(400 | 408))),
        Word::Status(status) => heard.iter().any(|m| m.status() == Some(status)),
        _ => false,
    }
}

fn sentinel(message: &Message) -> bool {
    message.answers(200, "OPTIONS") && message.call_id().contains("-127.")
}

/// What was forwarded is octet for octet what was sent.
fn forwarded(server: &Mcp, case: &Case) -> Result<(), String> {
    if case.tcp != [Word::Forward] || !case.octets.starts_with(b"INVITE ") {
        return Ok(());
    }
    let same = |m: &Message| m.asks("INVITE") && faithful(&tagged_as(&case.octets, &m.raw), m);
    if server.saw(same) { Ok(()) } else { Err(String::from("what was forwarded is not what was sent")) }
}
