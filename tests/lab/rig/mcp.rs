//! A media server inside the test: says what its script says, remembers all it saw.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::held::Held;
use super::message::Message;
use super::poll::{SOON, until};
use super::udp::Udp;

/// What a media server says to a request: each answer after its delay.
pub type Script = Box<dyn FnMut(&Message, SocketAddr) -> Vec<(Duration, String)> + Send>;

/// A request or response that came in.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The message.
    pub message: Message,
    /// True source.
    pub from: SocketAddr,
}

#[derive(Default)]
struct Memory {
    seen: Vec<Seen>,
    held: Held,
}

/// A media server on threads of its own, one for each socket.
pub struct Mcp {
    /// Its address.
    pub at: SocketAddr,
    memory: Arc<Mutex<Memory>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Mcp {
    /// Starts it.
    #[track_caller]
    pub fn start(at: SocketAddr, script: Script) -> Mcp {
        Self::over(at, [(Udp::bind(at), script)])
    }

    /// One that has this address in several networks, a socket in each; it answers probes and calls at once.
    pub fn in_networks<const N: usize>(at: SocketAddr, sockets: [Udp; N]) -> Mcp {
        let known = Arc::new(Mutex::new(BTreeSet::new()));
        let answering = |udp| {
            let known = Arc::clone(&known);
            (udp, Box::new(move |message: &Message, _| answer_once(message, at, &known)) as Script)
        };
        Self::over(at, sockets.map(answering))
    }

    /// Likewise, but with room for `ports` calls: it refuses what comes on top with 480, and counts that.
    pub fn with_room_for<const N: usize>(ports: usize, at: SocketAddr, sockets: [Udp; N]) -> (Mcp, Arc<AtomicU64>) {
        let (calls, refused) = (Arc::new(Mutex::new(BTreeSet::new())), Arc::new(AtomicU64::new(0)));
        let known = Arc::new(Mutex::new(BTreeSet::new()));
        let limited = |udp| {
            let (calls, refused, known) = (Arc::clone(&calls), Arc::clone(&refused), Arc::clone(&known));
            let script = move |message: &Message, _| {
                let mut calls = calls.lock().expect("no panic in the media server");
                let id = message.call_id();
                if message.asks("INVITE") && !calls.contains(id) {
                    if calls.len() >= ports {
                        refused.fetch_add(1, Ordering::Relaxed);
                        return vec![now(reply(message, at, 480))];
                    }
                    calls.insert(id.to_owned());
                } else if message.asks("BYE") {
                    calls.remove(id);
                }
                answer_once(message, at, &known)
            };
            (udp, Box::new(script) as Script)
        };
        (Self::over(at, sockets.map(limited)), refused)
    }

    fn over<const N: usize>(at: SocketAddr, sockets: [(Udp, Script); N]) -> Mcp {
        let memory = Arc::new(Mutex::new(Memory::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let threads = sockets.into_iter().map(|(udp, script)| {
            let (memory, stop) = (Arc::clone(&memory), Arc::clone(&stop));
            thread::spawn(move || serve(&udp, script, &memory, &stop))
        });
        let threads = threads.collect();
        Mcp { at, memory, stop, threads }
    }

    /// One that answers probes and calls at once.
    #[track_caller]
    pub fn answering(at: SocketAddr) -> Mcp {
        Self::start(at, Box::new(move |message, _| answer(message, at)))
    }

    /// One that answers probes, and INVITEs with this status.
    #[track_caller]
    pub fn refusing(at: SocketAddr, status: u16) -> Mcp {
        let refuse = move |message: &Message, _| match message.method() {
            "INVITE" => vec![now(reply(message, at, status))],
            _ => answer(message, at),
        };
        Self::start(at, Box::new(refuse))
    }

    /// All it has seen.
    pub fn seen(&self) -> Vec<Seen> {
        self.memory().seen.clone()
    }

    /// All requests of this method that it has seen, retransmissions too.
    pub fn requests(&self, method: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|s| s.message.asks(method)).collect()
    }

    /// Waits for a message.
    #[track_caller]
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Message) -> bool) -> Seen {
        until(&format!("{what} at {}", self.at), SOON, || self.seen().into_iter().find(|s| wanted(&s.message)))
    }

    /// Whether it has seen such a message.
    pub fn saw(&self, wanted: impl Fn(&Message) -> bool) -> bool {
        self.memory().seen.iter().any(|seen| wanted(&seen.message))
    }

    /// How many messages it has seen.
    pub fn count(&self) -> usize {
        self.memory().seen.len()
    }

    /// What it has seen after the first `mark` messages.
    pub fn later(&self, mark: usize) -> Vec<Message> {
        self.memory().seen.iter().skip(mark).map(|seen| seen.message.clone()).collect()
    }

    /// The calls that it holds.
    pub fn calls(&self) -> usize {
        self.memory().held.count()
    }

    /// The greatest number of calls that it ever held at one instant.
    pub fn most_calls(&self) -> usize {
        self.memory().held.most()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("no panic in the media server")
    }
}

impl Drop for Mcp {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// An answer without delay.
pub fn now(answer: String) -> (Duration, String) {
    (Duration::ZERO, answer)
}

/// 200 to everything but an ACK; an INVITE gets 180 and 200.
pub fn answer(message: &Message, at: SocketAddr) -> Vec<(Duration, String)> {
    match message.method() {
        _ if message.status().is_some() => Vec::new(),
        "ACK" => Vec::new(),
        "INVITE" => vec![now(reply(message, at, 180)), now(reply(message, at, 200))],
        _ => vec![now(reply(message, at, 200))],
    }
}

/// Likewise; an INVITE that comes again, its branch is `known`, gets the last answer again (RFC 3261 §17.2.1).
fn answer_once(message: &Message, at: SocketAddr, known: &Mutex<BTreeSet<String>>) -> Vec<(Duration, String)> {
    let mut answers = answer(message, at);
    if message.asks("INVITE") {
        let branch = message.branch().to_owned();
        if !known.lock().expect("no panic in the media server").insert(branch) {
            answers.drain(..answers.len() - 1);
        }
    }
    answers
}

/// A response to `request` (RFC 3261 §8.2.6), with a tag and a Contact.
pub fn reply(request: &Message, at: SocketAddr, status: u16) -> String {
    let lines = |name: &str, long: &str| -> String {
        request.all(name).iter().map(|value| format!("{long}: {value}\r\n")).collect()
    };
    let tag = if status == 100 || request.parameter("to", "tag").is_some() { "" } else { ";tag=mcp" };
    let dialog = if matches!(status, 101..=299) { lines("record-route", "Record-Route") } else { String::new() };
    let contact = if matches!(status, 101..=299) { format!("Contact: <sip:ms@{at}>\r\n") } else { String::new() };
    format!(
        "SIP/2.0 {status} Said\r\n{}{dialog}From: {}\r\nTo: {}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\n{contact}\
         Content-Length: 0\r\n\r\n",
        lines("via", "Via"),
        request.all("from").first().copied().unwrap_or(""),
        request.all("to").first().copied().unwrap_or(""),
        request.call_id(),
        request.all("cseq").first().copied().unwrap_or(""),
    )
}

fn serve(udp: &Udp, mut script: Script, memory: &Mutex<Memory>, stop: &AtomicBool) {
    let mut due: Vec<(Instant, SocketAddr, String)> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        for (_, to, octets) in due.extract_if(.., |(at, ..)| *at <= now) {
            leave(memory, &octets);
            udp.send(to, octets);
        }
        let next = due.iter().map(|(at, ..)| at.saturating_duration_since(now)).min();
        let Some((octets, from)) = udp.octets(next.unwrap_or(SOON).min(Duration::from_millis(20))) else { continue };
        let Some(message) = Message::read(&octets) else { continue };
        enter(memory, &message, from);
        due.extend(script(&message, from).into_iter().map(|(delay, text)| (Instant::now() + delay, from, text)));
    }
}

fn enter(memory: &Mutex<Memory>, message: &Message, from: SocketAddr) {
    let mut memory = memory.lock().expect("no panic in the test");
    memory.held.note(false, message);
    memory.seen.push(Seen { message: message.clone(), from });
}

fn leave(memory: &Mutex<Memory>, octets: &str) {
    let Some(message) = Message::read(octets.as_bytes()) else { return };
    memory.lock().expect("no panic in the test").held.note(true, &message);
}
