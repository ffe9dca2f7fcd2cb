//! Transcripts of whole calls: messages in, messages out, every octet that RFC 3261 §16 speaks of.

use std::time::Duration;

use tandem::base::Transport;
use tandem::node::Command;
use tandem::out::{EndReason, Event};

use super::world::{Bend, CALLER, MCPS, NODE, Sent, World, from_caller, from_mcp, invite, invite_with};

pub const OK_CONTACT: &str = "Contact: <sip:mcp@198.51.100.1:5060>\r\n";

/// A call that the first member has answered: (INVITE at the member, 200 at the caller).
pub fn answered(world: &mut World, n: u32) -> (Sent, Sent) {
    let sent = world.receive(CALLER, &invite(n));
    let placed = sent[0].clone();
    let contact = format!("Contact: <sip:mcp@{}>\r\n", placed.to());
    let ok = world.receive(&placed.to(), &placed.answer("200 OK", "mcp", &contact));
    assert_eq!(ok.len(), 1);
    (placed, ok[0].clone())
}

#[test]
fn an_invite_leaves_with_our_via_record_route_and_one_hop_less() {
    let mut world = World::new();
    let sent = world.receive(CALLER, &invite(1));
    assert_eq!(sent.len(), 2);
    let (placed, trying) = (&sent[0], &sent[1]);
    assert_eq!(placed.start_line(), "INVITE sip:dialog@198.51.100.1:5060;voicexml=http://vxml.example/start SIP/2.0");
    assert_eq!((placed.to(), placed.flow.local.to_string()), (MCPS[0].into(), NODE.into()));
    let vias = placed.all("Via");
    assert!(vias[0].starts_with("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK") && placed.branch().len() == 51);
    assert_eq!(vias[1], "SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK1i");
    let route = placed.header("Record-Route");
    assert!(route.starts_with("<sip:192.0.2.1:5060;lr;tk=") && route.ends_with('>'), "{route}");
    assert_eq!(placed.header("Max-Forwards"), "69");
    assert_eq!((trying.start_line(), trying.to()), ("SIP/2.0 100 Trying", CALLER.into()));
    assert!(!trying.header("To").contains("tag="), "a 100 has no To tag");
    assert_eq!(world.gauges().ringing, 1);
}

#[test]
fn a_call_whose_2xx_is_never_acknowledged_gives_its_port_back_once_its_resource_has_given_up() {
    let mut world = World::new();
    answered(&mut world, 1);
    let (_, ok) = answered(&mut world, 2);
    world.receive(CALLER, &from_caller(2, "ACK", 1, &ok));
    // 64*T1 of repeated 2xx, T4 for the last ACK on its way.
    world.pass(Duration::from_millis(36_900));
    assert_eq!((world.gauges().legs, world.gauges().grants), (2, 2));
    world.pass(Duration::from_millis(200));
    assert_eq!((world.gauges().legs, world.gauges().grants), (1, 1));
    assert!(matches!(world.events.last(), Some(Event::Ended { reason: EndReason::Unacknowledged, .. })));
    assert_eq!(world.stats().calls.calls_ended_unacknowledged, 1);
}

#[test]
fn a_whole_call_holds_one_port_and_leaves_nothing_behind() {
    let mut world = World::new();
    let (placed, ok) = {
        let sent = world.receive(CALLER, &invite(1));
        let placed = sent[0].clone();
        assert!(world.receive(MCPS[0], &placed.answer("100 Trying", "", "")).is_empty(), "a 100 goes no further");
        let ring = world.receive(MCPS[0], &placed.answer("180 Ringing", "mcp", OK_CONTACT));
        assert_eq!((ring[0].start_line(), ring[0].to()), ("SIP/2.0 180 Ringing", CALLER.into()));
        assert_eq!(ring[0].all("Via"), ["SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK1i"]);
        let ok = world.receive(MCPS[0], &placed.answer("200 OK", "mcp", OK_CONTACT));
        (placed, ok[0].clone())
    };
    assert_ne!(ok.header("Record-Route"), placed.header("Record-Route"), "the token is turned to the caller's side");
    assert_eq!((world.gauges().legs, world.gauges().grants, world.gauges().ringing), (1, 1, 0));

    let ack = world.receive(CALLER, &from_caller(1, "ACK", 1, &ok));
    assert_eq!(ack[0].start_line(), "ACK sip:mcp@198.51.100.1:5060 SIP/2.0");
    assert!(ack[0].all("Route").is_empty() && ack[0].branch().len() == 26);

    let bye = world.receive(CALLER, &from_caller(1, "BYE", 2, &ok));
    assert_eq!((bye.len(), bye[0].to(), bye[0].header("CSeq")), (1, MCPS[0].into(), "2 BYE"));
    let done = world.receive(MCPS[0], &bye[0].answer("200 OK", "", ""));
    assert_eq!((done[0].status(), done[0].header("CSeq")), (200, "2 BYE"));
    assert_eq!((world.gauges().legs, world.gauges().grants), (0, 0));
    assert!(matches!(world.events.last(), Some(Event::Ended { reason: EndReason::Bye, .. })));
    assert_eq!(world.stats().calls.calls_ended_bye, 1);
    world.assert_empties();
}

#[test]
fn the_media_server_hangs_up_through_its_own_route() {
    let mut world = World::new();
    let (placed, _) = answered(&mut world, 1);
    let bye = world.receive(MCPS[0], &from_mcp(MCPS[0], "BYE", 1, &placed, "mcp"));
    assert_eq!((bye[0].start_line(), bye[0].to()), ("BYE sip:caller@192.0.2.9:5060 SIP/2.0", CALLER.into()));
    let ok = world.receive(CALLER, &bye[0].answer("200 OK", "", ""));
    assert_eq!((ok[0].status(), ok[0].to()), (200, MCPS[0].into()));
    world.assert_empties();
}

#[test]
fn a_stranger_with_the_resources_route_is_refused() {
    let mut world = World::new();
    let (placed, _) = answered(&mut world, 1);
    let sent = world.receive("203.0.113.66:5060", &from_mcp("203.0.113.66:5060", "BYE", 1, &placed, "mcp"));
    assert_eq!((sent.len(), sent[0].status()), (1, 403));
    assert_eq!(world.gauges().legs, 1, "the call lives");
}

#[test]
fn a_caller_cannot_use_its_token_to_reach_somebody_else() {
    let mut world = World::new();
    let (_, ok) = answered(&mut world, 1);
    let stray =
        from_caller(1, "INFO", 2, &ok).replace("sip:mcp@198.51.100.1:5060 SIP/2.0", "sip:x@203.0.113.5:5060 SIP/2.0");
    let sent = world.receive(CALLER, &stray);
    assert_eq!((sent.len(), sent[0].status()), (1, 403));
}

#[test]
fn forged_and_missing_tokens_are_refused_and_counted() {
    let mut world = World::new();
    let (_, ok) = answered(&mut world, 1);
    let bye = from_caller(1, "BYE", 2, &ok);
    let at = bye.find(";tk=").unwrap() + 10;
    let letter = if &bye[at..=at] == "A" { "B" } else { "A" };
    let forged = format!("{}{letter}{}", &bye[..at], &bye[at + 1..]);
    let sent = world.receive(CALLER, &forged);
    assert_eq!(sent[0].status(), 403);
    assert_eq!(world.stats().calls.forged_tokens, 1);
    let token = &bye[bye.find(";tk=").unwrap()..bye.find(";tk=").unwrap() + 44];
    assert_eq!(world.receive(CALLER, &bye.replace(token, "").replace("bye2", "bye2x"))[0].status(), 403);
    let ack = forged.replace("BYE", "ACK");
    assert!(world.receive(CALLER, &ack).is_empty(), "an ACK is never answered");
    let no_route: String = bye.split_inclusive("\r\n").filter(|l| !l.starts_with("Route:")).collect();
    assert_eq!(world.receive(CALLER, &no_route.replace("bye2", "bye2y"))[0].status(), 481);
    assert_eq!(world.gauges().legs, 1);
}

#[test]
fn retransmissions_end_at_their_transaction() {
    let mut world = World::new();
    let placed = world.receive(CALLER, &invite(1))[0].clone();
    let again = world.receive(CALLER, &invite(1));
    assert_eq!((again.len(), again[0].start_line()), (1, "SIP/2.0 100 Trying"));
    world.receive(MCPS[0], &placed.answer("183 Session Progress", "mcp", OK_CONTACT));
    assert_eq!(world.receive(CALLER, &invite(1))[0].start_line(), "SIP/2.0 183 Session Progress");
    let ok = world.receive(MCPS[0], &placed.answer("200 OK", "mcp", OK_CONTACT))[0].clone();
    assert!(world.receive(CALLER, &invite(1)).is_empty(), "RFC 6026: absorbed after a 2xx");
    assert_eq!(world.receive(MCPS[0], &placed.answer("200 OK", "mcp", OK_CONTACT))[0].text, ok.text, "each 2xx passes");
    let bye = from_caller(1, "BYE", 2, &ok);
    let sent = world.receive(CALLER, &bye)[0].clone();
    assert!(world.receive(CALLER, &bye).is_empty(), "absorbed until there is an answer");
    let done = world.receive(MCPS[0], &sent.answer("200 OK", "", ""))[0].clone();
    assert_eq!(world.receive(CALLER, &bye)[0].text, done.text, "the same final again");
    assert!(world.receive(MCPS[0], &sent.answer("200 OK", "", "")).is_empty());
    world.assert_empties();
}

#[test]
fn an_unanswered_invite_is_repeated_with_the_same_octets() {
    let mut world = World::bent(Bend { members: 1, ..Bend::default() });
    let placed = world.receive(CALLER, &invite(1))[0].clone();
    let sent = world.pass(Duration::from_millis(1_600));
    assert_eq!(sent.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [500, 1_500]);
    assert!(sent.iter().all(|(_, s)| s.text == placed.text));
}

#[test]
fn silence_moves_the_invite_to_the_next_member_and_both_ports_are_held() {
    let mut world = World::new();
    let first = world.receive(CALLER, &invite(1))[0].clone();
    let sent = world.pass(Duration::from_millis(2_100));
    let (at, second) = sent.last().unwrap();
    assert_eq!((*at, second.to()), (2_000, MCPS[1].into()));
    assert_ne!(second.branch(), first.branch());
    assert_eq!(world.gauges().grants, 2, "the silent one may still answer");
    assert_eq!(world.stats().calls.first_response_timeouts, 1);
    let ok = world.receive(MCPS[1], &second.answer("200 OK", "two", "Contact: <sip:mcp@198.51.100.2:5060>\r\n"));
    assert_eq!(ok[0].status(), 200);
    // The late 2xx of the superseded attempt reaches the caller, who ends it at its own MCP.
    let late = world.receive(MCPS[0], &first.answer("200 OK", "one", OK_CONTACT));
    assert_eq!((late[0].status(), late[0].tag(), late[0].to()), (200, "one", CALLER.into()));
    let bye = world.receive(CALLER, &from_caller(1, "BYE", 2, &late[0]));
    assert_eq!(bye[0].to(), MCPS[0]);
    world.receive(MCPS[0], &bye[0].answer("200 OK", "", ""));
    assert_eq!((world.gauges().legs, world.gauges().grants), (1, 1));
}

#[test]
fn a_superseded_attempt_is_cancelled_when_it_rings() {
    let mut world = World::new();
    let first = world.receive(CALLER, &invite(1))[0].clone();
    world.pass(Duration::from_millis(2_100));
    let sent = world.receive(MCPS[0], &first.answer("180 Ringing", "one", OK_CONTACT));
    assert_eq!(sent.len(), 1, "its ringing is not passed on");
    assert_eq!(sent[0].start_line().replace("CANCEL", "INVITE"), first.start_line());
    assert_eq!((sent[0].branch(), sent[0].header("CSeq"), sent[0].to()), (first.branch(), "1 CANCEL", MCPS[0].into()));
    assert!(world.receive(MCPS[0], &sent[0].answer("200 OK", "one", "")).is_empty());
    let ack = world.receive(MCPS[0], &first.answer("487 Request Terminated", "one", ""));
    assert_eq!((ack.len(), ack[0].header("CSeq"), ack[0].branch()), (1, "1 ACK", first.branch()));
    assert_eq!(world.gauges().grants, 1);
}

#[test]
fn a_refusal_in_the_retry_codes_is_acknowledged_and_the_next_member_is_asked() {
    let mut world = World::new();
    let first = world.receive(CALLER, &invite(1))[0].clone();
    let sent = world.receive(MCPS[0], &first.answer("503 Service Unavailable", "x", "Retry-After: 7\r\n"));
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].start_line().split(' ').next(), Some("ACK"));
    assert_eq!((sent[0].branch(), sent[0].tag(), sent[0].header("CSeq")), (first.branch(), "x", "1 ACK"));
    assert_eq!((sent[1].to(), sent[1].header("CSeq")), (MCPS[1].into(), "1 INVITE"));
    assert_eq!(world.gauges().grants, 1, "the port moved");
    world.receive(MCPS[1], &sent[1].answer("200 OK", "two", "Contact: <sip:mcp@198.51.100.2:5060>\r\n"));
    assert_eq!((world.gauges().legs, world.gauges().grants), (1, 1));
}

#[test]
fn a_members_503_is_never_passed_up() {
    let mut world = World::bent(Bend { members: 1, ..Bend::default() });
    let placed = world.receive(CALLER, &invite(1))[0].clone();
    let sent = world.receive(MCPS[0], &placed.answer("503 Service Unavailable", "x", ""));
    assert_eq!(sent.last().map(Sent::status), Some(500));
    assert_eq!(world.gauges().grants, 0);
}

#[test]
fn the_best_refusal_goes_up_when_nobody_is_left() {
    let mut world = World::new();
    let mut placed = world.receive(CALLER, &invite(1))[0].clone();
    for (n, status) in ["500 Oops", "480 Not Now", "503 Busy"].iter().enumerate() {
        let sent = world.receive(MCPS[n], &placed.answer(status, &format!("tag{n}"), ""));
        placed = sent.last().unwrap().clone();
    }
    assert_eq!((placed.start_line(), placed.tag(), placed.to()), ("SIP/2.0 480 Not Now", "tag1", CALLER.into()));
    assert_eq!(placed.all("Via").len(), 1);
    world.assert_empties();
}

#[test]
fn another_refusal_ends_the_invite_and_is_repeated_until_its_ack() {
    let mut world = World::new();
    let placed = world.receive(CALLER, &invite(1))[0].clone();
    let sent = world.receive(MCPS[0], &placed.answer("486 Busy Here", "busy", ""));
    assert_eq!((sent[0].header("CSeq"), sent[1].status(), sent[1].tag()), ("1 ACK", 486, "busy"));
    let repeated = world.pass(Duration::from_millis(1_600));
    assert_eq!(repeated.iter().map(|(at, s)| (*at, s.status())).collect::<Vec<_>>(), [(500, 486), (1_500, 486)]);
    let ack = invite(1)
        .replace("CSeq: 1 INVITE", "CSeq: 1 ACK")
        .replace("INVITE sip", "ACK sip")
        .replace("To: <sip:dialog@192.0.2.1:5060>", "To: <sip:dialog@192.0.2.1:5060>;tag=busy");
    assert!(world.receive(CALLER, &ack).is_empty());
    assert!(world.pass(Duration::from_secs(10)).is_empty());
    assert_eq!(world.receive(MCPS[0], &placed.answer("486 Busy Here", "busy", ""))[0].header("CSeq"), "1 ACK");
    world.assert_empties();
}

#[test]
fn an_undeliverable_invite_goes_to_the_next_member_at_once() {
    let mut world = World::new();
    let placed = world.receive(CALLER, &invite(1))[0].clone();
    let mut quoted = placed.clone();
    quoted.text.truncate(200);
    let sent = world.undelivered(&quoted);
    assert_eq!((sent.len(), sent[0].to()), (1, MCPS[1].into()));
    assert_eq!((world.gauges().grants, world.stats().calls.transport_errors), (1, 1));
}

#[test]
fn a_full_group_answers_its_code_and_says_it_again() {
    let mut world = World::bent(Bend { members: 1, port_capacity: Some(1), ..Bend::default() });
    let placed = world.receive(CALLER, &invite(1))[0].clone();
    let refused = world.receive(CALLER, &invite(2));
    assert_eq!((refused.len(), refused[0].status()), (1, 480));
    let unasked = world.pass(Duration::from_millis(1_600)).into_iter().filter(|(_, s)| s.to() == CALLER);
    assert_eq!(unasked.count(), 0, "whoever heard nothing asks again");
    // The port becomes free, and still a retransmission of the refused INVITE gets the same answer.
    world.receive(MCPS[0], &placed.answer("486 Busy Here", "b", ""));
    assert_eq!(world.receive(CALLER, &invite(2))[0].text, refused[0].text);
    assert_eq!(world.receive(CALLER, &invite(3))[0].to(), MCPS[0]);
}

#[test]
fn cancel_before_a_provisional_waits_for_one() {
    let mut world = World::new();
    let placed = world.receive(CALLER, &invite(1))[0].clone();
    let cancel = cancel(1);
    let sent = world.receive(CALLER, &cancel);
    assert_eq!((sent.len(), sent[0].status(), sent[0].header("CSeq")), (1, 200, "1 CANCEL"));
    assert_eq!(world.receive(CALLER, &cancel)[0].text, sent[0].text, "a retransmitted CANCEL gets its 200 again");
    let sent = world.receive(MCPS[0], &placed.answer("100 Trying", "", ""));
    assert_eq!((sent.len(), sent[0].header("CSeq"), sent[0].branch()), (1, "1 CANCEL", placed.branch()));
    world.receive(MCPS[0], &sent[0].answer("200 OK", "m", ""));
    let end = world.receive(MCPS[0], &placed.answer("487 Request Terminated", "m", ""));
    assert_eq!((end[0].header("CSeq"), end[1].status(), end[1].header("CSeq")), ("1 ACK", 487, "1 INVITE"));
    assert_eq!(world.gauges().grants, 0);
    world.assert_empties();
}

#[test]
fn a_2xx_that_races_a_cancel_reaches_the_caller() {
    let mut world = World::new();
    let placed = world.receive(CALLER, &invite(1))[0].clone();
    world.receive(MCPS[0], &placed.answer("180 Ringing", "m", OK_CONTACT));
    let sent = world.receive(CALLER, &cancel(1));
    assert_eq!((sent[0].status(), sent[1].header("CSeq")), (200, "1 CANCEL"));
    let ok = world.receive(MCPS[0], &placed.answer("200 OK", "m", OK_CONTACT));
    assert_eq!((ok[0].status(), ok[0].header("CSeq")), (200, "1 INVITE"));
    assert_eq!(world.gauges().legs, 1);
}

#[test]
fn a_cancelled_call_that_nobody_answers_ends_with_487() {
    let mut world = World::bent(Bend { members: 1, ..Bend::default() });
    world.receive(CALLER, &invite(1));
    world.receive(CALLER, &cancel(1));
    let sent = world.pass(Duration::from_millis(2_100));
    assert_eq!(sent.last().map(|(at, s)| (*at, s.status())), Some((2_000, 487)));
    world.assert_empties();
}

#[test]
fn cancel_without_its_invite_is_refused() {
    assert_eq!(World::new().receive(CALLER, &cancel(1))[0].status(), 481);
}

#[test]
fn timer_c_cancels_a_call_that_only_rings() {
    let mut world = World::bent(Bend { members: 1, ..Bend::default() });
    let placed = world.receive(CALLER, &invite(1))[0].clone();
    world.receive(MCPS[0], &placed.answer("180 Ringing", "m", OK_CONTACT));
    world.pass(Duration::from_secs(100));
    world.receive(MCPS[0], &placed.answer("180 Ringing", "m", OK_CONTACT));
    assert!(world.pass(Duration::from_secs(180)).is_empty(), "each provisional begins the wait anew");
    let sent = world.pass(Duration::from_millis(1_100));
    assert_eq!((sent[0].1.header("CSeq"), sent[1].1.status()), ("1 CANCEL", 408));
    assert_eq!((world.stats().calls.timer_c_expired, world.gauges().grants), (1, 1));
    world.assert_empties();
}

#[test]
fn timer_c_cancels_a_re_invite_and_its_sender_gets_the_487() {
    let mut world = World::new();
    let (_, ok) = answered(&mut world, 1);
    let sent = world.receive(CALLER, &from_caller(1, "INVITE", 2, &ok));
    let placed = sent.iter().find(|s| s.start_line().starts_with("INVITE")).unwrap().clone();
    assert_eq!((placed.to(), placed.branch().len(), sent.len()), (MCPS[0].into(), 26, 2));
    world.receive(MCPS[0], &placed.answer("183 Session Progress", "", OK_CONTACT));
    world.pass(Duration::from_secs(100));
    world.receive(MCPS[0], &placed.answer("183 Session Progress", "", OK_CONTACT));
    assert!(world.pass(Duration::from_secs(180)).is_empty(), "each provisional begins the wait anew (§16.7 step 2)");
    let sent = world.pass(Duration::from_millis(1_100));
    let lines: Vec<_> = sent.iter().map(|(_, s)| (s.header("CSeq"), s.branch())).collect();
    assert_eq!(lines[0], ("2 CANCEL", placed.branch()));
    assert!(lines.iter().all(|line| line == &lines[0]), "a 408 would end the dialog (§12.2.1.2): {lines:?}");
    let sent = world.receive(MCPS[0], &placed.answer("487 Request Terminated", "", ""));
    let lines: Vec<_> = sent.iter().map(|s| (s.header("CSeq"), s.to())).collect();
    assert_eq!(lines, [("2 ACK", MCPS[0].into()), ("2 INVITE", CALLER.into())]);
    assert_eq!((sent[1].status(), world.gauges().legs), (487, 1));
    world.receive(CALLER, &from_caller(1, "BYE", 3, &ok));
    world.assert_empties();
}

#[test]
fn a_member_that_is_declared_down_loses_its_unanswered_calls_to_the_next() {
    let mut world = World::new();
    let (_, ok) = answered(&mut world, 1);
    let rings: Vec<Sent> = (2..5).map(|n| world.receive(CALLER, &invite(n))[0].clone()).collect();
    for placed in &rings {
        world.receive(&placed.to(), &placed.answer("180 Ringing", "m", OK_CONTACT));
    }
    let ringing = rings.iter().find(|s| s.to() == MCPS[0]).unwrap();
    // Three calls in a row that cannot be delivered take an unmonitored member down.
    let mut moved = Vec::new();
    for n in 10..40 {
        let placed = world.receive(CALLER, &invite(n))[0].clone();
        if placed.to() == MCPS[0] {
            moved = world.undelivered(&placed);
        }
        for other in moved.iter().chain([&placed]).filter(|s| s.to() != MCPS[0]) {
            world.receive(&other.to(), &other.answer("180 Ringing", "o", OK_CONTACT));
        }
        world.pass(Duration::from_secs(6));
        if moved.len() > 1 {
            break;
        }
    }
    let cancel = moved.iter().find(|s| s.start_line().starts_with("CANCEL")).expect("what rang there is cancelled");
    assert_eq!((cancel.branch(), cancel.to()), (ringing.branch(), MCPS[0].into()));
    let again = moved.iter().find(|s| s.header("Call-ID") == ringing.header("Call-ID") && s.to() != MCPS[0]);
    assert!(again.is_some_and(|s| s.start_line().starts_with("INVITE")), "and asked elsewhere");
    assert_eq!(world.receive(CALLER, &from_caller(1, "BYE", 2, &ok))[0].to(), MCPS[0], "an answered call stays");
}

#[test]
fn an_ack_is_not_refused_for_what_it_requires() {
    let mut world = World::new();
    let (_, ok) = answered(&mut world, 1);
    let ack = from_caller(1, "ACK", 1, &ok).replace("Content-Length", "Proxy-Require: foo\r\nContent-Length");
    assert_eq!(world.receive(CALLER, &ack)[0].to(), MCPS[0]);
}

#[test]
fn in_dialog_requests_without_an_answer_are_never_told_408() {
    let mut world = World::new();
    let (_, ok) = answered(&mut world, 1);
    world.receive(CALLER, &from_caller(1, "INFO", 2, &ok));
    let sent = world.pass(Duration::from_secs(40));
    assert!(sent.iter().all(|(_, s)| s.start_line().starts_with("INFO")), "RFC 4320");
    assert_eq!(sent.len(), 10);
}

#[test]
fn a_late_refusal_of_a_re_invite_does_not_contradict_our_408() {
    let mut world = World::new();
    let (_, ok) = answered(&mut world, 1);
    world.receive(CALLER, &from_caller(1, "ACK", 1, &ok));
    let sent = world.receive(CALLER, &from_caller(1, "INVITE", 2, &ok));
    let placed = sent[0].clone();
    let timed_out = world.pass(Duration::from_secs(33));
    assert_eq!(timed_out.iter().filter(|(_, s)| s.to() == CALLER).map(|(_, s)| s.status()).next(), Some(408));
    let late = world.receive(MCPS[0], &placed.answer("481 Call/Transaction Does Not Exist", "mcp", ""));
    let lines: Vec<_> = late.iter().map(|s| (s.to(), s.start_line().split(' ').next().unwrap())).collect();
    assert_eq!(lines, [(MCPS[0].into(), "ACK")], "the caller has its final, the media server gets its ACK");
    assert_eq!(late[0].branch(), placed.branch());
    assert_eq!(world.stats().calls.stray_dropped, 1);
    let late = world.receive(MCPS[0], &placed.answer("200 OK", "mcp", OK_CONTACT));
    assert_eq!((late[0].status(), late[0].to()), (200, CALLER.into()), "a 2xx always passes");
    world.receive(CALLER, &from_caller(1, "BYE", 3, &ok));
    world.assert_empties();
}

#[test]
fn a_bye_that_nobody_answers_frees_the_port() {
    let mut world = World::new();
    let (_, ok) = answered(&mut world, 1);
    world.receive(CALLER, &from_caller(1, "BYE", 2, &ok));
    assert_eq!(world.gauges().grants, 1);
    world.pass(Duration::from_secs(33));
    assert_eq!((world.gauges().grants, world.gauges().legs), (0, 0));
}

#[test]
fn a_session_interval_ends_a_leg_that_is_not_refreshed() {
    let mut world = World::new();
    let placed = world.receive(CALLER, &invite(1))[0].clone();
    let more = format!("{OK_CONTACT}Session-Expires: 90;refresher=uac\r\n");
    let ok = world.receive(MCPS[0], &placed.answer("200 OK", "m", &more))[0].clone();
    world.receive(CALLER, &from_caller(1, "ACK", 1, &ok));
    world.pass(Duration::from_secs(60));
    let update = world.receive(CALLER, &from_caller(1, "UPDATE", 2, &ok))[0].clone();
    world.receive(MCPS[0], &update.answer("200 OK", "", &more));
    world.pass(Duration::from_secs(89));
    assert_eq!(world.gauges().legs, 1, "refreshed");
    world.pass(Duration::from_secs(2));
    assert_eq!((world.gauges().legs, world.stats().calls.calls_ended_session_expired), (0, 1));
}

#[test]
fn nobody_else_is_asked_once_the_messages_of_the_dialog_come_by() {
    let mut world = World::new();
    let (_, ok) = answered(&mut world, 1);
    // The same INVITE as a node knows it that took over, and has not seen the 200.
    let mut world = World::new();
    let placed = world.receive(CALLER, &invite(1))[0].clone();
    let info = world.receive(CALLER, &from_caller(1, "INFO", 2, &ok))[0].clone();
    world.receive(MCPS[0], &info.answer("200 OK", "", ""));
    assert_eq!((world.gauges().legs, world.gauges().grants), (1, 2));
    let sent = world.pass(Duration::from_secs(20));
    assert_eq!(sent.iter().map(|(_, s)| s.start_line()).collect::<Vec<_>>(), Vec::<&str>::new());
    assert_eq!((world.gauges().legs, world.gauges().grants, world.gauges().ringing), (1, 1, 0));
    assert!(world.receive(CALLER, &invite(1)).is_empty(), "its caller has his 200");
    let late = world.receive(MCPS[0], &placed.answer("200 OK", "m", OK_CONTACT));
    assert_eq!((late[0].status(), late[0].to()), (200, CALLER.into()), "a 2xx always passes");
    world.receive(CALLER, &from_caller(1, "BYE", 3, &ok));
    world.assert_empties();
}

#[test]
fn an_ack_to_an_answer_that_passed_elsewhere_proves_that_there_was_one() {
    let mut world = World::new();
    let (_, ok) = answered(&mut world, 1);
    let mut world = World::new();
    let placed = world.receive(CALLER, &invite(1))[0].clone();
    let ack = world.receive(CALLER, &from_caller(1, "ACK", 1, &ok));
    assert_eq!((ack.len(), ack[0].header("CSeq"), ack[0].to()), (1, "1 ACK", placed.to()));
    assert_eq!((world.gauges().legs, world.gauges().grants, world.gauges().ringing), (1, 1, 0));
    assert_eq!(world.pass(Duration::from_secs(40)).len(), 0, "neither is the INVITE repeated, nor anybody else asked");
    world.receive(CALLER, &from_caller(1, "BYE", 2, &ok));
    world.assert_empties();
}

#[test]
fn an_answer_that_comes_after_the_end_of_its_call_counts_nothing() {
    let mut world = World::new();
    let (_, ok) = answered(&mut world, 1);
    for early in [false, true] {
        // As above, but what comes by first is the end.
        let mut world = World::new();
        let placed = world.receive(CALLER, &invite(1))[0].clone();
        let bye = world.receive(CALLER, &from_caller(1, "BYE", 2, &ok))[0].clone();
        world.receive(MCPS[0], &bye.answer("200 OK", "", ""));
        if !early {
            assert!(world.pass(Duration::from_secs(20)).is_empty(), "the INVITE is not sent again");
            assert_eq!((world.gauges().legs, world.gauges().grants, world.gauges().ringing), (0, 0, 0));
        }
        let late = world.receive(MCPS[0], &placed.answer("200 OK", "m", OK_CONTACT));
        assert_eq!((late[0].status(), late[0].to()), (200, CALLER.into()), "a 2xx always passes");
        assert_eq!((world.gauges().legs, world.gauges().grants), (0, 0), "the call has ended");
        world.assert_empties();
    }
}

#[test]
fn a_leg_of_an_earlier_run_is_served_and_counted_once() {
    let mut world = World::new();
    let (placed, ok) = answered(&mut world, 1);
    let mut world = World::bent(Bend { epoch: 2, ..Bend::default() });
    let info = world.receive(CALLER, &from_caller(1, "INFO", 2, &ok))[0].clone();
    assert_eq!(info.to(), MCPS[0]);
    world.receive(MCPS[0], &info.answer("200 OK", "", ""));
    assert_eq!((world.gauges().legs, world.gauges().grants), (1, 1));
    let bye = world.receive(MCPS[0], &from_mcp(MCPS[0], "BYE", 1, &placed, "mcp"))[0].clone();
    world.receive(CALLER, &bye.answer("200 OK", "", ""));
    assert_eq!((world.gauges().legs, world.stats().calls.legs_rebuilt), (0, 1));
    let late = world.receive(CALLER, &from_caller(1, "INFO", 3, &ok))[0].clone();
    world.receive(MCPS[0], &late.answer("200 OK", "", ""));
    assert_eq!(world.gauges().legs, 0, "an ended leg is not revived");
}

#[test]
fn answers_to_an_earlier_run_pass_only_if_they_may_become_a_call() {
    let mut world = World::new();
    let placed = world.receive(CALLER, &invite(1))[0].clone();
    let mut next = World::bent(Bend { epoch: 2, ..Bend::default() });
    assert_eq!(next.receive(MCPS[0], &placed.answer("180 Ringing", "m", OK_CONTACT))[0].to(), CALLER);
    let refusal = next.receive(MCPS[0], &placed.answer("486 Busy Here", "m", ""));
    assert_eq!((refusal.len(), refusal[0].header("CSeq"), refusal[0].to()), (1, "1 ACK", MCPS[0].into()));
    let ok = next.receive(MCPS[0], &placed.answer("200 OK", "m", OK_CONTACT));
    assert_eq!((ok[0].status(), ok[0].to(), next.gauges().legs), (200, CALLER.into(), 1));
    let forged = placed.answer("200 OK", "m", OK_CONTACT).replace("call1@caller", "call2@caller");
    assert!(next.receive(MCPS[0], &forged).is_empty());
    // In the same run nothing passes without a transaction (RFC 6026 §7.3).
    world.pass(Duration::from_secs(300));
    assert!(world.receive(MCPS[0], &placed.answer("200 OK", "m", OK_CONTACT)).is_empty());
}

/// A caller whose INVITE an earlier run sent to the first server repeats it to the next run, which asks the second.
fn asked_twice() -> (World, Sent, Sent) {
    let first = World::new().receive(CALLER, &invite(1))[0].clone();
    let mut world = World::bent(Bend { epoch: 2, ..Bend::default() });
    let other = world.receive(CALLER, &invite(2))[0].clone();
    world.receive(MCPS[0], &other.answer("486 Busy Here", "o", ""));
    world.receive(CALLER, &invite(2).replace("CSeq: 1 INVITE", "CSeq: 1 ACK").replacen("INVITE", "ACK", 1));
    let second = world.receive(CALLER, &invite(1))[0].clone();
    assert_eq!((first.to(), second.to()), (MCPS[0].into(), MCPS[1].into()));
    (world, first, second)
}

#[test]
fn an_answer_to_an_earlier_run_ends_the_search_of_this_one() {
    let (mut world, first, second) = asked_twice();
    assert_eq!(world.receive(MCPS[1], &second.answer("180 Ringing", "two", OK_CONTACT))[0].to(), CALLER);
    let sent = world.receive(MCPS[0], &first.answer("200 OK", "one", OK_CONTACT));
    assert_eq!((sent[0].status(), sent[0].tag(), sent[0].to()), (200, "one", CALLER.into()));
    assert_eq!((sent[1].header("CSeq"), sent[1].to()), ("1 CANCEL", MCPS[1].into()), "§16.7 step 10");
    assert_eq!((sent.len(), sent[1].branch()), (2, second.branch()));
    assert!(world.receive(MCPS[1], &second.answer("180 Ringing", "two", OK_CONTACT)).is_empty(), "§16.7 step 5");
    assert!(world.receive(MCPS[0], &first.answer("180 Ringing", "one", OK_CONTACT)).is_empty(), "§16.7 step 5");
    world.receive(MCPS[1], &sent[1].answer("200 OK", "two", ""));
    let acks = world.receive(MCPS[1], &second.answer("487 Request Terminated", "two", ""));
    assert_eq!((acks.len(), acks[0].header("CSeq"), acks[0].to()), (1, "1 ACK", MCPS[1].into()));
    assert!(world.receive(CALLER, &invite(1)).is_empty(), "its caller has his 200");
    assert_eq!((world.gauges().legs, world.gauges().grants, world.gauges().ringing), (1, 1, 0));
    world.receive(CALLER, &from_caller(1, "ACK", 1, &sent[0]));
    let bye = world.receive(CALLER, &from_caller(1, "BYE", 2, &sent[0]))[0].clone();
    assert_eq!(bye.to(), MCPS[0]);
    world.assert_empties();
}

#[test]
fn a_server_that_is_silent_when_the_answer_to_an_earlier_run_comes_is_cancelled_once_it_rings() {
    let (mut world, first, second) = asked_twice();
    assert_eq!(world.receive(MCPS[0], &first.answer("200 OK", "one", OK_CONTACT)).len(), 1, "§9.1: no CANCEL yet");
    assert_eq!(world.pass(Duration::from_secs(20)).len(), 0, "nobody else is asked");
    let sent = world.receive(MCPS[1], &second.answer("180 Ringing", "two", OK_CONTACT));
    let lines: Vec<_> = sent.iter().map(|s| (s.header("CSeq"), s.to(), s.branch())).collect();
    assert_eq!(lines, [("1 CANCEL", MCPS[1].into(), second.branch())]);
    let late = world.receive(MCPS[1], &second.answer("200 OK", "two", OK_CONTACT));
    assert_eq!((late[0].status(), late[0].tag(), late[0].to()), (200, "two", CALLER.into()), "a 2xx always passes");
    assert_eq!((world.gauges().legs, world.gauges().grants), (1, 1));
    world.assert_empties();
}

#[test]
fn the_messages_of_a_dialog_with_another_server_end_the_search() {
    let (mut world, first, second) = asked_twice();
    world.receive(MCPS[1], &second.answer("180 Ringing", "two", OK_CONTACT));
    let mut earlier = World::new();
    assert_eq!(earlier.receive(CALLER, &invite(1))[0].branch(), first.branch());
    let ok = earlier.receive(MCPS[0], &first.answer("200 OK", "one", OK_CONTACT))[0].clone();
    let info = world.receive(CALLER, &from_caller(1, "INFO", 2, &ok))[0].clone();
    assert_eq!(info.to(), MCPS[0]);
    world.receive(MCPS[0], &info.answer("200 OK", "", ""));
    // Timer C: before it asks on, or gives up, it sees that the call is answered.
    let sent = world.pass(Duration::from_secs(200));
    let lines: Vec<_> = sent.iter().map(|(_, s)| (s.header("CSeq"), s.to())).collect();
    assert_eq!(lines[0], ("1 CANCEL", MCPS[1].into()));
    assert!(lines.iter().all(|line| line == &lines[0]), "{lines:?}");
    assert_eq!((world.gauges().legs, world.gauges().ringing), (1, 0));
    world.receive(CALLER, &from_caller(1, "BYE", 3, &ok));
    world.assert_empties();
}

#[test]
fn an_answer_to_a_refresh_of_an_earlier_run_refreshes() {
    let mut world = World::new();
    let (_, ok) = answered(&mut world, 1);
    let update = world.receive(CALLER, &from_caller(1, "UPDATE", 2, &ok))[0].clone();
    let mut next = World::bent(Bend { epoch: 2, ..Bend::default() });
    let info = next.receive(CALLER, &from_caller(1, "INFO", 3, &ok))[0].clone();
    next.receive(MCPS[0], &info.answer("200 OK", "", ""));
    let late = next.receive(MCPS[0], &update.answer("200 OK", "", &format!("{OK_CONTACT}Session-Expires: 90\r\n")));
    assert_eq!((late[0].status(), late[0].to()), (200, CALLER.into()));
    next.pass(Duration::from_secs(89));
    assert_eq!(next.gauges().legs, 1);
    next.pass(Duration::from_secs(2));
    assert_eq!((next.gauges().legs, next.stats().calls.calls_ended_session_expired), (0, 1));
}

#[test]
fn draining_refuses_new_calls_and_serves_what_lives() {
    let mut world = World::new();
    let (_, ok) = answered(&mut world, 1);
    world.command(Command::Drain);
    let refused = world.receive(CALLER, &invite(2));
    assert_eq!((refused[0].status(), refused[0].header("Retry-After")), (503, "5"));
    // Long enough for an answer with Allow that is no larger than its question.
    let options = invite_with(3, &format!("User-Agent: {}\n", "x".repeat(200))).replace("INVITE", "OPTIONS");
    assert_eq!(world.receive(CALLER, &options)[0].status(), 503);
    assert_eq!(world.receive(CALLER, &from_caller(1, "BYE", 2, &ok))[0].to(), MCPS[0]);
    world.command(Command::Resume);
    let ok = world.receive(CALLER, &options);
    assert_eq!((ok[0].status(), ok[0].all("Allow").len()), (200, 1));
    assert_eq!(world.receive(CALLER, &invite(4))[0].start_line().split(' ').next(), Some("INVITE"));
}

#[test]
fn a_caller_over_tcp_gets_a_double_record_route() {
    let mut world = World::new();
    let mut flow = super::world::udp("192.0.2.9:40000");
    flow.transport = Transport::Tcp;
    flow.listener = tandem::base::ListenerId(1);
    flow.conn = Some(tandem::base::ConnId(5));
    let text = invite(1).replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    let sent = world.receive_over(flow, &text);
    let route = sent[0].header("Record-Route");
    let (out, inn) = route.split_once(',').unwrap();
    assert!(out.starts_with("<sip:192.0.2.1:5060;lr;tk="), "{out}");
    assert!(inn.starts_with("<sip:192.0.2.1:5060;transport=tcp;lr;tk="), "{inn}");
    assert_eq!((sent[1].flow.conn, sent[1].flow.transport), (flow.conn, Transport::Tcp));
    let ok = world.receive(MCPS[0], &sent[0].answer("200 OK", "m", OK_CONTACT))[0].clone();
    assert_eq!((ok.header("Record-Route"), ok.flow.conn), (route, flow.conn), "both sides are right as they are");
    let bye = from_caller(1, "BYE", 2, &ok).replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    let bye = world.receive_over(flow, &bye)[0].clone();
    assert_eq!((bye.to(), bye.flow.transport, bye.all("Route").len()), (MCPS[0].into(), Transport::Udp, 0));
    // The other way round the call goes back over a stream.
    let info = world.receive(MCPS[0], &from_mcp(MCPS[0], "INFO", 1, &sent[0], "m"))[0].clone();
    assert_eq!((info.to(), info.flow.transport), (CALLER.into(), Transport::Tcp));
}

#[test]
fn what_does_not_fit_a_datagram_takes_a_stream_if_there_is_one() {
    let mut world = World::bent(Bend { stream: true, ..Bend::default() });
    let small = world.receive(CALLER, &invite(1));
    assert_eq!(small[0].flow.transport, Transport::Udp);
    let large = world.receive(CALLER, &invite_with(2, &format!("X-Large: {}\n", "x".repeat(1_000))));
    assert_eq!(large[0].flow.transport, Transport::Tcp);
    assert!(large[0].header("Via").starts_with("SIP/2.0/TCP 192.0.2.1:5060;branch="));
    assert!(large[0].header("Record-Route").contains(";transport=tcp;lr;tk="));
}

#[test]
fn a_large_request_inside_a_dialog_takes_the_stream_too() {
    let mut world = World::bent(Bend { stream: true, ..Bend::default() });
    let (_, ok) = answered(&mut world, 1);
    let info = from_caller(1, "INFO", 2, &ok);
    let large = info.replace("Content-Length", &format!("X-Large: {}\r\nContent-Length", "x".repeat(1_000)));
    let sent = world.receive(CALLER, &large);
    assert_eq!((sent[0].flow.transport, sent[0].to()), (Transport::Tcp, MCPS[0].into()));
    assert!(sent[0].header("Via").starts_with("SIP/2.0/TCP 192.0.2.1:5060;branch="));
    let named =
        large.replace("198.51.100.1:5060 SIP", "198.51.100.1:5060;transport=udp SIP").replace("info2", "info2b");
    assert_eq!(world.receive(CALLER, &named)[0].flow.transport, Transport::Udp, "the URI asks for it");
}

#[test]
fn a_next_hop_that_is_a_name_is_left_to_the_driver() {
    let mut world = World::new();
    let sent = world.receive(CALLER, &invite(1).replace("caller@192.0.2.9:5060>", "caller@pc33.example.com>"));
    world.receive(MCPS[0], &sent[0].answer("200 OK", "m", OK_CONTACT));
    let bye = world.receive(MCPS[0], &from_mcp(MCPS[0], "BYE", 1, &sent[0], "m"))[0].clone();
    assert_eq!(bye.name.as_deref(), Some("pc33.example.com"));
    let (_, again) = world.pass(Duration::from_millis(600)).remove(0);
    assert_eq!((again.name, again.text), (bye.name, bye.text));
}

fn cancel(n: u32) -> String {
    let text = invite(n).replace("INVITE", "CANCEL");
    text.split_inclusive("\r\n").filter(|l| !l.starts_with("Contact")).collect()
}
