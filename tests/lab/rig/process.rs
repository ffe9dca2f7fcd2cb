//! A process that does not outlive its test.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::poll::{SOON, until};
use super::world::World;

/// A running child; dropped, it is killed.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it with its output in a file of the world.
    pub fn start(world: &World, name: &str, command: &mut Command) -> Process {
        let log = world.path(&format!("{name}.log"));
        let out = File::create(&log).expect("a log file");
        let err = out.try_clone().expect("a second handle of the log file");
        command.stdout(Stdio::from(out)).stderr(Stdio::from(err));
        Self::start_with(name, command, log)
    }

    /// Starts it with the output that `command` names.
    pub fn start_with(name: &str, command: &mut Command, log: PathBuf) -> Process {
        let child = command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| {
            panic!("{name} does not start ({error}); `tests/run` installs what the lab needs: {command:?}")
        });
        Process { name: name.to_owned(), child, log }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether somebody in its network has this address, for datagrams or to listen. To try to bind it would tell as well,
    /// and take it from whoever is about to.
    pub fn sees_bound(&self, at: SocketAddr) -> bool {
        const LISTENS: &str = "0A";
        let words = |octets: &[u8]| -> String {
            let (words, _) = octets.as_chunks::<4>();
            words.iter().map(|word| format!("{:08X}", u32::from_ne_bytes(*word))).collect()
        };
        let host = match at.ip() {
            IpAddr::V4(ip) => words(&ip.octets()),
            IpAddr::V6(ip) => words(&ip.octets()),
        };
        let local = format!("{host}:{:04X}", at.port());
        ["udp", "udp6", "tcp", "tcp6"].iter().any(|kind| {
            let table = fs::read_to_string(format!("/proc/{}/net/{kind}", self.pid())).unwrap_or_default();
            table.lines().any(|line| {
                let columns: Vec<&str> = line.split_whitespace().take(4).collect();
                columns.get(1) == Some(&local.as_str()) && (kind.starts_with("udp") || columns.get(3) == Some(&LISTENS))
            })
        })
    }

    /// Sends a signal by name: `TERM`, `HUP`, `USR1`, `KILL`, `STOP`, `CONT`.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(self.pid().to_string()).status();
        assert!(sent.expect("kill(1)").success(), "signal {signal} to {}", self.name);
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours")
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let name = self.name.clone();
        until(&format!("the end of {name}"), limit, || self.ended())
    }

    /// Kills it as a crash would.
    pub fn crash(&mut self) {
        self.signal("KILL");
        self.wait(SOON);
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its threads whose name begins so.
    pub fn threads(&self, name: &str) -> Vec<u32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("a living process").flatten();
        let of = |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let named = tasks.filter(|task| of(task).starts_with(name));
        named.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
    }

    /// Resident memory in KiB.
    pub fn rss(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a living process");
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB")
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("a living process").count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
