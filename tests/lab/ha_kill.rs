//! The active process is killed, or its host is cut off, at each message of a call. Caller and media server see what
//! they see without that.

use std::ops::RangeInclusive;
use std::time::Duration;

use tandem::agent::caller::Caller;
use tandem::agent::media_server::{Behaviour, MediaServer, Mood};
use tandem::agent::script::{Outcome, Plan as Script, Report, Step};

use crate::rig::actor::{self, Actor, Passed};
use crate::rig::lan;
use crate::rig::message::Message;
use crate::rig::pair::{CALLER, PATIENCE, Pair, Plan, SERVERS, VIP, sip};
use crate::rig::poll::until_true;
use crate::rig::view::{self, View};
use crate::rig::watch::Watch;
use crate::rig::world::World;

/// Who pulls the trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The caller, when it has sent the message.
    CallerSent,
    /// The caller, when the message has come.
    CallerSaw,
    /// The media server, when it has sent the message.
    ServerSent,
    /// The media server, when the message has come and was not answered yet.
    ServerSaw,
}
use At::{CallerSaw, CallerSent, ServerSaw, ServerSent};

/// A position: who, which message (method; 0 for the request, else the status of the response), and the CSeq number
/// that tells an INVITE from a re-INVITE; 0 for any.
type Position = (At, &'static str, u16, u32);

/// Of a call that is answered and has requests inside.
const ANSWERED: &[Position] = &[
    (CallerSent, "INVITE", 0, 1),
    (ServerSaw, "INVITE", 0, 1),
    (ServerSent, "INVITE", 100, 1),
    (CallerSaw, "INVITE", 100, 1),
    (ServerSent, "INVITE", 180, 1),
    (CallerSaw, "INVITE", 180, 1),
    (CallerSent, "PRACK", 0, 0),
    (ServerSaw, "PRACK", 0, 0),
    (ServerSent, "PRACK", 200, 0),
    (CallerSaw, "PRACK", 200, 0),
    (ServerSent, "INVITE", 200, 1),
    (CallerSaw, "INVITE", 200, 1),
    (CallerSent, "ACK", 0, 1),
    (ServerSaw, "ACK", 0, 1),
    (CallerSent, "INVITE", 0, 3),
    (ServerSaw, "INVITE", 0, 3),
    (ServerSent, "INVITE", 200, 3),
    (CallerSaw, "INVITE", 200, 3),
    (CallerSent, "ACK", 0, 3),
    (ServerSaw, "ACK", 0, 3),
    (CallerSent, "UPDATE", 0, 0),
    (ServerSaw, "UPDATE", 0, 0),
    (ServerSent, "UPDATE", 200, 0),
    (CallerSaw, "UPDATE", 200, 0),
    (CallerSent, "INFO", 0, 0),
    (ServerSaw, "INFO", 0, 0),
    (ServerSent, "INFO", 200, 0),
    (CallerSaw, "INFO", 200, 0),
    (CallerSent, "BYE", 0, 0),
    (ServerSaw, "BYE", 0, 0),
    (ServerSent, "BYE", 200, 0),
    (CallerSaw, "BYE", 200, 0),
];

/// Of a REFER inside a call and the NOTIFY of its end.
const REFERRED: &[Position] = &[
    (CallerSent, "REFER", 0, 0),
    (ServerSaw, "REFER", 0, 0),
    (ServerSent, "REFER", 202, 0),
    (CallerSaw, "REFER", 202, 0),
    (ServerSent, "NOTIFY", 0, 0),
    (CallerSaw, "NOTIFY", 0, 0),
    (CallerSent, "NOTIFY", 200, 0),
    (ServerSaw, "NOTIFY", 200, 0),
];

/// Of a call that the caller gives up.
const CANCELLED: &[Position] = &[
    (CallerSent, "CANCEL", 0, 0),
    (CallerSaw, "CANCEL", 200, 0),
    (ServerSaw, "CANCEL", 0, 0),
    (ServerSent, "CANCEL", 200, 0),
    (ServerSent, "INVITE", 487, 1),
    (CallerSaw, "INVITE", 487, 1),
    (CallerSent, "ACK", 0, 1),
    (ServerSaw, "ACK", 0, 1),
];

/// Of the end of a call whose media server ends it.
const HUNG_UP: &[Position] =
    &[(ServerSent, "BYE", 0, 0), (CallerSaw, "BYE", 0, 0), (CallerSent, "BYE", 200, 0), (ServerSaw, "BYE", 200, 0)];

/// What happens to the active node at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL of its process.
    Kill,
    /// Every cable of its host.
    Host,
}

/// Positions at which a host is lost. To pull cables takes milliseconds: whoever has just seen the message goes on after
/// that, so what it says next is the first that is lost. Three to a pair: the fourth claim on silence within a minute
/// waits, so that a bad network does not make the address flap.
const HOST_LOST: &[[Position; 3]] = &[
    [(ServerSaw, "INVITE", 0, 1), (CallerSaw, "INVITE", 180, 1), (CallerSaw, "INVITE", 200, 1)],
    [(ServerSaw, "INVITE", 0, 3), (ServerSaw, "INFO", 0, 0), (ServerSaw, "BYE", 0, 0)],
];

/// Likewise of a call that the caller gives up.
const HOST_LOST_CANCELLED: &[Position] =
    &[(ServerSaw, "INVITE", 0, 1), (CallerSaw, "INVITE", 180, 1), (ServerSaw, "CANCEL", 0, 0)];

/// Runs of each position: one where time is short, five in a full run.
fn runs() -> usize {
    if std::env::var_os("TANDEM_LAB_FULL").is_some() { 5 } else { 1 }
}

fn is((_, method, status, cseq): Position, message: &Message) -> bool {
    let kind = if status == 0 { message.status().is_none() } else { message.status() == Some(status) };
    kind && message.method() == method && (cseq == 0 || message.cseq().0 == cseq)
}

/// An answered call: PRACK, re-INVITE, UPDATE, INFO, BYE, each long enough after the one before that a takeover and a
/// retransmission fit in between.
fn answered() -> Script {
    let pause = Duration::from_millis(300);
    let steps = [Step::ReInvite, Step::Update, Step::Info].map(|step| (pause, step)).to_vec();
    Script { extra: "Supported: 100rel\r\n".to_owned(), hold: pause, steps, ..Script::default() }
}

fn referred() -> Script {
    let pause = Duration::from_millis(300);
    Script { hold: pause, steps: vec![(pause, Step::Refer)], ..Script::default() }
}

fn cancelled() -> Script {
    Script { cancel_after: Some(Duration::from_millis(300)), ..Script::default() }
}

fn hung_up() -> Script {
    let (hang_up_after, hold) = (Some(Duration::from_millis(300)), Duration::from_secs(30));
    Script { hang_up_after, hold, ..Script::default() }
}

/// How many end events the survivor of a kill has to tell of one answered call. The final to a BYE leaves after the end
/// is recorded at the peer, so whoever has seen it knows that the killed node has told the end.
fn ends_after(position: Position, answered: bool) -> RangeInclusive<u64> {
    match position {
        _ if !answered => 0..=0,
        (CallerSaw | ServerSaw, "BYE", 200, _) => 0..=0,
        // The kill and the final of the BYE race.
        (CallerSent | ServerSent, "BYE", 200, _) => 0..=1,
        _ => 1..=1,
    }
}

/// What both ends saw of one call.
struct Seen {
    report: Report,
    caller: View,
    server: View,
    /// How many media servers heard of it.
    placed: usize,
    /// End events that the node told which lives from begin to end of it, and of both if both do.
    ends: u64,
}

/// A pair between one caller and two media servers.
struct Stage<'w> {
    pair: Pair<'w>,
    fault: Fault,
    caller: Actor<Caller>,
    servers: Vec<Actor<MediaServer>>,
    watch: Watch,
}

impl Stage<'_> {
    fn new(world: &World) -> Option<Stage<'_>> {
        let plan = Plan::new(world, "10")?;
        let host = &plan.field.servers;
        let servers: Vec<_> = ["ma", "mb"]
            .iter()
            .zip(SERVERS)
            .map(|(name, ip)| actor::media_server(host, name, sip(ip), Behaviour::default()))
            .collect();
        let caller = actor::caller(&plan.field.callers, "uac", sip(CALLER), sip(VIP));
        let watch = Watch::over(&plan.field.callers);
        Some(Stage { pair: plan.start(world), fault: Fault::Kill, caller, servers, watch })
    }

    fn behave(&self, answer_after: Duration) {
        let behaviour = Behaviour { answer_after, ..Behaviour::default() };
        self.servers.iter().for_each(|server| server.with(|agent, _, _| agent.behave(behaviour)));
    }

    /// One call from begin to end, and what both ends saw of it. `kill`: the active process goes at that position.
    fn call(&mut self, script: &Script, kill: Option<Position>) -> Seen {
        let active = self.pair.until_armed();
        let fault = self.fault;
        let ends = |pair: &Pair<'_>| {
            let ended = |n: usize| pair.nodes[n].metrics().sum("tandem_calls_ended_total") as u64;
            if kill.is_some() && fault == Fault::Kill { ended(1 - active) } else { ended(0) + ended(1) }
        };
        let before = ends(&self.pair);
        let call_id = self.caller.with(|caller, _, _| caller.next_call_id());
        let fits = |position: Position, sent: bool| {
            let call_id = call_id.clone();
            move |p: &Passed| p.sent == sent && p.message.call_id() == call_id && is(position, &p.message)
        };
        let shoot = self.fault(active);
        let fired: Vec<_> = match kill {
            None => Vec::new(),
            Some(position @ (CallerSent | CallerSaw, ..)) => {
                vec![self.caller.when(fits(position, position.0 == CallerSent), shoot)]
            }
            Some(position) => {
                let hook =
                    |server: &Actor<MediaServer>| server.when(fits(position, position.0 == ServerSent), shoot.clone());
                self.servers.iter().map(hook).collect()
            }
        };
        self.caller.call(script.clone());
        let report = self.caller.finish(&format!("the end of the call, {kill:?}"), PATIENCE).remove(0);
        if kill.is_some() {
            until_true(&format!("the kill at {kill:?}"), PATIENCE, || fired.iter().any(|fired| fired.yes()));
            self.servers.iter().for_each(Actor::unhook);
            if fault == Fault::Kill {
                self.pair.nodes[active].process.wait(PATIENCE);
            }
            self.pair.until_active(1 - active);
        }
        self.settle(&call_id, script);
        if kill.is_some() {
            self.recover(active);
        }
        let ends = ends(&self.pair) - before;
        Seen { ends, ..self.seen(&call_id, report) }
    }

    /// What makes the fault happen to the active node.
    fn fault(&self, active: usize) -> impl FnOnce() + Clone + Send + use<> {
        let (fault, pid) = (self.fault, self.pair.nodes[active].process.pid());
        let cables = [self.pair.field.cables[active].clone(), self.pair.field.seconds[active].clone()];
        move || match fault {
            Fault::Kill => lan::kill(pid),
            Fault::Host => cables.iter().for_each(|cable| cable.cut()),
        }
    }

    /// Brings back the node to which it happened.
    fn recover(&mut self, n: usize) {
        match self.fault {
            Fault::Kill => self.pair.revive(n),
            Fault::Host => [&self.pair.field.cables[n], &self.pair.field.seconds[n]].iter().for_each(|c| c.heal()),
        }
        assert_eq!(self.pair.until_armed(), 1 - n, "who comes back does not take the role");
        if self.fault == Fault::Kill {
            let ended = self.pair.nodes[n].metrics().sum("tandem_calls_ended_total");
            assert_eq!(ended, 0.0, "who comes back tells no end of what it carried before");
        }
    }

    /// Waits until the last message of the call has come to the media server.
    fn settle(&self, call_id: &str, script: &Script) {
        let last = |p: &Passed| {
            let is_last = match script {
                Script { cancel_after: Some(_), .. } => p.message.asks("ACK"),
                Script { hang_up_after: Some(_), .. } => p.message.answers(200, "BYE"),
                _ => p.message.asks("BYE"),
            };
            !p.sent && p.message.call_id() == call_id && is_last
        };
        let cancelled = |p: &Passed| {
            let answer = !p.sent && p.message.status() == Some(200) && p.message.cseq().1 == "CANCEL";
            p.message.call_id() == call_id && answer
        };
        until_true(&format!("the last message of {call_id}"), PATIENCE, || {
            let told = script.cancel_after.is_none() || self.caller.passed().iter().any(cancelled);
            told && self.servers.iter().any(|server| server.passed().iter().any(last))
        });
    }

    fn seen(&self, call_id: &str, report: Report) -> Seen {
        let of = |ip| [format!("{ip}:5060"), format!("c=IN IP4 {ip}")];
        let names: Vec<String> = SERVERS.into_iter().flat_map(of).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).chain(["sip:ma@", "sip:mb@"]).collect();
        let heard: Vec<_> = self.servers.iter().map(|server| server.passed()).collect();
        let views: Vec<View> = heard.iter().map(|passed| View::of(passed, call_id, &names)).collect();
        for passed in &heard {
            let twice: Vec<_> = view::branches(passed, call_id).into_iter().filter(|(_, b)| b.len() > 1).collect();
            assert!(twice.is_empty(), "sent anew instead of once more: {twice:?}");
        }
        Seen {
            report,
            caller: View::of(&self.caller.passed(), call_id, &names),
            ends: 0,
            placed: views.iter().filter(|view| !view.is_empty()).count(),
            server: views.into_iter().fold(View::default(), View::join),
        }
    }

    /// Runs all positions and compares each run with the one without a kill.
    fn run(&mut self, script: &Script, outcome: Outcome, positions: &[Position]) {
        let without = self.call(script, None);
        let ends = u64::from(outcome == Outcome::Completed);
        let seen = (without.report.outcome, without.placed, without.ends);
        assert_eq!(seen, (outcome, 1, ends), "{}", without.caller);
        let mut elsewhere = 0;
        let runs = if self.fault == Fault::Kill { runs() } else { 1 };
        for position in positions {
            for _ in 0..runs {
                let with = self.call(script, Some(*position));
                assert_eq!(with.report.outcome, outcome, "killed at {position:?}: {:?}\n{}", with.report, with.caller);
                assert!(with.report.refused.is_empty(), "killed at {position:?}: {:?}", with.report);
                let told = match self.fault {
                    Fault::Kill => ends_after(*position, outcome == Outcome::Completed),
                    // Who is cut off and lives may tell an end that nobody hears of, in its own epoch.
                    Fault::Host if outcome == Outcome::Completed => 1..=2,
                    Fault::Host => 0..=0,
                };
                assert!(told.contains(&with.ends), "killed at {position:?}: {} ends told, not {told:?}", with.ends);
                view::assert_same(&format!("the caller, killed at {position:?}"), &with.caller, &without.caller);
                if with.placed == 1 {
                    view::assert_same(&format!("the server, killed at {position:?}"), &with.server, &without.server);
                } else {
                    // Before the caller has heard anything the record may not have been acknowledged.
                    assert_eq!(*position, ANSWERED[0], "another media server although the record was acknowledged");
                    elsewhere += 1;
                }
            }
        }
        println!(
            "{} positions, {} times {:?}, {elsewhere} calls placed again",
            positions.len(),
            positions.len() * runs,
            self.fault
        );
        self.pair.until_armed();
        self.pair.until_idle();
        self.watch.assert_no_icmp_to(CALLER);
        assert_eq!(self.caller.violations(), Vec::<String>::new());
        for server in &self.servers {
            assert_eq!(server.violations(), Vec::<String>::new());
        }
    }
}

#[test]
fn an_answered_call_outlives_a_kill_at_each_of_its_messages() {
    let world = World::new("ha-kill");
    let Some(mut stage) = Stage::new(&world) else { return };
    stage.behave(Duration::from_millis(300));
    stage.run(&answered(), Outcome::Completed, ANSWERED);
}

#[test]
fn a_call_that_is_referred_outlives_a_kill_at_each_message_of_it() {
    let world = World::new("ha-refer");
    let Some(mut stage) = Stage::new(&world) else { return };
    stage.behave(Duration::from_millis(50));
    stage.run(&referred(), Outcome::Completed, REFERRED);
}

#[test]
fn an_answered_call_outlives_the_loss_of_a_host_at_its_messages() {
    let world = World::new("ha-host-lost");
    for positions in HOST_LOST.iter().cycle().take(HOST_LOST.len() * runs()) {
        let Some(mut stage) = Stage::new(&world) else { return };
        stage.fault = Fault::Host;
        stage.behave(Duration::from_millis(300));
        stage.run(&answered(), Outcome::Completed, positions);
    }
}

#[test]
fn a_cancelled_call_outlives_the_loss_of_a_host_at_its_messages() {
    let world = World::new("ha-host-cancel");
    for _ in 0..runs() {
        let Some(mut stage) = Stage::new(&world) else { return };
        stage.fault = Fault::Host;
        stage.behave(Duration::from_secs(10));
        stage.run(&cancelled(), Outcome::Cancelled, HOST_LOST_CANCELLED);
    }
}

#[test]
fn a_cancelled_call_outlives_a_kill_at_each_of_its_messages() {
    let world = World::new("ha-cancel");
    let Some(mut stage) = Stage::new(&world) else { return };
    stage.behave(Duration::from_secs(10));
    stage.run(&cancelled(), Outcome::Cancelled, CANCELLED);
}

#[test]
fn a_call_that_its_media_server_ends_outlives_a_kill_at_each_message_of_its_end() {
    let world = World::new("ha-hung-up");
    let Some(mut stage) = Stage::new(&world) else { return };
    stage.behave(Duration::from_millis(50));
    stage.run(&hung_up(), Outcome::Completed, HUNG_UP);
}

/// The first media server refuses; the process goes when the refusal is out, before or after it was handled.
#[test]
fn a_call_between_two_media_servers_outlives_a_kill() {
    let world = World::new("ha-next");
    let Some(mut stage) = Stage::new(&world) else { return };
    let refusing = Behaviour { mood: Mood::Refusing(500, None), ..Behaviour::default() };
    stage.servers[0].with(|agent, _, _| agent.behave(refusing));
    for _ in 0..runs() {
        let active = stage.pair.until_armed();
        let pid = stage.pair.nodes[active].process.pid();
        let refused = |p: &Passed| p.sent && p.message.answers(500, "INVITE");
        let fired = stage.servers[0].when(refused, move || lan::kill(pid));
        // Round robin: one of two calls meets the refusing one first.
        for _ in 0..2 {
            let call_id = stage.caller.call(Script { hold: Duration::from_millis(500), ..Script::default() });
            let report = stage.caller.finish("the end of the call", PATIENCE).remove(0);
            assert_eq!(report.outcome, Outcome::Completed, "{report:?}");
            let invited = |p: &Passed| !p.sent && p.message.asks("INVITE") && p.message.call_id() == call_id;
            assert!(stage.servers[1].passed().iter().any(invited), "the sound one was asked");
        }
        assert!(fired.yes(), "the refusing one was asked first");
        stage.pair.nodes[active].process.wait(PATIENCE);
        stage.pair.revive(active);
    }
    stage.pair.until_armed();
    stage.pair.until_idle();
    stage.watch.assert_no_icmp_to(CALLER);
    let invites = |server: &Actor<MediaServer>| server.with(|agent, _, _| agent.tally().invited);
    assert_eq!(invites(&stage.servers[1]), 2 * runs() as u64, "the grant moved on; nobody was asked twice");
}
