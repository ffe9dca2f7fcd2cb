//! The manager as the main process sees it, where no privilege is needed. With privileges: the lab.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::base::{Epoch, NodeId};

const SOON: Duration = Duration::from_secs(10);

fn hold(counter: u32) -> Wish {
    Wish::Hold { epoch: Epoch { counter, node: NodeId(1) } }
}

fn held(counter: u32) -> Event {
    Event::Held { epoch: Epoch { counter, node: NodeId(1) } }
}

fn addresses() -> Vec<VirtualIp> {
    let four = VirtualIp { ip: [192, 0, 2, 10].into(), prefix: None, interface: None };
    let six = VirtualIp { ip: "2001:db8::10".parse().unwrap(), prefix: Some(64), interface: Some("eth0".into()) };
    vec![four, six]
}

/// Waits for the next event.
fn next(vip: &Vip) -> Event {
    let end = now() + SOON;
    while now() < end {
        if let Some(event) = vip.event() {
            return event;
        }
        poll(&mut [Interest::readable(vip.as_fd())], Some(end.since(now()))).unwrap();
    }
    panic!("no event");
}

/// A script and its directory, which it is run beside.
struct Desk(PathBuf);

impl Desk {
    fn new(name: &str, script: &str) -> Desk {
        let dir = std::env::temp_dir().join(format!("tandem-vip-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let text = format!("#!/bin/sh\ncd {}\n{script}\n", dir.display());
        fs::write(dir.join("move"), text).unwrap();
        fs::set_permissions(dir.join("move"), fs::Permissions::from_mode(0o700)).unwrap();
        Desk(dir)
    }

    fn vip(&self, limit: Duration) -> Vip {
        Vip::start(Manager::Script { path: self.0.join("move"), limit }, addresses()).unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.0.join("log")).unwrap_or_default()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_script_hears_role_epoch_and_addresses() {
    let desk = Desk::new("arguments", r#"echo "$@" >> log"#);
    let vip = desk.vip(SOON);
    vip.wish(hold(7)).unwrap();
    assert_eq!(next(&vip), held(7));
    vip.wish(Wish::Drop).unwrap();
    assert_eq!(next(&vip), Event::Dropped { cause: Cause::Wished });
    assert_eq!(desk.log(), "active 7 192.0.2.10 2001:db8::10\nstandby 7 192.0.2.10 2001:db8::10\n");
    vip.wish(Wish::Probe { within: Duration::ZERO }).unwrap();
    assert_eq!(next(&vip), Event::ProbeEnded);
    vip.wish(Wish::Quiet).unwrap();
    assert_eq!(next(&vip), Event::Quiet);
    vip.kick();
    vip.lend(&[]).unwrap();
    assert_eq!(desk.log().lines().count(), 2);
}

#[test]
fn a_script_that_fails_or_hangs_is_told_of_and_killed() {
    let desk = Desk::new("fails", r#"[ "$1" = standby ] && exit 3; sleep 600 & echo $! > log; wait"#);
    let vip = desk.vip(Duration::from_millis(500));
    vip.wish(Wish::Drop).unwrap();
    let Event::Failed { reason } = next(&vip) else { panic!("it fails") };
    assert!(reason.contains("standby: exit status: 3"), "{reason}");
    vip.wish(hold(1)).unwrap();
    let Event::Failed { reason } = next(&vip) else { panic!("it hangs") };
    assert!(reason.contains("active: not done within 500ms, it was killed"), "{reason}");
    // With what it had started: gone, or dead and not yet waited for.
    let state = || fs::read_to_string(format!("/proc/{}/stat", desk.log().trim())).unwrap_or_default();
    let end = now() + SOON;
    while !(state().is_empty() || state().contains(") Z ")) {
        assert!(now() < end, "{}", state());
        std::thread::yield_now();
    }
}

#[test]
fn the_last_wish_wins_and_runs_never_overlap() {
    let wait = r#"echo "$1 $2" >> log; while [ ! -e go ]; do read -t 1 _ < . || :; done 2>/dev/null; echo end >> log"#;
    let desk = Desk::new("last", wait);
    let vip = desk.vip(SOON);
    vip.wish(hold(1)).unwrap();
    let end = now() + SOON;
    while desk.log().is_empty() {
        assert!(now() < end, "the script runs");
        std::thread::yield_now();
    }
    for wish in [Wish::Drop, hold(2), Wish::Drop, hold(3)] {
        vip.wish(wish).unwrap();
    }
    fs::write(desk.0.join("go"), "").unwrap();
    assert_eq!((next(&vip), next(&vip)), (held(1), held(3)));
    assert_eq!(desk.log(), "active 1\nend\nactive 3\nend\n");
}

#[test]
fn a_script_that_is_not_there_is_named() {
    let manager = Manager::Script { path: "/nonexistent/move".into(), limit: SOON };
    let vip = Vip::start(manager, addresses()).unwrap();
    vip.wish(hold(1)).unwrap();
    let Event::Failed { reason } = next(&vip) else { panic!("it fails") };
    assert!(
        reason.starts_with("cluster.failover-script /nonexistent/move cannot be started: No such file"),
        "{reason}"
    );
}

#[test]
fn where_nobody_manages_wishes_are_fulfilled_by_saying_so() {
    let vip = Vip::start(Manager::None, addresses()).unwrap();
    assert_eq!(vip.event(), None);
    vip.kick();
    for (wish, event) in [
        (hold(3), held(3)),
        (Wish::Quiet, Event::Quiet),
        (Wish::Drop, Event::Dropped { cause: Cause::Wished }),
        (Wish::Probe { within: SOON }, Event::ProbeEnded),
    ] {
        vip.wish(wish).unwrap();
        assert_eq!(vip.event(), Some(event));
    }
    vip.wish(Wish::Announce).unwrap();
    assert_eq!(vip.event(), None);
    vip.stop();
}

#[test]
fn errors_name_cause_and_cure() {
    let start = |addresses| Vip::start(Manager::None, addresses).unwrap_err().to_string();
    let script = Manager::Script { path: "/bin/true".into(), limit: Manager::LIMIT };
    let none = Vip::start(script, vec![]).unwrap_err().to_string();
    assert_eq!(none, "cluster.virtual-ip: 0 addresses; write 1 to 16");
    assert!(Vip::start(Manager::None, vec![]).is_ok(), "where no address moves there need be none");
    assert!(start([addresses(), vec![addresses().remove(0); 15]].concat()).contains("17 addresses"));
    let guard = |program: &str| {
        let manager = Manager::Builtin { program: program.into(), state_dir: "/".into(), limit: Manager::LIMIT };
        Vip::start(manager, addresses()).unwrap_err()
    };
    assert!(matches!(guard("/bin/true"), VipError::Silent | VipError::Start(_)));
    assert!(matches!(guard("/nonexistent/tandem"), VipError::Start(_)));
    let missing = VipError::Refused(Refusal::Privilege("CAP_NET_RAW".into())).to_string();
    assert!(missing.contains("CAP_NET_RAW is missing") && missing.contains("AmbientCapabilities="), "{missing}");
}

/// A guard of ours that says what the test wants, and the other end of the line to it.
fn mute_guard() -> (Vip, Socket) {
    let (control, other) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    control.set_nonblocking(true).unwrap();
    let mut child = Command::new("/bin/true").spawn().unwrap();
    // A process that begins has a copy of the other end for a moment.
    child.wait().unwrap();
    (Vip::of(control, KeptBy::Guard(Mutex::new(child))), other)
}

#[test]
fn a_guard_that_hangs_is_told_of_once_and_so_is_its_return() {
    let (vip, guard) = mute_guard();
    let began = Time::from_micros(vip.heard.load(Ordering::Relaxed));
    let asked = |millis: u64| vip.guard_hangs(began + Duration::from_millis(millis));
    let told: Vec<u64> = (0..3_000).step_by(10).filter(|millis| asked(*millis).is_some()).collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0], 610, "the first time after 600 ms");
    guard.send(&Report::Pulse.write()).unwrap();
    assert_eq!((vip.event(), vip.event()), (Some(Event::GuardBack), None));
    drop(guard);
    assert_eq!((vip.event(), vip.event()), (Some(Event::GuardDied), None));
}

#[test]
fn who_stood_still_itself_does_not_call_its_guard_dead() {
    let (vip, _guard) = mute_guard();
    let began = Time::from_micros(vip.heard.load(Ordering::Relaxed));
    for second in 1..10 {
        assert_eq!(vip.guard_hangs(began + Duration::from_secs(second)), None, "after {second} s");
    }
}
