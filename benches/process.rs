//! The whole program beside Kamailio and the UDP floor, as ratios of one run: CPU per call of seven datagrams in and
//! seven out, every process on one core, interleaved, median of the rounds.
//!
//!   cargo bench --bench process [-- CALLS_PER_SECOND [SECONDS [ROUNDS]]]      default: 1000 6 5
//!
//! Needs `taskset`; without Kamailio its column is left out. Loopback addresses 127.0.41.x.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[path = "../tests/core/world.rs"]
#[expect(dead_code, reason = "the transcripts use all of it")]
mod world;

const PROXY: &str = "127.0.41.1:5060";
const CALLER: &str = "127.0.41.9:5060";
const SINK: &str = "127.0.41.20:5060";
const MCPS: [&str; 3] = ["127.0.41.11:5060", "127.0.41.12:5060", "127.0.41.13:5060"];
/// Datagrams of one call that reach the proxy.
const DATAGRAMS: u32 = 7;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match args.first().map(String::as_str) {
        Some("relay") => relay(),
        Some("calls") => calls(number(&args, 1, 1_000), number(&args, 2, 6)),
        Some("flood") => flood(number(&args, 1, 7_000), number(&args, 2, 6)),
        _ => compare(number(&args, 0, 1_000), number(&args, 1, 6), number(&args, 2, 5)),
    }
}

/// All subjects in turn, then the ratios.
fn compare(rate: u32, seconds: u32, rounds: u32) {
    let work = std::env::temp_dir().join(format!("tandem-bench-{}", std::process::id()));
    fs::create_dir_all(work.join("state")).expect("a work folder");
    let mut figures = vec![Vec::new(); SUBJECTS.len()];
    for round in 0..rounds {
        for (subject, figures) in SUBJECTS.iter().zip(&mut figures) {
            if let Some(figure) = measure(*subject, rate, seconds, &work) {
                println!("round {round}: {subject:?} {figure:.1} us/call");
                figures.push(figure);
            }
        }
    }
    let medians: Vec<Option<f64>> = figures.into_iter().map(median).collect();
    let [relay, tandem, kamailio] = medians[..] else { return };
    println!(
        "{rate} calls/s, median of {rounds}: relay {relay:.1?}, tandem {tandem:.1?}, kamailio {kamailio:.1?} us/call"
    );
    let ratio = |other: Option<f64>| tandem.zip(other).map(|(t, o)| t / o);
    println!("tandem / blocking relay = {:.2?}, tandem / kamailio (-x fm) = {:.2?}", ratio(relay), ratio(kamailio));
    let _ = fs::remove_dir_all(work);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Subject {
    Relay,
    Tandem,
    Kamailio,
}

const SUBJECTS: [Subject; 3] = [Subject::Relay, Subject::Tandem, Subject::Kamailio];

/// CPU of one subject in microseconds per call; `None` if it cannot be had.
fn measure(subject: Subject, rate: u32, seconds: u32, work: &Path) -> Option<f64> {
    let mut child = start(subject, work)?;
    thread::sleep(Duration::from_secs(2));
    let before = cpu(child.id());
    let (mode, rate) = if subject == Subject::Relay { ("flood", rate * DATAGRAMS) } else { ("calls", rate) };
    let own = std::env::current_exe().ok()?;
    let done = pinned(&own).args([mode, &rate.to_string(), &seconds.to_string()]).output().ok()?;
    let used = cpu(child.id()) - before;
    stop(&mut child);
    let done: f64 = String::from_utf8_lossy(&done.stdout).trim().parse().ok()?;
    let offered = f64::from(rate * seconds);
    if done < offered * 0.999 {
        println!("{subject:?}: only {done} of {offered}");
        return None;
    }
    let per_unit = used as f64 / 1_000.0 / done;
    Some(if subject == Subject::Relay { per_unit * f64::from(DATAGRAMS) } else { per_unit })
}

fn start(subject: Subject, work: &Path) -> Option<Child> {
    let mut command = match subject {
        Subject::Relay => {
            let mut relay = pinned(&std::env::current_exe().ok()?);
            relay.arg("relay");
            relay
        }
        Subject::Tandem => {
            let file = work.join("tandem.toml");
            fs::write(&file, tandem_toml(work)).ok()?;
            let mut tandem = pinned(Path::new(env!("CARGO_BIN_EXE_tandem")));
            tandem.arg("run").arg("--config").arg(file);
            tandem
        }
        Subject::Kamailio => {
            let binary = ["/usr/sbin/kamailio", "/usr/local/sbin/kamailio"]
                .map(PathBuf::from)
                .into_iter()
                .find(|p| p.exists())?;
            let list = work.join("dispatcher.list");
            fs::write(&list, MCPS.map(|m| format!("1 sip:{m}\n")).concat()).ok()?;
            let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/kamailio.cfg");
            let mut kamailio = pinned(&binary);
            kamailio.args(["-DD", "-E", "-m", "512", "-M", "16", "-x", "fm", "-X", "fm", "-b", "4194304"]);
            kamailio.arg("-Y").arg(work).arg("-w").arg(work).arg("-f").arg(config);
            kamailio.args(["-A".to_owned(), format!("LIST=\"{}\"", list.display())]);
            kamailio
        }
    };
    let log = fs::File::create(work.join(format!("{subject:?}.log"))).ok()?;
    command.stdin(Stdio::null()).stdout(log.try_clone().ok()?).stderr(log).spawn().ok()
}

fn tandem_toml(work: &Path) -> String {
    let head = format!(
        "[cluster]\nha-mode = \"none\"\nstate-dir = \"{}\"\n[proxy]\nsip.transport = [\"udp:{PROXY}\"]\n\
         [admin]\nlisten = \"127.0.41.1:9090\"\n[[resource-group]]\nname = \"MCP\"\nmonitor-method = \"option\"\n\
         monitor-interval = \"5s\"\n",
        work.join("state").display()
    );
    let member = |m| format!("[[resource-group.resource]]\naor = \"sip:{m}\"\nport-capacity = 200000\n");
    head + &MCPS.map(member).concat()
}

/// Everything runs on core 0: between cores of a virtual machine a wake-up costs more than a call.
fn pinned(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program);
    command
}

/// Nanoseconds that a process, its threads and its children have run.
fn cpu(root: u32) -> u64 {
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

fn stop(child: &mut Child) {
    for pid in family(child.id()) {
        let _ = Command::new("kill").arg("-KILL").arg(pid.to_string()).stderr(Stdio::null()).status();
    }
    let _ = child.wait();
}

/// The floor: one blocking receive and one send per datagram.
fn relay() {
    let socket = UdpSocket::bind(PROXY).expect("the relay's address");
    let mut buffer = [0; 65_536];
    while let Ok(length) = socket.recv(&mut buffer) {
        let _ = socket.send_to(&buffer[..length], SINK);
    }
}

/// Datagrams of 600 octets through the relay; prints how many arrived.
fn flood(rate: u32, seconds: u32) {
    let sink = UdpSocket::bind(SINK).expect("the sink's address");
    sink.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let total = rate * seconds;
    let counter = thread::spawn(move || {
        let mut buffer = [0; 2_048];
        (0..total).take_while(|_| sink.recv(&mut buffer).is_ok()).count()
    });
    let source = UdpSocket::bind("127.0.41.9:0").expect("a source");
    paced(rate, total, |_| {
        let _ = source.send_to(&[b'x'; 600], PROXY);
    });
    println!("{}", counter.join().unwrap_or(0));
}

/// Whole calls through the proxy; prints how many came to their end.
fn calls(rate: u32, seconds: u32) {
    for mcp in MCPS {
        let socket = UdpSocket::bind(mcp).expect("a media server's address");
        thread::spawn(move || serve(&socket, mcp));
    }
    let caller = Arc::new(UdpSocket::bind(CALLER).expect("the caller's address"));
    let done = Arc::new(AtomicU32::new(0));
    let (socket, count) = (Arc::clone(&caller), Arc::clone(&done));
    thread::spawn(move || hear(&socket, &count));
    let body =
        "v=0\r\no=- 1 1 IN IP4 127.0.41.9\r\ns=-\r\nc=IN IP4 127.0.41.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8\r\n";
    let total = rate * seconds;
    paced(rate, total, |n| {
        let invite = world::invite(1_000_000 + n).replace("Content-Length: 0\r\n\r\n", "");
        let invite = format!("{invite}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let _ = caller.send_to(invite.as_bytes(), PROXY);
    });
    let deadline = Instant::now() + Duration::from_secs(3);
    while done.load(Ordering::Relaxed) < total && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    println!("{}", done.load(Ordering::Relaxed));
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
fn hear(socket: &UdpSocket, done: &AtomicU32) {
    let mut buffer = [0; 65_536];
    let mut number = 0;
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let Some(response) = sent(&buffer[..length], from).filter(|r| r.start_line().starts_with("SIP/2.0 200")) else {
            continue;
        };
        if response.header("CSeq").ends_with("BYE") {
            done.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        number += 1;
        for (method, cseq) in [("ACK", 1), ("BYE", 2)] {
            let _ = socket.send_to(world::from_caller(number, method, cseq, &response).as_bytes(), PROXY);
        }
    }
}

fn sent(octets: &[u8], from: SocketAddr) -> Option<world::Sent> {
    let text = String::from_utf8(octets.to_vec()).ok()?;
    Some(world::Sent { flow: world::udp(&from.to_string()), text, name: None })
}

fn paced(rate: u32, total: u32, mut act: impl FnMut(u32)) {
    let start = Instant::now();
    for n in 0..total {
        let due = start + Duration::from_secs_f64(f64::from(n) / f64::from(rate));
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            thread::sleep(wait);
        }
        act(n);
    }
}

fn number(args: &[String], at: usize, default: u32) -> u32 {
    args.get(at).and_then(|a| a.parse().ok()).unwrap_or(default)
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}
