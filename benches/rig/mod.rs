//! What the benchmarks of the whole program share: three media servers and a caller in one process, processes on cores of
//! their own, and what they have cost. Loopback addresses 127.0.41.x.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

#[path = "../../tests/core/world.rs"]
#[expect(dead_code, reason = "the transcripts use all of it")]
mod world;

pub const PROXY: &str = "127.0.41.1:5060";
pub const MCPS: [&str; 3] = ["127.0.41.11:5060", "127.0.41.12:5060", "127.0.41.13:5060"];
const CALLER: &str = "127.0.41.9:5060";
/// Number of the first call; all have as many digits.
const FIRST: u32 = 1_000_000;

/// The media servers as a group in the configuration.
pub fn resources() -> String {
    let head = "[[resource-group]]\nname = \"MCP\"\nmonitor-method = \"option\"\nmonitor-interval = \"5s\"\n";
    let member = |m| format!("[[resource-group.resource]]\naor = \"sip:{m}\"\nport-capacity = 200000\n");
    head.to_owned() + &MCPS.map(member).concat()
}

/// Runs on one core: between cores of a virtual machine a wake-up costs more than a call.
pub fn pinned(program: &Path, core: usize) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

/// Nanoseconds that a process, its threads and its children have run.
pub fn cpu(root: u32) -> u64 {
    family(root)
        .into_iter()
        .map(|pid| {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            tasks
                .filter_map(|t| {
                    fs::read_to_string(t.path().join("schedstat")).ok()?.split(' ').next()?.parse::<u64>().ok()
                })
                .sum::<u64>()
        })
        .sum()
}

fn family(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| {
            let pid = e.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(e.path().join("stat")).ok()?;
            Some((pid, stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?))
        })
        .collect();
    let mut members = vec![root];
    let mut next = 0;
    while let Some(&parent) = members.get(next) {
        members.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    members
}

pub fn stop(child: &mut Child) {
    for pid in family(child.id()) {
        let _ = Command::new("kill").arg("-KILL").arg(pid.to_string()).stderr(Stdio::null()).status();
    }
    let _ = child.wait();
}

/// What the caller has seen.
#[derive(Default)]
struct Seen {
    /// When each call was sent.
    sent: Vec<Instant>,
    /// From the INVITE to its 200, in microseconds; 0: none yet.
    answered: Vec<u32>,
    ended: u32,
    /// A 200 to an INVITE came again.
    repeated: u32,
}

impl Seen {
    fn count(&self) -> usize {
        self.answered.iter().filter(|delay| **delay > 0).count()
    }
}

/// Whole calls through the proxy; prints how many came to their end, and the median of INVITE to 200 in microseconds.
pub fn calls(rate: u32, seconds: u32) {
    let (caller, seen) = agents(true);
    let total = rate * seconds;
    paced(rate, total, |_| invite(&caller, &seen));
    let deadline = Instant::now() + Duration::from_secs(3);
    while seen.lock().expect("a sound caller").ended < total && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    let seen = seen.lock().expect("a sound caller");
    let delays = seen.answered.iter().filter(|delay| **delay > 0).map(|delay| f64::from(*delay)).collect();
    println!("{} {:.0}", seen.ended, median(delays).unwrap_or_default());
}

/// `sessions` calls that stay, at `rate` a second, then `then` more a second until the input ends. Prints `open` when all
/// of the first are answered, and in the end how many were made, answered, and answered twice.
pub fn stay(sessions: u32, rate: u32, then: u32) {
    let (caller, seen) = agents(false);
    paced(rate, sessions, |_| invite(&caller, &seen));
    let deadline = Instant::now() + Duration::from_secs(10);
    while seen.lock().expect("a sound caller").count() < sessions as usize && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    println!("open");
    let end = thread::spawn(|| std::io::stdin().read_to_end(&mut Vec::new()));
    while !end.is_finished() {
        paced(then, then / 10, |_| invite(&caller, &seen));
    }
    thread::sleep(Duration::from_secs(1));
    let seen = seen.lock().expect("a sound caller");
    println!("{} {} {}", seen.sent.len(), seen.count(), seen.repeated);
}

/// The media servers and the caller, who ends each call at once or not at all.
fn agents(ends: bool) -> (Arc<UdpSocket>, Arc<Mutex<Seen>>) {
    for mcp in MCPS {
        let socket = UdpSocket::bind(mcp).expect("a media server's address");
        thread::spawn(move || serve(&socket, mcp));
    }
    let caller = Arc::new(UdpSocket::bind(CALLER).expect("the caller's address"));
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (socket, shared) = (Arc::clone(&caller), Arc::clone(&seen));
    thread::spawn(move || hear(&socket, &shared, ends));
    (caller, seen)
}

fn invite(caller: &UdpSocket, seen: &Mutex<Seen>) {
    let body =
        "v=0\r\no=- 1 1 IN IP4 127.0.41.9\r\ns=-\r\nc=IN IP4 127.0.41.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8\r\n";
    let n = {
        let mut seen = seen.lock().expect("a sound caller");
        seen.sent.push(Instant::now());
        seen.answered.push(0);
        seen.sent.len() as u32 - 1
    };
    let invite = world::invite(FIRST + n).replace("Content-Length: 0\r\n\r\n", "");
    let invite = format!("{invite}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let _ = caller.send_to(invite.as_bytes(), PROXY);
}

/// A media server: OPTIONS and BYE get 200, INVITE 100, 180 and 200.
fn serve(socket: &UdpSocket, own: &str) {
    let mut buffer = [0; 65_536];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let Some(request) = sent(&buffer[..length], from) else { continue };
        let contact = format!("Contact: <sip:mcp@{own}>\r\n");
        let answers: &[(&str, &str)] = match request.start_line().split(' ').next() {
            Some("INVITE") => &[("100 Trying", ""), ("180 Ringing", &contact), ("200 OK", &contact)],
            Some("ACK") => &[],
            _ => &[("200 OK", "")],
        };
        for (status, more) in answers {
            let tag = if status.starts_with("100") { "" } else { "mcp" };
            let _ = socket.send_to(request.answer(status, tag, more).as_bytes(), from);
        }
    }
}

/// The caller: a 200 to INVITE gets ACK and BYE, a 200 to BYE is a call done.
fn hear(socket: &UdpSocket, seen: &Mutex<Seen>, ends: bool) {
    let mut buffer = [0; 65_536];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let Some(response) = sent(&buffer[..length], from).filter(|r| r.start_line().starts_with("SIP/2.0 200")) else {
            continue;
        };
        let mut seen = seen.lock().expect("a sound caller");
        if response.header("CSeq").ends_with("BYE") {
            seen.ended += 1;
            continue;
        }
        let number = response.header("Call-ID").strip_prefix("call").and_then(|id| id.split('@').next()?.parse().ok());
        let Some(call) = number.and_then(|n: u32| n.checked_sub(FIRST)).map(|n| n as usize) else { continue };
        if seen.answered[call] > 0 {
            seen.repeated += 1;
        } else {
            seen.answered[call] = (seen.sent[call].elapsed().as_micros() as u32).max(1);
        }
        drop(seen);
        let requests: &[_] = if ends { &[("ACK", 1), ("BYE", 2)] } else { &[("ACK", 1)] };
        for (method, cseq) in requests {
            let request = world::from_caller(call as u32, method, *cseq, &response);
            let _ = socket.send_to(request.as_bytes(), PROXY);
        }
    }
}

fn sent(octets: &[u8], from: SocketAddr) -> Option<world::Sent> {
    let text = String::from_utf8(octets.to_vec()).ok()?;
    Some(world::Sent { flow: world::udp(&from.to_string()), text, name: None })
}

/// Acts `total` times, evenly, and says which time it is.
pub fn paced(rate: u32, total: u32, mut act: impl FnMut(u32)) {
    let start = Instant::now();
    for n in 0..total {
        let due = start + Duration::from_secs_f64(f64::from(n) / f64::from(rate));
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            thread::sleep(wait);
        }
        act(n);
    }
}

pub fn number(args: &[String], at: usize, default: u32) -> u32 {
    args.get(at).and_then(|a| a.parse().ok()).unwrap_or(default)
}

pub fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}
