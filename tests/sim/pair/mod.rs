//! Two nodes as a pair: what survives which fault, and whether both come to hold the same.

mod cases;
mod machine;
mod scenario;
mod steps;
mod wire;
mod world;

use scenario::Scenario;
use tandem::agent::chance::Chance;
use world::{Summary, World};

use crate::number;

/// Pairs of one full run.
const SEEDS: u64 = 2_000;

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

fn run_share(share: u64) {
    let seeds = number("TANDEM_SIM_SEEDS").unwrap_or(SEEDS);
    let mut sum = Summary::default();
    for seed in share * seeds / 4..(share + 1) * seeds / 4 {
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
    }
    println!("sim: pairs: {sum:?}");
    assert!(sum.completed > sum.calls / 2, "most calls complete");
    assert!(sum.divergent > 0, "some calls differ and are mended");
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
    let Some(from) = number("TANDEM_SIM_HUNT") else { return };
    for seed in from..from + number("TANDEM_SIM_SEEDS").unwrap_or(200) {
        if let Err(e) = std::panic::catch_unwind(|| run(seed, false)) {
            let text = e.downcast_ref::<String>().cloned().unwrap_or_default();
            println!("HUNT {seed}: {}", text.lines().next().unwrap_or_default());
        }
    }
}
