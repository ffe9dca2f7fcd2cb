//! What fuzzing found, small enough to read.

use std::time::Duration;

use super::world::{CALLER, MCPS, Sent, World, from_caller, invite, invite_with};

/// A request that is at a limit already could be forwarded, and its response would come back past the limit: nobody
/// would hear of it, and the media server would count as silent.
#[test]
fn a_request_at_a_limit_is_refused_and_not_forwarded_past_it() {
    let via = |n: usize| "Via: SIP/2.0/UDP 203.0.113.1;branch=z9hG4bKx\n".repeat(n);
    let field = |n: usize| "X-Field: 1\n".repeat(n);
    let text = |n: usize| format!("Subject: {}\n", "x".repeat(n));
    let one =
        tandem::base::limits::MESSAGE - tandem::base::limits::GAINED_OCTETS - invite(1).len() - "Subject: \r\n".len();
    for (more, status) in
        [(via(78), 100), (via(79), 513), (field(116), 100), (field(117), 513), (text(one), 100), (text(one + 1), 513)]
    {
        let mut world = World::new();
        let sent = world.receive(CALLER, &invite_with(1, &more));
        let told = sent.iter().find(|s| s.to() == CALLER).expect("the caller is told something");
        assert_eq!(told.status(), status, "{} octets more", more.len());
        assert_eq!(world.gauges().grants, usize::from(status == 100));
    }
}

/// A media server that keeps ringing after its CANCEL held its port and its transaction for ever: each provisional
/// stopped the 64*T1 after which a cancelled INVITE counts as cancelled (RFC 3261 section 9.1).
#[test]
fn ringing_on_does_not_outlive_a_cancel() {
    let mut world = World::new();
    let placed =
        world.receive(CALLER, &invite(1)).into_iter().find(|s| s.to() == MCPS[0]).expect("the INVITE is placed");
    let ringing = placed.answer("180 Ringing", "m", "");
    world.receive(MCPS[0], &ringing);
    let cancel = invite(1).replacen("INVITE", "CANCEL", 1).replace("1 INVITE", "1 CANCEL");
    assert_eq!(world.receive(CALLER, &cancel).len(), 2, "200 to the caller, CANCEL to the media server");
    world.receive(MCPS[0], &ringing);

    world.pass(Duration::from_millis(31_900));
    assert_eq!(world.gauges().grants, 1, "the media server may still answer");
    let told = world.pass(Duration::from_millis(200));
    assert_eq!(told.iter().filter(|(_, s)| s.to() == CALLER && s.status() == 487).count(), 1);
    assert_eq!(world.gauges().grants, 0);
    world.assert_empties();
}

/// The INVITE of a living call came again after its transaction had ended: it was placed a second time under the same
/// leg id, and the port of the second placement was lost for ever.
#[test]
fn the_invite_of_a_living_call_is_not_placed_again() {
    let mut world = World::new();
    let (_, ok) = super::calls::answered(&mut world, 1);
    world.receive(CALLER, &from_caller(1, "ACK", 1, &ok));
    world.pass(Duration::from_secs(60));
    let told = world.receive(CALLER, &invite(1));
    assert_eq!((told.len(), told[0].status(), told[0].to()), (1, 482, CALLER.into()));
    assert_eq!((world.gauges().legs, world.gauges().grants), (1, 1));
    world.assert_empties();
}

/// The same where the first placement had failed: the leg of the second attempt is the one that lives.
#[test]
fn a_second_answer_to_one_leg_gives_its_port_back() {
    let mut world = World::new();
    for _ in 0..2 {
        let placed = invites(&world.receive(CALLER, &invite(1)));
        let retried = invites(&world.receive(&placed.to(), &placed.answer("500 Oops", "m0", "")));
        let contact = format!("Contact: <sip:mcp@{}>\r\n", retried.to());
        let told = world.receive(&retried.to(), &retried.answer("200 OK", "m1", &contact));
        let ok =
            told.iter().find(|s| s.to() == CALLER && s.status() == 200).expect("the 2xx always reaches the caller");
        world.receive(CALLER, &from_caller(1, "ACK", 1, ok));
        world.pass(Duration::from_secs(60));
        assert_eq!((world.gauges().legs, world.gauges().grants), (1, 1));
    }
    world.assert_empties();
}

/// The one INVITE among what left.
fn invites(sent: &[Sent]) -> Sent {
    let mut found = sent.iter().filter(|s| s.start_line().starts_with("INVITE "));
    let invite = found.next().expect("an INVITE left").clone();
    assert!(found.next().is_none(), "one INVITE left");
    invite
}

/// Digits without a dot once overflowed the reader of IPv4 addresses.
#[test]
fn a_host_of_many_digits_is_a_name() {
    let mut world = World::new();
    let text = invite(1).replace("Via: SIP/2.0/UDP 192.0.2.9:5060", "Via: SIP/2.0/UDP 198888888888:5060");
    let placed = invites(&world.receive(CALLER, &text));
    assert!(placed.all("Via")[1].starts_with("SIP/2.0/UDP 198888888888:5060;"), "{}", placed.all("Via")[1]);
    assert!(placed.all("Via")[1].ends_with(";received=192.0.2.9"));
}

/// A response to the ACK of a non-2xx, which has its INVITE's branch and our Via alone, went on to the caller without
/// any Via.
#[test]
fn a_response_to_an_ack_of_ours_ends_here() {
    let mut world = World::new();
    let placed = invites(&world.receive(CALLER, &invite(1)));
    let busy = placed.answer("486 Busy Here", "m", "");
    let sent = world.receive(&placed.to(), &busy);
    let ack = sent.iter().find(|s| s.start_line().starts_with("ACK ")).expect("the 486 is acknowledged");
    assert!(world.receive(&ack.to(), &ack.answer("200 OK", "m", "")).is_empty());
    assert!(world.receive(&ack.to(), &ack.answer("183 Session Progress", "m", "")).is_empty());
    assert_eq!(world.stats().calls.stray_dropped, 2);
}

/// A response that lost the Via of the caller can reach nobody.
#[test]
fn a_response_without_a_via_for_the_caller_ends_here() {
    let mut world = World::new();
    let placed = invites(&world.receive(CALLER, &invite(1)));
    let own = format!("Via: {}\r\n", placed.all("Via")[1]);
    let ringing = placed.answer("180 Ringing", "m", "");
    assert!(ringing.contains(&own));
    assert!(world.receive(&placed.to(), &ringing.replace(&own, "")).is_empty());
    assert_eq!(world.stats().calls.stray_dropped, 1);
    assert_eq!(world.receive(&placed.to(), &ringing).len(), 1);
}
