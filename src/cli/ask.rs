//! Commands that ask a running node: status, resources, calls, drain, resume, reload.

use std::fmt::Write;

use serde::de::DeserializeOwned;

use super::http;
use super::table::{Align, duration, printable, table};
use super::terminal::{CONFIG, FAILURE, SUCCESS, UNREACHABLE, complain, say};
use crate::report::{Answer, CallRow, GroupRow, Phase, ResourceRow, Status};

/// Rows of trouble that `status` shows; more are counted, so that it stays one screen.
const TROUBLE: usize = 10;
/// Characters of a name in a table.
const NAME: usize = 48;

/// Where to ask, and how to show the answer.
#[derive(Clone, Debug, clap::Args)]
pub struct Target {
    /// Address of the node's admin listener.
    #[arg(long, value_name = "HOST:PORT", env = "TANDEM_ADMIN", default_value = "127.0.0.1:9090")]
    pub admin: String,
}

/// How to show an answer.
#[derive(Clone, Debug, clap::Args)]
pub struct View {
    #[command(flatten)]
    target: Target,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

/// `tandem status`.
pub fn status(view: &View) -> u8 {
    show(view, "/api/status", |status: Status| status_screen(&status))
}

/// `tandem resources`.
pub fn resources(view: &View) -> u8 {
    show(view, "/api/resources", |rows: Vec<ResourceRow>| resource_table(&rows))
}

/// `tandem calls`.
pub fn calls(view: &View, limit: usize) -> u8 {
    show(view, &format!("/api/calls?limit={limit}"), |rows: Vec<CallRow>| call_table(&rows))
}

/// `tandem drain`, `resume`, `reload`: the name of the order is its path.
pub fn order(target: &Target, name: &str) -> u8 {
    let reply = match http::ask(&target.admin, "POST", &format!("/api/{name}")) {
        Ok(reply) => reply,
        Err(why) => return unreachable(target, &why),
    };
    let Ok(answer) = serde_json::from_str::<Answer>(&reply.body) else { return odd(target, &reply) };
    for line in &answer.done {
        say(&format!("{line}\n"));
    }
    for error in &answer.errors {
        complain(error);
    }
    match (answer.errors.is_empty(), name) {
        (true, _) => SUCCESS,
        (false, "reload") => CONFIG,
        (false, _) => FAILURE,
    }
}

fn show<T: DeserializeOwned>(view: &View, path: &str, human: impl FnOnce(T) -> String) -> u8 {
    let reply = match http::ask(&view.target.admin, "GET", path) {
        Ok(reply) => reply,
        Err(why) => return unreachable(&view.target, &why),
    };
    let rows = serde_json::from_str::<T>(&reply.body);
    match (reply.status, rows) {
        (200, Ok(_)) if view.json => say(&format!("{}\n", reply.body)),
        (200, Ok(rows)) => say(&human(rows)),
        _ => return odd(&view.target, &reply),
    }
    SUCCESS
}

fn unreachable(target: &Target, why: &str) -> u8 {
    complain(&format!("no node at {}: {why}", target.admin));
    complain("Is it running, and is this its [admin] listen? Another one: --admin HOST:PORT or TANDEM_ADMIN.");
    UNREACHABLE
}

fn odd(target: &Target, reply: &http::Answer) -> u8 {
    let first = reply.body.lines().next().unwrap_or_default();
    complain(&format!("{} answered {}: {}", target.admin, reply.status, printable(first, 200)));
    FAILURE
}

fn status_screen(status: &Status) -> String {
    let Status { version, cluster, node, epoch, ha_mode, calls, ringing, .. } = status;
    let state = match status.phase {
        Phase::Serving => "SERVING",
        Phase::Draining => "DRAINING (new calls get 503; `tandem resume` ends it)",
        Phase::Stopping => "STOPPING (new calls get 503; ends with its calls)",
    };
    let up = duration(status.uptime_seconds);
    let loss = status.loss_if_failed_now;
    let mut text = format!(
        "node {node} of {cluster}: {state}\n\
         up {up}, ha-mode {ha_mode}, epoch {epoch}, tandem {version}\n\
         calls {calls}, ringing {ringing}\n\
         if this node failed now: {} ringing calls lost, {} answered calls wait for its return\n",
        loss.ringing, loss.answered,
    );
    text.push('\n');
    text.push_str(&group_table(status));
    text.push_str(&trouble(&status.trouble));
    if let Some(reload) = &status.reload {
        let word = if reload.applied { "applied" } else { "refused, the old configuration is in force" };
        let _infallible = writeln!(text, "\nlast reload {} ago: {word}", duration(reload.age_seconds));
        for line in reload.errors.iter().take(TROUBLE) {
            let _infallible = writeln!(text, "  {line}");
        }
    }
    text
}

fn group_table(status: &Status) -> String {
    let cells = |g: &GroupRow| {
        let percent = g.capacity.filter(|c| *c > 0).map(|c| format!("{}%", g.in_use * 100 / c));
        [
            printable(&g.name, NAME),
            format!("{}/{}", g.usable, g.members),
            g.in_use.to_string(),
            g.capacity.map_or_else(|| "unlimited".to_owned(), |c| c.to_string()),
            percent.unwrap_or_default(),
        ]
    };
    table(
        &[
            ("GROUP", Align::Left),
            ("USABLE", Align::Right),
            ("PORTS", Align::Right),
            ("CAPACITY", Align::Right),
            ("USED", Align::Right),
        ],
        &status.groups.iter().map(cells).collect::<Vec<_>>(),
    )
}

fn trouble(rows: &[ResourceRow]) -> String {
    if rows.is_empty() {
        return "\nall resources are up\n".to_owned();
    }
    let mut text = format!("\n{} not up:\n", rows.len());
    text.push_str(&resource_table(&rows[..rows.len().min(TROUBLE)]));
    if rows.len() > TROUBLE {
        let _infallible = writeln!(text, "... and {} more: tandem resources", rows.len() - TROUBLE);
    }
    text
}

fn resource_table(rows: &[ResourceRow]) -> String {
    let cells = |r: &ResourceRow| {
        [
            printable(&r.group, NAME),
            printable(&r.aor, NAME),
            r.health.clone(),
            r.in_use.to_string(),
            r.capacity.map_or_else(|| "unlimited".to_owned(), |c| c.to_string()),
            r.placed.to_string(),
            r.failed.to_string(),
            r.last_probe_seconds.map_or_else(|| "-".to_owned(), |s| format!("{s:.1} s ago")),
        ]
    };
    table(
        &[
            ("GROUP", Align::Left),
            ("RESOURCE", Align::Left),
            ("HEALTH", Align::Left),
            ("PORTS", Align::Right),
            ("CAPACITY", Align::Right),
            ("PLACED", Align::Right),
            ("FAILED", Align::Right),
            ("LAST PROBE", Align::Right),
        ],
        &rows.iter().map(cells).collect::<Vec<_>>(),
    )
}

fn call_table(rows: &[CallRow]) -> String {
    let cells = |r: &CallRow| {
        [
            r.id.clone(),
            r.state.clone(),
            duration(r.age_seconds),
            printable(&r.resource, NAME),
            printable(&r.call_id, NAME),
        ]
    };
    table(
        &[
            ("LEG", Align::Left),
            ("STATE", Align::Left),
            ("AGE", Align::Right),
            ("RESOURCE", Align::Left),
            ("CALL-ID", Align::Left),
        ],
        &rows.iter().map(cells).collect::<Vec<_>>(),
    )
}
