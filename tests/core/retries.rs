//! The same INVITE again in a new transaction, while the first one lives: one call, whatever `sip.retried-invite` says.

use std::time::Duration;

use tandem::proxy::Retried;
use tandem::proxy::reject::Reason;

use super::world::{Bend, CALLER, MCPS, Sent, World, from_caller, invite};

/// Where the second INVITE comes from.
const AGAIN: &str = "192.0.2.9:5080";

/// The INVITE of `n` as its caller asks again: another branch and port, and a Via of a hop that it passed.
fn again(n: u32) -> String {
    let vias = format!(
        "Via: SIP/2.0/UDP 192.0.2.9:5080;branch=z9hG4bK{n}again;rport\r\nVia: SIP/2.0/UDP 203.0.113.5;branch=z9hG4bKhop\r\n"
    );
    let text = invite(n);
    let (start, rest) = text.split_once("Via: ").unwrap();
    let (_, rest) = rest.split_once("\r\n").unwrap();
    format!("{start}{vias}{rest}")
}

fn world(retried: Retried) -> World {
    World::bent(Bend { retried, ..Bend::default() })
}

/// The message among `sent` that begins so.
fn find<'a>(sent: &'a [Sent], start: &str) -> &'a Sent {
    sent.iter().find(|s| s.start_line().starts_with(start)).expect(start)
}

fn vias(sent: &Sent) -> Vec<&str> {
    sent.all("Via")
}

/// What stands above every answer to the second INVITE.
const VIAS: [&str; 2] = [
    "SIP/2.0/UDP 192.0.2.9:5080;branch=z9hG4bK1again;rport=5080;received=192.0.2.9",
    "SIP/2.0/UDP 203.0.113.5;branch=z9hG4bKhop",
];

#[test]
fn who_asks_again_is_told_the_last_provisional_and_all_that_comes() {
    let mut w = world(Retried::Join);
    let placed = w.receive(CALLER, &invite(1))[0].clone();
    w.receive(MCPS[0], &placed.answer("180 Ringing", "mcp", ""));
    let sent = w.receive(AGAIN, &again(1));
    let told: Vec<_> = sent.iter().map(|s| (s.status(), s.to())).collect();
    assert_eq!(told, [(482, CALLER.to_owned()), (180, AGAIN.to_owned())]);
    assert_eq!(vias(&sent[0]), ["SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK1i"]);
    assert_eq!((vias(&sent[1]), sent[1].tag()), (VIAS.to_vec(), "mcp"));
    // A repetition of it meets its transaction.
    let repeated = w.receive(AGAIN, &again(1));
    assert_eq!((repeated.len(), &repeated[0].text), (1, &sent[1].text));
    let ok = w.receive(MCPS[0], &placed.answer("200 OK", "mcp", "Contact: <sip:mcp@198.51.100.1:5060>\r\n"));
    assert_eq!((ok.len(), ok[0].status(), ok[0].to(), vias(&ok[0])), (1, 200, AGAIN.into(), VIAS.to_vec()));
    assert!(ok[0].header("Record-Route").starts_with("<sip:192.0.2.1:5060;lr;tk="));
    // The ACK to the refusal of the first one ends there, the one to the 2xx goes on.
    let ack = invite(1).replace("INVITE sip", "ACK sip").replace("1 INVITE", "1 ACK");
    assert!(w.receive(CALLER, &ack).is_empty());
    assert_eq!(w.receive(AGAIN, &from_caller(1, "ACK", 1, &ok[0]))[0].to(), MCPS[0]);
    let stats = w.stats().calls;
    assert_eq!((stats.attempts, stats.calls_offered, stats.calls_answered, stats.retried_invites), (1, 1, 1, 1));
    assert_eq!((w.gauges().legs, w.gauges().grants), (1, 1));
    w.assert_empties();
}

#[test]
fn before_any_provisional_who_asks_again_gets_a_100() {
    let mut w = world(Retried::Join);
    w.receive(CALLER, &invite(1));
    let sent = w.receive(AGAIN, &again(1));
    let trying = find(&sent, "SIP/2.0 100");
    assert_eq!((sent.len(), trying.to(), vias(trying)), (2, AGAIN.into(), VIAS.to_vec()));
    let repeated = w.receive(AGAIN, &again(1));
    assert_eq!((repeated.len(), &repeated[0].text), (1, &trying.text));
}

#[test]
fn the_next_member_is_asked_with_the_first_invite_and_answers_the_second() {
    let mut w = world(Retried::Join);
    let placed = w.receive(CALLER, &invite(1))[0].clone();
    w.receive(AGAIN, &again(1));
    let sent = w.receive(MCPS[0], &placed.answer("503 Service Unavailable", "a", ""));
    let next = find(&sent, "INVITE").clone();
    assert_eq!((next.to(), vias(&next)[1]), (MCPS[1].to_owned(), "SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK1i"));
    let busy = w.receive(MCPS[1], &next.answer("486 Busy Here", "b", ""));
    let busy = find(&busy, "SIP/2.0 486");
    assert_eq!((busy.to(), vias(busy)), (AGAIN.into(), VIAS.to_vec()));
    w.assert_empties();
}

#[test]
fn a_cancel_of_the_first_changes_nothing_and_one_of_the_second_ends_the_call() {
    let mut w = world(Retried::Join);
    let placed = w.receive(CALLER, &invite(1))[0].clone();
    w.receive(MCPS[0], &placed.answer("180 Ringing", "mcp", ""));
    w.receive(AGAIN, &again(1));
    let cancel = |text: String| text.replace("INVITE sip", "CANCEL sip").replace("1 INVITE", "1 CANCEL");
    let sent = w.receive(CALLER, &cancel(invite(1)));
    assert_eq!((sent.len(), sent[0].status(), sent[0].header("CSeq")), (1, 200, "1 CANCEL"));
    let sent = w.receive(AGAIN, &cancel(again(1)));
    assert_eq!((sent[0].status(), sent[0].to()), (200, AGAIN.into()));
    assert!(sent[1].start_line().starts_with("CANCEL sip:") && sent[1].to() == MCPS[0]);
    let sent = w.receive(MCPS[0], &placed.answer("487 Request Terminated", "mcp", ""));
    let end = find(&sent, "SIP/2.0 487");
    assert_eq!((end.to(), vias(end)), (AGAIN.into(), VIAS.to_vec()));
    w.assert_empties();
}

#[test]
fn a_third_invite_takes_the_place_of_the_second() {
    let mut w = world(Retried::Join);
    let placed = w.receive(CALLER, &invite(1))[0].clone();
    w.receive(AGAIN, &again(1));
    let third = again(1).replace("5080", "5090").replace("again", "third");
    let sent = w.receive("192.0.2.9:5090", &third);
    let told: Vec<_> = sent.iter().map(|s| (s.status(), s.to())).collect();
    assert!(told.contains(&(482, AGAIN.to_owned())) && told.contains(&(100, "192.0.2.9:5090".to_owned())), "{told:?}");
    let busy = w.receive(MCPS[0], &placed.answer("486 Busy Here", "b", ""));
    assert_eq!(find(&busy, "SIP/2.0 486").to(), "192.0.2.9:5090");
    w.assert_empties();
}

#[test]
fn where_the_second_one_replaces_the_first_that_is_cancelled_before() {
    let mut w = world(Retried::Replace);
    let placed = w.receive(CALLER, &invite(1))[0].clone();
    w.receive(MCPS[0], &placed.answer("180 Ringing", "mcp", ""));
    let sent = w.receive(AGAIN, &again(1));
    let lines: Vec<_> = sent.iter().map(|s| (s.start_line().split(' ').next().unwrap(), s.to())).collect();
    assert_eq!(lines[0], ("CANCEL", MCPS[0].to_owned()));
    assert!(lines.contains(&("INVITE", MCPS[1].to_owned())), "{lines:?}");
    let sent = w.receive(MCPS[0], &placed.answer("487 Request Terminated", "mcp", ""));
    assert_eq!(find(&sent, "SIP/2.0 487").to(), CALLER);
    assert_eq!(w.stats().calls.calls_offered, 2);
    w.assert_empties();
}

#[test]
fn where_the_second_one_is_rejected_the_first_goes_on() {
    let mut w = world(Retried::Reject);
    let placed = w.receive(CALLER, &invite(1))[0].clone();
    for _ in 0..2 {
        let sent = w.receive(AGAIN, &again(1));
        assert_eq!((sent.len(), sent[0].status(), sent[0].to()), (1, 482, AGAIN.into()));
    }
    let ringing = w.receive(MCPS[0], &placed.answer("180 Ringing", "mcp", ""));
    assert_eq!((ringing[0].status(), ringing[0].to()), (180, CALLER.into()));
    let merged = Reason::ALL.iter().position(|r| *r == Reason::Merged).unwrap();
    assert_eq!((w.stats().calls.rejected[merged], w.stats().calls.attempts), (1, 1));
}

#[test]
fn other_calls_are_left_alone() {
    // Each differs from the first INVITE in what a repetition has in common with it, or asks for another service.
    let others = [
        again(1).replace("tag=from1", "tag=other"),
        again(1).replace("call1@", "other@"),
        again(1).replace("CSeq: 1", "CSeq: 2"),
        again(1).replace("sip:dialog@192.0.2.1:5060;voicexml=http://vxml.example/start", "sip:conf=7@192.0.2.1:5060"),
        again(1).replace(";tag=from1", ""),
    ];
    for other in others {
        let mut w = world(Retried::Join);
        w.receive(CALLER, &invite(1));
        w.receive(AGAIN, &other);
        assert_eq!((w.stats().calls.retried_invites, w.gauges().ringing), (0, 2), "{other}");
    }
    // The first one is over, or given up by its caller: the next one is a call of its own.
    let cancel = invite(1).replace("INVITE sip", "CANCEL sip").replace("1 INVITE", "1 CANCEL");
    for end in ["486 Busy Here", ""] {
        let mut w = world(Retried::Join);
        let placed = w.receive(CALLER, &invite(1))[0].clone();
        match end {
            "" => w.receive(CALLER, &cancel),
            _ => w.receive(MCPS[0], &placed.answer(end, "b", "")),
        };
        w.receive(AGAIN, &again(1));
        assert_eq!((w.stats().calls.retried_invites, w.stats().calls.attempts), (0, 2), "{end}");
    }
}

#[test]
fn an_invite_that_comes_back_through_its_resource_is_another_call() {
    let mut w = world(Retried::Join);
    let placed = w.receive(CALLER, &invite(1))[0].clone();
    // The member sends it back to another service (a spiral, RFC 3261 §6): our Via stands in it.
    let back = placed.text.replacen("Via: ", "Via: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bKback\r\nVia: ", 1);
    w.receive(MCPS[0], &back);
    assert_eq!((w.stats().calls.retried_invites, w.gauges().ringing), (0, 2));
    w.pass(Duration::from_millis(1));
}
