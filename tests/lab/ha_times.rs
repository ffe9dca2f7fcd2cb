//! How long nobody answers at the address, by kind of takeover, under load: figures, printed and not judged.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::rig::load::{Answering, Load};
use crate::rig::pair::{CALLER, PATIENCE, Pair, Plan, VIP, sip};
use crate::rig::poll::until_true;
use crate::rig::udp::Udp;
use crate::rig::world::World;

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// SIGKILL of the process.
    Kill,
    /// Every cable of the host.
    Host,
    /// The service cable alone.
    Cable,
    /// `tandem switchover`.
    HandOver,
}

/// Asks an address each millisecond; when answers came. `heard`: how many so far.
pub fn ask(caller: &Udp, node: Ipv4Addr, stop: &AtomicBool, heard: &AtomicUsize) -> Vec<Instant> {
    let mut answers = Vec::new();
    let (at, mut asked) = (caller.at, 0);
    while !stop.load(Ordering::Relaxed) {
        asked += 1;
        let options = format!(
            "OPTIONS sip:{node} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bKask{asked}\r\nMax-Forwards: 70\r\n\
             From: <sip:asks@{at}>;tag=a\r\nTo: <sip:{node}>\r\nCall-ID: ask-{asked}@{at}\r\nCSeq: 1 OPTIONS\r\n\
             Content-Length: 0\r\n\r\n"
        );
        caller.try_send(sip(node), &options);
        let next = Instant::now() + Duration::from_millis(1);
        while let Some(left) = next.checked_duration_since(Instant::now()) {
            if caller.octets(left).is_some_and(|(octets, _)| octets.starts_with(b"SIP/2.0 200")) {
                answers.push(Instant::now());
                heard.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    answers
}

/// The longest time without an answer around one takeover.
fn outage(pair: &mut Pair<'_>, caller: &Udp, kind: Kind) -> Duration {
    let active = pair.until_armed();
    let stop = AtomicBool::new(false);
    let answers = thread::scope(|scope| {
        let asker = scope.spawn(|| ask(caller, VIP, &stop, &AtomicUsize::new(0)));
        let cables = [pair.field.cables[active].clone(), pair.field.seconds[active].clone()];
        match kind {
            Kind::Kill => pair.crash(active),
            Kind::Host => cables.iter().for_each(|cable| cable.cut()),
            Kind::Cable => cables[0].cut(),
            Kind::HandOver => pair.switch_over(active),
        }
        pair.until_active(1 - active);
        match kind {
            Kind::Kill => pair.revive(active),
            Kind::Host | Kind::Cable => cables.iter().for_each(|cable| cable.heal()),
            Kind::HandOver => {}
        }
        pair.until_armed();
        stop.store(true, Ordering::Relaxed);
        asker.join().expect("an asker")
    });
    answers.windows(2).map(|two| two[1] - two[0]).max().expect("answers")
}

#[test]
fn how_long_nobody_answers() {
    let full = std::env::var_os("TANDEM_LAB_FULL").is_some();
    let (rounds, rate, hold) = if full { (20, 200, 10) } else { (1, 100, 3) };
    let world = World::new("ha-times");
    let Some(plan) = Plan::new(&world, "5000") else { return };
    let servers = Answering::left(&world, &plan.field.servers);
    let mut pair = plan.both(|setup| setup.t1(500)).start(&world);
    let caller = pair.field.callers.within(|| Udp::bind(SocketAddr::new(CALLER.into(), 5070)));
    let mut calls = 0;
    for kind in [Kind::Kill, Kind::Host, Kind::Cable, Kind::HandOver] {
        let load = Load::start(&world, &pair.field.callers, CALLER, rate * 4 * rounds, rate, Duration::from_secs(hold));
        until_true("calls", PATIENCE, || load.begun() > 0);
        let mut times: Vec<Duration> = (0..rounds).map(|_| outage(&mut pair, &caller, kind)).collect();
        times.sort_unstable();
        println!("{kind:?}: median {:?}, worst {:?} of {rounds}", times[times.len() / 2], times[times.len() - 1]);
        load.assert_lossless(Duration::from_secs(180));
        calls += u64::from(rate * 4 * rounds);
    }
    pair.until_idle();
    servers.assert_all(calls);
}
