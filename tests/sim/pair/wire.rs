//! What the two machines have between them: beats on paths, two ordered streams, and the time each of them takes.

use std::collections::BTreeMap;
use std::time::Duration;

use tandem::agent::chance::Chance;
use tandem::base::{Epoch, Time, limits};
use tandem::cluster::{self, Beat, Loss};
use tandem::replica::frame::HEADER;
use tandem::replica::{Kind, Stream};

/// What happens between the machines, at a time.
#[derive(Clone, Debug)]
pub enum Event {
    Beat {
        to: usize,
        path: u8,
        beat: Beat,
    },
    Frame {
        to: usize,
        link: u64,
        stream: Stream,
        kind: Kind,
        payload: Vec<u8>,
    },
    Input {
        node: usize,
        life: u64,
        input: cluster::Input,
    },
    Down {
        node: usize,
        life: u64,
        links: u64,
        loss: Loss,
    },
    Probe {
        node: usize,
        life: u64,
    },
    /// The guard has put the address up, for the claim of an epoch.
    Held {
        node: usize,
        life: u64,
        epoch: Epoch,
    },
    /// The node hears of it.
    Told {
        node: usize,
        life: u64,
        epoch: Epoch,
    },
    /// The guard says that it does not hold the address.
    Dropped {
        node: usize,
        life: u64,
    },
    Guard {
        node: usize,
        life: u64,
        stall: u64,
    },
    Link,
    Room {
        node: usize,
        link: u64,
    },
    Resume {
        node: usize,
        stall: u64,
    },
    Start {
        node: usize,
    },
    Leave {
        node: usize,
        life: u64,
    },
    /// The cable is back.
    Plug {
        node: usize,
    },
    /// The guard has put the address of the other machine up.
    StandsIn {
        node: usize,
        life: u64,
    },
    /// A host learns who holds the virtual address, or that of a node.
    Arp {
        host: usize,
        address: usize,
        holder: usize,
    },
    Again {
        node: usize,
        life: u64,
    },
    /// A node asks the witness, if that is still what it wants.
    Ask {
        node: usize,
        asks: u64,
    },
    /// The question is there.
    Asked {
        node: usize,
        life: u64,
        serial: u64,
        ask: cluster::Ask,
    },
}

/// The bulk stream of one machine, with the credits that the runtime gives.
#[derive(Clone, Copy, Debug, Default)]
struct Bulk {
    waits: usize,
    asked: bool,
    short: bool,
}

/// Everything under way between the machines.
pub struct Wire {
    pub queue: BTreeMap<(Time, u64), Event>,
    count: u64,
    pub chance: Chance,
    /// Number of the present link, 0 for none.
    pub link: u64,
    pub links: u64,
    pub idle: Time,
    /// `[from][stream]`: when the last octet arrives.
    last: [[Time; 2]; 2],
    /// By sender.
    bulk: [Bulk; 2],
    /// Frames under way.
    pub flying: usize,
    /// `[path]`.
    pub cut: [bool; 2],
    /// `[path]`: a cable that carries it is out.
    pub pulled: [bool; 2],
    pub stream_cut: bool,
    /// Every cable of a machine is out.
    pub unplugged: bool,
    /// The LAN is in two parts, and all paths with it.
    pub parted: bool,
    /// Beats lost in a thousand.
    pub loss: u64,
    /// Longest one-way delay of the streams in microseconds.
    pub delay: u64,
}

impl Wire {
    pub fn new(chance: Chance, loss: u64, delay: u64) -> Self {
        Self {
            queue: BTreeMap::new(),
            count: 0,
            chance,
            link: 0,
            links: 0,
            idle: Time::ZERO,
            last: [[Time::ZERO; 2]; 2],
            bulk: [Bulk::default(); 2],
            flying: 0,
            cut: [false; 2],
            pulled: [false; 2],
            stream_cut: false,
            unplugged: false,
            parted: false,
            loss,
            delay,
        }
    }

    pub fn at(&mut self, at: Time, event: Event) {
        self.count += 1;
        self.flying += usize::from(matches!(event, Event::Frame { .. }));
        self.queue.insert((at, self.count), event);
    }

    pub fn next(&self) -> Option<Time> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    pub fn take(&mut self) -> Option<Event> {
        let event = self.queue.pop_first().map(|(_, event)| event);
        self.flying -= usize::from(matches!(event, Some(Event::Frame { .. })));
        event
    }

    /// A frame of `from`, in the order of its stream; now and then a frame of records is handed over late, as when two
    /// threads of a node race for the stream.
    pub fn frame(&mut self, now: Time, from: usize, stream: Stream, kind: Kind, payload: Vec<u8>) {
        let place = usize::from(stream == Stream::Bulk);
        if stream == Stream::Bulk {
            let bulk = &mut self.bulk[from];
            bulk.waits += HEADER + payload.len();
            bulk.short |= bulk.asked;
            assert!(bulk.waits <= limits::BULK_OUTBOUND, "{from} sends more than its bulk stream can hold");
        }
        let delay = Duration::from_micros(self.chance.within(50..self.delay.max(51)));
        let mut at = (now + delay).max(self.last[from][place]);
        self.last[from][place] = at;
        if kind == Kind::Records && self.chance.per_mille(20) {
            at = at + Duration::from_micros(self.chance.within(1..300));
        }
        let (to, link) = (1 - from, self.link);
        self.at(at, Event::Frame { to, link, stream, kind, payload });
    }

    /// Octets that a machine may send on its bulk stream.
    pub fn room(&mut self, from: usize) -> usize {
        let bulk = &mut self.bulk[from];
        bulk.asked = self.link != 0;
        bulk.short |= bulk.waits > limits::BULK_OUTBOUND / 2;
        if bulk.asked { (limits::BULK_OUTBOUND - bulk.waits).saturating_sub(HEADER) } else { 0 }
    }

    /// A frame of so many octets has left the bulk stream of a machine; whether that is told that there is more room.
    pub fn carried(&mut self, from: usize, octets: usize) -> bool {
        let bulk = &mut self.bulk[from];
        bulk.waits -= HEADER + octets;
        let told = bulk.short && bulk.waits <= limits::BULK_OUTBOUND / 2;
        if told {
            (bulk.asked, bulk.short) = (false, false);
        }
        told
    }

    /// A frame met a cut: it comes once the streams carry again, behind what was sent before it, if the link still stands.
    pub fn resend(&mut self, now: Time, to: usize, link: u64, stream: Stream, kind: Kind, payload: Vec<u8>) {
        let turn = 20_000;
        let at = Time::from_micros((now.as_micros() / turn + 1) * turn);
        let last = &mut self.last[1 - to][usize::from(stream == Stream::Bulk)];
        *last = at.max(*last);
        self.at(at, Event::Frame { to, link, stream, kind, payload });
    }

    pub fn beat(&mut self, now: Time, from: usize, path: u8, beat: Beat) {
        let path_cut = self.cut[usize::from(path)] || self.pulled[usize::from(path)];
        if self.parted || path_cut || self.chance.per_mille(self.loss) {
            return;
        }
        let delay = Duration::from_micros(self.chance.within(100..2_000));
        self.at(now + delay, Event::Beat { to: 1 - from, path, beat });
    }

    /// Whether the streams carry nothing.
    pub fn is_cut(&self) -> bool {
        self.stream_cut || self.unplugged || self.parted
    }

    /// The link ends: what is under way is lost, unless `drains`.
    pub fn sever(&mut self, drains: bool) {
        if !drains {
            self.queue.retain(|_, event| !matches!(event, Event::Frame { .. } | Event::Room { .. }));
            self.flying = 0;
        }
        self.link = 0;
        self.last = [[Time::ZERO; 2]; 2];
        self.bulk = [Bulk::default(); 2];
    }
}
