//! Parsing to a proxy's view, beside a bare newline scan (the floor) and beside rsip (a parser of typed values).
//!
//! `cargo bench --bench parse`. The messages are those of `../shared/bench/messages` when they are there, else ours of
//! the same shapes. Each figure is the median of several interleaved rounds, in nanoseconds per message.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rsip::prelude::*;
use tandem::sip::{Index, Name};

/// Counts allocations.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[expect(unsafe_code, reason = "an allocator that counts is the only witness of zero allocations")]
// SAFETY: every call is passed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Many short rounds: on a busy machine most of them run undisturbed, and the median is one of those.
const ROUNDS: usize = 301;
const SCANS: u32 = 2_000;
const VIEWS: u32 = 200;
const RSIPS: u32 = 10;

fn main() {
    let messages = messages();
    println!(
        "{:<10} {:>7} {:>9} {:>9} {:>9} {:>8} {:>8} {:>7}",
        "message", "octets", "scan ns", "view ns", "rsip ns", "/ scan", "rsip /", "allocs"
    );
    let mut totals = [0.0; 3];
    for (name, octets) in &messages {
        let times = measure(octets);
        row(name, octets.len(), times, allocations(octets));
        totals.iter_mut().zip(times).for_each(|(total, time)| *total += time / messages.len() as f64);
    }
    row("mean", messages.iter().map(|m| m.1.len()).sum::<usize>() / messages.len(), totals, 0);
    println!("goals: view at most 15x (aim 9x) the scan, rsip at least 12x the view, 0 allocations");
}

fn row(name: &str, octets: usize, [scan, view, rsip]: [f64; 3], allocations: u64) {
    let (over, under) = (view / scan, rsip / view);
    println!("{name:<10} {octets:>7} {scan:>9.1} {view:>9.1} {rsip:>9.1} {over:>8.1} {under:>8.1} {allocations:>7}");
}

/// Medians for scan, view and rsip; the three take turns, so that a disturbance meets all of them.
fn measure(octets: &[u8]) -> [f64; 3] {
    let mut index = Index::new();
    let mut samples: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        samples[0].push(time(SCANS, || scan(black_box(octets))));
        samples[1].push(time(VIEWS, || view(&mut index, black_box(octets))));
        samples[2].push(time(RSIPS, || rsip_view(black_box(octets))));
    }
    samples.map(|mut s| {
        s.sort_by(f64::total_cmp);
        s[s.len() / 2]
    })
}

fn time(count: u32, mut work: impl FnMut() -> usize) -> f64 {
    let start = Instant::now();
    for _ in 0..count {
        black_box(work());
    }
    start.elapsed().as_nanos() as f64 / f64::from(count)
}

fn allocations(octets: &[u8]) -> u64 {
    let mut index = Index::new();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    black_box(view(&mut index, octets));
    let count = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(count, 0, "parsing allocated");
    count
}

/// The floor: every newline found.
fn scan(octets: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', octets).count()
}

/// What a proxy must know of a message.
fn view(index: &mut Index, octets: &[u8]) -> usize {
    index.parse(octets).expect("a sound message");
    let message = index.message(octets);
    let via = message.via();
    black_box((via.branch, via.transport, via.sent_by, via.received, via.rport));
    black_box((message.from_tag(), message.to_tag(), message.call_id()));
    black_box((message.cseq(), message.max_forwards()));
    black_box(message.contacts().next());
    black_box(message.routes().next());
    black_box(message.record_routes().next());
    black_box(message.header(Name::Route).is_some());
    via.branch.map_or(0, <[u8]>::len)
}

/// The same of rsip.
fn rsip_view(octets: &[u8]) -> usize {
    match rsip::SipMessage::try_from(octets).expect("a sound message") {
        rsip::SipMessage::Request(request) => rsip_headers(&request),
        rsip::SipMessage::Response(response) => rsip_headers(&response),
    }
}

fn rsip_headers(message: &impl HeadersExt) -> usize {
    let branch = message.via_header().and_then(|v| v.typed()).ok().and_then(|v| v.branch().map(|b| b.value().len()));
    black_box(message.from_header().and_then(|h| h.typed()).is_ok());
    black_box(message.to_header().and_then(|h| h.typed()).is_ok());
    black_box(message.call_id_header().is_ok());
    black_box(message.cseq_header().and_then(|h| h.typed()).is_ok());
    black_box(message.max_forwards_header().and_then(|h| h.num()).is_ok());
    black_box(message.contact_header().and_then(|h| h.typed()).is_ok());
    black_box(message.route_header().map(|h| h.typed().is_ok()));
    black_box(message.record_route_header().map(|h| h.typed().is_ok()));
    branch.unwrap_or_default()
}

fn messages() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/bench/messages");
    let names = ["invite", "ok200", "bye", "options", "register"];
    let read =
        |name: &str| std::fs::read(folder.join(format!("{name}.sip"))).ok().map(|octets| (name.to_owned(), octets));
    match names.iter().map(|name| read(name)).collect() {
        Some(found) => found,
        None => {
            OWN.iter().map(|(name, text)| (format!("own {name}"), text.replace('\n', "\r\n").into_bytes())).collect()
        }
    }
}

const OWN: [(&str, &str); 5] = [
    (
        "invite",
        "INVITE sip:ivr@media.example.net SIP/2.0
Via: SIP/2.0/UDP edge1.example.org:5060;branch=z9hG4bK7a1f.1
Via: SIP/2.0/UDP phone.branch.example.org:5060;branch=z9hG4bK9c2e;received=198.51.100.7
Max-Forwards: 69
Record-Route: <sip:edge1.example.org;lr>
From: Ada <sip:ada@branch.example.org>;tag=71bb02ce
To: Ivr <sip:ivr@media.example.net>
Call-ID: k2J81xPq0sV7m@branch.example.org
CSeq: 1 INVITE
Contact: <sip:ada@phone.branch.example.org>
Content-Type: application/sdp
Content-Length: 128

v=0
o=ada 1 1 IN IP4 phone.branch.example.org
s=-
c=IN IP4 198.51.100.7
t=0 0
m=audio 40000 RTP/AVP 0
a=rtpmap:0 PCMU/8000
",
    ),
    (
        "ok200",
        "SIP/2.0 200 OK
Via: SIP/2.0/UDP edge2.example.org:5060;branch=z9hG4bK33ef.1;received=198.51.100.22
Via: SIP/2.0/UDP edge1.example.org:5060;branch=z9hG4bK7a1f.1;received=198.51.100.11
Via: SIP/2.0/UDP phone.branch.example.org:5060;branch=z9hG4bK9c2e;received=198.51.100.7
Record-Route: <sip:edge2.example.org;lr>, <sip:edge1.example.org;lr>
From: Ada <sip:ada@branch.example.org>;tag=71bb02ce
To: Ivr <sip:ivr@media.example.net>;tag=550192
Call-ID: k2J81xPq0sV7m@branch.example.org
CSeq: 1 INVITE
Contact: <sip:ivr@mcp1.media.example.net>
Content-Type: application/sdp
Content-Length: 126

v=0
o=ivr 1 1 IN IP4 mcp1.media.example.net
s=-
c=IN IP4 198.51.100.9
t=0 0
m=audio 41000 RTP/AVP 0
a=rtpmap:0 PCMU/8000
",
    ),
    (
        "bye",
        "BYE sip:ada@phone.branch.example.org SIP/2.0
Via: SIP/2.0/UDP mcp1.media.example.net:5060;branch=z9hG4bK44aa
Max-Forwards: 70
Route: <sip:edge2.example.org;lr>, <sip:edge1.example.org;lr>
From: Ivr <sip:ivr@media.example.net>;tag=550192
To: Ada <sip:ada@branch.example.org>;tag=71bb02ce
Call-ID: k2J81xPq0sV7m@branch.example.org
CSeq: 1 BYE
Content-Length: 0

",
    ),
    (
        "options",
        "OPTIONS sip:mcp1@media.example.net SIP/2.0
Via: SIP/2.0/UDP rm1.example.net;branch=z9hG4bK01ab77
Max-Forwards: 70
To: <sip:mcp1@media.example.net>
From: Node <sip:rm1@example.net>;tag=192837
Call-ID: 55ab01ef
CSeq: 4711 OPTIONS
Contact: <sip:rm1@rm1.example.net>
Accept: application/sdp
Content-Length: 0

",
    ),
    (
        "register",
        "REGISTER sip:edge2.example.org SIP/2.0
Via: SIP/2.0/UDP phone.branch.example.org:5060;branch=z9hG4bK55cc01
Max-Forwards: 70
From: Ada <sip:ada@branch.example.org>;tag=aa10bb20cc30
To: Ada <sip:ada@branch.example.org>
Call-ID: 7x1QmZ0aPl@branch.example.org
CSeq: 2 REGISTER
Contact: <sip:ada@phone.branch.example.org>
Authorization: Digest username=\"ada\", realm=\"example.org\", nonce=\"0011223344556677889900aabbccddee\", opaque=\"\", uri=\"sip:edge2.example.org\", response=\"ffeeddccbbaa00998877665544332211\"
Content-Length: 0

",
    ),
];
