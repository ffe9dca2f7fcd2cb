//! In the steady state a call costs no allocation: after 10,000 calls, 10,000 more through `Node` make none.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use tandem::base::{Flow, ListenerId, Time, Transport};
use tandem::node::{Input, Node, Received, Scratch, Single};
use tandem::out::Out;

#[path = "core/world.rs"]
#[expect(dead_code, reason = "the transcripts use all of it")]
mod world;

/// Counts allocations while the flag of this thread is up.
struct Counting;

thread_local! {
    static COUNTING: Cell<bool> = const { Cell::new(false) };
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "an allocator cannot be written without it; it only counts and passes on")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(place, layout, size) }
    }
}

fn count() {
    if COUNTING.get() {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Bench {
    node: Node<Single>,
    now: Time,
    scratch: Scratch,
    out: Out,
}

impl Bench {
    /// One datagram; what leaves because of it.
    fn receive(&mut self, from: &str, text: &str) -> Vec<(SocketAddr, String)> {
        let flow = Flow {
            transport: Transport::Udp,
            listener: ListenerId(0),
            local: world::NODE.parse().unwrap(),
            remote: from.parse().unwrap(),
            conn: None,
        };
        let input = Input::Message(Received { flow, bytes: text.as_bytes() });
        self.out.clear();
        COUNTING.set(true);
        self.node.handle(self.now, input, &mut self.scratch, &mut self.out);
        COUNTING.set(false);
        let out = &self.out;
        let text = |t| String::from_utf8(out.bytes(t).to_vec()).unwrap();
        out.transmits.iter().map(|t| (t.flow.remote, text(t))).collect()
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.out.clear();
        COUNTING.set(true);
        self.node.handle_timeout(self.now, &mut self.scratch, &mut self.out);
        COUNTING.set(false);
    }

    /// INVITE, 100, 180, 200, ACK, BYE, 200.
    fn call(&mut self, n: u32) {
        let sent = self.receive(world::CALLER, &world::invite(n));
        assert_eq!(sent.len(), 2, "100 upstream, then INVITE downstream");
        let (mcp, invite) = (sent[1].0.to_string(), as_sent(&sent[1].1));
        let contact = format!("Contact: <sip:mcp@{mcp}>\r\n");
        assert!(self.receive(&mcp, &invite.answer("100 Trying", "", "")).is_empty());
        assert_eq!(self.receive(&mcp, &invite.answer("180 Ringing", "m", &contact)).len(), 1);
        let ok = as_sent(&self.receive(&mcp, &invite.answer("200 OK", "m", &contact))[0].1);
        assert_eq!(self.receive(world::CALLER, &world::from_caller(n, "ACK", 1, &ok)).len(), 1);
        let bye = self.receive(world::CALLER, &world::from_caller(n, "BYE", 2, &ok));
        let bye = as_sent(&bye[0].1);
        assert_eq!(self.receive(&mcp, &bye.answer("200 OK", "", "")).len(), 1);
        self.pass(Duration::from_millis(100));
    }
}

fn as_sent(text: &str) -> world::Sent {
    world::Sent { flow: world::udp(world::CALLER), text: text.to_owned(), name: None }
}

#[test]
fn ten_thousand_calls_allocate_nothing() {
    let config = world::config(&world::Bend::default());
    let now = Time::from_micros(1);
    let mut bench = Bench { node: Node::new(now, config), now, scratch: Scratch::default(), out: Out::new() };
    // Numbers of one width: no message outgrows its size class.
    for n in 10_000..20_000 {
        bench.call(n);
    }
    let warm = ALLOCATIONS.replace(0);
    assert!(warm > 0, "the counter counts");
    for n in 20_000..30_000 {
        bench.call(n);
    }
    assert_eq!(ALLOCATIONS.get(), 0, "allocations in 10,000 calls");
    assert_eq!(bench.node.gauges().grants, 0);
}
