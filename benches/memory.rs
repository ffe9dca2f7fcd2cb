//! Resident memory of one node per answered call, and per ringing call, which keeps its INVITE. Linux only: it reads
//! /proc. The tables are reserved at the start and become resident as they fill, so the growth is what a call costs.

use std::time::Duration;

use tandem::base::{Flow, Time};
use tandem::node::{Capacity, Gauges, Input, Node, Received, Scratch, Single};
use tandem::out::Out;

#[path = "../tests/core/world.rs"]
#[expect(dead_code, reason = "the transcripts use all of it")]
mod world;

const WARM_UP: u32 = 20_000;
const ANSWERED: u32 = 200_000;
const RINGING: u32 = 50_000;

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8 101\r\n\
                   a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";

struct Bench {
    node: Node<Single>,
    now: Time,
    scratch: Scratch,
    out: Out,
}

impl Bench {
    fn receive(&mut self, flow: Flow, text: &str) -> Vec<world::Sent> {
        self.out.clear();
        let input = Input::Message(Received { flow, bytes: text.as_bytes() });
        self.node.handle(self.now, input, &mut self.scratch, &mut self.out);
        let text = |t| String::from_utf8(self.out.bytes(t).to_vec()).unwrap();
        self.out.transmits.iter().map(|t| world::Sent { flow: t.flow, text: text(t), name: None }).collect()
    }

    /// A call that rings; its INVITE as placed.
    fn ring(&mut self, n: u32) -> world::Sent {
        let body = format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}", SDP.len());
        let invite = world::invite(n).replace("Content-Length: 0\r\n\r\n", &body);
        let sent = self.receive(world::udp(world::CALLER), &invite);
        let placed = sent.into_iter().find(|s| s.start_line().starts_with("INVITE")).expect("the call is placed");
        self.receive(world::udp(&placed.to()), &placed.answer("180 Ringing", "m", ""));
        placed
    }

    fn answer(&mut self, n: u32) {
        let placed = self.ring(n);
        let contact = format!("Contact: <sip:mcp@{}>\r\n", placed.to());
        let ok = self.receive(world::udp(&placed.to()), &placed.answer("200 OK", "m", &contact)).remove(0);
        self.receive(world::udp(world::CALLER), &world::from_caller(n, "ACK", 1, &ok));
        self.pass(Duration::from_millis(1));
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.out.clear();
        self.node.handle_timeout(self.now, &mut self.scratch, &mut self.out);
    }

    /// Lets every transaction end.
    fn settle(&mut self) -> Gauges {
        (0..60).for_each(|_| self.pass(Duration::from_secs(1)));
        self.node.gauges()
    }
}

fn main() {
    let mut config = world::config(&world::Bend::default());
    config.capacity = Capacity::default();
    let now = Time::from_micros(1_000_000);
    let mut bench = Bench { node: Node::new(now, config), now, scratch: Scratch::default(), out: Out::new() };

    (0..WARM_UP).for_each(|n| bench.answer(n));
    bench.settle();
    let before = resident();
    (WARM_UP..WARM_UP + ANSWERED).for_each(|n| bench.answer(n));
    let gauges = bench.settle();
    assert_eq!((gauges.legs, gauges.client_transactions), ((WARM_UP + ANSWERED) as usize, 0));
    let answered = resident().saturating_sub(before);
    println!("memory: {} octets per answered call ({} calls open)", answered / u64::from(ANSWERED), gauges.legs);

    let before = resident();
    (0..RINGING).for_each(|n| {
        bench.ring(1_000_000 + n);
    });
    let ringing = resident().saturating_sub(before);
    assert_eq!(bench.node.gauges().ringing, RINGING as usize);
    println!("memory: {} octets per ringing call ({RINGING} calls ringing)", ringing / u64::from(RINGING));
}

/// Resident octets of this process.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
    pages * 4_096
}
