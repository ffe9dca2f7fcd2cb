use std::time::Duration;

use super::invite_client::{InviteClient, Verdict};
use super::invite_server::InviteServer;
use super::non_invite_client::NonInviteClient;
use super::non_invite_server::NonInviteServer;
use super::timer::{Fired, Timing};
use super::{invite_client, invite_server, non_invite_client};
use crate::base::Time;

const TIMING: Timing =
    Timing { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) };

fn at(ms: u64) -> Time {
    Time::from_micros(ms * 1_000)
}

/// When a machine wants to repeat, until it wants something else: (instants of repetition, what came last, when).
fn run(mut next: impl FnMut() -> Time, mut fire: impl FnMut(Time) -> Fired) -> (Vec<u64>, Fired, u64) {
    let mut repeats = Vec::new();
    loop {
        let now = next();
        match fire(now) {
            Fired::Repeat => repeats.push(now.as_micros() / 1_000),
            Fired::Nothing => panic!("a deadline without a reason"),
            last => return (repeats, last, now.as_micros() / 1_000),
        }
    }
}

#[test]
fn timer_a_doubles_until_timer_b() {
    let machine = std::cell::RefCell::new(InviteClient::start(at(0), &TIMING, false));
    let (repeats, last, when) = run(|| machine.borrow().clock.next(), |now| machine.borrow_mut().on_timer(now));
    assert_eq!(repeats, [500, 1_500, 3_500, 7_500, 15_500, 31_500]);
    assert_eq!((last, when), (Fired::TimedOut, 32_000));
}

#[test]
fn timer_e_is_capped_at_t2_until_timer_f() {
    let machine = std::cell::RefCell::new(NonInviteClient::start(at(0), &TIMING, false));
    let (repeats, last, when) =
        run(|| machine.borrow().clock.next(), |now| machine.borrow_mut().on_timer(now, &TIMING));
    assert_eq!(repeats, [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
    assert_eq!((last, when), (Fired::TimedOut, 32_000));
}

#[test]
fn timer_g_is_capped_at_t2_until_timer_h() {
    let mut server = InviteServer::start(false);
    assert!(server.on_send(at(0), &TIMING, 486));
    let machine = std::cell::RefCell::new(server);
    let (repeats, last, when) =
        run(|| machine.borrow().clock.next(), |now| machine.borrow_mut().on_timer(now, &TIMING));
    assert_eq!(repeats, [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
    assert_eq!((last, when), (Fired::NoAck, 32_000));
}

/// A refusal that left over a stream at 0; `taken_over`: on another node, from which this one has it at 10 ms.
fn refused_over_a_stream(taken_over: bool) -> InviteServer {
    let mut server = InviteServer::start(true);
    assert!(server.on_send(at(0), &TIMING, 486));
    if taken_over {
        server.take_over(at(10), &TIMING);
    }
    server
}

#[test]
fn a_refusal_over_a_stream_leaves_once_more_where_it_was_taken_over_and_never_elsewhere() {
    for (taken_over, expected) in [(true, vec![510]), (false, Vec::new())] {
        let machine = std::cell::RefCell::new(refused_over_a_stream(taken_over));
        let (repeats, last, when) =
            run(|| machine.borrow().clock.next(), |now| machine.borrow_mut().on_timer(now, &TIMING));
        assert_eq!((repeats, last, when), (expected, Fired::NoAck, 32_000));
    }
    let mut server = refused_over_a_stream(true);
    assert!(server.on_ack(at(400), &TIMING));
    assert_eq!(server.on_timer(at(400), &TIMING), Fired::Terminated, "it was there");
}

#[test]
fn a_transaction_without_a_refusal_repeats_nothing_where_it_was_taken_over() {
    for status in [180, 200] {
        let mut server = InviteServer::start(true);
        assert!(server.on_send(at(0), &TIMING, status));
        let before = server.clock;
        server.take_over(at(10), &TIMING);
        assert_eq!(server.clock, before);
    }
    let mut server = InviteServer::start(false);
    assert!(server.on_send(at(0), &TIMING, 486));
    server.take_over(at(10), &TIMING);
    assert_eq!(server.clock.next(), at(500), "timer G runs there, and goes on as it is");
}

#[test]
fn a_refusal_that_comes_first_answers_repeated_invites_and_repeats_nothing_itself() {
    let mut server = InviteServer::refused(at(0), &TIMING, false);
    assert!(server.repeats_to_invite() && !server.on_send(at(1), &TIMING, 200));
    assert_eq!((server.clock.next(), server.on_timer(at(32_000), &TIMING)), (at(32_000), Fired::NoAck));
    let mut server = InviteServer::refused(at(0), &TIMING, false);
    assert!(server.on_ack(at(10), &TIMING));
    assert_eq!((server.clock.next(), server.on_timer(at(5_010), &TIMING)), (at(5_010), Fired::Terminated));
}

#[test]
fn a_reliable_transport_repeats_nothing_and_lingers_not_at_all() {
    let mut client = InviteClient::start(at(0), &TIMING, true);
    assert_eq!(client.clock.next(), at(32_000));
    assert_eq!(client.on_response(at(10), &TIMING, 486), Verdict::AckAndPass);
    assert_eq!(client.on_timer(at(10)), Fired::Terminated);
    let mut server = NonInviteServer::start(at(0), &TIMING, true);
    assert!(server.on_send(at(1), &TIMING));
    assert_eq!(server.on_timer(at(1)), Fired::Terminated);
}

#[test]
fn invite_client_follows_figure_5_and_rfc_6026() {
    let mut m = InviteClient::start(at(0), &TIMING, false);
    assert_eq!(m.on_response(at(1), &TIMING, 100), Verdict::Pass);
    assert_eq!(m.clock.next(), Time::NEVER);
    assert_eq!(m.on_response(at(2), &TIMING, 180), Verdict::Pass);
    assert_eq!(m.on_response(at(3), &TIMING, 200), Verdict::Pass);
    assert_eq!(m.state, invite_client::State::Accepted);
    assert_eq!(m.on_response(at(4), &TIMING, 180), Verdict::Drop);
    assert_eq!(m.on_response(at(5), &TIMING, 200), Verdict::Pass);
    assert_eq!(m.on_response(at(6), &TIMING, 486), Verdict::Drop);
    assert_eq!(m.clock.next(), at(32_003), "timer M is not pushed by later 2xx");

    let mut m = InviteClient::start(at(0), &TIMING, false);
    assert_eq!(m.on_response(at(1), &TIMING, 503), Verdict::AckAndPass);
    assert_eq!(m.on_response(at(2), &TIMING, 503), Verdict::Ack);
    assert_eq!(m.on_response(at(3), &TIMING, 200), Verdict::Drop);
    assert_eq!(m.on_timer(at(32_001)), Fired::Terminated);
}

#[test]
fn invite_server_follows_figure_7_and_rfc_6026() {
    let mut m = InviteServer::start(false);
    assert!(m.on_send(at(0), &TIMING, 180) && m.repeats_to_invite());
    assert!(m.on_send(at(1), &TIMING, 200));
    assert_eq!(m.state, invite_server::State::Accepted);
    assert!(!m.repeats_to_invite(), "RFC 6026: a retransmitted INVITE is absorbed");
    assert!(m.on_send(at(2), &TIMING, 200));
    assert!(!m.on_send(at(3), &TIMING, 486) && !m.on_send(at(3), &TIMING, 183));
    assert!(!m.on_ack(at(4), &TIMING));

    let mut m = InviteServer::start(false);
    assert!(m.on_send(at(0), &TIMING, 404));
    assert!(m.on_ack(at(1), &TIMING) && !m.on_ack(at(2), &TIMING));
    assert_eq!(m.on_timer(at(5_001), &TIMING), Fired::Terminated);
}

#[test]
fn a_provisional_slows_timer_e_to_t2() {
    let mut m = NonInviteClient::start(at(0), &TIMING, false);
    assert!(m.on_response(at(100), &TIMING, 100));
    assert_eq!(m.state, non_invite_client::State::Proceeding);
    assert_eq!(m.on_timer_at(at(500)), Fired::Repeat);
    assert_eq!(m.clock.next(), at(4_500));
    assert!(m.on_response(at(600), &TIMING, 200) && !m.on_response(at(700), &TIMING, 200));
    assert_eq!(m.on_timer_at(at(5_600)), Fired::Terminated);
}

#[test]
fn a_hushed_invite_stays_but_is_not_repeated() {
    let mut m = InviteClient::start(at(0), &TIMING, false);
    m.hush();
    assert_eq!(m.clock.next(), at(32_000));
    assert_eq!(m.on_response(at(3_000), &TIMING, 200), Verdict::Pass);
}

impl NonInviteClient {
    fn on_timer_at(&mut self, now: Time) -> Fired {
        self.on_timer(now, &TIMING)
    }
}
