//! One machine of the pair: a process that may end, hang and start again, and the kernel and guard below it.

use std::collections::VecDeque;

use tandem::base::{Epoch, NodeId, Time};
use tandem::cluster::{self, Effect, Mode, Role, Wish};
use tandem::node::{Config, Input, Node, Received, Scratch, Single};
use tandem::out::Out;
use tandem::replica::Kind;

use crate::net::Packet;

/// Something that came while the process hung, or before its cluster had run.
#[derive(Clone, Debug)]
pub enum Waiting {
    Packet(Packet, Time),
    Frame(Kind, Vec<u8>),
    Pair(cluster::Input),
    Room,
}

/// One machine.
pub struct Machine {
    pub id: NodeId,
    pub node: Option<Node<Single>>,
    /// Counts process starts; also the incarnation.
    pub life: u64,
    pub durable: u32,
    /// Whether the kernel has the virtual address.
    pub present: bool,
    /// The virtual address is a balancer's, and a silent one of this host, too.
    pub shared: bool,
    /// What is wished of the addresses of the other machine, where each has its own, and whether the kernel has them.
    pub guest: Wish,
    /// The mode that is durable.
    pub mode: Option<Mode>,
    pub stands_in: bool,
    /// Whether the cable of the service network is in.
    pub plugged: bool,
    pub wish: Wish,
    /// Of its last claim.
    pub epoch: Epoch,
    /// Claims up to this one have lost the address, which only a later one can put back.
    pub lost: Epoch,
    pub role: Role,
    /// Counts stalls; odd while it hangs.
    pub stall: u64,
    pub backlog: VecDeque<Waiting>,
    pub done: bool,
    pub scratch: Scratch,
    /// Messages that left without the peer's word, when last looked at.
    pub unprotected: u64,
    /// What it wants of the witness, how often that changed, and how often it has asked.
    pub ask: Option<cluster::Ask>,
    pub asks: u64,
    pub serial: u64,
    /// When it asked last.
    pub asked_at: Time,
    /// Whether the way to the witness is cut.
    pub unseen: bool,
}

impl Machine {
    pub fn new(id: u16) -> Self {
        Self {
            id: NodeId(id),
            node: None,
            life: 0,
            durable: 0,
            present: false,
            shared: false,
            guest: Wish::Drop,
            mode: None,
            stands_in: false,
            plugged: true,
            wish: Wish::Drop,
            epoch: Epoch::default(),
            lost: Epoch::default(),
            role: Role::Starting,
            stall: 0,
            backlog: VecDeque::new(),
            done: false,
            scratch: Scratch::default(),
            unprotected: 0,
            ask: None,
            asks: 0,
            serial: 0,
            asked_at: Time::ZERO,
            unseen: false,
        }
    }

    pub fn up(&self) -> bool {
        self.node.is_some()
    }

    pub fn hung(&self) -> bool {
        self.stall % 2 == 1
    }

    pub fn turns(&self) -> bool {
        self.up() && !self.hung()
    }

    /// Whether its host answers for the virtual address.
    pub fn answers(&self) -> bool {
        self.present && self.wish == Wish::Hold
    }

    /// Whether its host answers for the address of the other machine.
    pub fn answers_for_other(&self) -> bool {
        self.stands_in && self.guest == Wish::Hold
    }

    pub fn is_active(&self) -> bool {
        self.node.as_ref().is_some_and(Node::is_active_now)
    }

    pub fn incarnation(&self) -> u64 {
        self.life << 8 | u64::from(self.id.0)
    }

    pub fn start(&mut self, now: Time, config: Config) {
        (self.ask, self.asks) = (None, self.asks + 1);
        self.node = Some(Node::new(now, config));
        self.stall += self.stall % 2;
        self.backlog.clear();
        (self.wish, self.role, self.done, self.present) = (Wish::Drop, Role::Starting, false, self.shared);
        (self.guest, self.stands_in) = (Wish::Drop, false);
        self.lost = Epoch::default();
        self.unprotected = 0;
    }

    /// The process ends.
    pub fn end(&mut self) {
        self.node = None;
        self.stall += self.stall % 2;
        self.backlog.clear();
        self.role = Role::Left;
    }

    pub fn handle(&mut self, now: Time, input: Input<'_>, out: &mut Out) {
        if let Some(node) = &self.node {
            node.handle(now, input, &mut self.scratch, out);
        }
    }

    /// `room`: what its bulk stream can take.
    pub fn take(&mut self, now: Time, waiting: &Waiting, peer: NodeId, room: usize, out: &mut Out) {
        match waiting {
            Waiting::Packet(packet, _) => self.receive(now, packet, out),
            Waiting::Frame(kind, payload) => self.handle(now, Input::Frame { peer, kind: *kind, payload }, out),
            Waiting::Pair(input) => self.handle(now, Input::Pair(*input), out),
            Waiting::Room => self.handle(now, Input::Room(room), out),
        }
    }

    fn receive(&mut self, now: Time, packet: &Packet, out: &mut Out) {
        let bytes = &packet.bytes;
        if packet.refused {
            return self.handle(now, Input::Undelivered(Received { flow: packet.flow, bytes }), out);
        }
        let flow = tandem::base::Flow { local: packet.flow.remote, remote: packet.flow.local, ..packet.flow };
        self.handle(now, Input::Message(Received { flow, bytes }), out);
    }

    /// The guard gives the address up, because the process does not turn.
    pub fn give_up(&mut self) {
        if self.shared {
            return;
        }
        self.present = false;
        if std::mem::take(&mut self.stands_in) && self.hung() && self.guest != Wish::Drop {
            self.backlog.push_back(Waiting::Pair(cluster::Input::GuestDropped));
        }
        if self.hung() && self.wish != Wish::Drop {
            self.lost = self.epoch;
            self.backlog.push_back(Waiting::Pair(cluster::Input::Dropped));
        }
    }

    /// Whether the guard holds the address for the claim of `epoch`.
    pub fn holds(&self, epoch: Epoch) -> bool {
        self.wish == Wish::Hold && epoch == self.epoch && epoch > self.lost
    }

    /// Effects that change this machine alone. Others come back.
    pub fn carry_out(&mut self, effect: Effect) -> Option<Effect> {
        match effect {
            Effect::Persist(counter) => {
                assert!(counter > self.durable, "the durable counter grows");
                self.durable = counter;
            }
            Effect::Role { role, epoch } => {
                self.role = role;
                if matches!(role, Role::Active | Role::Joined) {
                    self.epoch = epoch;
                }
            }
            Effect::Mode(mode) => self.mode = Some(mode),
            Effect::Vip(_) if self.shared => {}
            Effect::Guest(wish) => {
                self.guest = wish;
                self.stands_in &= wish != Wish::Drop;
                return Some(effect);
            }
            Effect::Vip(wish) => {
                self.wish = wish;
                // It goes at once, and takes a moment to come.
                self.present &= wish != Wish::Drop;
                return Some(effect);
            }
            other => return Some(other),
        }
        None
    }
}
