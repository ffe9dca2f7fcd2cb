//! `tandem drill`: canary calls in every phase, an event, and what became of them. The agents are this program's own; the
//! pair is the operator's, and carries its calls meanwhile.

pub mod trouble;
mod mode;
mod report;
mod text;
mod json;
mod junit;
mod expect;
pub mod nodes;
mod event;
mod probe;
mod observer;
mod canaries;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use self::canaries::{Canaries, Field, NEW, local_to};
use self::event::Event;
use self::mode::Mode;
use self::nodes::Nodes;
use self::probe::{Probes, silence};
use self::report::{PhaseRow, Report};
use self::trouble::Trouble;
use crate::agent::hold::Hold;
use crate::cli::stage::bind_to;
use crate::cli::terminal::{FAILURE, SUCCESS, complain, say};
use crate::runtime::sys;

/// How long the node may take to find the media server up: its probes have to succeed first.
const UP: Duration = Duration::from_secs(30);
/// How long canaries may take into their phases.
const SETTLE: Duration = Duration::from_secs(10);
/// Probes before the event, so that their stream is known to be answered.
const WARM_UP: Duration = Duration::from_millis(200);
/// Over how long canaries go on, at least: some while nobody serves, some after that.
const SPREAD: Duration = Duration::from_secs(1);
/// At most: whoever waits for a final to a BYE does so for 64·T1.
const LONGEST_SPREAD: Duration = Duration::from_secs(8);
/// How long the nodes may take to be alike again.
const ALIKE: Duration = Duration::from_secs(5);
/// A limit further away is not tried.
const CROWD: u32 = 256;
/// Calls offered beyond a limit.
const BEYOND: u32 = 5;

/// The arguments of `tandem drill`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// What happens.
    #[arg(long, value_enum)]
    mode: Mode,
    /// Where the built-in media server listens: a resource of the node, in a group of its own.
    #[arg(long, value_name = "IP:PORT")]
    media_server: SocketAddr,
    /// Admin address of a node; twice for both.
    #[arg(long, value_name = "HOST:PORT", env = "TANDEM_ADMIN", default_value = "127.0.0.1:9090")]
    admin: Vec<String>,
    /// Admin address of the node to which it happens [default: the active one].
    #[arg(long, value_name = "HOST:PORT")]
    node: Option<String>,
    /// Where callers find the pair [default: its virtual IP, port 5060].
    #[arg(long, value_name = "IP:PORT")]
    target: Option<SocketAddr>,
    /// User part of the Request-URI, which chooses the group: annc, conf, cpd, dialog, msml, record.
    #[arg(long, default_value = "cpd")]
    user: String,
    /// Calls in each phase.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=50))]
    calls: u64,
    /// How long a partition or a slow peer lasts, seconds.
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// switch-mode: the new ha-mode.
    #[arg(long, value_name = "MODE")]
    to: Option<String>,
    /// T1 of the callers, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=10_000))]
    t1: u64,
    /// How the report is written.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Where to, instead of standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Do nothing; say what would be lost now.
    #[arg(long)]
    dry_run: bool,
    /// Go on although calls will be lost.
    #[arg(long)]
    force: bool,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One object.
    Json,
    /// JUnit XML.
    Junit,
}

/// Runs the drill. Exit code 0: no call was lost but those that were to be; 1: some were, or a limit was exceeded.
pub fn run(arguments: &Arguments) -> u8 {
    let drilled = drill(arguments).and_then(|report| tell(arguments, &report).map(|()| report));
    match drilled {
        Ok(report) if report.is_bad() => FAILURE,
        Ok(_) => SUCCESS,
        Err(why) => {
            complain(&format!("tandem drill: {why}"));
            why.code()
        }
    }
}

fn tell(arguments: &Arguments, report: &Report) -> Result<(), Trouble> {
    let shown = match arguments.format {
        Format::Text => text::text(report),
        Format::Json => json::json(report),
        Format::Junit => junit::junit(report),
    };
    match &arguments.output {
        None => say(&shown),
        Some(file) => std::fs::write(file, shown).map_err(Trouble::here(&file.display().to_string()))?,
    }
    Ok(())
}

fn drill(arguments: &Arguments) -> Result<Report, Trouble> {
    let Arguments { mode, media_server, calls, .. } = *arguments;
    let nodes = Nodes::ask(&arguments.admin, arguments.node.as_deref(), mode)?;
    let event = Event::new(mode, &nodes, arguments.seconds, arguments.to.as_deref())?;
    let all = calls * Hold::ALL.len() as u64;
    let limit = nodes.limit(media_server, all)?;
    let plan = planned(arguments, &nodes, limit);
    if arguments.dry_run {
        return Ok(plan);
    }
    let (_, _, expected) = plan.sums();
    if expected > 0 && !arguments.force {
        let why = nodes.status().pair.as_ref().map_or("it runs alone", |pair| pair.why_not.as_str());
        return Err(Trouble::Use(format!(
            "{} calls of this drill and {} of your own would be lost, for nobody can stand in for {} ({why}); arm the \
             pair, or say --force",
            expected,
            plan.own_calls_at_risk.ringing + plan.own_calls_at_risk.answered,
            nodes.admin()
        )));
    }
    let target = arguments.target.map_or_else(|| nodes.sip(), Ok)?;
    let caller = local_to(target).map_err(Trouble::here("no way to the target"))?;
    let (t1, run) = (Duration::from_millis(arguments.t1), format!("x{:x}", sys::now().as_micros()));
    let probes = bind_to(caller).and_then(|socket| Probes::start(socket, target, run.clone()));
    let probes = probes.map_err(Trouble::here("the probes"))?;
    let field = Field { target, server: media_server, caller, t1, user: arguments.user.clone(), run };
    let mut canaries = Canaries::open(field)?;
    let performed = perform(&mut canaries, &nodes, &event, &plan, arguments);
    let answers = probes.stop();
    let (at, end) = performed?;
    let divergence = canaries.beside(|| alike(&nodes))?;
    Ok(Report {
        phases: canaries.rows(expected > 0),
        takeover_ms: silence(at, end, &answers).map(|longest| longest.as_secs_f64() * 1_000.0),
        late_replies: canaries.observer().late(),
        retransmissions: canaries.observer().repeated(),
        most_calls: canaries.most(),
        overshoot: limit.map_or(0, |limit| canaries.most().saturating_sub(limit.into())),
        divergence,
        violations: canaries.violations(),
        dry_run: false,
        ..plan
    })
}

/// What is expected now.
fn planned(arguments: &Arguments, nodes: &Nodes, limit: Option<u32>) -> Report {
    let Arguments { mode, calls, .. } = *arguments;
    let lost = expect::lost(mode, nodes.status(), calls);
    let row = |phase, calls, lost| PhaseRow { phase, calls, lost, expected: lost, reasons: Vec::new() };
    let crowd = limit.filter(|limit| *limit <= CROWD).map_or(0, |limit| u64::from(limit + BEYOND));
    let new = (crowd > 0).then(|| row(NEW, crowd * 2, if lost > 0 { crowd * 2 } else { 0 }));
    Report {
        mode,
        dry_run: true,
        node: nodes.admin().to_owned(),
        own_calls_at_risk: expect::own(mode, nodes.status()),
        t1_ms: arguments.t1,
        phases: Hold::ALL.into_iter().map(|hold| row(hold.name(), calls, lost)).chain(new).collect(),
        takeover_ms: None,
        late_replies: 0,
        retransmissions: 0,
        most_calls: 0,
        limit,
        crowd,
        overshoot: 0,
        divergence: None,
        violations: Vec::new(),
    }
}

/// Canaries into their phases, the event, and canaries to their ends; when it happened, and when all was over.
fn perform(
    canaries: &mut Canaries,
    nodes: &Nodes,
    event: &Event,
    plan: &Report,
    arguments: &Arguments,
) -> Result<(crate::base::Time, crate::base::Time), Trouble> {
    let server = arguments.media_server;
    let end = sys::now() + UP;
    while !canaries.beside(|| nodes.is_up(server))? {
        if sys::now() >= end {
            return Err(Trouble::Use(format!(
                "the node does not find {server} up within {UP:?}: may its OPTIONS come here? `tandem resources` says more"
            )));
        }
        canaries.run_until(sys::now() + WARM_UP)?;
    }
    canaries.place(arguments.calls);
    canaries.run_until(sys::now() + WARM_UP)?;
    let happened = canaries.settle(SETTLE).and_then(|()| canaries.beside(|| event.happen())?);
    let at = match happened {
        Ok(at) => at,
        Err(why) => {
            canaries.give_up()?;
            return Err(why);
        }
    };
    canaries.mark(at);
    let lasts = if plan.mode.lasts() { Duration::from_secs(arguments.seconds) } else { SPREAD };
    let finished = canaries.finish(lasts.clamp(SPREAD, LONGEST_SPREAD), plan.crowd);
    // A fault that goes on must not be compared with.
    let healed = at + lasts;
    let over = finished.and_then(|()| canaries.run_until(healed)).map(|()| sys::now());
    canaries.beside(|| event.undo())??;
    Ok((at, over?))
}

/// How many calls differ once the nodes have had time to mend that.
fn alike(nodes: &Nodes) -> Option<u64> {
    let end = sys::now() + ALIKE;
    loop {
        let apart = nodes.divergence();
        if apart == Some(0) || sys::now() >= end {
            return apart;
        }
        std::thread::sleep(WARM_UP);
    }
}
