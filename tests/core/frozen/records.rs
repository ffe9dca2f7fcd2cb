//! Records: every class with every field, as they are written and read; and what a later version may add to them.

use std::time::Duration;

use tandem::base::{Bucket, CallKey, Host, InviteId, LegId, Pin, PinKey, ResourceId, Seq, SessionId, Transport};
use tandem::replica::body::{AttemptBody, FlowBody, LegBody, Read, SetupBody, read};
use tandem::replica::record::{Class, Head, Records, head, write_body, write_preamble};
use tandem::session::change::{Answer, AttemptState, Change, Interval, LegState, Setup};

use super::{VERSION, flow, hex, octets};

const PREAMBLE: &str = "00050a0b0c0d0e0f00010a0b0c0d0e0f1011";
const REFUSED: &str = "\
    01000abc11121314151617180000000700020a0b0c0d0e0f1011000001460a14494e56495445207369703a78205349502f322e3012920008\
    011206c000020a13c41a06c000026313c61a9e0008021206c000020a13c41a1220010db80000000000000000000000019c40212827262524\
    23222128023208766f696365786d6c38b817400148e60352155349502f322e3020343836204275737920486572655acf0009383736353433\
    32311148474645444342411a0a7a39684734624b6f6e6522920008011206c000020a13c41a06c633641513ce2a123139382e35312e313030\
    2e32313a35303730309201380340dc0b5ae8000958575655545352511168676665646362611a0a7a39684734624b74776f22aa0008031212\
    20010db800000000000000000000001013c51a1220010db800000000000000000000002113c52a135b323030313a6462383a3a32315d3a35\
    3036313007380640a0fe0a61010000000000c0ab";
const ACCEPTED: &str = "\
    01000abc11121314151617180000000700020a0b0c0d0e0f10110000008f12920008011206c000020a13c41a06c000026313c61a92000801\
    1206c000020a13c41a06c000026313c62104000000000000003801400248c8015ac9000938373635343332311148474645444342411a0a7a\
    39684734624b6f6e6522920008021206c000020a13c41a06c633641513ce2a0f6d63702e6578616d706c652e636f6d309201380861010000\
    000000c0ab";
const GONE: &str = "02000abc11121314151617180000000700020a0b0c0d0e0f10110000000909010000000000c0ab";
const LEG: &str = "\
    03000abc31323334353637380000000700020a0b0c0d0e0f10110000004d09010000000000c0ab1128272625242322211948474645444342\
    41220361406228f0a20430e8fb0338c1ee6d42036d63704a06c000020900004a1220010db80000000000000000000000090000";
const ENDLESS: &str = "03000abc31323334353637380000000700020a0b0c0d0e0f10110000000e09010000000000c0ab2203614062";
const ENDED: &str = "04000abc31323334353637380000000700020a0b0c0d0e0f10110000000909010000000000c0ab";
const HEARD: &str = "05010abc31323334353637380000000700020a0b0c0d0e0f10110000000909010000000000c0ab";
const REFRESHED: &str = "05010abc31323334353637380000000700020a0b0c0d0e0f10110000000d09010000000000c0ab10c2bb01";
const ENDLESSLY: &str = "05010abc31323334353637380000000700020a0b0c0d0e0f10110000000b09010000000000c0ab1001";
const PINNED_SETUP: &str = "\
    01000abc11121314151617180000000700020a0b0c0d0e0f10110000009b12920008011206c000020a13c41a06c000026313c61a92000801\
    1206c000020a13c41a06c000026313c62104000000000000003801400248c8015ad5000938373635343332311148474645444342411a0a7a\
    39684734624b6f6e6522920008011206c000020a13c41a06c633641513ce2a123139382e35312e3130302e32313a3530373030920151e8e7\
    e6e5e4e3e2e1580361010000000000c0ab";
const PINNED_LEG: &str = "\
    03000abc31323334353637380000000700020a0b0c0d0e0f10110000001909010000000000c0ab220361406251e8e7e6e5e4e3e2e15803";
const LATER_SETUP: &str = "\
    01000abc11121314151617180000000700020a0b0c0d0e0f10110000005012920008011206c000020a13c41a06c000026313c65aa9000938\
    3736353433323122980008011206c000020a13c41a06c633641513ce22046d6f7265480540dc0b61010000000000c0ab6a046e657773";
const LATER_CLASS: &str = "c8010abc00000000000000090000000700020a0b0c0d0e0f1011000000046e657773";
const LATER_LEG: &str = "\
    03000abc31323334353637380000000700020a0b0c0d0e0f10110000005c780409010000000000c0abc23e046e6577731128272625242322\
    21194847464544434241220361406228f0a20430e8fb0338c1ee6d42036d63704a06c000020900004a1220010db800000000000000000000\
    00090000850101020304";
const LATER_END: &str = "04010abc31323334353637380000000700020a0b0c0d0e0f10110000000b09010000000000c0ab1001";

const CALL: CallKey = CallKey(0xabc0_0000_0000_0001);
const INVITE: InviteId = InviteId(0x1112_1314_1516_1718);
const LEG_ID: LegId = LegId(0x3132_3334_3536_3738);
const SESSION: SessionId = SessionId(0x2122_2324_2526_2728);
const RESOURCE: ResourceId = ResourceId(0x4142_4344_4546_4748);
const PIN: Pin = Pin { key: PinKey(0xe1e2_e3e4_e5e6_e7e8), generation: 3 };
const NODE: &str = "192.0.2.10:5060";
const CALLER: &str = "192.0.2.99:5062";
const SERVER: &str = "198.51.100.21:5070";
const NODE6: &str = "[2001:db8::10]:5061";
const CALLER6: &str = "[2001:db8::1]:40000";
const SERVER6: &str = "[2001:db8::21]:5061";

/// An attempt in which nothing is true; no two flags of this corpus are true in the same records.
fn attempt(transport: Transport) -> AttemptState<'static> {
    AttemptState {
        leg: LEG_ID,
        resource: RESOURCE,
        branch: b"z9hG4bKone",
        target: flow(transport, NODE, SERVER),
        authority: SERVER,
        key: 0x92,
        holds_port: false,
        pending: false,
        superseded: false,
        proceeding: false,
        due_in: Duration::ZERO,
        pin: None,
    }
}

fn attempts() -> [AttemptState<'static>; 2] {
    let one = attempt(Transport::Udp);
    let two = AttemptState {
        leg: LegId(0x5152_5354_5556_5758),
        resource: ResourceId(0x6162_6364_6566_6768),
        branch: b"z9hG4bKtwo",
        target: flow(Transport::Tls, NODE6, SERVER6),
        authority: SERVER6,
        key: 7,
        pending: true,
        superseded: true,
        due_in: Duration::from_secs(180),
        ..one
    };
    [AttemptState { holds_port: true, pending: true, due_in: Duration::from_millis(1_500), ..one }, two]
}

fn refused<'a>(attempts: &'a [AttemptState<'a>]) -> Setup<'a> {
    Setup {
        joined: None,
        invite: INVITE,
        call: CALL,
        request: Some(b"INVITE sip:x SIP/2.0"),
        source: flow(Transport::Udp, NODE, CALLER),
        upstream: flow(Transport::Tcp, NODE, CALLER6),
        session: SESSION,
        pops: 2,
        service: Some("voicexml"),
        age: Duration::from_secs(3),
        cancelled: true,
        rang: false,
        answer: Answer::Refused { status: 486, response: b"SIP/2.0 486 Busy Here" },
        attempts,
    }
}

fn accepted<'a>(attempts: &'a [AttemptState<'a>]) -> Setup<'a> {
    Setup {
        request: None,
        upstream: flow(Transport::Udp, NODE, CALLER),
        session: SessionId(4),
        pops: 0,
        service: None,
        age: Duration::from_millis(1),
        cancelled: false,
        rang: true,
        answer: Answer::Accepted,
        ..refused(attempts)
    }
}

fn leg<'a>(hosts: &'a [Host<'a>]) -> LegState<'a> {
    LegState {
        leg: LEG_ID,
        call: CALL,
        session: SESSION,
        resource: RESOURCE,
        call_id: b"a@b",
        invited: Duration::from_secs(70),
        answered: Duration::from_secs(65),
        expires_in: Some(Duration::from_secs(1_800)),
        hosts,
        pin: None,
    }
}

fn hosts() -> [Host<'static>; 3] {
    let ip = |text: &str| Host::Ip(text.parse().unwrap());
    [Host::Name(b"mcp"), ip("192.0.2.9"), ip("2001:db8::9")]
}

fn endless() -> LegState<'static> {
    let nothing = Duration::ZERO;
    let (session, resource) = (SessionId(0), ResourceId(0));
    LegState { session, resource, invited: nothing, answered: nothing, expires_in: None, ..leg(&[]) }
}

fn written(change: &Change<'_>) -> String {
    let mut payload = Vec::new();
    Head { version: VERSION, ..head(change) }.write(&mut payload, |out| write_body(change, out));
    hex(&payload)
}

/// All records of a payload, each of this call and version.
fn records(payload: &[u8]) -> Vec<(Head, Read)> {
    let one = |record: Result<(Head, &[u8]), _>| {
        let (head, body) = record.unwrap();
        assert_eq!((head.bucket, head.version), (Bucket(0xabc), VERSION));
        (head, read(&head, body).unwrap())
    };
    Records::bare(payload).map(one).collect()
}

#[track_caller]
fn assert_read(hex: &str, class: Class, id: u64, meant: Read) {
    let ignorable = class == Class::Heard;
    let head = Head { class, ignorable, bucket: Bucket(0xabc), id, version: VERSION };
    assert_eq!(records(&octets(hex)), [(head, meant)]);
}

#[test]
fn every_class_of_record_is_written_as_it_was_frozen() {
    let (attempts, hosts) = (attempts(), hosts());
    let proceeding = AttemptState { authority: "mcp.example.com", proceeding: true, ..attempt(Transport::Tcp) };
    let mut preamble = Vec::new();
    write_preamble(&mut preamble, 5, Seq(0x0a0b_0c0d_0e0f_0001), VERSION.seq);
    assert_eq!(hex(&preamble), PREAMBLE);
    assert_eq!(written(&Change::Setup(refused(&attempts))), REFUSED);
    assert_eq!(written(&Change::Setup(accepted(&[proceeding]))), ACCEPTED);
    assert_eq!(written(&Change::Gone { call: CALL, invite: INVITE }), GONE);
    assert_eq!(written(&Change::Leg(leg(&hosts))), LEG);
    assert_eq!(written(&Change::Leg(endless())), ENDLESS);
    assert_eq!(written(&Change::Ended { call: CALL, leg: LEG_ID }), ENDED);
    for (octets, interval) in heard() {
        assert_eq!(written(&Change::Heard { call: CALL, leg: LEG_ID, interval }), octets);
    }
    let pinned = AttemptState { pin: Some(PIN), ..attempt(Transport::Udp) };
    assert_eq!(written(&Change::Setup(accepted(&[pinned]))), PINNED_SETUP);
    assert_eq!(written(&Change::Leg(LegState { pin: Some(PIN), ..endless() })), PINNED_LEG);
}

#[test]
fn what_binds_a_call_to_its_server_is_read_as_it_was_meant() {
    let bodies: Vec<Read> = [PINNED_SETUP, PINNED_LEG].map(|hex| records(&octets(hex)).remove(0).1).into();
    let [Read::Setup(setup), Read::Leg(leg)] = &bodies[..] else { panic!("{bodies:?}") };
    assert_eq!((setup.attempts[0].pin(), leg.pin()), (Some(PIN), Some(PIN)));
    assert_eq!((attempt_body().pin(), leg_body().pin()), (None, None));
}

#[test]
fn classes_have_their_numbers() {
    let classes = [Class::Setup, Class::Gone, Class::Leg, Class::Ended, Class::Heard];
    assert_eq!(classes.map(|class| class as u8), [1, 2, 3, 4, 5]);
}

fn heard() -> [(&'static str, Interval); 3] {
    let refreshed = Interval::EndsIn(Duration::from_secs(24));
    [(HEARD, Interval::Same), (REFRESHED, refreshed), (ENDLESSLY, Interval::None)]
}

/// A flow body as its octets say it: number of the transport, IP and port.
fn flow_body(transport: u32, local: &str, remote: &str) -> FlowBody {
    let [local, remote] = [local, remote].map(octets);
    FlowBody { transport, local, remote }
}

const NODE_OCTETS: &str = "c000020a13c4";
const CALLER_OCTETS: &str = "c000026313c6";
const CALLER6_OCTETS: &str = "20010db80000000000000000000000019c40";
const SERVER_OCTETS: &str = "c633641513ce";
const NODE6_OCTETS: &str = "20010db800000000000000000000001013c5";
const SERVER6_OCTETS: &str = "20010db800000000000000000000002113c5";

fn attempt_body() -> AttemptBody {
    AttemptBody {
        leg: LEG_ID.0,
        resource: RESOURCE.0,
        branch: b"z9hG4bKone".to_vec(),
        target: Some(flow_body(1, NODE_OCTETS, SERVER_OCTETS)),
        authority: SERVER.to_owned(),
        key: 0x92,
        flags: 1 | 2,
        due: 1_500,
        pin: 0,
        generation: 0,
    }
}

fn refused_body() -> SetupBody {
    let two = AttemptBody {
        leg: 0x5152_5354_5556_5758,
        resource: 0x6162_6364_6566_6768,
        branch: b"z9hG4bKtwo".to_vec(),
        target: Some(flow_body(3, NODE6_OCTETS, SERVER6_OCTETS)),
        authority: SERVER6.to_owned(),
        key: 7,
        flags: 2 | 4,
        due: 180_000,
        pin: 0,
        generation: 0,
    };
    SetupBody {
        joined: Vec::new(),
        request: b"INVITE sip:x SIP/2.0".to_vec(),
        source: Some(flow_body(1, NODE_OCTETS, CALLER_OCTETS)),
        upstream: Some(flow_body(2, NODE_OCTETS, CALLER6_OCTETS)),
        session: SESSION.0,
        pops: 2,
        service: b"voicexml".to_vec(),
        age: 3_000,
        flags: 1,
        status: 486,
        response: b"SIP/2.0 486 Busy Here".to_vec(),
        attempts: vec![attempt_body(), two],
        call: CALL.0,
    }
}

#[test]
fn a_set_up_is_read_as_it_was_meant() {
    assert_read(REFUSED, Class::Setup, INVITE.0, Read::Setup(refused_body()));
    let proceeding = AttemptBody {
        target: Some(flow_body(2, NODE_OCTETS, SERVER_OCTETS)),
        authority: "mcp.example.com".to_owned(),
        flags: 8,
        due: 0,
        ..attempt_body()
    };
    let accepted = SetupBody {
        request: Vec::new(),
        upstream: Some(flow_body(1, NODE_OCTETS, CALLER_OCTETS)),
        session: 4,
        pops: 0,
        service: Vec::new(),
        age: 1,
        flags: 2,
        status: 200,
        response: Vec::new(),
        attempts: vec![proceeding],
        ..refused_body()
    };
    assert_read(ACCEPTED, Class::Setup, INVITE.0, Read::Setup(accepted));
}

#[test]
fn a_flow_is_read_as_it_was_meant() {
    let read = |body: &FlowBody| body.flow().unwrap();
    assert_eq!(read(&flow_body(1, NODE_OCTETS, CALLER_OCTETS)), flow(Transport::Udp, NODE, CALLER));
    assert_eq!(read(&flow_body(2, NODE_OCTETS, CALLER6_OCTETS)), flow(Transport::Tcp, NODE, CALLER6));
    assert_eq!(read(&flow_body(3, NODE6_OCTETS, SERVER6_OCTETS)), flow(Transport::Tls, NODE6, SERVER6));
}

fn leg_body() -> LegBody {
    LegBody {
        call: CALL.0,
        session: SESSION.0,
        resource: RESOURCE.0,
        call_id: b"a@b".to_vec(),
        invited: 70_000,
        answered: 65_000,
        expires: 1_800_001,
        names: vec![b"mcp".to_vec()],
        addresses: ["c00002090000", "20010db80000000000000000000000090000"].map(octets).to_vec(),
        pin: 0,
        generation: 0,
    }
}

#[test]
fn a_leg_and_what_ends_are_read_as_they_were_meant() {
    assert_read(LEG, Class::Leg, LEG_ID.0, Read::Leg(leg_body()));
    assert_eq!(leg_body().hosts().collect::<Vec<_>>(), hosts());
    let endless = LegBody { call: CALL.0, call_id: b"a@b".to_vec(), ..LegBody::default() };
    assert_read(ENDLESS, Class::Leg, LEG_ID.0, Read::Leg(endless));
    assert_read(GONE, Class::Gone, INVITE.0, Read::Gone(CALL));
    assert_read(ENDED, Class::Ended, LEG_ID.0, Read::Ended(CALL));
    for (octets, interval) in heard() {
        assert_read(octets, Class::Heard, LEG_ID.0, Read::Heard(interval));
    }
}

#[test]
fn what_a_later_version_adds_to_every_class_is_skipped() {
    let payload = octets(&[PREAMBLE, LATER_SETUP, LATER_CLASS, LATER_LEG, LATER_CLASS, LATER_END].concat());
    let all = Records::read(&payload).unwrap();
    assert_eq!((all.lane, all.from, all.to), (5, Seq(0x0a0b_0c0d_0e0f_0001), VERSION.seq));
    let all = records(&payload[octets(PREAMBLE).len()..]);
    let heads: Vec<_> = all.iter().map(|(head, _)| (head.class, head.ignorable, head.id)).collect();
    assert_eq!(
        heads,
        [(Class::Setup, false, INVITE.0), (Class::Leg, false, LEG_ID.0), (Class::Ended, true, LEG_ID.0)],
        "two records of a class that is not known, and may be skipped, stand between them"
    );
    let attempt = AttemptBody { leg: LEG_ID.0, due: 1_500, target: attempt_body().target, ..AttemptBody::default() };
    let setup = SetupBody {
        source: Some(flow_body(1, NODE_OCTETS, CALLER_OCTETS)),
        attempts: vec![attempt],
        call: CALL.0,
        ..SetupBody::default()
    };
    let bodies: Vec<_> = all.into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, [Read::Setup(setup), Read::Leg(leg_body()), Read::Ended(CALL)]);
}
