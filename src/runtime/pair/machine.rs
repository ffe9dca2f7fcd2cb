//! One of a pair: what the cluster wants is done, what it must know is told. The heartbeat thread drives it; the thread
//! that reads the links, the guard's events and operators' commands come in beside it, one at a time.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, ReentrantMutex};

use crate::base::{Epoch, NodeId, PathId, Time};
use crate::cluster::{self, Beat, Command, Effect, Input, Link, Loss, Refusal, Role};
use crate::node::Input as NodeInput;
use crate::out::Out;
use crate::replica::envelope::Address;
use crate::replica::{Kind, Stream};
use crate::runtime::beat::{Beats, Pacemaker};
use crate::runtime::driver::{Driver, Port, Turn};
use crate::runtime::link::{DownCause, Greeting, Links, Peers};
use crate::runtime::reach::Reach;
use crate::runtime::snmp::Traps;
use crate::runtime::state;
use crate::runtime::sys;
use crate::runtime::vip::{Vip, Wish};
use crate::runtime::witness::Watch;
use crate::runtime::worker::Pulse;

/// How often the guard is told that this process works.
const KICK: Duration = Duration::from_millis(10);
/// A worker that is at one batch for longer earns no kick.
pub(super) const WORK: Duration = Duration::from_millis(50);
/// A worker that is at one batch for longer makes the node unfit.
pub(super) const STUCK: Duration = Duration::from_millis(500);
/// How often it is looked whether media servers can be reached.
pub(super) const REACH: Duration = Duration::from_secs(1);
/// How long an answer to a probe may take.
const PROBE: Duration = Duration::from_millis(20);
/// So many epochs are made durable ahead of need, so that no claim waits for a disk.
pub const RESERVE: u32 = 64;

use super::alike::Alike;
use super::cards::Cards;
use super::facts::Facts;
use super::keepers::Keepers;
use super::turns::Turns;

/// This node as one of a pair.
pub struct Pair {
    pub(super) driver: Arc<Driver>,
    pub(super) links: Arc<Links>,
    pub(super) vip: Vip,
    /// Keeps the addresses of the peer while this node stands in for it.
    pub(super) guest: Option<Vip>,
    /// Keeps those that are with who is active, where each node has its own, too.
    pub(super) lead: Option<Vip>,
    /// The ports that move, if both nodes are on one machine.
    pub(super) ports: Turns,
    pub(super) traps: Traps,
    pub(super) state_dir: PathBuf,
    /// Epochs up to here are durable.
    pub(super) reserved: AtomicU32,
    /// Held while the cluster is told something and what it wants is done, so that effects keep their order.
    pub(super) turn: ReentrantMutex<RefCell<Turn>>,
    /// What came over the links and is not sent yet.
    pub(super) inbox: Mutex<Turn>,
    pub(super) facts: Mutex<Facts>,
    pub(super) reach: Mutex<Reach>,
    /// What both nodes must have alike, and what differs.
    pub(super) alike: Mutex<Alike>,
    /// Whose answers for the virtual addresses are a member's.
    pub(super) cards: Mutex<Cards>,
    /// Beats that another thread than the heart wants sent.
    pub(super) beats: Mutex<Vec<(NodeId, PathId, Vec<u8>)>>,
    pub(super) heart: OnceLock<Beats>,
    /// Asks the witness.
    pub(super) witness: OnceLock<Watch>,
    pub(super) pulses: OnceLock<Vec<Arc<Pulse>>>,
    pub(super) left: AtomicBool,
    /// Whom the link was last raised to.
    pub(super) peer: OnceLock<NodeId>,
}

impl Pair {
    /// A node that has not begun. `reserved`: the counter up to which epochs are durable.
    pub fn new(
        driver: Arc<Driver>,
        links: Arc<Links>,
        keepers: Keepers,
        ports: Turns,
        traps: Traps,
        state_dir: PathBuf,
        reserved: u32,
    ) -> Arc<Self> {
        let now = sys::now();
        Arc::new(Self {
            driver,
            links,
            vip: keepers.own,
            guest: keepers.guest,
            lead: keepers.lead,
            ports,
            traps,
            state_dir,
            reserved: AtomicU32::new(reserved),
            turn: ReentrantMutex::default(),
            inbox: Mutex::default(),
            facts: Mutex::new(Facts::new(now)),
            alike: Mutex::default(),
            cards: Mutex::default(),
            reach: Mutex::default(),
            beats: Mutex::default(),
            heart: OnceLock::new(),
            witness: OnceLock::new(),
            pulses: OnceLock::new(),
            left: AtomicBool::new(false),
            peer: OnceLock::new(),
        })
    }

    /// What tells this node that it is not cut off.
    pub fn refer_to(&self, reach: Reach) {
        let mut points = self.reach.lock();
        let before = std::mem::take(&mut *points);
        *points = reach.succeeding(before);
    }

    /// Whose work earns the guard's kicks.
    pub fn watch(&self, pulses: Vec<Arc<Pulse>>) {
        let _ = self.pulses.set(pulses);
    }

    /// The heart that beats for this node.
    pub fn beat_by(&self, heart: Beats) {
        let _ = self.heart.set(heart);
    }

    /// What an operator wants of the pair.
    pub fn command(&self, command: Command) -> Result<(), Refusal> {
        let now = sys::now();
        self.facts.lock().answer = None;
        self.tell(now, Input::Command(command));
        self.nudge();
        self.facts.lock().answer.take().unwrap_or(Ok(()))
    }

    /// Whether the node has left the pair, after [`Command::Stop`].
    pub fn has_left(&self) -> bool {
        self.left.load(Ordering::SeqCst)
    }

    /// The last words: peers know that this process ends by its own will. The addresses are gone when this returns.
    pub fn stop(&self) {
        if let Some(heart) = self.heart.get() {
            heart.stop();
        }
        self.witness.get().into_iter().for_each(Watch::stop);
        self.wish(Wish::Drop);
        self.wish_guest(cluster::Wish::Drop);
        self.wish_lead(cluster::Wish::Drop);
        self.links.goodbye();
    }

    pub(super) fn nudge(&self) {
        if let Some(heart) = self.heart.get() {
            heart.nudge();
        }
    }

    pub(super) fn tell(&self, now: Time, input: Input) {
        self.act(now, |out| self.driver.node.pair(now, input, out));
    }

    /// Lets the node do something that the cluster may answer, then does what it wants, and sends what came of it.
    pub(super) fn act(&self, now: Time, f: impl FnOnce(&mut Out)) {
        let order = self.turn.lock();
        let mut turn = order.borrow_mut();
        self.driver.guarded(|| f(turn.out()));
        self.carry_out(now, turn.out());
        self.driver.flush(now, &mut turn);
        drop(turn);
        drop(order);
        self.driver.nudge();
    }

    /// Does what the cluster wants, in its order. Frames that were written before go first.
    pub(super) fn carry_out(&self, now: Time, out: &mut Out) {
        let effects = std::mem::take(&mut out.effects);
        for effect in &effects {
            self.carry_out_one(now, effect);
        }
        if out.effects.is_empty() {
            out.effects = effects;
            out.effects.clear();
        }
    }

    pub(super) fn carry_out_one(&self, now: Time, effect: &Effect) {
        match effect {
            Effect::Beat { peer, path, beat } => {
                let mut octets = Vec::with_capacity(cluster::BEAT_LEN);
                beat.write(&mut octets);
                self.beats.lock().push((*peer, *path, octets));
            }
            Effect::Persist(counter) => self.persist(*counter),
            Effect::Role { role, epoch } => self.take_role(now, *role, *epoch),
            Effect::Vip(wish) => self.wish(self.in_epoch(*wish)),
            Effect::Guest(wish) => self.wish_guest(*wish),
            Effect::Lead(wish) => self.wish_lead(*wish),
            Effect::Mode(mode) => self.keep_mode(*mode),
            Effect::Announce => {
                self.wish(Wish::Announce);
                self.tell_guest(Wish::Announce);
                self.tell_lead(Wish::Announce);
            }
            // Who is silent has its own addresses, where each has some.
            Effect::Probe if self.guest.is_some() => self.tell_guest(Wish::Probe { within: PROBE }),
            Effect::Probe => self.wish(Wish::Probe { within: PROBE }),
            Effect::Answer(answer) => self.facts.lock().answer = Some(*answer),
            Effect::Notice(notice) => self.notice(notice),
            Effect::Witness(ask) => self.witness.get().into_iter().for_each(|witness| witness.want(*ask)),
            Effect::Done => self.left.store(true, Ordering::SeqCst),
            // The node's own.
            Effect::Adopt { .. }
            | Effect::Cold
            | Effect::Unheard(..)
            | Effect::Share(_)
            | Effect::Yield { .. }
            | Effect::Budget(_)
            | Effect::Relay(_)
            | Effect::Beside(_)
            | Effect::Armed(_)
            | Effect::Lanes(_)
            | Effect::Flush { .. }
            | Effect::Tell { .. } => {}
        }
    }

    pub(super) fn persist(&self, counter: u32) {
        if counter < self.reserved.load(Ordering::Relaxed) {
            return;
        }
        let upto = counter.saturating_add(RESERVE);
        match state::reserve_epochs(&self.state_dir, upto) {
            Ok(()) => self.reserved.store(upto, Ordering::Relaxed),
            Err(e) => {
                tracing::warn!("{e}; the epoch is not durable: do not start both nodes anew before that is mended")
            }
        }
    }

    pub(super) fn take_role(&self, now: Time, role: Role, epoch: Epoch) {
        let mut facts = self.facts.lock();
        facts.epoch = epoch;
        let claims = role == Role::Active;
        // Whoever serves is active for those who watch.
        let role = if role == Role::Joined { Role::Active } else { role };
        if facts.role == role {
            return;
        }
        (facts.role, facts.since) = (role, now);
        if claims {
            facts.takeovers += 1;
            facts.claimed = Some(now);
        }
    }
}

impl Pacemaker for Pair {
    fn beat(&self, now: Time, address: &Address, octets: &[u8]) {
        if let Ok(beat) = Beat::read(octets) {
            self.tell(now, Input::Beat { path: address.path, beat });
        }
    }

    fn unauthentic(&self, now: Time, peer: NodeId) {
        self.tell(now, Input::Unauthentic(peer));
    }

    fn timeout(&self, now: Time, send: &mut dyn FnMut(NodeId, PathId, &[u8])) {
        // What somebody has answered already must not be missing when the cluster judges how long it waits for it.
        self.hear_guard(now);
        if self.driver.node.next_pair_timeout().is_some_and(|due| due <= now) {
            self.act(now, |out| self.driver.node.pair_timeout(now, out));
        }
        self.beats.lock().drain(..).for_each(|(peer, path, octets)| send(peer, path, &octets));
        if now >= self.facts.lock().next_kick {
            self.facts.lock().next_kick = now + KICK;
            self.look_at_self(now);
        }
        self.beats.lock().drain(..).for_each(|(peer, path, octets)| send(peer, path, &octets));
    }

    fn next(&self) -> Time {
        if !self.beats.lock().is_empty() {
            return Time::ZERO;
        }
        let due = self.driver.node.next_pair_timeout().unwrap_or(Time::NEVER);
        due.min(self.facts.lock().next_kick)
    }
}

impl Peers for Pair {
    fn up(&self, peer: NodeId, greeting: &Greeting) {
        let now = sys::now();
        self.tell(now, Input::Link { peer, event: Link::Up { incarnation: greeting.incarnation } });
        self.room(peer);
        self.show_settings(peer);
        self.tell_callers(peer);
        self.nudge();
    }

    fn down(&self, peer: NodeId, cause: DownCause) {
        let now = sys::now();
        let loss = match cause {
            DownCause::Goodbye => Loss::Goodbye,
            DownCause::Reset => Loss::Reset,
            DownCause::Refused => Loss::Refused,
            DownCause::Closed => Loss::Closed,
            DownCause::TimedOut | DownCause::Moved | DownCause::Bad(_) | DownCause::Full | DownCause::Local => {
                Loss::Silent
            }
        };
        tracing::debug!(peer = peer.0, "the link to the peer does not stand: {cause}");
        // What answers its last frames must not be taken for answers on the next one.
        self.settled();
        self.tell(now, Input::Link { peer, event: Link::Down(loss) });
        self.nudge();
    }

    fn frame(&self, peer: NodeId, _stream: Stream, kind: Kind, payload: &[u8]) {
        let now = sys::now();
        match kind {
            Kind::Settings => return self.compare_settings(payload),
            Kind::Callers => return self.hear_callers(payload),
            _ => {}
        }
        if kind == Kind::Cluster {
            // What came before it on the stream is done, and what the cluster answers is carried out in its order.
            self.settled();
            let order = self.turn.lock();
            let mut turn = order.borrow_mut();
            self.driver.hand(now, NodeInput::Frame { peer, kind, payload }, &mut turn);
            self.carry_out(now, turn.out());
            // Before the peer hears of a claim: from then on it does not wait any more.
            self.driver.node.pair_worked(sys::now());
            self.driver.flush(now, &mut turn);
            drop(turn);
            drop(order);
            return self.nudge();
        }
        let mut inbox = self.inbox.lock();
        self.driver.hand(now, NodeInput::Frame { peer, kind, payload }, &mut inbox);
        if !inbox.out().effects.is_empty() {
            let _order = self.turn.lock();
            self.carry_out(now, inbox.out());
            drop(_order);
            self.nudge();
        }
    }

    fn room(&self, peer: NodeId) {
        let now = sys::now();
        let mut inbox = self.inbox.lock();
        // What waits here takes room, too.
        self.driver.flush(now, &mut inbox);
        let octets = self.links.bulk_room(peer);
        self.driver.hand(now, NodeInput::Room(octets), &mut inbox);
        self.driver.flush(now, &mut inbox);
    }

    fn settled(&self) {
        let now = sys::now();
        let mut inbox = self.inbox.lock();
        self.driver.flush(now, &mut inbox);
    }
}

impl Port for Pair {
    fn frames(&self, out: &Out) {
        for frame in &out.frames {
            self.links.send(frame.peer, frame.stream, frame.kind, out.payload(frame));
        }
        self.links.flush();
    }

    fn effects(&self, now: Time, out: &mut Out) {
        // This thread may hold it already.
        let _order = self.turn.lock();
        self.carry_out(now, out);
        self.nudge();
    }
}
