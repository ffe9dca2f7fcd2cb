//! Transcripts of calls that a key binds to one media server.

use std::collections::BTreeSet;
use std::time::Duration;

use tandem::balance::PinBy;

use super::world::{Bend, CALLER, Sent, World, from_caller, invite_with};

fn world(port_capacity: Option<u32>) -> World {
    World::bent(Bend { port_capacity, pin_by: Some(PinBy::Header("X-Room".into())), ..Bend::default() })
}

fn call(world: &mut World, n: u32, room: &str) -> Vec<Sent> {
    world.receive(CALLER, &invite_with(n, &format!("x-room: {room}\n")))
}

fn answered(world: &mut World, n: u32, room: &str) -> (Sent, Sent) {
    let placed = call(world, n, room).remove(0);
    let contact = format!("Contact: <sip:mcp@{}>\r\n", placed.to());
    let ok = world.receive(&placed.to(), &placed.answer("200 OK", "mcp", &contact)).remove(0);
    world.receive(CALLER, &from_caller(n, "ACK", 1, &ok));
    (placed, ok)
}

fn hang_up(world: &mut World, n: u32, ok: &Sent) {
    let bye = world.receive(CALLER, &from_caller(n, "BYE", 2, ok)).remove(0);
    world.receive(&bye.to(), &bye.answer("200 OK", "", ""));
}

#[test]
fn calls_with_one_key_go_to_one_media_server_for_as_long_as_one_lives() {
    let mut world = world(None);
    let mut servers = BTreeSet::new();
    for room in 0..12 {
        let calls: Vec<_> = (0..4).map(|n| answered(&mut world, 10 * room + n, &format!("room {room}"))).collect();
        assert!(calls.iter().all(|(placed, _)| placed.to() == calls[0].0.to()), "room {room}");
        servers.insert(calls[0].0.to());
        assert_eq!(world.gauges().pins, 1);
        for (n, (_, ok)) in (0..).zip(&calls) {
            hang_up(&mut world, 10 * room + n, ok);
        }
        assert_eq!((world.gauges().pins, world.gauges().grants), (0, 0));
    }
    assert_eq!(servers.len(), 3, "rooms are spread");
    world.assert_empties();
}

#[test]
fn a_media_server_that_is_full_refuses_its_key_and_nobody_else_is_asked() {
    let mut world = world(Some(1));
    let (_, ok) = answered(&mut world, 1, "17");
    let sent = call(&mut world, 2, "17");
    assert_eq!((sent.len(), sent[0].status(), sent[0].to()), (1, 480, CALLER.into()));
    assert_eq!((world.stats().calls.attempts, world.stats().pins.refused), (1, 1));
    hang_up(&mut world, 1, &ok);
    assert!(call(&mut world, 3, "17")[0].start_line().starts_with("INVITE"));
}

#[test]
fn a_refused_or_silent_invite_with_a_key_tries_no_other_media_server() {
    let mut world = world(None);
    let placed = call(&mut world, 1, "17").remove(0);
    let sent = world.receive(&placed.to(), &placed.answer("500 Oops", "mcp", ""));
    let up: Vec<_> = sent.iter().filter(|s| s.to() == CALLER).map(Sent::status).collect();
    assert_eq!((up, sent.len()), (vec![500], 2), "its ACK, and the refusal");
    call(&mut world, 2, "17");
    let sent = world.pass(Duration::from_secs(40));
    assert!(sent.iter().all(|(_, s)| s.to() == CALLER || s.to() == placed.to()));
    assert_eq!(world.stats().calls.attempts, 2);
}

#[test]
fn when_its_media_server_dies_a_key_goes_to_the_next_one_and_stays_there() {
    let mut world = world(None);
    let first = call(&mut world, 1, "17").remove(0);
    let sent = world.undelivered(&first);
    assert_eq!(sent.last().map(Sent::status), Some(480), "one failure is no death");
    let second = call(&mut world, 2, "17").remove(0);
    assert_eq!(second.to(), first.to());
    world.undelivered(&second);
    let third = call(&mut world, 3, "17").remove(0);
    let moved = world.undelivered(&third).remove(0);
    assert!(moved.start_line().starts_with("INVITE") && moved.to() != first.to(), "{moved:?}");
    let others: BTreeSet<_> = (4..12).map(|n| call(&mut world, n, "17")[0].to()).collect();
    assert_eq!(others, BTreeSet::from([moved.to()]));
    assert_eq!(world.stats().pins.moved, 1);
}

#[test]
fn what_shows_no_key_is_dealt_as_ever() {
    let mut world = world(None);
    let servers: BTreeSet<_> = (0..3).map(|n| world.receive(CALLER, &invite_with(n, "X-Room:\n"))[0].to()).collect();
    assert_eq!((servers.len(), world.gauges().pins), (3, 0));
}
