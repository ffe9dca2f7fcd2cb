//! The network of the world: datagrams may be lost, doubled and overtaken; streams keep their order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use tandem::agent::chance::Chance;
use tandem::base::{Flow, Time, Transport};

/// What the network does to datagrams.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Of 1,000 datagrams.
    pub lost: u64,
    /// Of 1,000 datagrams.
    pub doubled: u64,
    /// One-way delay in milliseconds; a wide range lets datagrams overtake each other.
    pub delay: Range<u64>,
}

impl Weather {
    /// Nothing is lost, nothing overtakes.
    pub fn calm() -> Self {
        Self { lost: 0, doubled: 0, delay: 1..2 }
    }
}

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Packet {
    /// As its sender wrote it: `local` sent it to `remote`.
    pub flow: Flow,
    pub bytes: Vec<u8>,
    /// Which of two hosts that share an address sent it.
    pub origin: usize,
    /// The network's complaint about this packet, on its way back to `flow.local`.
    pub refused: bool,
}

/// Everything on its way, in the order of arrival.
pub struct Net {
    pub weather: Weather,
    chance: Chance,
    queue: BTreeMap<(Time, u64), Packet>,
    sent: u64,
    /// When the last octet of a stream arrives, by its two ends.
    streams: BTreeMap<(SocketAddr, SocketAddr), Time>,
}

impl Net {
    pub fn new(weather: Weather, chance: Chance) -> Self {
        Self { weather, chance, queue: BTreeMap::new(), sent: 0, streams: BTreeMap::new() }
    }

    pub fn send(&mut self, now: Time, flow: Flow, bytes: Vec<u8>) {
        self.send_from(now, 0, flow, bytes);
    }

    pub fn send_from(&mut self, now: Time, origin: usize, flow: Flow, bytes: Vec<u8>) {
        let packet = Packet { flow, bytes, origin, refused: false };
        if flow.transport == Transport::Tcp {
            let last = self.streams.get(&(flow.local, flow.remote)).copied().unwrap_or_default();
            let at = (now + self.delay()).max(last);
            self.streams.insert((flow.local, flow.remote), at);
            return self.queue(at, packet);
        }
        if self.chance.per_mille(self.weather.doubled) {
            let at = now + self.delay();
            self.queue(at, packet.clone());
        }
        if !self.chance.per_mille(self.weather.lost) {
            let at = now + self.delay();
            self.queue(at, packet);
        }
    }

    /// ICMP port unreachable: the head of the packet goes back to its sender.
    pub fn refuse(&mut self, now: Time, mut packet: Packet) {
        packet.refused = true;
        let quoted = self.chance.within(28..700) as usize;
        packet.bytes.truncate(quoted);
        let at = now + self.delay();
        self.queue(at, packet);
    }

    pub fn next(&self) -> Option<Time> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    pub fn receive(&mut self) -> Option<Packet> {
        self.queue.pop_first().map(|(_, packet)| packet)
    }

    fn queue(&mut self, at: Time, packet: Packet) {
        self.sent += 1;
        self.queue.insert((at, self.sent), packet);
    }

    fn delay(&mut self) -> Duration {
        let (from, to) = (self.weather.delay.start * 1000, self.weather.delay.end * 1000);
        Duration::from_micros(self.chance.within(from..to))
    }
}
