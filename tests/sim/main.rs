//! The simulator: a node, callers, media servers and a network in one thread, on one virtual clock, from one seed.
//!
//! `TANDEM_SIM_SEEDS=20000 cargo test --release --test sim` runs more seeds; `TANDEM_SIM_SEED=17 cargo test --test sim
//! -- one_seed --nocapture` runs one and shows every message.

mod check;
mod model;
mod net;
mod pair;
mod scenario;
mod world;

use std::ops::Range;

use tandem::proxy::stats::Stats;
use world::World;

/// Seeds of one full run, over all tests.
const SEEDS: u64 = 2_000;

/// Counters of the node that move in any full run.
const REACHED: &[&str] = &[
    "retransmissions_absorbed",
    "retransmissions_sent",
    "transaction_timeouts",
    "retries",
    "first_response_timeouts",
    "timer_c_expired",
    "transport_errors",
    "cancels",
    "stray_dropped",
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Says which seed failed, however it failed.
struct Banner(u64);

impl Drop for Banner {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            eprintln!("sim: TANDEM_SIM_SEED={seed} cargo test --test sim -- one_seed --nocapture");
        }
    }
}

fn run(seed: u64, loud: bool) -> world::Summary {
    let _banner = Banner(seed);
    World::new(seed, loud).run()
}

fn run_share(share: u64) {
    let seeds = number("TANDEM_SIM_SEEDS").unwrap_or(SEEDS);
    let range: Range<u64> = share * seeds / 4..(share + 1) * seeds / 4;
    let (mut calls, mut completed, mut stats) = (0, 0, Stats::default());
    for seed in range.clone() {
        let summary = run(seed, false);
        calls += summary.calls;
        completed += summary.completed;
        stats.add(&summary.stats);
    }
    println!("sim: seeds {range:?}: {calls} calls, {completed} completed, the others ended as the model allows");
    println!("sim: {:?}", stats.named().collect::<Vec<_>>());
    if range.end - range.start >= SEEDS / 4 {
        let idle: Vec<_> = stats.named().filter(|(name, n)| REACHED.contains(name) && *n == 0).collect();
        assert!(idle.is_empty(), "a world in which this never happens proves little: {idle:?}");
    }
    assert!(completed > calls / 2, "most calls complete");
}

#[test]
fn first_quarter_of_the_seeds() {
    run_share(0);
}

#[test]
fn second_quarter_of_the_seeds() {
    run_share(1);
}

#[test]
fn third_quarter_of_the_seeds() {
    run_share(2);
}

#[test]
fn fourth_quarter_of_the_seeds() {
    run_share(3);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 14, 159] {
        let (first, second) = (run(seed, false), run(seed, false));
        assert_eq!(first, second, "seed {seed}");
        assert_ne!(first.trace, run(seed + 1, false).trace, "another seed is another run");
    }
}

#[test]
fn one_seed() {
    if let Some(seed) = number("TANDEM_SIM_SEED") {
        println!("sim: {:?}", run(seed, true));
    }
}
