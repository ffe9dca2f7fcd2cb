//! Request in, bytes out, through a whole `Node` on one thread: nanoseconds per message of the usual call (seven in,
//! seven out), beside the bare copy of the same octets. Ratios of one run count; absolutes of a busy machine do not.

use std::hint::black_box;
use std::time::{Duration, Instant};

use tandem::base::{Flow, Time};
use tandem::node::{Input, Node, Received, Scratch, Single};
use tandem::out::Out;

#[path = "../tests/core/world.rs"]
#[expect(dead_code, reason = "the transcripts use all of it")]
mod world;

const CALLS: u32 = 20_000;
const ROUNDS: usize = 7;
const MESSAGES: f64 = 7.0;

struct Bench {
    node: Node<Single>,
    now: Time,
    scratch: Scratch,
    out: Out,
    busy: Duration,
    copied: Duration,
    octets: Vec<u8>,
}

impl Bench {
    fn receive(&mut self, flow: Flow, text: &str) -> Vec<world::Sent> {
        self.out.clear();
        let start = Instant::now();
        let input = Input::Message(Received { flow, bytes: text.as_bytes() });
        self.node.handle(self.now, input, &mut self.scratch, &mut self.out);
        self.busy += start.elapsed();
        let start = Instant::now();
        self.octets.clear();
        self.octets.extend_from_slice(black_box(&self.out.arena));
        self.copied += start.elapsed();
        let out = &self.out;
        let sent = |t| world::Sent { flow, text: String::from_utf8(out.bytes(t).to_vec()).unwrap(), name: None };
        out.transmits.iter().map(|t| world::Sent { flow: t.flow, ..sent(t) }).collect()
    }

    fn call(&mut self, n: u32) {
        let caller = world::udp(world::CALLER);
        let placed = self.receive(caller, &world::invite(n)).remove(1);
        let to = placed.to();
        let mcp = world::udp(&to);
        let contact = format!("Contact: <sip:mcp@{to}>\r\n");
        self.receive(mcp, &placed.answer("100 Trying", "", ""));
        self.receive(mcp, &placed.answer("180 Ringing", "m", &contact));
        let ok = self.receive(mcp, &placed.answer("200 OK", "m", &contact)).remove(0);
        self.receive(caller, &world::from_caller(n, "ACK", 1, &ok));
        let bye = self.receive(caller, &world::from_caller(n, "BYE", 2, &ok)).remove(0);
        self.receive(mcp, &bye.answer("200 OK", "", ""));
        self.now = self.now + Duration::from_millis(20);
        self.out.clear();
        let start = Instant::now();
        self.node.handle_timeout(self.now, &mut self.scratch, &mut self.out);
        self.busy += start.elapsed();
    }
}

fn main() {
    let mut config = world::config(&world::Bend::default());
    config.capacity.transactions = 20_000;
    let now = Time::from_micros(1);
    let mut bench = Bench {
        node: Node::new(now, config),
        now,
        scratch: Scratch::default(),
        out: Out::new(),
        busy: Duration::ZERO,
        copied: Duration::ZERO,
        octets: Vec::new(),
    };
    let mut rounds = Vec::new();
    for round in 0..ROUNDS as u32 {
        (bench.busy, bench.copied) = (Duration::ZERO, Duration::ZERO);
        (0..CALLS).for_each(|n| bench.call(1_000_000 + round * CALLS + n));
        let per_message = |time: Duration| time.as_nanos() as f64 / f64::from(CALLS) / MESSAGES;
        rounds.push((per_message(bench.busy), per_message(bench.copied)));
    }
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (node, copy) = rounds[ROUNDS / 2];
    println!("forward: {node:.0} ns per message through Node, {copy:.0} ns to copy its octets: {:.1}x", node / copy);
    println!("forward: {:.2} us per call of {MESSAGES} messages", node * MESSAGES / 1_000.0);
}
