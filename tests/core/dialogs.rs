//! Transcripts about dialogs: early ones, who speaks for the resource, where a dialog goes on.

use std::time::Duration;

use tandem::base::{ConnId, Flow, ListenerId, Transport};
use tandem::out::Event;

use super::calls::{OK_CONTACT, answered};
use super::world::{Bend, CALLER, MCPS, Sent, World, from_caller, from_mcp, invite, udp};

/// Where a media server may move its side of a dialog.
const ELSEWHERE: &str = "198.51.100.50:5060";

/// A call that rings: the INVITE at the first member, its 180 at the caller.
fn ringing(world: &mut World) -> (Sent, Sent) {
    let placed = world.receive(CALLER, &invite(1))[0].clone();
    let rings = world.receive(MCPS[0], &placed.answer("180 Ringing", "mcp", OK_CONTACT))[0].clone();
    assert_eq!((rings.status(), rings.to()), (180, CALLER.into()));
    (placed, rings)
}

/// The caller updates its early dialog (RFC 3311 §5.1), and the member agrees.
fn updated(world: &mut World, rings: &Sent) {
    let update = world.receive(CALLER, &from_caller(1, "UPDATE", 2, rings))[0].clone();
    assert_eq!((update.to(), update.header("CSeq")), (MCPS[0].into(), "2 UPDATE"));
    let ok = world.receive(MCPS[0], &update.answer("200 OK", "", OK_CONTACT));
    assert_eq!((ok[0].status(), ok[0].header("CSeq")), (200, "2 UPDATE"));
    assert_eq!((world.gauges().legs, world.gauges().grants, world.gauges().ringing), (0, 1, 1), "it rings on");
}

#[test]
fn a_request_in_an_early_dialog_is_no_answer_to_its_invite() {
    let mut world = World::new();
    let (placed, rings) = ringing(&mut world);
    updated(&mut world, &rings);
    assert!(world.pass(Duration::from_secs(100)).is_empty());
    let ok = world.receive(MCPS[0], &placed.answer("200 OK", "mcp", OK_CONTACT))[0].clone();
    assert_eq!((ok.status(), ok.to()), (200, CALLER.into()));
    assert_eq!((world.gauges().legs, world.gauges().grants, world.gauges().ringing), (1, 1, 0));
    assert!(matches!(world.events.last(), Some(Event::Answered { .. })));
    world.receive(CALLER, &from_caller(1, "ACK", 1, &ok));
    world.receive(CALLER, &from_caller(1, "BYE", 3, &ok));
    world.assert_empties();
}

#[test]
fn a_refusal_after_a_request_in_the_early_dialog_reaches_the_caller() {
    let mut world = World::new();
    let (placed, rings) = ringing(&mut world);
    updated(&mut world, &rings);
    world.pass(Duration::from_secs(100));
    let sent = world.receive(MCPS[0], &placed.answer("486 Busy Here", "mcp", ""));
    assert_eq!((sent[0].header("CSeq"), sent[1].status(), sent[1].to()), ("1 ACK", 486, CALLER.into()));
    assert_eq!((world.gauges().legs, world.gauges().grants), (0, 0));
    world.assert_empties();
}

#[test]
fn a_cancel_after_a_request_in_the_early_dialog_cancels() {
    let mut world = World::new();
    let (placed, rings) = ringing(&mut world);
    updated(&mut world, &rings);
    world.pass(Duration::from_secs(100));
    let cancel = invite(1).replacen("INVITE", "CANCEL", 1).replace("1 INVITE", "1 CANCEL");
    let sent = world.receive(CALLER, &cancel);
    assert_eq!((sent[0].status(), sent[1].header("CSeq"), sent[1].branch()), (200, "1 CANCEL", placed.branch()));
    world.receive(MCPS[0], &sent[1].answer("200 OK", "mcp", ""));
    let sent = world.receive(MCPS[0], &placed.answer("487 Request Terminated", "mcp", ""));
    assert_eq!((sent[1].status(), world.gauges().grants), (487, 0));
    world.assert_empties();
}

#[test]
fn a_bye_in_an_early_dialog_leaves_the_final_of_the_invite_owed() {
    let mut world = World::new();
    let (placed, rings) = ringing(&mut world);
    let bye = world.receive(CALLER, &from_caller(1, "BYE", 2, &rings))[0].clone();
    assert_eq!(world.receive(MCPS[0], &bye.answer("200 OK", "", ""))[0].status(), 200);
    assert!(world.pass(Duration::from_secs(20)).is_empty());
    let sent = world.receive(MCPS[0], &placed.answer("487 Request Terminated", "mcp", ""));
    assert_eq!((sent[0].header("CSeq"), sent[1].status(), sent[1].to()), ("1 ACK", 487, CALLER.into()));
    assert_eq!((world.gauges().legs, world.gauges().grants), (0, 0));
    world.assert_empties();
}

#[test]
fn an_answer_that_crosses_the_bye_of_its_early_dialog_makes_no_leg() {
    let mut world = World::new();
    let (placed, rings) = ringing(&mut world);
    let bye = world.receive(CALLER, &from_caller(1, "BYE", 2, &rings))[0].clone();
    world.receive(MCPS[0], &bye.answer("200 OK", "", ""));
    let ok = world.receive(MCPS[0], &placed.answer("200 OK", "mcp", OK_CONTACT));
    assert_eq!((ok[0].status(), ok[0].to()), (200, CALLER.into()), "a 2xx always passes");
    assert_eq!((world.gauges().legs, world.gauges().grants), (0, 0));
    world.assert_empties();
}

#[test]
fn what_a_caller_answers_says_nothing_of_the_media_server() {
    let mut world = World::bent(Bend { members: 1, ..Bend::default() });
    let (placed, _) = answered(&mut world, 1);
    let invite_of_mcp = from_mcp(MCPS[0], "INVITE", 1, &placed, "mcp");
    let sent = world.receive(MCPS[0], &invite_of_mcp);
    let offered = sent.iter().find(|s| s.start_line().starts_with("INVITE")).unwrap().clone();
    assert_eq!(offered.to(), CALLER);
    world.receive(CALLER, &offered.answer("503 Service Unavailable", "", "Retry-After: 300\r\n"));
    assert_eq!(world.receive(CALLER, &invite(2))[0].to(), MCPS[0], "the server takes calls");
}

#[test]
fn the_host_of_a_caller_is_no_host_of_the_media_server() {
    let mut world = World::new();
    let (placed, _) = answered(&mut world, 1);
    let sent = world.receive(MCPS[0], &from_mcp(MCPS[0], "INVITE", 1, &placed, "mcp"));
    let offered = sent.iter().find(|s| s.start_line().starts_with("INVITE")).unwrap().clone();
    let ok = offered.answer("200 OK", "", &format!("Contact: <sip:caller@{CALLER}>\r\n"));
    assert_eq!(world.receive(CALLER, &ok)[0].to(), MCPS[0]);
    // With the token of the resource, from the caller's own host, to wherever it likes.
    let forged = from_mcp(MCPS[0], "INFO", 7, &placed, "mcp");
    let sent = world.receive(CALLER, &forged);
    assert_eq!((sent.len(), sent[0].status()), (1, 403));
}

#[test]
fn a_dialog_goes_on_where_the_media_server_moves_it() {
    let moved = format!("Contact: <sip:mcp@{ELSEWHERE}>\r\n");
    let to_moved = |text: String| {
        let rest = text.split_once(" SIP/2.0").unwrap().1.to_owned();
        format!("{} sip:mcp@{ELSEWHERE} SIP/2.0{rest}", text.split(' ').next().unwrap())
    };
    // By a request of the server (§12.2.2), and by its answer to one of the caller (§12.2.1.2).
    for asked in [false, true] {
        let mut world = World::new();
        let (placed, ok) = answered(&mut world, 1);
        let early = world.receive(CALLER, &to_moved(from_caller(1, "INFO", 2, &ok)));
        assert_eq!(early[0].status(), 403, "nobody has named that host");
        if asked {
            let update = world.receive(CALLER, &from_caller(1, "UPDATE", 3, &ok))[0].clone();
            world.receive(MCPS[0], &update.answer("200 OK", "", &moved));
        } else {
            let update = from_mcp(MCPS[0], "UPDATE", 1, &placed, "mcp");
            let update = update.replace("Content-Length", &format!("{moved}Content-Length"));
            assert_eq!(world.receive(MCPS[0], &update)[0].to(), CALLER);
        }
        let bye = world.receive(CALLER, &to_moved(from_caller(1, "BYE", 4, &ok)));
        assert_eq!((bye[0].to(), bye[0].header("CSeq")), (ELSEWHERE.into(), "4 BYE"));
        let info = world.receive(ELSEWHERE, &from_mcp(ELSEWHERE, "INFO", 2, &placed, "mcp"));
        assert_eq!((info[0].to(), info[0].header("CSeq")), (CALLER.into(), "2 INFO"));
    }
}

#[test]
fn a_refusal_that_comes_again_is_acknowledged_although_another_server_has_answered() {
    let mut world = World::new();
    let first = world.receive(CALLER, &invite(1))[0].clone();
    let sent = world.receive(MCPS[0], &first.answer("480 Not Now", "x", ""));
    let second = sent[1].clone();
    world.receive(MCPS[1], &second.answer("200 OK", "two", "Contact: <sip:mcp@198.51.100.2:5060>\r\n"));
    let again = world.receive(MCPS[0], &first.answer("480 Not Now", "x", ""));
    assert_eq!((again.len(), again[0].header("CSeq"), again[0].branch()), (1, "1 ACK", first.branch()));
    world.pass(Duration::from_secs(40));
    assert!(world.receive(MCPS[0], &first.answer("480 Not Now", "x", "")).is_empty(), "Timer D has passed");
}

#[test]
fn refusals_show_that_a_server_lives() {
    let mut world = World::bent(Bend { members: 1, ..Bend::default() });
    for n in 1..=10 {
        let placed = world.receive(CALLER, &invite(2 * n))[0].clone();
        world.undelivered(&placed);
        world.pass(Duration::from_secs(6));
        let placed = world.receive(CALLER, &invite(2 * n + 1));
        assert_eq!(placed[0].to(), MCPS[0], "call {n}: one failure among refusals takes nobody down");
        world.receive(MCPS[0], &placed[0].answer("486 Busy Here", "x", ""));
    }
}

#[test]
fn who_overslept_looks_what_has_come_before_it_calls_a_server_silent() {
    let mut world = World::new();
    let placed = world.receive(CALLER, &invite(1))[0].clone();
    // It stood still for ten seconds; the 180 waits in its socket behind other messages.
    world.now = world.now + Duration::from_secs(10);
    let fired = world.pass(Duration::from_millis(400));
    assert!(fired.iter().all(|(_, s)| s.to() == MCPS[0]), "{fired:?}");
    assert_eq!(world.receive(MCPS[0], &placed.answer("180 Ringing", "m", OK_CONTACT))[0].to(), CALLER);
    assert!(world.pass(Duration::from_secs(20)).is_empty());
    assert_eq!(world.stats().calls.first_response_timeouts, 0);
}

#[test]
fn the_ack_to_a_stray_refusal_matches_its_invite() {
    let mut world = World::new();
    let (_, ok) = answered(&mut world, 1);
    let sent = world.receive(CALLER, &from_caller(1, "INVITE", 2, &ok));
    let placed = sent.iter().find(|s| s.start_line().starts_with("INVITE")).unwrap().clone();
    let mut next = World::bent(Bend { epoch: 2, ..Bend::default() });
    let refusal = next.receive(MCPS[0], &placed.answer("488 Not Acceptable Here", "", ""))[0].clone();
    assert_eq!((refusal.status(), refusal.to()), (488, CALLER.into()));
    // Hop by hop: it has the branch of the INVITE that it ends (§17.1.1.3).
    let ack = from_caller(1, "ACK", 2, &ok).replace("z9hG4bK1ack2", "z9hG4bK1invite2");
    let ack = next.receive(CALLER, &ack);
    assert_eq!((ack[0].to(), ack[0].header("CSeq"), ack[0].branch()), (MCPS[0].into(), "2 ACK", placed.branch()));
}

/// Its Contact is a host of which nobody has heard but the run that is over.
#[test]
fn a_media_server_answers_an_earlier_run_from_wherever_it_likes() {
    let moved = format!("Contact: <sip:mcp@{ELSEWHERE}>\r\n");
    let placed = World::new().receive(CALLER, &invite(1))[0].clone();
    let mut next = World::bent(Bend { epoch: 2, ..Bend::default() });
    let ok = next.receive(MCPS[0], &placed.answer("200 OK", "mcp", &moved))[0].clone();
    let ack = next.receive(CALLER, &from_caller(1, "ACK", 1, &ok));
    assert_eq!((ack.len(), ack[0].to()), (1, ELSEWHERE.into()));

    // The run that is over has had the 200; a request of the caller shows the leg first.
    let mut first = World::new();
    let placed = first.receive(CALLER, &invite(1))[0].clone();
    let ok = first.receive(MCPS[0], &placed.answer("200 OK", "mcp", &moved))[0].clone();
    let mut next = World::bent(Bend { epoch: 2, ..Bend::default() });
    let asked = next.receive(CALLER, &from_caller(1, "INVITE", 2, &ok));
    let asked = asked.into_iter().find(|s| s.start_line().starts_with("INVITE")).unwrap();
    next.receive(ELSEWHERE, &asked.answer("200 OK", "", &moved));
    assert_eq!(next.gauges().legs, 1);
    let ack = next.receive(CALLER, &from_caller(1, "ACK", 2, &ok));
    assert_eq!((ack.len(), ack[0].to()), (1, ELSEWHERE.into()));
    next.receive(CALLER, &from_caller(1, "BYE", 3, &ok));
    next.assert_empties();
}

/// A re-INVITE and its INVITE at the media server.
fn again(world: &mut World, ok: &Sent) -> (String, Sent) {
    let request = from_caller(1, "INVITE", 2, ok);
    let sent = world.receive(CALLER, &request);
    let placed = sent.into_iter().find(|s| s.start_line().starts_with("INVITE")).unwrap();
    (request, placed)
}

#[test]
fn an_invite_that_is_repeated_after_the_answer_that_an_earlier_run_asked_for_asks_nobody() {
    let mut world = World::new();
    let (_, dialog) = answered(&mut world, 1);
    let (request, placed) = again(&mut world, &dialog);
    let mut next = World::bent(Bend { epoch: 2, ..Bend::default() });
    let ok = next.receive(MCPS[0], &placed.answer("200 OK", "", OK_CONTACT))[0].clone();
    assert_eq!((ok.status(), ok.to()), (200, CALLER.into()));
    assert!(next.receive(CALLER, &request).is_empty(), "it is on its way already");
    let ack = next.receive(CALLER, &from_caller(1, "ACK", 2, &dialog));
    assert_eq!((ack[0].to(), ack[0].header("CSeq")), (MCPS[0].into(), "2 ACK"));
    assert!(next.pass(Duration::from_secs(40)).is_empty(), "no 408 to who has a 200");
    // The first 2xx was lost: all that are repeated pass.
    let ok = next.receive(MCPS[0], &placed.answer("200 OK", "", OK_CONTACT))[0].clone();
    assert_eq!((ok.status(), ok.to()), (200, CALLER.into()));
}

#[test]
fn an_initial_invite_that_is_repeated_after_the_answer_to_an_earlier_run_asks_nobody() {
    let placed = World::new().receive(CALLER, &invite(1))[0].clone();
    let mut next = World::bent(Bend { epoch: 2, ..Bend::default() });
    let ok = next.receive(MCPS[0], &placed.answer("200 OK", "mcp", OK_CONTACT))[0].clone();
    assert_eq!((ok.status(), ok.to(), next.gauges().legs), (200, CALLER.into(), 1));
    assert!(next.receive(CALLER, &invite(1)).is_empty(), "one call, one media server");
    assert_eq!((next.gauges().legs, next.gauges().grants, next.gauges().ringing), (1, 1, 0));
    next.receive(CALLER, &from_caller(1, "ACK", 1, &ok));
    next.receive(CALLER, &from_caller(1, "BYE", 2, &ok));
    next.assert_empties();
}

#[test]
fn an_answer_to_an_earlier_run_counts_also_where_both_sides_record_routed() {
    let tcp = Flow { transport: Transport::Tcp, listener: ListenerId(1), conn: Some(ConnId(1)), ..udp(CALLER) };
    let over_tcp = invite(1).replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    let placed = World::new().receive_over(tcp, &over_tcp)[0].clone();
    assert_eq!((placed.flow.transport, placed.header("Record-Route").split(',').count()), (Transport::Udp, 2));
    let mut next = World::bent(Bend { epoch: 2, ..Bend::default() });
    let ok = next.receive(MCPS[0], &placed.answer("200 OK", "m", OK_CONTACT));
    assert_eq!((ok[0].status(), ok[0].flow.transport), (200, Transport::Tcp));
    assert_eq!((next.gauges().legs, next.gauges().grants), (1, 1));
}
