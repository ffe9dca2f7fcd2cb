//! Commands that ask a running node: status, resources, calls, orders, and about its peer.

use std::fmt::Write;

use serde::de::DeserializeOwned;

use super::http;
use super::pair;
use super::table::{Align, duration, printable, table};
use super::terminal::{CONFIG, FAILURE, SUCCESS, UNDER_WAY, UNREACHABLE, complain, say};
use crate::report::{Answer, CallRow, Diff, GroupRow, Loss, Phase, ResourceRow, Status};

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
    show(view, "/api/status", |status: &Status| status_screen(status))
}

/// `tandem resources`.
pub fn resources(view: &View) -> u8 {
    show(view, "/api/resources", |rows: &Vec<ResourceRow>| resource_table(rows))
}

/// `tandem calls`.
pub fn calls(view: &View, limit: usize) -> u8 {
    show(view, &format!("/api/calls?limit={limit}"), |rows: &Vec<CallRow>| call_table(rows))
}

/// `tandem peer check`.
pub fn peer_check(target: &Target) -> u8 {
    let reply = match http::ask(&target.admin, "GET", "/api/status") {
        Ok(reply) => reply,
        Err(why) => return unreachable(target, &why),
    };
    let Ok(status) = serde_json::from_str::<Status>(&reply.body) else { return odd(target, &reply) };
    let checks = pair::checks(&status);
    say(&pair::check_screen(&checks));
    if checks.iter().all(|check| check.fault.is_none()) { SUCCESS } else { FAILURE }
}

/// `tandem peer diff`.
pub fn peer_diff(view: &View) -> u8 {
    let mut differs = true;
    let code = show(view, "/api/peer/diff", |diff: &Diff| {
        differs = !diff.is_empty();
        pair::diff_screen(diff)
    });
    if code == SUCCESS && differs { FAILURE } else { code }
}

/// `tandem drain`, `resume`, `reload`, `switchover`, `peer declare-dead`: the name of the order is its path.
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
    match (reply.status, answer.errors.is_empty(), name) {
        // It goes on, or another one does.
        (202 | 409, ..) => UNDER_WAY,
        (_, true, _) => SUCCESS,
        (_, false, "reload") => CONFIG,
        (_, false, _) => FAILURE,
    }
}

/// Asks and shows the answer.
pub(super) fn show<T: DeserializeOwned>(view: &View, path: &str, human: impl FnOnce(&T) -> String) -> u8 {
    let reply = match http::ask(&view.target.admin, "GET", path) {
        Ok(reply) => reply,
        Err(why) => return unreachable(&view.target, &why),
    };
    let (rows, json) = (serde_json::from_str::<T>(&reply.body), format!("{}\n", reply.body));
    match (reply.status, rows) {
        (200, Ok(rows)) => {
            let text = human(&rows);
            say(if view.json { &json } else { &text });
        }
        _ => return odd(&view.target, &reply),
    }
    SUCCESS
}

/// Tells that nobody answers.
pub(super) fn unreachable(target: &Target, why: &str) -> u8 {
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
        Phase::Standby => "STANDBY (the other node takes calls)",
    };
    let up = duration(status.uptime_seconds);
    let loss = status.loss_if_failed_now;
    let lost = match (&status.pair, loss) {
        (None, _) => {
            format!("{} ringing calls lost, {} answered calls wait for its return", loss.ringing, loss.answered)
        }
        (Some(_), Loss { ringing: 0, answered: 0 }) => "no call lost".to_owned(),
        (Some(_), _) => format!("{} ringing and {} answered calls lost", loss.ringing, loss.answered),
    };
    let mut text = format!(
        "node {node} of {cluster}: {state}\n\
         up {up}, ha-mode {ha_mode}, epoch {epoch}, tandem {version}\n\
         calls {calls}, ringing {ringing}\n\
         if this node failed now: {lost}\n",
    );
    text.push_str(&status.pair.as_ref().map(pair::screen).unwrap_or_default());
    text.push('\n');
    text.push_str(&group_table(status));
    text.push_str(&trouble(&status.trouble, if status.pair.is_some() { TROUBLE / 2 } else { TROUBLE }));
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

fn trouble(rows: &[ResourceRow], most: usize) -> String {
    if rows.is_empty() {
        return "\nall resources are up\n".to_owned();
    }
    let mut text = format!("\n{} not up:\n", rows.len());
    text.push_str(&trouble_table(&rows[..rows.len().min(most)]));
    if rows.len() > most {
        let _infallible = writeln!(text, "... and {} more: tandem resources", rows.len() - most);
    }
    text
}

/// Narrower than [`resource_table`]: it has to fit a terminal of 80 columns.
fn trouble_table(rows: &[ResourceRow]) -> String {
    let cells = |r: &ResourceRow| {
        [printable(&r.aor, NAME), r.health.clone(), r.in_use.to_string(), probed(r), r.reason.clone()]
    };
    table(
        &[
            ("RESOURCE", Align::Left),
            ("HEALTH", Align::Left),
            ("PORTS", Align::Right),
            ("LAST PROBE", Align::Right),
            ("REASON", Align::Left),
        ],
        &rows.iter().map(cells).collect::<Vec<_>>(),
    )
}

fn probed(row: &ResourceRow) -> String {
    row.last_probe_seconds.map_or_else(|| "-".to_owned(), |s| format!("{s:.1} s ago"))
}

/// What an operator should know of a resource beside its state.
fn reason(row: &ResourceRow) -> String {
    match (row.debt, row.reason.as_str()) {
        (0, reason) => reason.to_owned(),
        (debt, "") => format!("{debt} ports above its capacity"),
        (debt, reason) => format!("{reason}; {debt} ports above its capacity"),
    }
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
            probed(r),
            reason(r),
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
            ("REASON", Align::Left),
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write as _};
    use std::net::TcpListener;

    use super::*;
    use crate::report::Reload;

    fn status() -> Status {
        let resource = |aor: &str, health: &str| ResourceRow {
            group: "MCP".into(),
            aor: aor.into(),
            health: health.into(),
            reason: "probes failed in a row".into(),
            capacity: Some(200),
            placed: 90,
            failed: 2,
            last_probe_seconds: Some(0.4),
            ..ResourceRow::default()
        };
        Status {
            version: "1.2.3".into(),
            cluster: "west".into(),
            node: 2,
            epoch: "7.2".into(),
            ha_mode: "none".into(),
            phase: Phase::Draining,
            uptime_seconds: 90_061,
            calls: 150,
            ringing: 3,
            loss_if_failed_now: Loss { ringing: 3, answered: 150 },
            pair: None,
            groups: vec![GroupRow { name: "MCP".into(), usable: 2, members: 3, in_use: 153, capacity: Some(600) }],
            trouble: vec![resource("sip:198.51.100.21:5070", "down")],
            reload: Some(Reload { errors: vec!["t.toml:3:1: no".into()], age_seconds: 5, ..Reload::default() }),
        }
    }

    #[test]
    fn one_screen_tells_what_matters_at_night() {
        let expected = "\
node 2 of west: DRAINING (new calls get 503; `tandem resume` ends it)
up 1d 01:01:01, ha-mode none, epoch 7.2, tandem 1.2.3
calls 150, ringing 3
if this node failed now: 3 ringing calls lost, 150 answered calls wait for its return

GROUP  USABLE  PORTS  CAPACITY  USED
MCP       2/3    153       600   25%

1 not up:
RESOURCE                HEALTH  PORTS  LAST PROBE  REASON
sip:198.51.100.21:5070  down        0   0.4 s ago  probes failed in a row

last reload 00:00:05 ago: refused, the old configuration is in force
  t.toml:3:1: no
";
        assert_eq!(status_screen(&status()), expected);
    }

    #[test]
    fn much_trouble_stays_one_screen() {
        let mut status = status();
        status.trouble = vec![status.trouble[0].clone(); 50];
        let screen = status_screen(&status);
        assert!(screen.contains("50 not up:") && screen.contains("... and 40 more: tandem resources"), "{screen}");
        assert!(screen.lines().count() <= 24, "{screen}");
    }

    /// Answers one request with `reply` and returns its first line.
    fn node(reply: &'static str) -> (Target, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = listener.local_addr().unwrap().to_string();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1_024];
            let read = stream.read(&mut request).unwrap();
            stream.write_all(reply.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..read]).lines().next().unwrap().to_owned()
        });
        (Target { admin }, served)
    }

    #[test]
    fn exit_codes_tell_apart_who_is_at_fault() {
        let (target, asked) = node("HTTP/1.0 200 OK\r\n\r\n{\"done\":[\"draining\"],\"errors\":[]}");
        assert_eq!(order(&target, "drain"), SUCCESS);
        assert_eq!(asked.join().unwrap(), "POST /api/drain HTTP/1.0");
        let (target, _) = node("HTTP/1.0 422 No\r\n\r\n{\"done\":[],\"errors\":[\"line 3\"]}");
        assert_eq!(order(&target, "reload"), CONFIG);
        let (target, _) = node("HTTP/1.0 202 Soon\r\n\r\n{\"done\":[\"it goes on\"],\"errors\":[]}");
        assert_eq!(order(&target, "reload"), UNDER_WAY);
        let (target, _) = node("HTTP/1.0 409 Now\r\n\r\n{\"done\":[],\"errors\":[\"a reload is under way\"]}");
        assert_eq!(order(&target, "reload"), UNDER_WAY);
        let (target, _) = node("HTTP/1.0 422 No\r\n\r\n{\"done\":[],\"errors\":[\"stopping\"]}");
        assert_eq!(order(&target, "resume"), FAILURE);
        let (target, asked) = node("HTTP/1.0 503 Late\r\n\r\nthe node does not answer\n");
        assert_eq!(calls(&View { target, json: false }, 5), FAILURE);
        assert_eq!(asked.join().unwrap(), "GET /api/calls?limit=5 HTTP/1.0");
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        assert_eq!(status_of_nobody(nobody), UNREACHABLE);
    }

    fn status_of_nobody(admin: String) -> u8 {
        super::status(&View { target: Target { admin }, json: true })
    }
}
