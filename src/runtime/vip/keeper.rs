//! The guard's mind: what it does with the addresses and when. Knows no socket and no clock.
//!
//! Three rules stand above all wishes: without a kick for the limit the addresses go; when the main process is gone they
//! go; and after a pause of its own, in which the kernel may have ended the lease and the peer may have claimed, they go.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::mem;
use std::net::IpAddr;
use std::time::Duration;

use super::arp::Mac;
use super::event::{Cause, Event, Wish};
use crate::base::{Epoch, Time};

/// How long the kernel keeps an address that nobody refreshes. Whole seconds: the kernel counts no finer.
pub const LEASE: Duration = Duration::from_secs(2);
/// How often the lease is refreshed.
const REFRESH: Duration = Duration::from_millis(500);
/// When callers are told of a takeover once more: the first telling may have met a cache that still named the old holder.
const TELL_AGAIN: Duration = Duration::from_millis(50);
/// How often the main process hears that its guard is there.
pub const PULSE: Duration = Duration::from_millis(100);
/// A guard that stood still for longer than this has lost the addresses. Less than the lease.
const PAUSE: Duration = Duration::from_secs(1);
/// When a claim is announced again, counted from it: caches that missed the first burst, switches that were learning,
/// and those that asked while an old holder whose guard is dead still had its [`LEASE`].
const AGAIN: [Duration; 3] = [Duration::from_secs(1), Duration::from_millis(2_500), Duration::from_secs(5)];
/// How often a holder asks the link whether somebody else answers for its addresses.
const WATCH: Duration = Duration::from_millis(900);
/// A claim of somebody else is answered at most this often (RFC 5227 §2.4, DEFEND_INTERVAL).
const DEFEND: Duration = Duration::from_secs(10);
/// A stranger is reported at most this often.
const ALARM: Duration = Duration::from_secs(1);
/// Deletions by others that are undone within [`DELETIONS_WITHIN`]; one more, and the addresses are given up.
const DELETIONS: usize = 3;
const DELETIONS_WITHIN: Duration = Duration::from_secs(10);
/// Who is told of to one probe: the holder, and strangers.
const ANSWERS: usize = 16;
/// How soon something that failed is tried again.
const RETRY: Duration = Duration::from_millis(20);
/// How long the sockets of a process that is gone are kept, so that nobody is told "port unreachable".
const LINGER: Duration = Duration::from_millis(500);

/// How loudly to announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loudness {
    /// Once.
    Once,
    /// Five in a row.
    Burst,
    /// Five in a row, and one in reply form for equipment that ignores requests.
    BurstAndReply,
}

/// What the keeper can do. Errors say what was tried and why it failed.
pub trait Hands {
    /// Puts all addresses on their interfaces, or none.
    fn claim(&mut self) -> Result<(), String>;
    /// Takes them off the link while datagrams for them still arrive.
    fn hush(&mut self) -> Result<(), String>;
    /// Removes them, wherever they are.
    fn release(&mut self) -> Result<(), String>;
    /// Puts all where they are once more, with a fresh lease.
    fn refresh(&mut self) -> Result<(), String>;
    /// Announces all.
    fn announce(&mut self, loudness: Loudness);
    /// Asks the link who holds them.
    fn probe(&mut self);
    /// Tickles some of the known connections; whether more are left. `first`: begins anew.
    fn tickle(&mut self, first: bool) -> bool;
    /// Tells the main process.
    fn say(&mut self, event: Event);
    /// Tells the main process that the guard is there.
    fn pulse(&mut self);
}

/// Where the addresses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Out,
    Held,
    Quiet,
}

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    limit: Duration,
    state: State,
    /// Of the last claim.
    epoch: Epoch,
    /// Claims of this epoch and before it have been lost and cannot come back.
    lost: Epoch,
    /// The last sign of work.
    kicked: Time,
    /// The last time that this guard turned.
    turned: Time,
    refresh: Time,
    refresh_failed: bool,
    pulse: Time,
    watch: Time,
    claimed: Time,
    /// How many of [`AGAIN`] are done.
    announced: usize,
    probing: Option<Time>,
    /// Who answered since.
    answered: Vec<Mac>,
    tickling: bool,
    tell_again: Time,
    deletions: VecDeque<Time>,
    defend: Time,
    alarm: Time,
    /// A removal failed and is owed.
    owed: Option<Time>,
    /// The main process is gone; until when its sockets are kept.
    lingering: Option<Time>,
}

impl Keeper {
    /// Holds nothing yet. `limit`: how long the main process may be silent while addresses are held.
    pub fn new(limit: Duration, now: Time) -> Self {
        Self {
            limit,
            state: State::Out,
            epoch: Epoch::default(),
            lost: Epoch::default(),
            kicked: now,
            turned: now,
            refresh: Time::NEVER,
            refresh_failed: false,
            pulse: now,
            watch: Time::NEVER,
            claimed: now,
            announced: AGAIN.len(),
            probing: None,
            answered: Vec::with_capacity(ANSWERS),
            tickling: false,
            tell_again: Time::NEVER,
            deletions: VecDeque::with_capacity(DELETIONS + 1),
            defend: Time::ZERO,
            alarm: Time::ZERO,
            owed: None,
            lingering: None,
        }
    }

    /// The main process works.
    pub fn kick(&mut self, now: Time) {
        self.kicked = now;
    }

    /// Follows a wish.
    pub fn wish(&mut self, now: Time, wish: Wish, hands: &mut impl Hands) {
        match wish {
            Wish::Hold { epoch } if epoch <= self.lost => {
                let reason = format!("epoch {} lost the addresses; only a higher one can claim them", epoch.counter);
                hands.say(Event::Failed { reason });
            }
            Wish::Hold { epoch } => self.hold(now, epoch, hands),
            Wish::Announce if self.state == State::Held => self.announce(now, hands),
            Wish::Announce => {}
            Wish::Quiet if self.state == State::Held => self.quiet(now, hands),
            Wish::Quiet => hands.say(Event::Failed { reason: String::from("nothing is held that could be quiet") }),
            Wish::Drop => self.out(now, Cause::Wished, hands),
            Wish::Probe { within } => {
                hands.probe();
                // A guard that is late has an answer for who asks again, and must not begin anew each time.
                if self.probing.is_none() {
                    self.probing = Some(now + within);
                    self.answered.clear();
                }
            }
        }
    }

    fn hold(&mut self, now: Time, epoch: Epoch, hands: &mut impl Hands) {
        if self.state == State::Held {
            self.epoch = epoch;
            return hands.say(Event::Held { epoch });
        }
        if let Err(reason) = hands.claim() {
            self.release(now, hands);
            return hands.say(Event::Failed { reason });
        }
        let moved = self.state == State::Out;
        (self.state, self.epoch) = (State::Held, epoch);
        (self.owed, self.kicked) = (None, now);
        (self.refresh, self.refresh_failed) = (now + REFRESH, false);
        self.watch = now + WATCH;
        self.deletions.clear();
        (self.defend, self.alarm) = (Time::ZERO, Time::ZERO);
        self.announce(now, hands);
        // Connections to an address that was only quiet live. After the announcement: the answer has to find us.
        if moved {
            self.tickling = hands.tickle(true);
            self.tell_again = now + TELL_AGAIN;
        }
        hands.say(Event::Held { epoch });
    }

    fn announce(&mut self, now: Time, hands: &mut impl Hands) {
        hands.announce(Loudness::Burst);
        (self.claimed, self.announced) = (now, 0);
    }

    fn quiet(&mut self, now: Time, hands: &mut impl Hands) {
        match hands.hush() {
            Ok(()) => {
                self.state = State::Quiet;
                (self.watch, self.announced) = (Time::NEVER, AGAIN.len());
                hands.say(Event::Quiet);
            }
            Err(reason) => {
                // The new holder is about to announce: nothing may answer beside it.
                hands.say(Event::Failed { reason });
                self.out(now, Cause::NotQuiet, hands);
            }
        }
    }

    /// Gives everything up.
    fn out(&mut self, now: Time, cause: Cause, hands: &mut impl Hands) {
        self.release(now, hands);
        if cause != Cause::Wished {
            self.lost = self.lost.max(self.epoch);
        }
        hands.say(Event::Dropped { cause });
    }

    fn release(&mut self, now: Time, hands: &mut impl Hands) {
        let failed = hands.release().err();
        self.state = State::Out;
        (self.refresh, self.watch, self.tell_again) = (Time::NEVER, Time::NEVER, Time::NEVER);
        (self.announced, self.tickling) = (AGAIN.len(), false);
        if self.owed.is_none()
            && let Some(reason) = &failed
        {
            hands.say(Event::Failed { reason: reason.clone() });
        }
        self.owed = failed.map(|_| now + RETRY);
    }

    /// Somebody else deleted an address from its interface.
    pub fn deleted(&mut self, now: Time, ip: IpAddr, hands: &mut impl Hands) {
        if self.state != State::Held {
            return;
        }
        while self.deletions.front().is_some_and(|then| now.since(*then) > DELETIONS_WITHIN) {
            self.deletions.pop_front();
        }
        if self.deletions.len() >= DELETIONS {
            return self.out(now, Cause::Deleted, hands);
        }
        self.deletions.push_back(now);
        if self.renew(now, hands) {
            self.announce(now, hands);
            hands.say(Event::AddressDeleted { ip });
        }
    }

    /// An interface of ours has no link.
    pub fn carrier_lost(&mut self, interface: &str, hands: &mut impl Hands) {
        hands.say(Event::CarrierLost { interface: interface.into() });
    }

    /// It has a link again.
    pub fn carrier_back(&mut self, now: Time, interface: &str, hands: &mut impl Hands) {
        self.moved(now, hands);
        hands.say(Event::CarrierBack { interface: interface.into() });
    }

    /// The way to us has changed (bond failover, new hardware address, new interface of the same name): switches and
    /// neighbours must learn anew. An interface that was down may also have lost its IPv6 addresses.
    pub fn moved(&mut self, now: Time, hands: &mut impl Hands) {
        if self.state == State::Held && self.renew(now, hands) {
            self.announce(now, hands);
        }
    }

    /// Somebody else claims an address.
    pub fn heard(&mut self, now: Time, ip: IpAddr, mac: Mac, hands: &mut impl Hands) {
        if self.lingering.is_some() {
            // The peer has taken over: our callers go there.
            self.lingering = Some(now);
            return;
        }
        if self.probing.is_some() && self.answered.len() < ANSWERS && !self.answered.contains(&mac) {
            self.answered.push(mac);
            hands.say(Event::ProbeAnswered { ip, mac });
        }
        if self.state != State::Held {
            return;
        }
        if now >= self.alarm {
            self.alarm = now + ALARM;
            hands.say(Event::Stranger { ip, mac });
        }
        if now >= self.defend {
            self.defend = now + DEFEND;
            hands.announce(Loudness::Once);
        }
    }

    /// The main process is gone. `sockets`: whether it left any that are worth keeping open.
    pub fn closed(&mut self, now: Time, sockets: bool, hands: &mut impl Hands) {
        if self.state != State::Out {
            self.release(now, hands);
        }
        self.lingering = Some(if sockets { now + LINGER } else { now });
    }

    /// Whether the guard may end.
    pub fn done(&self, now: Time) -> bool {
        // What cannot be removed ends with its lease, which nobody refreshes.
        let patience = if self.owed.is_some() { LEASE + PAUSE } else { Duration::ZERO };
        self.lingering.is_some_and(|until| until + patience <= now)
    }

    /// Whether the addresses may still be held. Comes before everything else of a turn, but after the kicks that have
    /// arrived: what else has arrived meanwhile may speak of a time in which the addresses were not ours.
    pub fn judge(&mut self, now: Time, hands: &mut impl Hands) {
        let stood = now.since(self.turned);
        self.turned = now;
        if self.state != State::Out {
            if stood > PAUSE {
                self.out(now, Cause::Paused, hands);
            } else if now.since(self.kicked) >= self.limit {
                self.out(now, Cause::Silent, hands);
            }
        }
    }

    /// Does what is due.
    pub fn turn(&mut self, now: Time, hands: &mut impl Hands) {
        if self.owed.is_some_and(|at| at <= now) {
            self.release(now, hands);
        }
        if self.refresh <= now {
            self.renew(now, hands);
        }
        if let Some(after) = AGAIN.get(self.announced)
            && self.claimed + *after <= now
        {
            self.announced += 1;
            hands.announce(Loudness::BurstAndReply);
        }
        if self.watch <= now {
            self.watch = now + WATCH;
            hands.probe();
        }
        if self.probing.is_some_and(|until| until <= now) {
            self.probing = None;
            // Among so many one may have gone unnamed: then nothing is known, and who asked asks again.
            if self.answered.len() < ANSWERS {
                hands.say(Event::ProbeEnded);
            }
        }
        if self.tickling {
            self.tickling = hands.tickle(false);
        } else if self.tell_again <= now {
            self.tell_again = Time::NEVER;
            self.tickling = hands.tickle(true);
        }
        if self.pulse <= now && self.lingering.is_none() {
            self.pulse = now + PULSE;
            hands.pulse();
        }
    }

    /// Refreshes the lease; whether that worked.
    fn renew(&mut self, now: Time, hands: &mut impl Hands) -> bool {
        let done = hands.refresh();
        self.refresh = now + if done.is_ok() { REFRESH } else { RETRY };
        let before = mem::replace(&mut self.refresh_failed, done.is_err());
        match done {
            Ok(()) => true,
            Err(reason) => {
                if !before {
                    hands.say(Event::Failed { reason });
                }
                false
            }
        }
    }

    /// When [`Keeper::turn`] is due.
    pub fn next(&self) -> Time {
        let again = AGAIN.get(self.announced).map_or(Time::NEVER, |after| self.claimed + *after);
        let watchdog = if self.state == State::Out { Time::NEVER } else { self.kicked + self.limit };
        let pulse = if self.lingering.is_some() { Time::NEVER } else { self.pulse };
        let now = if self.tickling { Time::ZERO } else { Time::NEVER };
        // A removal that is owed outlasts the lingering.
        let lingering = self.lingering.filter(|_| self.owed.is_none());
        let options = [self.probing, self.owed, lingering].map(|t| t.unwrap_or(Time::NEVER));
        let fixed = [again, watchdog, pulse, now, self.refresh, self.watch, self.tell_again];
        fixed.into_iter().chain(options).min().expect("not empty")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::NodeId;

    const LIMIT: Duration = Duration::from_millis(80);
    const KICK: Duration = Duration::from_millis(10);
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);

    fn vip() -> IpAddr {
        "192.0.2.10".parse().unwrap()
    }

    fn epoch(counter: u32) -> Epoch {
        Epoch { counter, node: NodeId(1) }
    }

    /// Writes down what it is told to do.
    #[derive(Default)]
    struct Notes {
        done: Vec<String>,
        /// What fails, by name.
        broken: Vec<&'static str>,
        tickles: usize,
    }

    impl Notes {
        fn act(&mut self, name: &'static str) -> Result<(), String> {
            self.done.push(name.into());
            if self.broken.contains(&name) { Err(format!("{name} failed")) } else { Ok(()) }
        }

        fn take(&mut self) -> Vec<String> {
            mem::take(&mut self.done)
        }
    }

    impl Hands for Notes {
        fn claim(&mut self) -> Result<(), String> {
            self.act("claim")
        }

        fn hush(&mut self) -> Result<(), String> {
            self.act("hush")
        }

        fn release(&mut self) -> Result<(), String> {
            self.act("release")
        }

        fn refresh(&mut self) -> Result<(), String> {
            self.act("refresh")
        }

        fn announce(&mut self, loudness: Loudness) {
            self.done.push(format!("{loudness:?}"));
        }

        fn probe(&mut self) {
            self.done.push("probe".into());
        }

        fn tickle(&mut self, first: bool) -> bool {
            self.done.push(if first { "tickle" } else { "tickle more" }.into());
            self.tickles = self.tickles.saturating_sub(1);
            self.tickles > 0
        }

        fn say(&mut self, event: Event) {
            self.done.push(format!("{event:?}"));
        }

        fn pulse(&mut self) {}
    }

    struct World {
        now: Time,
        keeper: Keeper,
        notes: Notes,
    }

    impl World {
        fn new() -> World {
            let now = Time::from_micros(1_000_000);
            World { now, keeper: Keeper::new(LIMIT, now), notes: Notes::default() }
        }

        /// One that holds, its acts until then forgotten.
        fn holding(counter: u32) -> World {
            let mut world = World::new();
            world.wish(Wish::Hold { epoch: epoch(counter) });
            world.pass(TELL_AGAIN, true);
            world
        }

        fn wish(&mut self, wish: Wish) {
            self.keeper.wish(self.now, wish, &mut self.notes);
        }

        /// Lets time pass, with or without kicks; returns what was done, refreshes and watches left out.
        fn pass(&mut self, time: Duration, kicks: bool) -> Vec<String> {
            let end = self.now + time;
            while self.now < end && !self.keeper.done(self.now) {
                self.now = self.keeper.next().max(self.now).min(self.now + KICK).min(end);
                if kicks {
                    self.keeper.kick(self.now);
                }
                self.keeper.judge(self.now, &mut self.notes);
                self.keeper.turn(self.now, &mut self.notes);
            }
            let mut done = self.notes.take();
            done.retain(|act| act != "refresh" && act != "probe");
            done
        }

        fn deleted(&mut self) -> Vec<String> {
            self.keeper.deleted(self.now, vip(), &mut self.notes);
            self.notes.take()
        }

        fn heard(&mut self) -> Vec<String> {
            self.keeper.heard(self.now, vip(), MAC, &mut self.notes);
            self.notes.take()
        }
    }

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_claim_is_announced_at_once_and_again_within_five_seconds() {
        let mut world = World::new();
        world.wish(Wish::Hold { epoch: epoch(3) });
        let held = format!("{:?}", Event::Held { epoch: epoch(3) });
        assert_eq!(world.notes.take(), ["claim", "Burst", "tickle", held.as_str()]);
        assert_eq!(world.pass(MS(990), true), ["tickle"], "a second time, fifty milliseconds later");
        assert_eq!(world.pass(MS(20), true), ["BurstAndReply"]);
        assert!(world.pass(MS(1_480), true).is_empty());
        assert_eq!(world.pass(MS(20), true), ["BurstAndReply"], "the lease of a holder without a guard is over");
        assert!(world.pass(MS(2_480), true).is_empty());
        assert_eq!(world.pass(MS(20), true), ["BurstAndReply"]);
        assert!(world.pass(MS(60_000), true).is_empty());
        world.wish(Wish::Announce);
        assert_eq!(world.notes.take(), ["Burst"]);
        assert_eq!(world.pass(MS(5_010), true), ["BurstAndReply"; 3]);
        // The same claim under a higher epoch changes nothing on the link.
        world.wish(Wish::Hold { epoch: epoch(4) });
        assert_eq!(world.notes.take(), [format!("{:?}", Event::Held { epoch: epoch(4) })]);
    }

    #[test]
    fn the_lease_is_refreshed_well_before_it_ends() {
        let mut world = World::holding(1);
        let mut last = world.now;
        for _ in 0..1_000 {
            world.now = world.now + KICK;
            world.keeper.kick(world.now);
            world.keeper.judge(world.now, &mut world.notes);
            world.keeper.turn(world.now, &mut world.notes);
            if world.notes.take().iter().any(|act| act == "refresh") {
                last = world.now;
            }
            assert!(world.now.since(last) < LEASE / 2);
        }
    }

    #[test]
    fn silence_takes_the_addresses_and_only_a_higher_epoch_brings_them_back() {
        let mut world = World::holding(7);
        assert!(world.pass(MS(79), false).is_empty());
        let lost = format!("{:?}", Event::Dropped { cause: Cause::Silent });
        assert_eq!(world.pass(MS(2), false), ["release", lost.as_str()]);
        world.keeper.kick(world.now);
        world.wish(Wish::Hold { epoch: epoch(7) });
        let refused = world.notes.take();
        assert!(refused.len() == 1 && refused[0].contains("epoch 7 lost the addresses"), "{refused:?}");
        world.wish(Wish::Hold { epoch: epoch(8) });
        assert_eq!(world.notes.take()[0], "claim");
    }

    #[test]
    fn nothing_is_taken_from_one_that_holds_nothing() {
        let mut world = World::new();
        assert!(world.pass(MS(10_000), false).is_empty());
        world.wish(Wish::Hold { epoch: epoch(1) });
        assert_eq!(world.notes.take()[0], "claim", "silence before the claim counts for nothing");
        assert_eq!(world.pass(MS(79), false), ["tickle"]);
    }

    #[test]
    fn a_wish_to_drop_is_no_loss() {
        let mut world = World::holding(7);
        world.wish(Wish::Drop);
        assert_eq!(world.notes.take(), ["release", "Dropped { cause: Wished }"]);
        world.wish(Wish::Hold { epoch: epoch(7) });
        assert_eq!(world.notes.take()[0], "claim");
    }

    #[test]
    fn a_guard_that_stood_still_gives_up_before_it_believes_anything() {
        let mut world = World::holding(2);
        world.now = world.now + MS(1_001);
        world.keeper.kick(world.now);
        world.keeper.judge(world.now, &mut world.notes);
        assert_eq!(world.notes.take(), ["release", "Dropped { cause: Paused }"]);
        // The deletion by the kernel, and the peer's announcement, that waited meanwhile.
        assert!(world.deleted().is_empty() && world.heard().is_empty());
    }

    #[test]
    fn a_deleted_address_is_put_back_until_it_happens_too_often() {
        let mut world = World::holding(5);
        let back = format!("{:?}", Event::AddressDeleted { ip: vip() });
        for _ in 0..DELETIONS {
            assert_eq!(world.deleted(), ["refresh", "Burst", back.as_str()]);
        }
        assert_eq!(world.deleted(), ["release", "Dropped { cause: Deleted }"]);
        assert!(world.deleted().is_empty());
        let mut world = World::holding(5);
        for _ in 0..20 {
            assert_eq!(world.deleted(), ["refresh", "Burst", back.as_str()]);
            world.pass(MS(4_000), true);
        }
    }

    #[test]
    fn what_could_not_be_put_back_is_tried_again_and_told_once() {
        let mut world = World::holding(5);
        world.notes.broken = vec!["refresh"];
        assert_eq!(world.deleted(), ["refresh", r#"Failed { reason: "refresh failed" }"#]);
        assert!(world.pass(MS(200), true).is_empty());
        world.notes.broken.clear();
        world.keeper.carrier_back(world.now, "eth0", &mut world.notes);
        assert_eq!(world.notes.take(), ["refresh", "Burst", r#"CarrierBack { interface: "eth0" }"#]);
    }

    #[test]
    fn a_stranger_is_reported_each_second_and_answered_each_ten() {
        let mut world = World::holding(5);
        let stranger = format!("{:?}", Event::Stranger { ip: vip(), mac: MAC });
        assert_eq!(world.heard(), [stranger.as_str(), "Once"]);
        assert!(world.heard().is_empty());
        world.pass(MS(1_000), true);
        assert_eq!(world.heard(), [stranger.as_str()]);
        world.pass(MS(9_000), true);
        assert_eq!(world.heard(), [stranger.as_str(), "Once"]);
        // A holder asks for strangers that only answer.
        world.keeper.turn(world.now + WATCH, &mut world.notes);
        assert!(world.notes.take().contains(&"probe".into()));
    }

    #[test]
    fn each_who_answers_a_probe_in_time_is_named_once() {
        let mut world = World::new();
        world.wish(Wish::Probe { within: MS(20) });
        assert_eq!(world.notes.take(), ["probe"]);
        assert!(world.pass(MS(19), true).is_empty());
        assert_eq!(world.heard(), [format!("{:?}", Event::ProbeAnswered { ip: vip(), mac: MAC })]);
        assert!(world.heard().is_empty());
        let other = Mac([2, 0, 0, 0, 0, 8]);
        world.keeper.heard(world.now, vip(), other, &mut world.notes);
        assert_eq!(world.notes.take(), [format!("{:?}", Event::ProbeAnswered { ip: vip(), mac: other })]);
        assert_eq!(world.pass(MS(2), true), ["ProbeEnded"]);
        assert!(world.heard().is_empty() && world.pass(MS(20), true).is_empty());
        world.wish(Wish::Probe { within: MS(20) });
        assert_eq!(world.heard().len(), 2, "the question, and who was not named in this one yet");
        assert_eq!(world.pass(MS(20), true), ["ProbeEnded"]);
        world.wish(Wish::Probe { within: MS(20) });
        assert!(world.pass(MS(15), true).is_empty());
        world.wish(Wish::Probe { within: MS(20) });
        assert_eq!(world.pass(MS(5), true), ["ProbeEnded"], "asked again, it ends no later");
        // A crowd in which the holder may have gone unnamed.
        world.wish(Wish::Probe { within: MS(20) });
        for n in 0..=ANSWERS {
            world.keeper.heard(world.now, vip(), Mac([2, 0, 0, 0, 1, n as u8]), &mut world.notes);
        }
        assert_eq!(world.notes.take().len(), 1 + ANSWERS, "the question, and the first ones");
        assert!(world.pass(MS(40), true).is_empty());
    }

    #[test]
    fn quiet_ends_the_announcements_and_can_be_taken_back() {
        let mut world = World::holding(5);
        world.wish(Wish::Quiet);
        assert_eq!(world.notes.take(), ["hush", "Quiet"]);
        assert!(world.pass(MS(10_000), true).is_empty());
        assert!(world.heard().is_empty(), "the new holder is no stranger");
        world.wish(Wish::Hold { epoch: epoch(6) });
        let held = format!("{:?}", Event::Held { epoch: epoch(6) });
        assert_eq!(world.notes.take(), ["claim", "Burst", held.as_str()], "its connections live");
        world.notes.broken = vec!["hush"];
        world.wish(Wish::Quiet);
        let failed = r#"Failed { reason: "hush failed" }"#;
        assert_eq!(world.notes.take(), ["hush", failed, "release", "Dropped { cause: NotQuiet }"]);
        // Quiet is watched over as well.
        let mut world = World::holding(5);
        world.wish(Wish::Quiet);
        world.notes.take();
        assert_eq!(world.pass(MS(81), false), ["release", "Dropped { cause: Silent }"]);
    }

    #[test]
    fn a_claim_that_fails_leaves_nothing() {
        let mut world = World::new();
        world.notes.broken = vec!["claim"];
        world.wish(Wish::Hold { epoch: epoch(1) });
        assert_eq!(world.notes.take(), ["claim", "release", r#"Failed { reason: "claim failed" }"#]);
        assert!(world.pass(MS(10_000), false).is_empty());
        world.notes.broken.clear();
        world.wish(Wish::Hold { epoch: epoch(1) });
        assert_eq!(world.notes.take()[0], "claim");
    }

    #[test]
    fn a_removal_that_fails_is_owed() {
        let mut world = World::holding(1);
        world.notes.broken = vec!["release"];
        world.wish(Wish::Drop);
        let failed = r#"Failed { reason: "release failed" }"#;
        assert_eq!(world.notes.take(), ["release", failed, "Dropped { cause: Wished }"]);
        assert_eq!(world.pass(MS(61), false), ["release"; 3]);
        world.notes.broken.clear();
        assert_eq!(world.pass(MS(1_000), false), ["release"]);
    }

    #[test]
    fn after_the_end_of_the_process_the_addresses_go_and_the_sockets_wait_for_the_peer() {
        let mut world = World::holding(1);
        world.keeper.closed(world.now, true, &mut world.notes);
        assert_eq!(world.notes.take(), ["release"]);
        assert!(world.pass(MS(490), false).is_empty());
        assert!(!world.keeper.done(world.now));
        world.pass(MS(11), false);
        assert!(world.keeper.done(world.now));

        let mut world = World::holding(1);
        world.keeper.closed(world.now, true, &mut world.notes);
        world.pass(MS(50), false);
        world.heard();
        assert!(world.keeper.done(world.now), "the peer has announced");

        let mut world = World::holding(1);
        world.keeper.closed(world.now, false, &mut world.notes);
        assert!(world.keeper.done(world.now), "nothing to keep open");
    }

    #[test]
    fn many_connections_are_tickled_piece_by_piece() {
        let mut world = World::new();
        world.notes.tickles = 3;
        world.wish(Wish::Hold { epoch: epoch(1) });
        assert_eq!(world.notes.take()[2], "tickle");
        assert_eq!(world.keeper.next(), Time::ZERO);
        assert_eq!(world.pass(MS(10), true), ["tickle more", "tickle more"]);
        world.notes.tickles = 2;
        assert!(world.pass(MS(39), true).is_empty());
        assert_eq!(world.pass(MS(10), true), ["tickle", "tickle more"]);
        assert!(world.pass(MS(900), true).is_empty());
    }
}
