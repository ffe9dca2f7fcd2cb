//! What a choice costs: nanoseconds per admit + release, per advance, and per vouch, for each scheme over 3 and 100
//! members. Every member holds calls, so that no load is zero and no scheme can stop early.
//!
//! `cargo bench --bench pick`; the figure is the median of several runs.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tandem::balance::{
    Ask, Config, Farm, Grant, GroupConfig, Outcome, ResourceConfig, Route, SchemeName, Terms, resource_id,
};
use tandem::base::{Flow, Host, LegId, ListenerId, Time, Transport};

const RUNS: usize = 15;
const CALLS: u64 = 100_000;
const BUSY_PORTS: usize = 20;

fn main() {
    println!("{:<14} {:>7} {:>16} {:>9} {:>7}", "scheme", "members", "admit+release ns", "advance", "vouch");
    for scheme in [SchemeName::RoundRobin, SchemeName::LeastUsed, SchemeName::LeastPercent] {
        for members in [3, 100] {
            let name = format!("{scheme:?}");
            let (admit, advance, vouch) = (admit(scheme, members), advance(scheme, members), vouch(scheme, members));
            println!("{name:<14} {members:>7} {admit:>16.1} {advance:>9.1} {vouch:>7.1}");
        }
    }
}

fn admit(scheme: SchemeName, members: usize) -> f64 {
    let (mut farm, busy) = busy_farm(scheme, members);
    let cost = median(|leg| {
        let grant = farm.admit(now(leg), &ask(leg)).expect("there is room");
        farm.release(now(leg), black_box(grant), Outcome::Completed);
    });
    give_back(farm, busy);
    cost
}

fn advance(scheme: SchemeName, members: usize) -> f64 {
    let (mut farm, mut busy) = busy_farm(scheme, members);
    let cost = median(|leg| {
        let grant = busy.pop().expect("the farm is busy");
        busy.push(farm.advance(now(leg), grant, Outcome::Refused(503), &ask(leg)).expect("there is room"));
    });
    give_back(farm, busy);
    cost
}

fn vouch(scheme: SchemeName, members: usize) -> f64 {
    let (mut farm, busy) = busy_farm(scheme, members);
    let resource = busy[members / 2].resource;
    let host = Host::Name(b"media-47.mcp.example.com");
    farm.learn(resource, &Host::Name(b"media-46.mcp.example.com"), 5060);
    farm.learn(resource, &host, 5060);
    let cost = median(|_| {
        black_box(farm.vouch(black_box(resource), black_box(&host), 5060));
    });
    give_back(farm, busy);
    cost
}

/// Nanoseconds per call of `step`: the median of all runs but the first.
fn median(mut step: impl FnMut(u64)) -> f64 {
    let mut runs: Vec<f64> = (0..=RUNS)
        .map(|_| {
            let start = Instant::now();
            (0..CALLS).for_each(&mut step);
            start.elapsed().as_secs_f64() * 1e9 / CALLS as f64
        })
        .skip(1)
        .collect();
    runs.sort_by(f64::total_cmp);
    runs[RUNS / 2]
}

fn busy_farm(scheme: SchemeName, members: usize) -> (Farm, Vec<Grant>) {
    let group = GroupConfig {
        name: "bench".into(),
        service_types: vec!["voicexml".into(), "announcement".into()],
        scheme,
        monitor: None,
        noresource_response_code: 480,
        terms: Terms { first_response_timeout: Duration::from_secs(2), retry_codes: vec![500..=599] },
        pin_by: None,
        resources: (0..members).map(resource).collect(),
    };
    let mut farm = Farm::new(Config { groups: vec![group] });
    let busy = (0..members * BUSY_PORTS).map(|leg| farm.admit(Time::ZERO, &ask(leg as u64)).expect("there is room"));
    let busy = busy.collect();
    (farm, busy)
}

fn give_back(mut farm: Farm, busy: Vec<Grant>) {
    busy.into_iter().for_each(|grant| farm.release(Time::ZERO, grant, Outcome::Completed));
    farm.check().expect("the ledger is exact");
    assert_eq!(farm.grants(), 0);
}

fn resource(n: usize) -> ResourceConfig {
    let remote: SocketAddr = ([198, 51, 100, n as u8], 5070).into();
    let local = ([192, 0, 2, 1], 5060).into();
    let flow = Flow { transport: Transport::Udp, listener: ListenerId(0), local, remote, conn: None };
    let route = Route { authority: remote.to_string().into(), flow, stream: None, own: None };
    let aor = format!("sip:{remote};transport=udp");
    ResourceConfig { id: resource_id(&aor), aor, route, aliases: Vec::new(), port_capacity: Some(200) }
}

fn ask(leg: u64) -> Ask<'static> {
    Ask { leg: LegId(leg), service: Some("voicexml"), secure: false, tried: &[], shows: &() }
}

fn now(leg: u64) -> Time {
    Time::from_micros(leg)
}
