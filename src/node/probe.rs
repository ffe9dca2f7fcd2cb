//! OPTIONS to resources: is it alive, does it want calls? One probe at a time per resource, each a request of its own
//! with fresh branch, Call-ID and From tag. An answer counts only if it comes within the monitor's timeout, which is
//! not a transaction's 32 seconds.

use std::fmt::Write;
use std::time::Duration;

use crate::balance::{Monitor, Probe, Route};
use crate::base::{Flow, NodeId, ResourceId, Time, Transport, table_hash};
use crate::identity::Identities;
use crate::out::Out;
use crate::sip::{Message, Method};

/// Starts the branch of every probe. The dot keeps it apart from all other branches, whose alphabet has none.
const MARK: &str = "z9hG4bKprobe.";
/// T1 and T2 of Timer E (RFC 3261 §17.1.2.2).
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
/// Who finds his own timer later than this has slept himself and judges nobody.
const LATE: Duration = Duration::from_millis(500);

/// A node that stands by probes so many times less often.
const STANDBY: u32 = 5;

/// Probes resources by OPTIONS. Reads no clock and sends through [`Out`].
#[derive(Debug)]
pub struct Prober {
    node: NodeId,
    incarnation: u64,
    seed: u64,
    /// Probes begun so far.
    count: u64,
    /// In the order of the configuration.
    targets: Vec<Target>,
    next: Time,
    /// From its own address, not from one of the pair.
    own: bool,
    /// [`STANDBY`] times less often.
    slow: bool,
}

#[derive(Debug)]
struct Target {
    resource: ResourceId,
    route: Route,
    monitor: Monitor,
    /// The way of the last probe.
    flow: Flow,
    /// When the next probe begins.
    due: Time,
    pending: Option<Pending>,
    /// Of the last probe; the memory is used again.
    branch: String,
    message: String,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    deadline: Time,
    /// Timer E.
    resend: Time,
    wait: Duration,
}

impl Prober {
    /// A prober without targets. `incarnation` keeps its branches apart from those of an earlier start.
    pub fn new(node: NodeId, incarnation: u64, seed: u64) -> Self {
        Self { node, incarnation, seed, count: 0, targets: Vec::new(), next: Time::NEVER, own: false, slow: false }
    }

    /// Replaces the targets. One that remains keeps its rhythm and, unless its route changed, its running probe; the
    /// first probes of new ones are spread over their interval.
    pub fn configure(&mut self, now: Time, targets: impl Iterator<Item = (ResourceId, Route, Monitor)>) {
        let mut before = std::mem::take(&mut self.targets);
        for (resource, route, monitor) in targets {
            let old = before.iter().position(|t| t.resource == resource).map(|at| before.swap_remove(at));
            let target = match old {
                Some(old) => old.reconfigured(now, route, monitor),
                None => Target::new(now, resource, route, monitor, self.seed),
            };
            self.targets.push(target);
        }
        self.reckon();
    }

    /// A node without the addresses of the pair probes from its `own`: nothing may come from those. One that places no
    /// calls does so less often (`slow`): it must know who lives when it takes over.
    pub fn stand_by(&mut self, now: Time, own: bool, slow: bool) {
        if (self.own, self.slow) != (own, slow) {
            (self.own, self.slow) = (own, slow);
            self.targets.iter_mut().for_each(|target| {
                target.pending = None;
                target.due = now;
            });
            self.reckon();
        }
    }

    #[cfg(test)]
    pub(super) fn stands_by(&self) -> (bool, bool) {
        (self.own, self.slow)
    }

    /// When [`Prober::handle_timeout`] wants to be called next.
    pub fn next_timeout(&self) -> Option<Time> {
        (self.next != Time::NEVER).then_some(self.next)
    }

    /// Begins the probes that are due, sends unanswered ones again and gives up late ones.
    pub fn handle_timeout(
        &mut self,
        now: Time,
        out: &mut Out,
        identities: &Identities,
        results: &mut Vec<(ResourceId, Probe)>,
    ) {
        if now < self.next {
            return;
        }
        for target in &mut self.targets {
            if let Some(pending) = target.pending {
                if now < pending.deadline {
                    target.resend(now, out);
                    continue;
                }
                target.pending = None;
                if now.since(pending.deadline) > LATE {
                    target.due = now;
                } else {
                    results.push((target.resource, Probe::Failed));
                }
            }
            if now >= target.due {
                let Some(flow) = target.flow(self.own) else {
                    target.due = Time::NEVER;
                    continue;
                };
                self.count += 1;
                let name = Name { node: self.node, incarnation: self.incarnation, number: self.count, seed: self.seed };
                target.flow = flow;
                target.begin(now, name, identities, out);
                if self.slow {
                    target.due = now + target.monitor.interval * STANDBY;
                }
            }
        }
        self.reckon();
    }

    /// Whether a response with this branch in its top Via answers a probe of some node of this name. Cheap.
    pub fn owns(branch: &[u8]) -> bool {
        branch.starts_with(MARK.as_bytes())
    }

    /// A response that [`Prober::owns`] says is ours. One that is late, repeated or foreign is dropped.
    pub fn handle_response(&mut self, now: Time, response: &Message<'_>, results: &mut Vec<(ResourceId, Probe)>) {
        let Some(status) = response.status() else { return };
        // RFC 3261 §17.1.3: branch and CSeq method together match a response to its request.
        if response.cseq().method != Method::Options {
            return;
        }
        let Some(target) = response.via().branch.and_then(|branch| self.pending(branch)) else { return };
        if status < 200 {
            target.proceeding(now);
            self.reckon();
            return;
        }
        let probe = match status {
            503 => Probe::Overloaded(response.retry_after().map(|s| Duration::from_secs(s.into()))),
            // Said by a proxy on the way, on behalf of a server that is silent.
            408 => Probe::Failed,
            // Also 404, 405, 481, 486, 501: who refuses OPTIONS is alive.
            _ => Probe::Answered,
        };
        target.pending = None;
        results.push((target.resource, probe));
        self.reckon();
    }

    /// A probe with this branch could not be delivered.
    pub fn undelivered(&mut self, branch: &[u8], results: &mut Vec<(ResourceId, Probe)>) {
        if let Some(target) = self.pending(branch) {
            target.pending = None;
            results.push((target.resource, Probe::Failed));
            self.reckon();
        }
    }

    fn pending(&mut self, branch: &[u8]) -> Option<&mut Target> {
        self.targets.iter_mut().find(|t| t.pending.is_some() && t.branch.as_bytes() == branch)
    }

    fn reckon(&mut self) {
        self.next = self.targets.iter().map(Target::next).min().unwrap_or(Time::NEVER);
    }
}

impl Target {
    fn new(now: Time, resource: ResourceId, route: Route, monitor: Monitor, seed: u64) -> Self {
        let share = table_hash(seed, &resource.0.to_le_bytes()) as u32;
        let due = now + monitor.interval.mul_f64(f64::from(share) / f64::from(u32::MAX));
        let flow = route.flow;
        Self { resource, route, monitor, flow, due, pending: None, branch: String::new(), message: String::new() }
    }

    fn reconfigured(mut self, now: Time, route: Route, monitor: Monitor) -> Self {
        if self.route != route {
            self.pending = None;
            self.route = route;
        }
        self.due = self.due.min(now + monitor.interval);
        self.monitor = monitor;
        self
    }

    /// The way of a probe; `None`: this node has no address of its own to probe from.
    fn flow(&self, own: bool) -> Option<Flow> {
        if own { self.route.own } else { Some(self.route.flow) }
    }

    fn next(&self) -> Time {
        self.pending.map_or(self.due, |p| p.deadline.min(p.resend))
    }

    fn begin(&mut self, now: Time, name: Name, identities: &Identities, out: &mut Out) {
        self.branch.clear();
        name.branch(&mut self.branch);
        self.message.clear();
        write_options(&mut self.message, &self.route.authority, self.flow, name, &self.branch, identities);
        self.due = now + self.monitor.interval;
        let resend = if self.flow.transport.reliable() { Time::NEVER } else { now + T1 };
        self.pending = Some(Pending { deadline: now + self.monitor.timeout, resend, wait: T1 });
        self.send(out);
    }

    fn resend(&mut self, now: Time, out: &mut Out) {
        if let Some(pending) = &mut self.pending
            && now >= pending.resend
        {
            // RFC 3261 §17.1.2.2, Timer E: MIN(2*T1, T2).
            pending.wait = (pending.wait * 2).min(T2);
            pending.resend = now + pending.wait;
            self.send(out);
        }
    }

    /// RFC 3261 §17.1.2.2: after a provisional response Timer E runs at T2. Only a final one ends the probe.
    fn proceeding(&mut self, now: Time) {
        if let Some(pending) = &mut self.pending
            && pending.resend != Time::NEVER
        {
            pending.wait = T2;
            pending.resend = now + T2;
        }
    }

    fn send(&self, out: &mut Out) {
        out.send(self.flow, |arena| {
            arena.extend_from_slice(self.message.as_bytes());
            true
        });
    }
}

/// What is unique about a probe.
#[derive(Clone, Copy, Debug)]
struct Name {
    node: NodeId,
    incarnation: u64,
    number: u64,
    seed: u64,
}

impl Name {
    fn branch(self, to: &mut String) {
        put(to, format_args!("{MARK}{:x}.{:x}.{:x}", self.node.0, self.incarnation, self.number));
    }

    fn tag(self) -> u64 {
        table_hash(self.seed ^ self.incarnation, &self.number.to_le_bytes())
    }
}

/// RFC 3261 §11.1: an OPTIONS outside of a dialog.
fn write_options(to: &mut String, authority: &str, flow: Flow, name: Name, branch: &str, identities: &Identities) {
    let local = identities.by_local(flow.transport, flow.local).map_or(flow.local, |id| identities.get(id).addr);
    let transport = match flow.transport {
        Transport::Udp => "",
        Transport::Tcp => ";transport=tcp",
        Transport::Tls => ";transport=tls",
    };
    let (via, tag, unique, host) = (flow.transport.via(), name.tag(), &branch[MARK.len()..], local.ip());
    put(to, format_args!("OPTIONS sip:{authority}{transport} SIP/2.0\r\n"));
    put(to, format_args!("Via: SIP/2.0/{via} {local};branch={branch}\r\nMax-Forwards: 70\r\n"));
    put(to, format_args!("From: <sip:{local}>;tag={tag:x}\r\nTo: <sip:{authority}>\r\n"));
    put(to, format_args!("Call-ID: {unique}@{host}\r\nCSeq: 1 OPTIONS\r\n"));
    put(to, format_args!("Contact: <sip:{local}{transport}>\r\nAccept: application/sdp\r\nContent-Length: 0\r\n\r\n"));
}

fn put(to: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to memory cannot fail.
    let _ = to.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ListenerId;
    use crate::identity::Identity;
    use crate::sip::{Index, Name as Field};

    const SECOND: Duration = Duration::from_secs(1);
    const T0: Time = Time::from_micros(5_000_000);

    fn monitor(interval: Duration, timeout: Duration) -> Monitor {
        Monitor { interval, timeout, down_after: 3, up_after: 2 }
    }

    fn route(transport: Transport, remote: &str) -> Route {
        let local = "192.0.2.1:5060".parse().unwrap();
        let flow = Flow { transport, listener: ListenerId(0), local, remote: remote.parse().unwrap(), conn: None };
        Route { authority: remote.into(), flow, stream: None, own: None }
    }

    fn identities() -> Identities {
        let local = "192.0.2.1:5060".parse().unwrap();
        Identities::new([Transport::Udp, Transport::Tcp].map(|t| Identity::new(t, local, ListenerId(0))))
    }

    struct World {
        prober: Prober,
        out: Out,
        results: Vec<(ResourceId, Probe)>,
    }

    impl World {
        fn with(targets: Vec<(ResourceId, Route, Monitor)>) -> Self {
            let mut prober = Prober::new(NodeId(7), 0xabcd, 42);
            prober.configure(T0, targets.into_iter());
            World { prober, out: Out::new(), results: Vec::new() }
        }

        fn one(interval: Duration, timeout: Duration) -> Self {
            let route = route(Transport::Udp, "198.51.100.1:5070");
            Self::with(vec![(ResourceId(1), route, monitor(interval, timeout))])
        }

        /// Moves to the next timeout and serves it; what was sent then.
        fn step(&mut self) -> (Time, Vec<String>) {
            let now = self.prober.next_timeout().unwrap();
            (now, self.serve(now))
        }

        fn serve(&mut self, now: Time) -> Vec<String> {
            self.out.clear();
            self.prober.handle_timeout(now, &mut self.out, &identities(), &mut self.results);
            let text = |t| String::from_utf8(self.out.bytes(t).to_vec()).unwrap();
            self.out.transmits.iter().map(text).collect()
        }

        fn answer(&mut self, now: Time, request: &str, status: &str, extra: &str) -> Option<(ResourceId, Probe)> {
            let kept = ["Via", "From", "To", "Call-ID", "CSeq"];
            let lines = request.lines().filter(|l| kept.iter().any(|k| l.starts_with(&format!("{k}:"))));
            let head: String = lines.map(|l| format!("{l}\r\n")).collect();
            let response = format!("SIP/2.0 {status}\r\n{head}{extra}Content-Length: 0\r\n\r\n");
            let mut index = Index::new();
            index.parse(response.as_bytes()).unwrap();
            self.prober.handle_response(now, &index.message(response.as_bytes()), &mut self.results);
            self.results.pop()
        }
    }

    fn branch(request: &str) -> &str {
        request.split_once("branch=").unwrap().1.lines().next().unwrap()
    }

    #[test]
    fn a_probe_is_a_sound_request_of_its_own() {
        let mut world = World::one(SECOND, SECOND / 2);
        let (start, sent) = world.step();
        assert!(start >= T0 && start <= T0 + SECOND);
        let transmit = &world.out.transmits[0];
        assert_eq!(transmit.flow, route(Transport::Udp, "198.51.100.1:5070").flow);
        let mut index = Index::new();
        index.parse(sent[0].as_bytes()).unwrap();
        let message = index.message(sent[0].as_bytes());
        assert_eq!(message.method(), Method::Options);
        assert_eq!(message.request_uri(), b"sip:198.51.100.1:5070");
        assert_eq!(message.via().sent_by, b"192.0.2.1:5060");
        assert!(Prober::owns(message.via().branch.unwrap()));
        assert_eq!(message.via().branch.unwrap(), b"z9hG4bKprobe.7.abcd.1");
        assert_eq!((message.max_forwards(), message.cseq().number), (Some(70), 1));
        assert_eq!(message.to().uri, b"sip:198.51.100.1:5070");
        assert_eq!(message.to_tag(), None);
        assert!(!message.from_tag().is_empty());
        assert_eq!(message.header(Field::ContentLength).unwrap().value, b"0");
        assert!(sent[0].contains("\r\nAccept: application/sdp\r\n"));
        assert!(sent[0].contains("\r\nContact: <sip:192.0.2.1:5060>\r\n"));
    }

    #[test]
    fn branch_call_id_and_tag_are_never_used_twice() {
        let mut world = World::one(SECOND, SECOND / 2);
        let field = |request: &str, name: &str| request.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..50 {
            let (now, sent) = world.step();
            for text in [branch(&sent[0]).to_owned(), field(&sent[0], "Call-ID"), field(&sent[0], "From")] {
                assert!(seen.insert(text.clone()), "{text} came twice");
            }
            assert_eq!(world.answer(now, &sent[0], "200 OK", ""), Some((ResourceId(1), Probe::Answered)));
        }
    }

    #[test]
    fn answers_tell_life_overload_and_silence() {
        let mut world = World::one(SECOND, SECOND / 2);
        for (status, extra, probe) in [
            ("200 OK", "", Probe::Answered),
            ("404 Not Found", "", Probe::Answered),
            ("405 Method Not Allowed", "", Probe::Answered),
            ("486 Busy Here", "", Probe::Answered),
            ("500 Server Internal Error", "", Probe::Answered),
            ("501 Not Implemented", "", Probe::Answered),
            ("503 Service Unavailable", "Retry-After: 30\r\n", Probe::Overloaded(Some(SECOND * 30))),
            ("503 Service Unavailable", "", Probe::Overloaded(None)),
            ("408 Request Timeout", "", Probe::Failed),
        ] {
            let (now, sent) = world.step();
            assert_eq!(world.answer(now, &sent[0], status, extra), Some((ResourceId(1), probe)), "{status}");
            assert_eq!(world.answer(now, &sent[0], status, extra), None, "a repeated answer says nothing new");
            assert_eq!(world.prober.next_timeout(), Some(now + SECOND));
        }
    }

    #[test]
    fn silence_fails_at_the_timeout_and_a_late_answer_is_dropped() {
        let mut world = World::one(SECOND, SECOND / 2);
        let (start, first) = world.step();
        let (late, sent) = world.step();
        assert_eq!((late, sent.len()), (start + SECOND / 2, 0));
        assert_eq!(world.results, [(ResourceId(1), Probe::Failed)]);
        world.results.clear();
        assert_eq!(world.answer(late, &first[0], "200 OK", ""), None);
        let (again, second) = world.step();
        assert_eq!(again, start + SECOND);
        assert_eq!(
            world.answer(again, &first[0], "200 OK", ""),
            None,
            "an answer to the last probe is not one to this"
        );
        assert_ne!(branch(&first[0]), branch(&second[0]));
    }

    #[test]
    fn datagrams_are_sent_again_by_timer_e_with_the_same_octets() {
        let mut world = World::one(SECOND * 60, SECOND * 12);
        let (start, first) = world.step();
        let mut sent_at = Vec::new();
        while world.results.is_empty() {
            let (now, sent) = world.step();
            if let [again] = &sent[..] {
                assert_eq!(*again, first[0]);
                sent_at.push(now.since(start).as_millis());
            }
        }
        assert_eq!(sent_at, [500, 1_500, 3_500, 7_500, 11_500]);
        assert_eq!(world.prober.next_timeout(), Some(start + SECOND * 60));
    }

    #[test]
    fn a_provisional_response_slows_down_and_does_not_answer() {
        let mut world = World::one(SECOND * 60, SECOND * 8);
        let (start, sent) = world.step();
        assert_eq!(world.answer(start, &sent[0], "100 Trying", ""), None);
        assert_eq!(world.prober.next_timeout(), Some(start + T2));
    }

    #[test]
    fn streams_are_not_retransmitted_and_say_so_in_uri_and_via() {
        let route = route(Transport::Tcp, "[2001:db8::5]:5070");
        let mut world = World::with(vec![(ResourceId(1), route, monitor(SECOND * 60, SECOND * 8))]);
        let (start, sent) = world.step();
        assert!(sent[0].starts_with("OPTIONS sip:[2001:db8::5]:5070;transport=tcp SIP/2.0\r\n"));
        assert!(sent[0].contains("\r\nVia: SIP/2.0/TCP 192.0.2.1:5060;branch="));
        assert_eq!(world.prober.next_timeout(), Some(start + SECOND * 8));
    }

    #[test]
    fn what_cannot_be_delivered_fails_at_once() {
        let mut world = World::one(SECOND, SECOND / 2);
        let (start, sent) = world.step();
        world.prober.undelivered(b"z9hG4bKprobe.7.abcd.99", &mut world.results);
        assert_eq!(world.results, []);
        world.prober.undelivered(branch(&sent[0]).as_bytes(), &mut world.results);
        assert_eq!(world.results, [(ResourceId(1), Probe::Failed)]);
        assert_eq!(world.prober.next_timeout(), Some(start + SECOND));
    }

    #[test]
    fn who_slept_himself_judges_nobody_and_asks_again() {
        let mut world = World::one(SECOND, SECOND / 2);
        let (start, first) = world.step();
        let sent = world.serve(start + SECOND * 20);
        assert_eq!(world.results, []);
        assert_eq!(sent.len(), 1);
        assert_ne!(branch(&sent[0]), branch(&first[0]));
    }

    #[test]
    fn first_probes_are_spread_and_kept_targets_keep_their_rhythm() {
        let all = || {
            (1..=8).map(|n| {
                let route = route(Transport::Udp, &format!("198.51.100.{n}:5070"));
                (ResourceId(n), route, monitor(SECOND, SECOND / 2))
            })
        };
        let mut world = World::with(all().collect());
        let starts: std::collections::BTreeSet<Time> = world.prober.targets.iter().map(|t| t.due).collect();
        assert_eq!(starts.len(), 8);
        assert!(starts.iter().all(|s| *s >= T0 && *s <= T0 + SECOND));
        let (now, sent) = world.step();
        world.prober.configure(now, all());
        let again: std::collections::BTreeSet<Time> = world.prober.targets.iter().map(|t| t.due).collect();
        assert_eq!(again.len(), 8);
        assert!(world.answer(now, &sent[0], "200 OK", "").is_some(), "the running probe survived");
        world.prober.configure(now, all().take(0));
        assert_eq!(world.prober.next_timeout(), None);
    }
}
