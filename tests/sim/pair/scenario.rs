//! What happens to a pair in one run, drawn from its seed.

use std::net::SocketAddr;
use std::time::Duration;

use tandem::agent::chance::Chance;
use tandem::agent::media_server::Behaviour;
use tandem::agent::script::Plan;
use tandem::base::{Epoch, Flow, ListenerId, NodeId, Time, Transport};
use tandem::cluster::{self, HaMode, Partition, PeerConfig};
use tandem::identity::{Identities, Identity};
use tandem::node::{Commit, Config, Pair, ProxyConfig};

use crate::net::Weather;
use crate::scenario::{SERVERS, Settings, behaviour, node_addr, plan, weather};

/// Callers of the world.
pub const CALLERS: usize = 2;
/// Hosts that learn who holds the address: callers, then servers.
pub const HOSTS: usize = CALLERS + SERVERS;
/// Faults happen before.
pub const SAFETY: Duration = Duration::from_secs(30);
/// When the calls are placed that nothing may go wrong with.
pub const LAST_CALLS: Duration = Duration::from_secs(75);
/// Everything has ended by then.
pub const SETTLED: Duration = Duration::from_secs(400);

/// Something from outside.
#[derive(Clone, Debug)]
pub enum Act {
    Call(usize, Plan),
    Behave(usize, Behaviour),
    CrashServer(usize),
    ReviveServer(usize),
    /// The process ends; the guard and the kernel live. It starts again so much later.
    Crash(Who, Duration),
    /// It does not run for so long.
    Hang(Who, Duration),
    Switchover,
    /// SIGTERM; a new process starts so much later.
    Stop(Who, Duration),
    CutLink(bool),
    CutPath(usize, bool),
    /// The cable of the service network is out for so long; `true`: with it everything between the nodes.
    Unplug(Who, Duration, bool),
    /// The nodes are cut from each other, and each host is on these sides; `None`: the LAN is whole.
    Part(Option<[Side; HOSTS]>),
    Drain(bool),
    Reload(Settings),
    Calm,
}

/// Which machines a host reaches while these do not reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// One of them.
    Of(usize),
    Both,
}

/// Which machine, by its role at that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Active,
    Other,
}

/// One run.
pub struct Scenario {
    pub weather: Weather,
    pub paths: u8,
    pub beats_lost: u64,
    /// Longest one-way delay of the streams in microseconds.
    pub delay: u64,
    pub icmp: bool,
    pub partition: Partition,
    pub commit: Commit,
    pub settings: Settings,
    pub second: Duration,
    pub acts: Vec<(Time, Act)>,
}

pub fn own_addr(machine: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 11 + machine as u8], 5060))
}

impl Scenario {
    pub fn of(seed: u64) -> Self {
        Self::draw(Chance::new(seed ^ 0x7061_6972))
    }

    pub fn draw(mut chance: Chance) -> Self {
        let weather = if chance.per_mille(500) { Weather::calm() } else { weather(&mut chance) };
        let settings = Settings::draw(&mut chance);
        let mut acts = Vec::new();
        for _ in 0..chance.within(10..50) {
            let at = Time::ZERO + chance.millis(2_000..28_000);
            acts.push((at, Act::Call(chance.within(0..CALLERS as u64) as usize, plan(&mut chance))));
        }
        if chance.per_mille(300) {
            servers(&mut chance, &mut acts);
        }
        // Most runs have one fault at a time, so that nothing excuses a loss.
        let faults = *chance.pick(&[0, 1, 1, 1, 2, 2, 3, 6]);
        let mut at = chance.within(3_000..10_000);
        for _ in 0..faults {
            fault(&mut chance, Time::ZERO + Duration::from_millis(at), &mut acts);
            at += chance.within(100..10_000);
        }
        acts.retain(|(at, _)| *at < Time::ZERO + SAFETY);
        if chance.per_mille(100) {
            let at = Time::ZERO + chance.millis(3_000..20_000);
            acts.extend([(at, Act::Drain(true)), (at + chance.millis(100..5_000), Act::Drain(false))]);
        }
        if chance.per_mille(150) {
            let next = settings.change(&mut chance);
            acts.push((Time::ZERO + chance.millis(3_000..28_000), Act::Reload(next)));
        }
        acts.push((Time::ZERO + SAFETY, Act::Calm));
        acts.push((Time::ZERO + SAFETY, Act::Reload(settings.clone())));
        for caller in 0..CALLERS {
            acts.push((Time::ZERO + LAST_CALLS, Act::Call(caller, Plan::default())));
        }
        acts.sort_by_key(|(at, _)| *at);
        Self {
            weather,
            paths: chance.within(1..3) as u8,
            beats_lost: *chance.pick(&[0, 0, 5]),
            delay: *chance.pick(&[200, 1_000, 2_000, 4_000]),
            icmp: chance.per_mille(500),
            partition: *chance.pick(&[Partition::Available, Partition::Available, Partition::Exact]),
            commit: Commit::PeerAck,
            settings,
            second: chance.millis(1..800),
            acts,
        }
    }

    /// Nothing happens but what a test does.
    pub fn quiet() -> Self {
        let members = [Some(Some(8)); SERVERS];
        let scheme = tandem::balance::SchemeName::RoundRobin;
        Self {
            weather: Weather::calm(),
            paths: 1,
            beats_lost: 0,
            delay: 200,
            icmp: false,
            partition: Partition::Available,
            commit: Commit::PeerAck,
            settings: Settings { scheme, monitor: None, members },
            second: Duration::from_millis(100),
            acts: Vec::new(),
        }
    }

    pub fn config(&self, settings: &Settings, machine: usize, seed: u64, incarnation: u64, counter: u32) -> Config {
        let mut config = settings.config(seed);
        let (me, peer) = (NodeId(machine as u16 + 1), NodeId(2 - machine as u16));
        let own = own_addr(machine);
        for resource in config.farm.groups.iter_mut().flat_map(|g| &mut g.resources) {
            let flow = resource.route.flow;
            resource.route.own = Some(Flow { local: own, ..flow });
        }
        let cluster = cluster::Config {
            me,
            incarnation,
            counter,
            cluster: 77,
            mode: HaMode::ActiveStandby,
            peers: vec![PeerConfig { id: peer, paths: self.paths }],
            timing: cluster::Timing::default(),
            partition: self.partition,
            priority: 100,
            preempt: false,
            config: 9,
        };
        cluster.check().expect("times fit together");
        let vip = node_addr();
        Config {
            node: me,
            epoch: Epoch { counter, node: me },
            incarnation,
            seed: seed ^ incarnation,
            identities: Identities::new([
                Identity::new(Transport::Udp, vip, ListenerId(0)),
                Identity::new(Transport::Tcp, vip, ListenerId(1)),
                Identity::new(Transport::Udp, own, ListenerId(0)),
            ]),
            proxy: ProxyConfig {
                t1: TIMING.t1,
                t2: TIMING.t2,
                t4: TIMING.t4,
                timer_c: Duration::from_secs(15),
                inactivity: Duration::from_secs(50),
                ..ProxyConfig::default()
            },
            pair: Some(Pair {
                cluster,
                peer,
                virtual_ips: vec![vip.ip()],
                commit: self.commit,
                commit_timeout: Duration::from_millis(5),
                active_share: 900,
                cold_reserve: 0,
            }),
            ..config
        }
    }
}

/// Shorter than usual: a run sees the end of everything sooner.
pub const TIMING: tandem::agent::heard::Timing = tandem::agent::heard::Timing {
    t1: Duration::from_millis(250),
    t2: Duration::from_secs(2),
    t4: Duration::from_millis(2_500),
};

fn servers(chance: &mut Chance, acts: &mut Vec<(Time, Act)>) {
    for server in 0..SERVERS {
        for _ in 0..chance.within(0..3) {
            let at = Time::ZERO + chance.millis(2_000..25_000);
            let until = at + chance.millis(500..10_000);
            let (begin, end) = match chance.per_mille(300) {
                true => (Act::CrashServer(server), Act::ReviveServer(server)),
                false => (Act::Behave(server, behave(chance)), Act::Behave(server, Behaviour::default())),
            };
            acts.extend([(at, begin), (until, end)]);
        }
    }
}

/// Nobody answers after Timer B, when nobody waits for it and its port has returned.
fn behave(chance: &mut Chance) -> Behaviour {
    let drawn = behaviour(chance);
    Behaviour { answer_after: drawn.answer_after.min(TIMING.t1 * 60), ..drawn }
}

fn fault(chance: &mut Chance, at: Time, acts: &mut Vec<(Time, Act)>) {
    let who = if chance.per_mille(750) { Who::Active } else { Who::Other };
    let mut push = |after: Duration, act| acts.push((at + after, act));
    let until = chance.millis(50..8_000);
    match chance.within(0..14) {
        0..3 => push(Duration::ZERO, Act::Crash(who, chance.millis(100..8_000))),
        3 => push(Duration::ZERO, Act::Crash(who, chance.millis(5..50))),
        4 => push(Duration::ZERO, Act::Hang(who, chance.millis(90..4_000))),
        5 => (0..5).for_each(|n| push(Duration::from_millis(n * 170), Act::Hang(who, Duration::from_millis(35)))),
        6 => {
            push(Duration::ZERO, Act::CutLink(true));
            push(until, Act::CutLink(false));
        }
        7 => {
            let shared = chance.per_mille(500);
            let side = std::array::from_fn(|host| match Side::Of(usize::from(chance.per_mille(400))) {
                _ if shared && host >= CALLERS => Side::Both,
                one => one,
            });
            push(Duration::ZERO, Act::Part(Some(side)));
            push(until, Act::Part(None));
        }
        8 => {
            let path = chance.within(0..2) as usize;
            push(Duration::ZERO, Act::CutPath(path, true));
            push(until, Act::CutPath(path, false));
        }
        9 | 10 => push(Duration::ZERO, Act::Switchover),
        11 | 12 => {
            let (long, all) = (chance.millis(20..2_000), chance.per_mille(500));
            push(Duration::ZERO, Act::Unplug(who, long, all));
            if chance.per_mille(300) {
                // The other one's, as soon as the pair may be armed again.
                push(long + chance.millis(20..400), Act::Unplug(Who::Active, chance.millis(20..2_000), all));
            }
        }
        _ => push(Duration::ZERO, Act::Stop(who, chance.millis(100..5_000))),
    }
}
