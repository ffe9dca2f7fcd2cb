//! A stream of OPTIONS, one every 10 ms, and when they were answered: how long nobody served.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::agent::wire::Request;
use crate::base::{Flow, Time, Transport};
use crate::runtime::sys;

/// Between two probes.
pub const PACE: Duration = Duration::from_millis(10);
/// No answer for so long at the end, and nobody serves any more.
const GONE: Duration = Duration::from_secs(1);
/// Answers that are remembered: ten minutes of them.
const MEMORY: usize = 60_000;

/// Probes under way.
pub struct Probes {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Time>>,
}

impl Probes {
    /// Sends from `socket` to `target` until [`Probes::stop`].
    ///
    /// # Errors
    ///
    /// The socket cannot reach that address, or there is no thread.
    pub fn start(socket: UdpSocket, target: SocketAddr, run: String) -> std::io::Result<Self> {
        socket.connect(target)?;
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(PACE))?;
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let thread =
            thread::Builder::new().name("probes".into()).spawn(move || probe(&socket, target, &run, &until))?;
        Ok(Self { over, thread })
    }

    /// Ends; when answers came.
    pub fn stop(self) -> Vec<Time> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

/// The longest time without an answer from `event` to `end`; `None`: the last answer was too long ago.
pub fn silence(event: Time, end: Time, answers: &[Time]) -> Option<Duration> {
    let (mut last, mut longest) = (event, Duration::ZERO);
    for answer in answers.iter().filter(|at| (event..=end).contains(at)) {
        longest = longest.max(answer.since(last));
        last = *answer;
    }
    (end.since(last) < GONE).then_some(longest)
}

fn probe(socket: &UdpSocket, target: SocketAddr, run: &str, over: &AtomicBool) -> Vec<Time> {
    let mut answers = Vec::new();
    let (mut number, mut due, mut memory) = (0, sys::now(), [0; 2_048]);
    while !over.load(Ordering::Relaxed) && answers.len() < MEMORY {
        if sys::now() >= due {
            number += 1;
            due = sys::now() + PACE;
            // What the kernel does not take, or another host refuses, is a probe without an answer.
            let _lost = socket.local_addr().and_then(|local| socket.send(&options(local, target, run, number)));
        }
        if socket.recv(&mut memory).is_ok_and(|length| memory[..length].starts_with(b"SIP/2.0 200 ")) {
            answers.push(sys::now());
        }
    }
    answers
}

fn options(local: SocketAddr, target: SocketAddr, run: &str, number: u32) -> Vec<u8> {
    let flow = Flow { transport: Transport::Udp, listener: Default::default(), local, remote: target, conn: None };
    let mut bytes = Vec::new();
    Request {
        method: "OPTIONS",
        uri: format!("sip:{target}").as_bytes(),
        flow,
        branch: &format!("z9hG4bKprobe{run}.{number:x}"),
        routes: &[],
        from: format!("<sip:probe@{local}>;tag={run}").as_bytes(),
        to: format!("<sip:{target}>").as_bytes(),
        call_id: format!("probe{run}.{number:x}@{}", local.ip()).as_bytes(),
        cseq: 1,
        extra: "",
        body: b"",
    }
    .write(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silence_counts_from_the_event() {
        let ms = |n: u64| Time::from_micros(n * 1_000);
        let answers = [10, 20, 95, 105, 115].map(ms);
        assert_eq!(silence(ms(30), ms(120), &answers), Some(Duration::from_millis(65)));
        assert_eq!(silence(ms(12), ms(120), &answers), Some(Duration::from_millis(75)));
        assert_eq!(silence(ms(100), ms(120), &answers), Some(Duration::from_millis(10)));
        assert_eq!(silence(ms(30), ms(1_200), &answers), None, "it was answered again, and fell silent for good");
        assert_eq!(silence(ms(200), ms(1_300), &answers), None);
    }

    #[test]
    fn probes_come_until_they_are_stopped_and_only_a_200_is_an_answer() {
        let node = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let probes = Probes::start(socket, node.local_addr().unwrap(), "x".into()).unwrap();
        let mut memory = [0; 2_048];
        let mut hear = || {
            let (length, from) = node.recv_from(&mut memory).unwrap();
            (String::from_utf8_lossy(&memory[..length]).into_owned(), from)
        };
        let ((first, from), (second, _)) = (hear(), hear());
        assert!(first.starts_with("OPTIONS sip:127.0.0.1:") && first.contains("z9hG4bKprobex.1\r\n"), "{first}");
        assert!(second.contains("z9hG4bKprobex.2\r\n"), "{second}");
        node.send_to(b"SIP/2.0 503 Service Unavailable\r\n\r\n", from).unwrap();
        node.send_to(b"SIP/2.0 200 OK\r\n\r\n", from).unwrap();
        // Whoever asks so often has read both.
        (0..3).for_each(|_| drop(hear()));
        assert_eq!(probes.stop().len(), 1);
    }
}
