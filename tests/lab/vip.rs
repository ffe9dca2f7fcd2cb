//! The virtual addresses of a pair: two hosts and a caller on one switch, each a network namespace. The main process is
//! a driver of ours (`driver`), its guard is the real `tandem guard`.

use std::env;
use std::fs;
use std::io::{self, BufRead, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tandem::base::{Epoch, NodeId};
use tandem::config::VirtualIp;
use tandem::runtime::vip::{Connection, Manager, Tickle, Vip, Wish};

use crate::rig::poll::{SOON, until, until_true};
use crate::rig::segment::{Host, Lan};
use crate::rig::world::World;

const VIP: &str = "10.77.0.10";
const VIP6: &str = "fd77::10";
/// Of the echo service.
const PORT: u16 = 5060;

/// What the driver is told by its environment.
const DRIVER: &str = "TANDEM_LAB_VIP_DRIVER";
const CALLER: &str = "TANDEM_LAB_VIP_CALLER";
const LISTENER: &str = "TANDEM_LAB_VIP_LISTENER";

/// The main process, when this program is started as one: commands on standard input, events on standard output. Its
/// sockets are bound to addresses that it does not have yet; they echo what comes, with its name before it.
#[test]
fn driver() {
    let Ok(settings) = env::var(DRIVER) else { return };
    let mut words = settings.split(' ').map(String::from);
    let (name, state_dir) = (words.next().expect("a name"), PathBuf::from(words.next().expect("a directory")));
    let addresses: Vec<VirtualIp> = words.map(|word| virtual_ip(&word)).collect();
    let ips: Vec<IpAddr> = addresses.iter().map(|a| a.ip).collect();
    let program = PathBuf::from(env::var("TANDEM_LAB_VIP_GUARD").expect("the program"));
    let manager = Manager::Builtin { program, state_dir, limit: Manager::LIMIT };
    let vip = match Vip::start(manager, addresses) {
        Ok(vip) => vip,
        Err(e) => return say(&format!("refused {e}")),
    };
    let sockets: Vec<UdpSocket> = ips.iter().map(|ip| bound(*ip, Type::DGRAM).into()).collect();
    let first = sockets[0].try_clone().expect("a socket");
    vip.lend(&sockets.iter().map(AsFd::as_fd).collect::<Vec<_>>()).expect("the guard takes them");
    for socket in sockets {
        let name = name.clone();
        thread::spawn(move || echo(&socket, &name));
    }
    let listener = bound(ips[0], Type::STREAM);
    listener.listen(8).expect("a listener");
    thread::spawn(move || accept(&listener.into()));
    say("ready");
    drive(&vip, &first);
}

/// Kicks and obeys until standard input ends. `socket`: of the first address.
fn drive(vip: &Vip, socket: &UdpSocket) {
    let (send, commands) = channel();
    thread::spawn(move || io::stdin().lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    let mut working = true;
    loop {
        if working {
            vip.kick();
        }
        while let Some(event) = vip.event() {
            say(&format!("{event:?}"));
        }
        let line = match commands.recv_timeout(Manager::KICK) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let words: Vec<&str> = line.split(' ').collect();
        let wish = match words[..] {
            ["hold", counter] => {
                Wish::Hold { epoch: Epoch { counter: counter.parse().expect("a number"), node: NodeId(1) } }
            }
            ["quiet"] => Wish::Quiet,
            ["drop"] => Wish::Drop,
            ["announce"] => Wish::Announce,
            ["probe"] => Wish::Probe { within: Duration::from_millis(500) },
            ["hang"] => {
                working = false;
                continue;
            }
            ["work"] => {
                working = true;
                continue;
            }
            ["send", word, to] => {
                socket.send_to(word.as_bytes(), addr(to)).expect("the kernel takes it");
                say(word);
                continue;
            }
            ["tickle", local, remote] => {
                let connection = Connection { local: addr(local), remote: addr(remote) };
                vip.tickle(Tickle::Add(connection)).expect("the guard takes it");
                continue;
            }
            _ => panic!("not a command: {line}"),
        };
        vip.wish(wish).expect("the guard takes it");
    }
}

fn virtual_ip(text: &str) -> VirtualIp {
    let (ip, name) = text.split_once('%').map_or((text, None), |(ip, name)| (ip, Some(name)));
    VirtualIp { ip: ip.parse().expect("an address"), prefix: None, interface: name.map(String::from) }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn say(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "\n> {line}").and_then(|()| out.flush()).expect("standard output");
}

fn bound(ip: IpAddr, kind: Type) -> Socket {
    let at = SocketAddr::new(ip, PORT);
    let socket = Socket::new(Domain::for_address(at), kind, None).expect("a socket");
    if ip.is_ipv4() { socket.set_freebind_v4(true) } else { socket.set_freebind_v6(true) }.expect("IP_FREEBIND");
    if kind == Type::STREAM {
        socket.set_reuse_address(true).expect("an option");
    }
    socket.bind(&at.into()).expect("the port is free");
    socket
}

fn echo(socket: &UdpSocket, name: &str) {
    let mut octets = [0; 64];
    while let Ok((_, from)) = socket.recv_from(&mut octets) {
        // Before a takeover is complete there is no way back to the caller.
        let _ = socket.send_to(name.as_bytes(), from);
    }
}

fn accept(listener: &TcpListener) {
    let mut kept = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        kept.push(stream);
    }
}

/// The caller, when this program is started as one: asks the address again and again, and says who answers whenever
/// that changes, and whatever error the kernel reports.
#[test]
fn caller() {
    let Ok(target) = env::var(CALLER) else { return };
    let target = addr(&target);
    let any: SocketAddr = if target.is_ipv4() { addr("0.0.0.0:0") } else { addr("[::]:0") };
    let socket = UdpSocket::bind(any).expect("a socket");
    socket.connect(target).expect("a target");
    socket.set_read_timeout(Some(Duration::from_millis(5))).expect("a timeout");
    let mut last = String::new();
    loop {
        let asked = socket.send(b"who?");
        let mut octets = [0; 64];
        let now = match asked.and_then(|_| socket.recv(&mut octets)) {
            Ok(length) => String::from_utf8_lossy(&octets[..length]).into_owned(),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
            Err(e) => format!("{:?}", e.kind()),
        };
        if now != last {
            say(&now);
            last = now;
        }
    }
}

/// A process of this program on a host, spoken to in lines.
struct Peer {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    heard: Vec<String>,
}

impl Peer {
    fn start(command: &mut Command, test: &str) -> Peer {
        command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a child");
        let (input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let (send, lines) = channel();
        thread::spawn(move || {
            let lines = io::BufReader::new(output).lines().map_while(Result::ok);
            lines.filter_map(|l| l.strip_prefix("> ").map(String::from)).try_for_each(|line| send.send(line))
        });
        Peer { child, input, lines, heard: Vec::new() }
    }

    fn driver(world: &World, host: &Host, name: &str, addresses: &str) -> Peer {
        let mut peer = Self::driver_of(host.command(&this()), world, name, addresses);
        peer.expect("ready");
        peer
    }

    fn driver_of(mut command: Command, world: &World, name: &str, addresses: &str) -> Peer {
        let state = world.path(&format!("state-{name}"));
        fs::create_dir_all(&state).expect("a directory");
        command.env(DRIVER, format!("{name} {} {addresses}", state.display()));
        command.env("TANDEM_LAB_VIP_GUARD", crate::rig::node::binary());
        Self::start(&mut command, "vip::driver")
    }

    fn caller(host: &Host, target: &str) -> Peer {
        Self::start(host.command(&this()).env(CALLER, target), "vip::caller")
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.input, "{command}").expect("it reads");
    }

    /// Waits for a line that contains `wanted`.
    #[track_caller]
    fn expect(&mut self, wanted: &str) -> String {
        loop {
            let Ok(line) = self.lines.recv_timeout(SOON) else {
                panic!("not said: {wanted}; said: {:?}", self.heard);
            };
            self.heard.push(line.clone());
            if line.contains(wanted) {
                return line;
            }
        }
    }

    /// Everything that was said until now.
    fn said(&mut self) -> &[String] {
        self.heard.extend(self.lines.try_iter());
        &self.heard
    }

    fn signal(&self, signal: &str) {
        signal_to(self.child.id(), signal);
    }

    /// As a crash: without a last word.
    fn crash(&mut self) {
        self.signal("KILL");
        self.child.wait().expect("a child of ours");
    }

    /// Its only child.
    fn guard(&self) -> u32 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("a living process");
        let children =
            tasks.map(|t| fs::read_to_string(t.expect("a task").path().join("children")).unwrap_or_default());
        let children: String = children.collect();
        children.trim().parse().unwrap_or_else(|_| panic!("one child: {children:?}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn this() -> String {
    env::current_exe().expect("a path").display().to_string()
}

fn signal_to(pid: u32, signal: &str) {
    let sent = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
    assert!(sent.expect("kill(1)").success(), "signal {signal} to {pid}");
}

fn has_ended(pid: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.is_empty() || state.contains(") Z ")
}

/// Two hosts and a caller's.
fn pair(name: &str) -> Option<(World, Lan, Host, Host, Host)> {
    let world = World::new(name);
    let mut lan = Lan::new()?;
    let (a, b, c) = (lan.host(1), lan.host(2), lan.host(100));
    Some((world, lan, a, b, c))
}

#[test]
fn a_crash_moves_both_addresses_and_the_caller_is_never_refused() {
    let Some((world, _lan, a, b, c)) = pair("vip-crash") else { return };
    let both = format!("{VIP} {VIP6}");
    let mut first = Peer::driver(&world, &a, "first", &both);
    let mut second = Peer::driver(&world, &b, "second", &both);
    first.tell("hold 1");
    first.expect("Held");
    let mut four = Peer::caller(&c, &format!("{VIP}:{PORT}"));
    let mut six = Peer::caller(&c, &format!("[{VIP6}]:{PORT}"));
    four.expect("first");
    six.expect("first");
    assert_eq!((c.believes(VIP), c.believes(VIP6)), (Some(a.mac.clone()), Some(a.mac.clone())));

    let guard = first.guard();
    first.crash();
    until_true("the guard took the addresses away", SOON, || !a.has(VIP) && !a.has(VIP6));
    second.tell("hold 2");
    second.expect("Held");
    four.expect("second");
    six.expect("second");
    assert_eq!((c.believes(VIP), c.believes(VIP6)), (Some(b.mac.clone()), Some(b.mac.clone())));
    assert_eq!(
        (four.said(), six.said()),
        (&["first", "second"].map(String::from)[..], &["first", "second"].map(String::from)[..])
    );
    until_true("the guard of the dead process ends", SOON, || has_ended(guard));
}

#[test]
fn a_stopped_process_has_lost_its_address_before_it_goes_on() {
    let Some((world, _lan, a, _b, _c)) = pair("vip-stop") else { return };
    let mut first = Peer::driver(&world, &a, "first", VIP);
    first.tell("hold 4");
    first.expect("Held");
    assert!(a.has(VIP));
    first.signal("STOP");
    until_true("the guard took the address away", SOON, || !a.has(VIP));
    first.signal("CONT");
    first.expect("Dropped { cause: Silent }");
    // Its claim is over; a new one is not.
    first.tell("hold 4");
    first.expect("epoch 4 lost the addresses");
    assert!(!a.has(VIP));
    first.tell("hold 5");
    first.expect("Held");
    assert!(a.has(VIP));
    // A process that runs and does no work is no better.
    first.tell("hang");
    first.expect("Dropped { cause: Silent }");
    assert!(!a.has(VIP));
}

#[test]
fn the_kernel_takes_the_address_away_when_nobody_else_is_left() {
    let Some((world, _lan, a, _b, _c)) = pair("vip-lease") else { return };
    let mut first = Peer::driver(&world, &a, "first", &format!("{VIP} {VIP6}"));
    first.tell("hold 1");
    first.expect("Held");
    signal_to(first.guard(), "KILL");
    first.expect("GuardDied");
    first.crash();
    assert!(a.has(VIP) && a.has(VIP6), "the lease lasts longer than a test of it takes");
    until_true("the lease ends", SOON, || !a.has(VIP) && !a.has(VIP6));
}

#[test]
fn a_guard_that_hangs_is_noticed() {
    let Some((world, _lan, a, _b, _c)) = pair("vip-guard") else { return };
    let mut first = Peer::driver(&world, &a, "first", VIP);
    first.tell("hold 1");
    first.expect("Held");
    let guard = first.guard();
    signal_to(guard, "STOP");
    first.expect("GuardDied");
    until_true("the lease ends", SOON, || !a.has(VIP));
    signal_to(guard, "CONT");
    first.expect("Dropped { cause: Paused }");
    assert!(!a.has(VIP), "what the kernel ended meanwhile is not put back");
}

#[test]
fn a_deleted_address_is_put_back_and_given_up_when_that_does_not_help() {
    let Some((world, _lan, a, _b, _c)) = pair("vip-deleted") else { return };
    let mut first = Peer::driver(&world, &a, "first", &format!("{VIP} {VIP6}"));
    first.tell("hold 1");
    first.expect("Held");
    for address in [format!("{VIP}/32"), format!("{VIP6}/128"), format!("{VIP}/32")] {
        a.ip(&format!("addr del {address} dev eth0"));
        first.expect("AddressDeleted");
        assert!(a.has(VIP) && a.has(VIP6));
    }
    a.ip(&format!("addr del {VIP}/32 dev eth0"));
    first.expect("Dropped { cause: Deleted }");
    assert!(!a.has(VIP) && !a.has(VIP6));
}

#[test]
fn a_stranger_is_named_and_does_not_win() {
    let Some((world, mut lan, a, _b, c)) = pair("vip-stranger") else { return };
    let mut first = Peer::driver(&world, &a, "first", VIP);
    first.tell("hold 1");
    first.expect("Held");
    // It says nothing by itself; it only answers.
    let s = lan.host(66);
    s.ip(&format!("addr add {VIP}/32 dev eth0"));
    let alarm = first.expect("Stranger");
    let mac = tandem_mac(&s.mac);
    assert!(alarm.contains(VIP) && alarm.contains(&mac), "{alarm} names {mac}");
    assert!(a.has(VIP));
    s.ip(&format!("addr del {VIP}/32 dev eth0"));
    first.tell("announce");
    Peer::caller(&c, &format!("{VIP}:{PORT}")).expect("first");
    until_true("the holder is believed", SOON, || c.believes(VIP).as_ref() == Some(&a.mac));
}

/// As `Debug` shows it.
fn tandem_mac(text: &str) -> String {
    let octets: Vec<String> = text.split(':').map(|o| u8::from_str_radix(o, 16).expect("hex").to_string()).collect();
    format!("Mac([{}])", octets.join(", "))
}

#[test]
fn a_pulled_cable_is_told_and_the_address_is_announced_when_it_is_back() {
    let Some((world, lan, a, b, c)) = pair("vip-carrier") else { return };
    let mut first = Peer::driver(&world, &a, "first", VIP);
    let mut second = Peer::driver(&world, &b, "second", VIP);
    first.tell("hold 1");
    first.expect("Held");
    let mut caller = Peer::caller(&c, &format!("{VIP}:{PORT}"));
    caller.expect("first");
    lan.cable(1, "down");
    first.expect(r#"CarrierLost { interface: "eth0" }"#);
    second.tell("hold 2");
    caller.expect("second");
    second.tell("drop");
    second.expect("Dropped { cause: Wished }");
    lan.cable(1, "up");
    first.expect(r#"CarrierBack { interface: "eth0" }"#);
    caller.expect("first");
    assert_eq!(c.believes(VIP), Some(a.mac.clone()));
}

#[test]
fn what_a_pulled_cable_held_back_is_not_sent_when_it_is_back() {
    let Some((world, lan, a, _b, c)) = pair("vip-unsent") else { return };
    let mut first = Peer::driver(&world, &a, "first", VIP);
    let mut listener = Peer::start(c.command(&this()).env(LISTENER, "10.77.0.100:5070"), "vip::listener");
    listener.expect("listens");
    first.tell("hold 1");
    first.expect("Held");
    lan.cable(1, "down");
    first.expect("CarrierLost");
    first.tell("send early 10.77.0.100:5070");
    first.expect("early");
    assert!(a.ip("neigh show to 10.77.0.100").contains("INCOMPLETE"), "the kernel keeps it");
    first.tell("drop");
    first.expect("Dropped { cause: Wished }");
    lan.cable(1, "up");
    first.expect("CarrierBack");
    first.tell("hold 2");
    first.expect("Held");
    // Behind the other one, if that still waited.
    first.tell("send late 10.77.0.100:5070");
    assert_eq!(listener.expect("came"), "came late");
}

/// The listener, when this program is started as one: says what comes.
#[test]
fn listener() {
    let Ok(at) = env::var(LISTENER) else { return };
    let socket = UdpSocket::bind(at).expect("a socket");
    say("listens");
    let mut octets = [0; 64];
    while let Ok(length) = socket.recv(&mut octets) {
        say(&format!("came {}", String::from_utf8_lossy(&octets[..length])));
    }
}

#[test]
fn a_quiet_holder_answers_nobody_and_still_receives() {
    let Some((world, _lan, a, b, c)) = pair("vip-quiet") else { return };
    let both = format!("{VIP} {VIP6}");
    let mut first = Peer::driver(&world, &a, "first", &both);
    let mut second = Peer::driver(&world, &b, "second", &both);
    second.tell("probe");
    assert!(second.expect("Probe").contains("ProbeEnded"), "nobody answers");
    first.tell("hold 1");
    first.expect("Held");
    second.tell("probe");
    let answer = second.expect("ProbeAnswered");
    assert!(answer.contains(&tandem_mac(&a.mac)), "{answer}");
    second.expect("ProbeEnded");
    first.tell("quiet");
    first.expect("Quiet");
    second.tell("probe");
    assert!(second.expect("Probe").contains("ProbeEnded"), "nobody answers");
    // A caller that still sends to the old holder is heard there.
    for address in [VIP, VIP6] {
        c.ip(&format!("neigh replace {address} lladdr {} dev eth0 nud permanent", a.mac));
    }
    Peer::caller(&c, &format!("{VIP}:{PORT}")).expect("first");
    Peer::caller(&c, &format!("[{VIP6}]:{PORT}")).expect("first");
    // Its own address is answered for all the while.
    c.ip("neigh flush to 10.77.0.1");
    Peer::caller(&c, "10.77.0.1:9").expect("ConnectionRefused");
    first.tell("drop");
    first.expect("Dropped { cause: Wished }");
    assert!(!a.has(VIP) && !a.has(VIP6));
    // And nothing of it is left: held again, it answers again.
    first.tell("hold 2");
    first.expect("Held");
    second.tell("probe");
    second.expect("ProbeAnswered");
}

#[test]
fn the_guard_keeps_the_ports_of_a_dead_process_open() {
    let Some((world, _lan, a, _b, c)) = pair("vip-ports") else { return };
    let mut first = Peer::driver(&world, &a, "first", VIP);
    first.tell("hold 1");
    first.expect("Held");
    let mut caller = Peer::caller(&c, &format!("{VIP}:{PORT}"));
    caller.expect("first");
    // As the kernel writes 10.77.0.10:5060.
    let open = || {
        let sockets = a.command("cat").arg("/proc/net/udp").output().expect("cat(1)").stdout;
        String::from_utf8_lossy(&sockets).contains("0A004D0A:13C4")
    };
    let guard = first.guard();
    first.crash();
    // Within its half second; then there is all the time in the world to look.
    signal_to(guard, "STOP");
    assert!(open());
    until_true("the address is gone", SOON, || !a.has(VIP));
    assert_eq!(caller.said(), ["first"], "nobody is told that the port is closed");
    signal_to(guard, "CONT");
    until_true("the guard ends", SOON, || has_ended(guard) && !open());
}

#[test]
fn a_process_that_comes_back_finds_its_port_free_and_no_address() {
    let Some((world, _lan, a, _b, c)) = pair("vip-respawn") else { return };
    let mut first = Peer::driver(&world, &a, "first", VIP);
    first.tell("hold 1");
    first.expect("Held");
    let guard = first.guard();
    first.crash();
    let mut again = Peer::driver(&world, &a, "first", VIP);
    assert!(!a.has(VIP), "the new guard waits for the old one");
    // Its lock goes a moment before it does.
    until_true("the end of the old guard", SOON, || has_ended(guard));
    again.tell("hold 2");
    again.expect("Held");
    Peer::caller(&c, &format!("{VIP}:{PORT}")).expect("first");
    // Two of a kind are refused.
    let mut twin = Peer::driver_of(a.command(&this()), &world, "first", VIP);
    twin.expect("is locked by the guard of another node");
    // A guard that was killed leaves an address, which its successor removes.
    signal_to(again.guard(), "KILL");
    again.crash();
    assert!(a.has(VIP));
    let _third = Peer::driver(&world, &a, "first", VIP);
    assert!(!a.has(VIP));
}

#[test]
fn callers_learn_of_a_lost_connection_from_the_new_holder() {
    let Some((world, lan, a, b, c)) = pair("vip-tickle") else { return };
    let mut first = Peer::driver(&world, &a, "first", VIP);
    let mut second = Peer::driver(&world, &b, "second", VIP);
    first.tell("hold 1");
    first.expect("Held");
    let mut caller = Peer::start(c.command(&this()).env(STREAM, format!("{VIP}:{PORT}")), "vip::stream_caller");
    let connected = caller.expect("connected ");
    let remote = connected.trim_start_matches("connected ").to_owned();
    // Nothing that the old host's kernel says reaches the caller.
    lan.cable(1, "down");
    second.tell(&format!("tickle {VIP}:{PORT} {remote}"));
    second.tell("hold 2");
    second.expect("Held");
    caller.expect("ConnectionReset");
}

const STREAM: &str = "TANDEM_LAB_VIP_STREAM";

/// A caller with a connection on which it only waits, when this program is started as one.
#[test]
fn stream_caller() {
    let Ok(target) = env::var(STREAM) else { return };
    let mut stream = until("a connection", SOON, || TcpStream::connect(addr(&target)).ok());
    say(&format!("connected {}", stream.local_addr().expect("an address")));
    match io::Read::read(&mut stream, &mut [0; 64]) {
        Ok(length) => say(&format!("read {length}")),
        Err(e) => say(&format!("{:?}", e.kind())),
    }
}

#[test]
fn only_the_guard_keeps_the_privileges_and_their_lack_is_explained() {
    let Some((world, _lan, a, _b, _c)) = pair("vip-privileges") else { return };
    let first = Peer::driver(&world, &a, "first", VIP);
    let effective = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a living process");
        let line = status.lines().find_map(|l| l.strip_prefix("CapEff:")).expect("CapEff");
        u64::from_str_radix(line.trim(), 16).expect("hex") & (1 << 12 | 1 << 13)
    };
    assert_eq!(effective(first.guard()), 1 << 12 | 1 << 13);
    let pid = first.child.id();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a living process");
    let threads: Vec<u64> = tasks
        .map(|t| effective(t.expect("a task").file_name().to_str().expect("a number").parse().expect("a number")))
        .collect();
    // The test harness has a thread of its own, which was there before.
    assert!(threads.iter().filter(|caps| **caps == 0).count() >= threads.len() - 1, "{threads:?}");
    drop(first);
    for (name, capability) in [("CAP_NET_RAW", "net_raw"), ("CAP_NET_ADMIN", "net_admin")] {
        let mut command = a.command("setpriv");
        command.arg(format!("--bounding-set=-{capability}")).arg(this());
        let mut weak = Peer::driver_of(command, &world, "weak", VIP);
        let refusal = weak.expect("refused");
        assert!(
            refusal.contains(&format!("{name} is missing")) && refusal.contains("AmbientCapabilities"),
            "{refusal}"
        );
    }
    let mut lost = Peer::driver_of(a.command(&this()), &world, "lost", "192.0.2.10");
    lost.expect("no interface has a subnet that covers it");
    let mut unknown = Peer::driver_of(a.command(&this()), &world, "unknown", "10.77.0.10%eth9");
    unknown.expect(r#"there is no interface "eth9""#);
    let mut loopback = Peer::driver_of(a.command(&this()), &world, "loopback", "10.77.0.10%lo");
    loopback.expect("interface lo has no Ethernet address");
}

#[test]
fn several_addresses_are_held_together_or_not_at_all() {
    let Some((world, _lan, a, b, _c)) = pair("vip-several") else { return };
    // A macvlan interface is one like any other.
    a.ip("link add mv0 link eth0 type macvlan mode bridge");
    a.ip("link set mv0 up");
    // Linux answers for every address on every interface, and asks in every address's name, unless told not to.
    let own_only = "cd /proc/sys/net/ipv4/conf/eth0 && echo 1 > arp_ignore && echo 2 > arp_announce";
    assert!(a.command("sh").args(["-c", own_only]).status().expect("sh").success());
    let mut first = Peer::driver(&world, &a, "first", &format!("{VIP} 10.77.0.11%mv0"));
    first.tell("hold 1");
    first.expect("Held");
    assert!(a.has(VIP) && a.has("10.77.0.11"));
    let mut caller = Peer::caller(&b, &format!("10.77.0.11:{PORT}"));
    caller.expect("first");
    assert!(a.ip("link show mv0").contains(&b.believes("10.77.0.11").expect("a neighbour")), "it is on mv0");
    first.tell("drop");
    first.expect("Dropped");
    a.ip("link del mv0");
    first.expect(r#"CarrierLost { interface: "mv0" }"#);
    first.tell("hold 2");
    let reason = first.expect("Failed");
    assert!(reason.contains("10.77.0.11 on mv0 cannot be added"), "{reason}");
    assert!(!a.has(VIP));
    // An interface that is made again is found again.
    a.ip("link add mv0 link eth0 type macvlan mode bridge");
    a.ip("link set mv0 up");
    first.expect(r#"CarrierBack { interface: "mv0" }"#);
    first.tell("hold 3");
    first.expect("Held");
    assert!(a.has(VIP) && a.has("10.77.0.11"));
}
