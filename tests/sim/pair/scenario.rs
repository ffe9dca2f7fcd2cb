//! What happens to a pair in one run, drawn from its seed.

use std::net::SocketAddr;
use std::time::Duration;

use tandem::agent::chance::Chance;
use tandem::agent::media_server::Behaviour;
use tandem::agent::script::Plan;
use tandem::base::{Epoch, Flow, ListenerId, NodeId, Time, Transport};
use tandem::cluster::{self, HaMode, Mode, Partition, PeerConfig};
use tandem::identity::{Identities, Identity, Shared};
use tandem::node::{Commit, Config, Pair, ProxyConfig};

use crate::net::Weather;
use crate::scenario::{ROOM, SERVERS, Settings, behaviour, node_addr, plan, service_addr, weather};

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
    /// An operator wants another mode, at this node.
    SetMode(Who, HaMode),
    /// SIGTERM; a new process starts so much later.
    Stop(Who, Duration),
    CutLink(bool),
    CutPath(usize, bool),
    /// The cable of the service network is out for so long; `true`: with it everything between the nodes.
    Unplug(Who, Duration, bool),
    /// The nodes are cut from each other, and each host is on these sides; `None`: the LAN is whole.
    Part(Option<[Side; HOSTS]>),
    /// The way of a machine to the witness.
    CutWitness(usize, bool),
    /// The witness starts anew and remembers nothing.
    RestartWitness,
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

/// How a balancer spreads what hosts send to the virtual address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Each datagram on its own.
    Datagrams,
    /// All of one host to one node.
    Hosts,
    /// All of one call to one node.
    Calls,
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
    /// `Some`: both nodes serve behind a balancer.
    pub spread: Option<Spread>,
    /// Both nodes serve, each at an address of its own.
    pub crossed: bool,
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
        Self::draw(Chance::new(seed ^ 0x7061_6972)).with_rooms(seed)
    }

    /// Both nodes serve.
    pub fn of_two(seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0x626f_7468);
        let spread = *chance.pick(&[Spread::Datagrams, Spread::Datagrams, Spread::Hosts, Spread::Calls]);
        Self { spread: Some(spread), ..Self::draw(chance).with_rooms(seed).with_retries(seed) }
    }

    /// Some calls belong together; what else happens does not depend on that.
    fn with_rooms(mut self, seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0x726f_6f6d);
        let share = *chance.pick(&[0, 500, 900]);
        let early = |at: &Time| *at < Time::ZERO + SAFETY;
        for (_, act) in self.acts.iter_mut().filter(|(at, _)| early(at)) {
            if let Act::Call(_, plan) = act
                && chance.per_mille(share)
            {
                plan.extra += &format!("{ROOM}: {}\r\n", chance.within(0..4));
            }
        }
        self
    }

    /// Some callers ask again while they have no final; what else happens does not depend on that.
    fn with_retries(mut self, seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0x7265_7472);
        let share = *chance.pick(&[0, 0, 200]);
        let early = |at: &Time| *at < Time::ZERO + SAFETY;
        for (_, act) in self.acts.iter_mut().filter(|(at, _)| early(at)) {
            if let Act::Call(_, plan) = act {
                plan.ask_again = chance.per_mille(share).then(|| chance.millis(1_000..4_000));
            }
        }
        self
    }

    /// Both nodes serve, each at an address of its own.
    pub fn crossed(seed: u64) -> Self {
        let drawn = Self::draw(Chance::new(seed ^ 0x6372_6f73)).with_rooms(seed).with_retries(seed);
        Self { crossed: true, ..drawn }.with_modes(seed)
    }

    /// In half of the runs one of the nodes stands by for a while, once or twice.
    fn with_modes(mut self, seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0x6d6f_6465);
        let mut at = chance.within(2_500..12_000);
        for _ in 0..*chance.pick(&[0, 0, 1, 2]) {
            for mode in [HaMode::ActiveStandby, HaMode::ActiveActive] {
                let who = *chance.pick(&[Who::Active, Who::Other]);
                self.acts.push((Time::ZERO + Duration::from_millis(at), Act::SetMode(who, mode)));
                at += chance.within(5..6_000);
            }
        }
        // What was refused, or came to nothing, is asked for again.
        for n in 0..20 {
            let again = Time::ZERO + SAFETY + Duration::from_millis(500 * n);
            self.acts.push((again, Act::SetMode(Who::Active, HaMode::ActiveActive)));
        }
        self.acts.sort_by_key(|(at, _)| *at);
        self
    }

    /// Whether both nodes serve.
    pub fn both_serve(&self) -> bool {
        self.spread.is_some() || self.crossed
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
        let drawn = Self {
            weather,
            paths: chance.within(1..3) as u8,
            beats_lost: *chance.pick(&[0, 0, 5]),
            delay: *chance.pick(&[200, 1_000, 2_000, 4_000]),
            icmp: chance.per_mille(500),
            spread: None,
            crossed: false,
            partition: *chance.pick(&[Partition::Available, Partition::Exact, Partition::Witness]),
            commit: Commit::PeerAck,
            settings,
            second: chance.millis(1..800),
            acts,
        };
        if drawn.partition == Partition::Witness { drawn.without_witness(&mut chance) } else { drawn }
    }

    /// In half of the runs the witness fails, too.
    fn without_witness(mut self, chance: &mut Chance) -> Self {
        for machine in 0..2 {
            if chance.per_mille(300) {
                let at = Time::ZERO + chance.millis(2_000..25_000);
                let until = at + chance.millis(100..12_000);
                self.acts.extend([(at, Act::CutWitness(machine, true)), (until, Act::CutWitness(machine, false))]);
            }
        }
        if chance.per_mille(200) {
            self.acts.push((Time::ZERO + chance.millis(2_000..28_000), Act::RestartWitness));
        }
        self.acts.sort_by_key(|(at, _)| *at);
        self
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
            spread: None,
            crossed: false,
            partition: Partition::Available,
            commit: Commit::PeerAck,
            settings: Settings { scheme, monitor: None, members },
            second: Duration::from_millis(100),
            acts: Vec::new(),
        }
    }

    /// What the configuration says.
    pub fn mode(&self) -> Mode {
        let mode = if self.both_serve() { HaMode::ActiveActive } else { HaMode::ActiveStandby };
        Mode { mode, word: Epoch { counter: 0, node: NodeId(1) } }
    }

    pub fn config(
        &self,
        settings: &Settings,
        machine: usize,
        seed: u64,
        (incarnation, counter): (u64, u32),
        mode: Option<Mode>,
    ) -> Config {
        let mut config = settings.config(seed);
        let (me, peer) = (NodeId(machine as u16 + 1), NodeId(2 - machine as u16));
        let own = own_addr(machine);
        for resource in config.farm.groups.iter_mut().flat_map(|g| &mut g.resources) {
            let flow = resource.route.flow;
            resource.route.own = Some(Flow { local: own, ..flow });
            if self.crossed {
                let here = |flow: Flow| Flow { local: service_addr(machine), ..flow };
                (resource.route.flow, resource.route.stream) = (here(flow), resource.route.stream.map(here));
            }
        }
        let cluster = cluster::Config {
            me,
            incarnation,
            counter,
            cluster: 77,
            mode: mode.unwrap_or_else(|| self.mode()),
            modes: vec![HaMode::None, HaMode::ActiveStandby, HaMode::ActiveActive],
            shared: self.both_serve(),
            leads: false,
            peers: vec![PeerConfig { id: peer, paths: self.paths }],
            timing: cluster::Timing::default(),
            probes: self.spread.is_none(),
            crossed: self.crossed.then_some(Duration::from_secs(46)),
            partition: self.partition,
            priority: 100,
            preempt: false,
            config: 9,
        };
        cluster.check().expect("times fit together");
        let vip = node_addr();
        let known = if self.crossed { vec![service_addr(machine), service_addr(1 - machine)] } else { vec![vip] };
        let shared = match self.crossed {
            true => Shared { ips: vec![known[0].ip()], sends: true, guests: vec![known[1].ip()], ..Shared::default() },
            false => Shared::default(),
        };
        let of = |addr: &SocketAddr| {
            [Identity::new(Transport::Udp, *addr, ListenerId(0)), Identity::new(Transport::Tcp, *addr, ListenerId(1))]
        };
        let own = Identity::new(Transport::Udp, own, ListenerId(0));
        Config {
            node: me,
            epoch: Epoch { counter, node: me },
            incarnation,
            seed: seed ^ incarnation,
            identities: Identities::new(known.iter().flat_map(of).chain([own])).shared_by(shared),
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
                virtual_ips: if self.spread.is_some() {
                    Vec::new()
                } else {
                    known.iter().map(SocketAddr::ip).collect()
                },
                commit: self.commit,
                commit_timeout: Duration::from_millis(5),
                active_share: if self.both_serve() { 500 } else { 900 },
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
