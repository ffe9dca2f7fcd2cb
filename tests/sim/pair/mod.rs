//! Two nodes as a pair: what survives which fault, and whether both come to hold the same.

mod cases;
mod machine;
mod paths;
mod retries;
mod rooms;
mod scenario;
mod steps;
mod wire;
mod world;

use scenario::Scenario;
use tandem::agent::chance::Chance;
use world::{Summary, World};

use crate::number;

/// Pairs of one full run.
const SEEDS: u64 = 360;
/// Pairs of which both nodes serve.
const BOTH: u64 = 140;
/// Pairs of which both nodes serve at addresses of their own.
const CROSSED: u64 = 80;

/// Says which seed failed, however it failed.
struct Banner(u64);

impl Drop for Banner {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            eprintln!("sim: TANDEM_SIM_SEED={seed} cargo test --test sim -- one_pair --nocapture");
        }
    }
}

fn run(seed: u64, loud: bool) -> Summary {
    let _banner = Banner(seed);
    World::new(seed, loud, Scenario::of(seed)).run()
}

/// One pair whose story somebody else chooses: eight octets for the network, the others for calls and faults.
pub fn given(octets: &[u8]) {
    let (seed, story) = octets.split_at(octets.len().min(8));
    let seed = seed.iter().fold(0, |seed, octet| seed << 8 | u64::from(*octet));
    World::new(seed, false, Scenario::draw(Chance::given(story, seed))).run();
}

fn run_two(seed: u64, loud: bool) -> Summary {
    let _banner = Banner(seed);
    World::new(seed, loud, Scenario::of_two(seed)).run()
}

fn run_crossed(seed: u64, loud: bool) -> Summary {
    let _banner = Banner(seed);
    World::new(seed, loud, Scenario::crossed(seed)).run()
}

fn run_share(share: u64) {
    let seeds = number("TANDEM_SIM_SEEDS").unwrap_or(SEEDS);
    run_all(share * seeds / 4..(share + 1) * seeds / 4, run);
}

fn run_half_of_both(share: u64) {
    let seeds = number("TANDEM_SIM_SEEDS").unwrap_or(BOTH);
    run_all(share * seeds / 2..(share + 1) * seeds / 2, run_two);
}

/// Says which of many runs fail, and goes on.
fn hunt(run: fn(u64, bool) -> Summary) {
    let Some(from) = number("TANDEM_SIM_HUNT") else { return };
    for seed in from..from + number("TANDEM_SIM_SEEDS").unwrap_or(200) {
        if let Err(e) = std::panic::catch_unwind(|| run(seed, false)) {
            let text = e.downcast_ref::<String>().cloned().unwrap_or_default();
            println!("HUNT {seed}: {}", text.lines().next().unwrap_or_default());
        }
    }
}

fn run_all(seeds: std::ops::Range<u64>, run: fn(u64, bool) -> Summary) {
    let mut sum = Summary::default();
    for seed in seeds {
        let one = run(seed, false);
        sum.calls += one.calls;
        sum.completed += one.completed;
        sum.through_faults += one.through_faults;
        sum.taken_over += one.taken_over;
        sum.held += one.held;
        sum.claims += one.claims;
        sum.relayed += one.relayed;
        sum.divergent += one.divergent;
        sum.ended_twice += one.ended_twice;
        sum.compared += one.compared;
        sum.together += one.together;
    }
    println!("sim: pairs: {sum:?}");
    assert!(sum.completed > sum.calls / 2, "most calls complete");
    assert!(sum.divergent > 0, "some calls differ and are mended");
    assert!(sum.together > 0, "some calls belong together");
}

#[test]
fn first_quarter_of_the_pairs() {
    run_share(0);
}

#[test]
fn second_quarter_of_the_pairs() {
    run_share(1);
}

#[test]
fn third_quarter_of_the_pairs() {
    run_share(2);
}

#[test]
fn fourth_quarter_of_the_pairs() {
    run_share(3);
}

#[test]
fn first_half_of_those_that_both_serve() {
    run_half_of_both(0);
}

#[test]
fn second_half_of_those_that_both_serve() {
    run_half_of_both(1);
}

#[test]
fn those_that_both_serve_at_addresses_of_their_own() {
    run_all(0..number("TANDEM_SIM_SEEDS").unwrap_or(CROSSED), run_crossed);
}

#[test]
fn one_of_the_crossed() {
    if let Some(seed) = number("TANDEM_SIM_SEED") {
        println!("sim: {:?}", run_crossed(seed, true));
    }
}

#[test]
fn many_of_the_crossed_to_look_at() {
    hunt(run_crossed);
}

#[test]
fn one_of_two() {
    if let Some(seed) = number("TANDEM_SIM_SEED") {
        println!("sim: {:?}", run_two(seed, true));
    }
}

#[test]
fn many_of_two_to_look_at() {
    hunt(run_two);
}

#[test]
fn a_story_in_octets_is_played() {
    for octets in [Vec::new(), (0..=255).collect::<Vec<u8>>(), vec![0; 400], vec![255; 400]] {
        given(&octets);
    }
}

#[test]
fn one_pair() {
    if let Some(seed) = number("TANDEM_SIM_SEED") {
        println!("sim: {:?}", run(seed, true));
    }
}

#[test]
fn many_pairs_to_look_at() {
    hunt(run);
}
