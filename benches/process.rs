//! The whole program beside Kamailio and the UDP floor, as ratios of one run: CPU per call of seven datagrams in and
//! seven out, every process on one core, interleaved, median of the rounds.
//!
//!   cargo bench --bench process [-- CALLS_PER_SECOND [SECONDS [ROUNDS]]]      default: 1000 6 5
//!
//! Needs `taskset`; without Kamailio its column is left out. Loopback addresses 127.0.41.x.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

#[expect(dead_code, reason = "calls that stay are of another benchmark")]
mod rig;

use rig::{MCPS, PROXY, cpu, median, number, paced, pinned, resources, stop};

const SINK: &str = "127.0.41.20:5060";
/// Datagrams of one call that reach the proxy.
const DATAGRAMS: u32 = 7;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match args.first().map(String::as_str) {
        Some("relay") => relay(),
        Some("calls") => rig::calls(number(&args, 1, 1_000), number(&args, 2, 6)),
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
    let done = pinned(&own, 0).args([mode, &rate.to_string(), &seconds.to_string()]).output().ok()?;
    let used = cpu(child.id()) - before;
    stop(&mut child);
    let done: f64 = String::from_utf8_lossy(&done.stdout).split_whitespace().next()?.parse().ok()?;
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
            let mut relay = pinned(&std::env::current_exe().ok()?, 0);
            relay.arg("relay");
            relay
        }
        Subject::Tandem => {
            let file = work.join("tandem.toml");
            fs::write(&file, tandem_toml(work)).ok()?;
            let mut tandem = pinned(Path::new(env!("CARGO_BIN_EXE_tandem")), 0);
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
            let mut kamailio = pinned(&binary, 0);
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
    format!(
        "[cluster]\nha-mode = \"none\"\nstate-dir = \"{}\"\n[proxy]\nsip.transport = [\"udp:{PROXY}\"]\n\
         [admin]\nlisten = \"127.0.41.1:9090\"\n{}",
        work.join("state").display(),
        resources()
    )
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
