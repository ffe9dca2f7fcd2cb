//! HAProxy with `deploy/haproxy.cfg`.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use super::poll::{SOON, until_true};
use super::process::Process;
use super::stubs::deployed;
use super::world::World;

/// Starts one at `at` that forwards streams to `node`.
#[track_caller]
pub fn haproxy(world: &World, at: SocketAddr, node: SocketAddr) -> Process {
    let sample = fs::read_to_string(deployed("haproxy.cfg")).expect("the configuration");
    let own = [
        ("bind 192.0.2.80:5060", format!("bind {at}")),
        ("source 192.0.2.80", format!("source {}", at.ip())),
        ("server tandem 192.0.2.10:5060", format!("server tandem {node}")),
    ];
    let filled = own.iter().fold(sample, |text, (placeholder, own)| {
        assert!(text.contains(placeholder), "{placeholder} has its place: {text}");
        text.replace(placeholder, own)
    });
    let path = world.path("haproxy.cfg");
    fs::write(&path, filled).expect("a writable directory");
    let process = Process::start(world, "haproxy", Command::new("haproxy").arg("-db").arg("-f").arg(path));
    until_true(&format!("HAProxy holds {at}"), SOON, || process.sees_bound(at));
    process
}
