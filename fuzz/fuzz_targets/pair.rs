//! The pair of the simulator, with a story that the fuzzer tells: calls, crashes, hangs, cuts. Every invariant of the
//! simulator holds.
#![no_main]
#![expect(dead_code, reason = "the simulator is a test, of which only the world is wanted here")]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/sim/check.rs"]
mod check;
#[path = "../../tests/sim/model.rs"]
mod model;
#[path = "../../tests/sim/net.rs"]
mod net;
#[path = "../../tests/sim/pair/mod.rs"]
mod pair;
#[path = "../../tests/sim/scenario.rs"]
mod scenario;

/// What the simulator asks of its environment: nothing here.
fn number(_: &str) -> Option<u64> {
    None
}

fuzz_target!(|data: &[u8]| pair::given(data));
