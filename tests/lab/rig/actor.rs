//! The library's SIP agents on sockets inside a host, each on a thread of its own, with hooks that act at the moment a
//! message has been sent or seen.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tandem::agent::caller::{self, Caller};
use tandem::agent::heard::Timing;
use tandem::agent::media_server::{self, Behaviour, MediaServer};
use tandem::agent::script::{Plan, Report};
use tandem::base::{Flow, Time, Transport};
use tandem::out::Out;

use super::held::Held;
use super::lan::Host;
use super::message::Message;
use super::poll::until;

/// Messages that one actor remembers.
const MEMORY: usize = 100_000;
/// Datagrams and deadlines are looked for at least this often.
const TURN: Duration = Duration::from_millis(5);

/// T1 of the agents: shorter than usual, so that 64*T1 is soon over.
pub const T1: Duration = Duration::from_millis(200);

/// A message that an actor has sent or seen.
#[derive(Clone, Debug)]
pub struct Passed {
    /// Sent by the actor; else it came in.
    pub sent: bool,
    /// The message.
    pub message: Message,
}

/// What all agents have in common.
pub trait Agent: Send + 'static {
    /// A message came in.
    fn handle(&mut self, now: Time, bytes: &[u8], flow: Flow, out: &mut Out);
    /// Something may be due.
    fn handle_timeout(&mut self, now: Time, out: &mut Out);
    /// When the next thing is due.
    fn next_timeout(&self) -> Option<Time>;
    /// What it saw others do wrong.
    fn violations(&self) -> &[String];
}

macro_rules! agent {
    ($kind:ty) => {
        impl Agent for $kind {
            fn handle(&mut self, now: Time, bytes: &[u8], flow: Flow, out: &mut Out) {
                Self::handle(self, now, bytes, flow, out);
            }
            fn handle_timeout(&mut self, now: Time, out: &mut Out) {
                Self::handle_timeout(self, now, out);
            }
            fn next_timeout(&self) -> Option<Time> {
                Self::next_timeout(self)
            }
            fn violations(&self) -> &[String] {
                Self::violations(self)
            }
        }
    };
}

agent!(Caller);
agent!(MediaServer);

/// Acts once, at the first message that fits.
struct Hook {
    when: Box<dyn Fn(&Passed) -> bool + Send>,
    then: Box<dyn FnOnce() + Send>,
    fired: Arc<AtomicBool>,
}

/// Whether a hook has acted.
#[derive(Clone)]
pub struct Fired(Arc<AtomicBool>);

impl Fired {
    /// Whether it has.
    pub fn yes(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

struct Stage<A> {
    agent: A,
    out: Out,
    passed: Vec<Passed>,
    held: Held,
    hooks: Vec<Hook>,
}

struct Shared<A> {
    stage: Mutex<Stage<A>>,
    socket: UdpSocket,
    at: SocketAddr,
    began: Instant,
    stop: AtomicBool,
}

/// An agent at work. Dropped, it falls silent.
pub struct Actor<A: Agent> {
    /// Its address.
    pub at: SocketAddr,
    shared: Arc<Shared<A>>,
    thread: Option<JoinHandle<()>>,
}

/// A caller in a host.
pub fn caller(host: &Host, name: &str, at: SocketAddr, node: SocketAddr) -> Actor<Caller> {
    let config =
        caller::Config { name: name.into(), addr: at, transport: Transport::Udp, node, backup: None, timing: timing() };
    Actor::start(host, at, Caller::new(config))
}

/// A media server in a host.
pub fn media_server(host: &Host, name: &str, at: SocketAddr, behaviour: Behaviour) -> Actor<MediaServer> {
    let seed = u64::from(at.port()) << 32 | u64::from(std::process::id());
    let mut server = MediaServer::new(media_server::Config { name: name.into(), addr: at, timing: timing(), seed });
    server.behave(behaviour);
    Actor::start(host, at, server)
}

fn timing() -> Timing {
    Timing { t1: T1, ..Timing::default() }
}

impl<A: Agent> Actor<A> {
    fn start(host: &Host, at: SocketAddr, agent: A) -> Actor<A> {
        let socket = host.within(|| UdpSocket::bind(at)).unwrap_or_else(|error| panic!("{at}: {error}"));
        let stage = Stage { agent, out: Out::new(), passed: Vec::new(), held: Held::default(), hooks: Vec::new() };
        let (began, stop) = (Instant::now(), AtomicBool::new(false));
        let shared = Arc::new(Shared { stage: Mutex::new(stage), socket, at, began, stop });
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.run()
        });
        Actor { at, shared, thread: Some(thread) }
    }

    /// Calls `then`, once, on the actor's thread, as soon as a message that fits has been sent, or has come in and was
    /// not handled yet.
    pub fn when(&self, fits: impl Fn(&Passed) -> bool + Send + 'static, then: impl FnOnce() + Send + 'static) -> Fired {
        let fired = Arc::new(AtomicBool::new(false));
        let hook = Hook { when: Box::new(fits), then: Box::new(then), fired: Arc::clone(&fired) };
        self.shared.lock().hooks.push(hook);
        Fired(fired)
    }

    /// Forgets hooks that have not acted.
    pub fn unhook(&self) {
        self.shared.lock().hooks.clear();
    }

    /// Everything that it has sent and seen.
    pub fn passed(&self) -> Vec<Passed> {
        self.shared.lock().passed.clone()
    }

    /// Waits for a message.
    #[track_caller]
    pub fn wait_for(&self, what: &str, limit: Duration, fits: impl Fn(&Passed) -> bool) -> Passed {
        until(&format!("{what} at {}", self.at), limit, || self.shared.lock().passed.iter().find(|p| fits(p)).cloned())
    }

    /// What it saw others do wrong.
    pub fn violations(&self) -> Vec<String> {
        self.shared.lock().agent.violations().to_vec()
    }

    /// Anything else with the agent.
    pub fn with<T>(&self, act: impl FnOnce(&mut A, Time, &mut Out) -> T) -> T {
        let mut stage = self.shared.lock();
        let now = self.shared.now();
        let Stage { agent, out, .. } = &mut *stage;
        let result = act(agent, now, out);
        self.shared.flush(&mut stage);
        result
    }
}

impl Actor<Caller> {
    /// Starts a call; its Call-ID.
    pub fn call(&self, plan: Plan) -> String {
        self.with(|caller, now, out| {
            let call_id = caller.next_call_id();
            caller.call(now, plan, out);
            call_id
        })
    }

    /// Waits for the end of the calls that were started, all of them; their reports since the last time.
    #[track_caller]
    pub fn finish(&self, what: &str, limit: Duration) -> Vec<Report> {
        until(what, limit, || self.with(|caller, _, _| (caller.open() == 0).then(|| caller.take_reports())))
    }
}

impl Actor<MediaServer> {
    /// The calls that it holds, ringing and answered.
    pub fn calls(&self) -> usize {
        self.shared.lock().held.count()
    }

    /// The most that it ever held at one instant.
    pub fn most_calls(&self) -> usize {
        self.shared.lock().held.most()
    }
}

impl<A: Agent> Drop for Actor<A> {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<A: Agent> Shared<A> {
    fn lock(&self) -> MutexGuard<'_, Stage<A>> {
        self.stage.lock().expect("no panic in an actor")
    }

    fn now(&self) -> Time {
        Time::ZERO + self.began.elapsed()
    }

    fn run(&self) {
        let mut octets = vec![0; 65_536];
        while !self.stop.load(Ordering::Acquire) {
            let due = self.lock().agent.next_timeout().map_or(TURN, |due| due.since(self.now()).min(TURN));
            self.socket.set_read_timeout(Some(due.max(Duration::from_micros(100)))).expect("a timeout");
            // What the kernel refuses (ICMP) is told as an error of the next call; it is no message.
            let received = self.socket.recv_from(&mut octets).ok();
            let mut stage = self.lock();
            if let Some((length, remote)) = received {
                let octets = &octets[..length];
                self.note(&mut stage, false, octets);
                let flow = Flow {
                    transport: Transport::Udp,
                    listener: Default::default(),
                    local: self.at,
                    remote,
                    conn: None,
                };
                let Stage { agent, out, .. } = &mut *stage;
                agent.handle(self.now(), octets, flow, out);
            }
            let Stage { agent, out, .. } = &mut *stage;
            agent.handle_timeout(self.now(), out);
            self.flush(&mut stage);
        }
    }

    /// Sends what the agent wants sent. What the kernel refuses is lost like any other datagram.
    fn flush(&self, stage: &mut Stage<A>) {
        let sends: Vec<(SocketAddr, Vec<u8>)> =
            stage.out.transmits.iter().map(|t| (t.flow.remote, stage.out.bytes(t).to_vec())).collect();
        stage.out.clear();
        for (to, octets) in sends {
            let _lost = self.socket.send_to(&octets, to);
            self.note(stage, true, &octets);
        }
    }

    fn note(&self, stage: &mut Stage<A>, sent: bool, octets: &[u8]) {
        let Some(message) = Message::read(octets) else { return };
        let passed = Passed { sent, message };
        for hook in stage.hooks.extract_if(.., |hook| (hook.when)(&passed)) {
            (hook.then)();
            hook.fired.store(true, Ordering::Release);
        }
        stage.held.note(sent, &passed.message);
        if stage.passed.len() < MEMORY {
            stage.passed.push(passed);
        }
    }
}
