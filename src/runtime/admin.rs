//! The admin listener: metrics, health and the API of the command line, on an address and a thread of their own.
//! Nothing here is on the way of a call: a client that hangs holds one of a few places until its time is up, and a
//! node that does not answer costs a 503 here.
//!
//! There is no authentication: the listener belongs on loopback or a management network. Orders from web pages are
//! refused (they carry an `Origin`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, Request, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE, ORIGIN};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::TcpListener;

use super::metrics::{Edge, Exporter, Sample};
use crate::base::{NodeId, limits};
use crate::cluster::HaMode;
use crate::report::{self, Answer, CallRow, Diff, ModePlan, PairRow, Phase, Reload, ResourceRow, Status};
use crate::runtime::fault::Fault;
use crate::runtime::questions::{Questions, Unanswered};
use crate::runtime::visitors::Door;

/// Rows of `/api/calls` when the request names no limit.
const DEFAULT_ROWS: usize = 100;

/// The running node, as the admin listener sees it.
pub trait Observed: Send + Sync + 'static {
    /// Everything at this instant. May take the node's locks.
    fn sample(&self) -> Sample;
    /// Up to `limit` calls. May take the node's locks.
    fn calls(&self, limit: usize) -> Vec<CallRow>;
    /// Carries out an order of an operator. May take the node's locks and read files.
    fn order(&self, order: Order) -> Answer;
    /// The last reload. Never waits for the node.
    fn last_reload(&self) -> Option<Reload>;
    /// Whether the workers turn; if not, what stands still. Never waits for the node.
    fn turning(&self) -> Result<(), String>;
    /// Whether new calls are taken. Never waits for the node.
    fn phase(&self) -> Phase;
    /// Whether either node of the pair could fail without a loss. Never waits for the node.
    fn armed(&self) -> bool;
    /// Where the nodes of the pair differ; `None`: there is no peer. May take the node's locks.
    fn diff(&self) -> Option<Diff>;
    /// What another `ha-mode` would mean; `None`: there is no peer. May take the node's locks.
    fn plan_mode(&self, to: HaMode) -> Option<ModePlan>;
    /// Counters of this listener, among others.
    fn edge(&self) -> &Edge;
}

/// What an operator may want of a running node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// No new calls.
    Drain,
    /// New calls again.
    Resume,
    /// Read the configuration again.
    Reload,
    /// Let the other node of the pair be active.
    Switchover,
    /// Believe that a silent member is dead.
    DeclareDead(NodeId),
    /// Another `ha-mode` on both nodes.
    SetMode(HaMode),
    /// Let something fail for so long.
    Fail(Fault, Duration),
}

/// How long and for how many the listener has patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Connections at one time.
    pub places: usize,
    /// One connection, from its acceptance to the end of its answer.
    pub visit: Duration,
    /// How long the node may take to answer.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { places: limits::ADMIN_CONNECTIONS, visit: limits::ADMIN_VISIT, answer: limits::ADMIN_ANSWER }
    }
}

/// Serves until the future is dropped.
///
/// # Errors
///
/// None after the listener is bound; failing accepts are retried.
pub async fn serve(listener: TcpListener, node: Arc<dyn Observed>, patience: Patience) -> io::Result<()> {
    let counted = Arc::clone(&node);
    let cut = Arc::new(move || counted.edge().admin_cut.count());
    let door = Door::new(listener, patience.places, patience.visit, cut);
    axum::serve(door, router(node, patience.answer)).await
}

struct Admin {
    node: Arc<dyn Observed>,
    exporter: Exporter,
    questions: Questions,
}

type Shared = State<Arc<Admin>>;

fn router(node: Arc<dyn Observed>, patience: Duration) -> Router {
    let sampled = Arc::clone(&node);
    let admin = Arc::new(Admin {
        node,
        exporter: Exporter::new(move || sampled.sample()),
        questions: Questions::new(patience),
    });
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/ready/switchover", get(ready_to_switch))
        .route("/rm/liveness", get(health))
        .route("/rm/readiness", get(ready))
        .route("/api/status", get(status))
        .route("/api/resources", get(resources))
        .route("/api/calls", get(calls))
        .route("/api/drain", post(drain))
        .route("/api/resume", post(resume))
        .route("/api/reload", post(reload))
        .route("/api/switchover", post(switch_over))
        .route("/api/ha-mode", get(plan_mode).post(set_mode))
        .route("/api/drill", post(drill))
        .route("/api/peer/diff", get(diff))
        .route("/api/peer/declare-dead", post(declare_dead))
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), visit))
        .with_state(admin)
}

/// Around every request: one request per connection, so that no client keeps a place for itself.
async fn visit(State(admin): Shared, request: Request, next: Next) -> Response {
    admin.node.edge().admin_requests.count();
    let foreign = request.method() != axum::http::Method::GET && request.headers().contains_key(ORIGIN);
    let mut response = match foreign {
        true => refused(StatusCode::FORBIDDEN, "orders from web pages are refused"),
        false => next.run(request).await,
    };
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn metrics(State(admin): Shared) -> Response {
    match ask(&admin, |admin| admin.exporter.scrape()).await {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(late) => late,
    }
}

/// The process turns: every worker waits for work or has been at its present batch for a short time only. Resources,
/// draining and load do not matter: a restart would not cure them.
async fn health(State(admin): Shared) -> Response {
    match admin.node.turning() {
        Ok(()) => "ok\n".into_response(),
        Err(what) => refused(StatusCode::SERVICE_UNAVAILABLE, &what),
    }
}

/// New calls are taken here. Resources that are down do not matter: another node would reach them no better, callers
/// are told so with the group's own code, and requests of live calls must still find this node.
async fn ready(State(admin): Shared) -> Response {
    match (admin.node.phase(), admin.node.turning()) {
        (Phase::Serving, Ok(())) => "serving\n".into_response(),
        (Phase::Serving, Err(what)) => refused(StatusCode::SERVICE_UNAVAILABLE, &what),
        (phase, _) => refused(StatusCode::SERVICE_UNAVAILABLE, phase.name()),
    }
}

/// The pair is armed: this node could go, planned or not, and the other one would lose nothing.
async fn ready_to_switch(State(admin): Shared) -> Response {
    match (admin.node.armed(), admin.node.turning()) {
        (true, Ok(())) => "armed\n".into_response(),
        (true, Err(what)) => refused(StatusCode::SERVICE_UNAVAILABLE, &what),
        (false, _) => refused(StatusCode::SERVICE_UNAVAILABLE, "not armed: see tandem status"),
    }
}

async fn diff(State(admin): Shared) -> Response {
    match ask(&admin, |admin| admin.node.diff()).await {
        Ok(Some(diff)) => Json(diff).into_response(),
        Ok(None) => refused(StatusCode::NOT_FOUND, "this node has no peer"),
        Err(late) => late,
    }
}

async fn switch_over(State(admin): Shared) -> Response {
    order(&admin, Order::Switchover).await
}

#[derive(serde::Deserialize)]
struct Member {
    id: u16,
}

async fn declare_dead(State(admin): Shared, Query(member): Query<Member>) -> Response {
    order(&admin, Order::DeclareDead(NodeId(member.id))).await
}

#[derive(serde::Deserialize)]
struct WantedMode {
    mode: String,
}

const NO_MODE: &str = "no ha-mode: write none, active-standby or active-active";
const NO_PEER: &str = "this node has no peer: write member.N and the addresses of both into [cluster], and restart";

async fn plan_mode(State(admin): Shared, Query(wanted): Query<WantedMode>) -> Response {
    let Ok(to) = wanted.mode.parse::<HaMode>() else { return refused(StatusCode::BAD_REQUEST, NO_MODE) };
    match ask(&admin, move |admin| admin.node.plan_mode(to)).await {
        Ok(Some(plan)) => Json(plan).into_response(),
        Ok(None) => refused(StatusCode::NOT_FOUND, NO_PEER),
        Err(late) => late,
    }
}

async fn set_mode(State(admin): Shared, Query(wanted): Query<WantedMode>) -> Response {
    match wanted.mode.parse::<HaMode>() {
        Ok(to) => order(&admin, Order::SetMode(to)).await,
        Err(()) => outcome(&admin, Ok(Answer { errors: vec![NO_MODE.to_owned()], done: Vec::new() })),
    }
}

#[derive(serde::Deserialize)]
struct Failing {
    fault: String,
    #[serde(rename = "for")]
    seconds: u64,
}

async fn drill(State(admin): Shared, Query(wanted): Query<Failing>) -> Response {
    match Fault::read(&wanted.fault, wanted.seconds) {
        Ok((fault, span)) => order(&admin, Order::Fail(fault, span)).await,
        Err(why) => outcome(&admin, Ok(Answer { errors: vec![why], done: Vec::new() })),
    }
}

async fn status(State(admin): Shared) -> Response {
    answer(ask(&admin, |admin| status_of(&admin.node.sample(), admin.node.last_reload())).await)
}

async fn resources(State(admin): Shared) -> Response {
    answer(ask(&admin, |admin| rows(&admin.node.sample(), |_| true)).await)
}

#[derive(serde::Deserialize)]
struct Wanted {
    limit: Option<usize>,
}

async fn calls(State(admin): Shared, Query(wanted): Query<Wanted>) -> Response {
    let limit = wanted.limit.unwrap_or(DEFAULT_ROWS).min(limits::CALL_ROWS);
    answer(ask(&admin, move |admin| admin.node.calls(limit)).await)
}

async fn drain(State(admin): Shared) -> Response {
    order(&admin, Order::Drain).await
}

async fn resume(State(admin): Shared) -> Response {
    order(&admin, Order::Resume).await
}

async fn reload(State(admin): Shared) -> Response {
    let asked = Arc::clone(&admin);
    outcome(&admin, admin.questions.ask_long(move || asked.node.order(Order::Reload)).await)
}

async fn order(admin: &Arc<Admin>, order: Order) -> Response {
    let asked = Arc::clone(admin);
    outcome(admin, admin.questions.ask(move || asked.node.order(order)).await)
}

/// What came of an order. One that was begun is carried out, whoever waits for it.
fn outcome(admin: &Admin, ordered: Result<Answer, Unanswered>) -> Response {
    match ordered {
        Ok(answer) if answer.errors.is_empty() => Json(answer).into_response(),
        Ok(refusal) => (StatusCode::UNPROCESSABLE_ENTITY, Json(refusal)).into_response(),
        Err(Unanswered::Taken) => {
            let errors = vec!["a reload is under way".to_owned()];
            (StatusCode::CONFLICT, Json(Answer { errors, done: Vec::new() })).into_response()
        }
        Err(Unanswered::GoesOn) => {
            admin.node.edge().admin_timeouts.count();
            let done = vec!["not done yet, it goes on; `tandem status` says what comes of it".to_owned()];
            (StatusCode::ACCEPTED, Json(Answer { done, errors: Vec::new() })).into_response()
        }
        Err(why @ (Unanswered::Crowded | Unanswered::Failed)) => unanswered(admin, why),
    }
}

async fn ask<T: Send + 'static>(
    admin: &Arc<Admin>,
    question: impl FnOnce(&Admin) -> T + Send + 'static,
) -> Result<T, Response> {
    let asked = Arc::clone(admin);
    admin.questions.ask(move || question(&asked)).await.map_err(|why| unanswered(admin, why))
}

fn unanswered(admin: &Admin, why: Unanswered) -> Response {
    if why == Unanswered::Failed {
        return refused(StatusCode::INTERNAL_SERVER_ERROR, "the question failed");
    }
    admin.node.edge().admin_timeouts.count();
    refused(StatusCode::SERVICE_UNAVAILABLE, "the node does not answer")
}

fn answer<T: serde::Serialize>(answered: Result<T, Response>) -> Response {
    answered.map_or_else(|late| late, |rows| Json(rows).into_response())
}

fn refused(status: StatusCode, why: &str) -> Response {
    (status, format!("{why}\n")).into_response()
}

fn status_of(sample: &Sample, reload: Option<Reload>) -> Status {
    let (calls, ringing) = (sample.gauges.legs as u64, sample.gauges.ringing as u64);
    let epoch = sample.pair.as_ref().map_or(sample.epoch, |pair| pair.status.epoch);
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster: sample.cluster.clone(),
        node: sample.node.0,
        epoch: format!("{}.{}", epoch.counter, epoch.node.0),
        ha_mode: sample.pair.as_ref().map_or(HaMode::None, |pair| pair.status.mode).to_string(),
        phase: sample.phase,
        uptime_seconds: sample.now.since(sample.started).as_secs(),
        calls,
        ringing,
        loss_if_failed_now: sample.loss(),
        pair: sample.pair.as_ref().map(|pair| PairRow::new(sample.now, &pair.status, &pair.facts)),
        groups: report::groups(&sample.resources),
        trouble: rows(sample, |health| health != "up"),
        reload,
    }
}

fn rows(sample: &Sample, wanted: impl Fn(&str) -> bool) -> Vec<ResourceRow> {
    let shown = sample.resources.iter().filter(|r| wanted(r.health));
    shown.map(|r| ResourceRow::new(sample.now, r)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::SocketAddr;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::balance::ResourceView;
    use crate::base::{Epoch, ResourceId, Time};
    use crate::node::Gauges;
    use crate::runtime::questions::QUESTIONS;

    #[derive(Default)]
    struct Fake {
        phase: Phase,
        stuck: Option<String>,
        armed: bool,
        /// Held by a test, it makes the node hang.
        lock: Mutex<()>,
        orders: Mutex<Vec<Order>>,
        asked: Mutex<Vec<usize>>,
        refuse: Vec<String>,
        /// Held by a test, it makes a reload take its time; `begun` counts those that wait for it.
        names: Mutex<()>,
        begun: AtomicUsize,
        edge: Arc<Edge>,
    }

    impl Observed for Fake {
        fn sample(&self) -> Sample {
            let _hangs = self.lock.lock().unwrap();
            let resource = |aor: &str, health| ResourceView {
                group: "MCP".into(),
                aor: aor.into(),
                id: ResourceId(1),
                health,
                reason: "probes failed in a row",
                in_use: 2,
                own: 1,
                allowance: Some(9),
                withheld: 0,
                debt: 0,
                capacity: Some(10),
                placed: 5,
                failed: 0,
                last_probe: None,
            };
            Sample {
                now: Time::from_micros(65_000_000),
                started: Time::from_micros(5_000_000),
                node: NodeId(3),
                epoch: Epoch { counter: 9, node: NodeId(3) },
                phase: self.phase,
                gauges: Gauges { legs: 4, ringing: 1, ..Gauges::default() },
                resources: vec![resource("sip:a", "up"), resource("sip:b", "down")],
                edge: Arc::clone(&self.edge),
                ..Sample::default()
            }
        }

        fn calls(&self, limit: usize) -> Vec<CallRow> {
            self.asked.lock().unwrap().push(limit);
            vec![CallRow { id: "0f".into(), ..CallRow::default() }]
        }

        fn order(&self, order: Order) -> Answer {
            if order == Order::Reload {
                self.begun.fetch_add(1, Ordering::SeqCst);
                let _slow = self.names.lock().unwrap();
            }
            self.orders.lock().unwrap().push(order);
            Answer { done: vec!["done".into()], errors: self.refuse.clone() }
        }

        fn last_reload(&self) -> Option<Reload> {
            None
        }

        fn turning(&self) -> Result<(), String> {
            self.stuck.clone().map_or(Ok(()), Err)
        }

        fn phase(&self) -> Phase {
            self.phase
        }

        fn armed(&self) -> bool {
            self.armed
        }

        fn diff(&self) -> Option<Diff> {
            self.armed.then(Diff::default)
        }

        fn plan_mode(&self, to: HaMode) -> Option<ModePlan> {
            self.armed.then(|| ModePlan { to: to.to_string(), ..ModePlan::default() })
        }

        fn edge(&self) -> &Edge {
            &self.edge
        }
    }

    /// Serves `node` on a thread of its own for the rest of the test process.
    fn start(node: Fake, patience: Patience) -> (SocketAddr, Arc<Fake>) {
        let node = Arc::new(node);
        let (served, (bound, address)) = (Arc::clone(&node), std::sync::mpsc::channel());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                serve(listener, served, patience).await
            })
        });
        (address.recv().unwrap(), node)
    }

    fn send(address: SocketAddr, head: &str) -> (u16, String) {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(format!("{head}\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.to_ascii_lowercase().contains("connection: close"), "{head}");
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    fn get(address: SocketAddr, path: &str) -> (u16, String) {
        send(address, &format!("GET {path} HTTP/1.1"))
    }

    #[test]
    fn a_serving_node_is_healthy_and_ready_whatever_its_resources() {
        let (at, node) = start(Fake::default(), Patience::default());
        for path in ["/healthz", "/rm/liveness"] {
            assert_eq!(get(at, path), (200, "ok\n".into()));
        }
        for path in ["/readyz", "/rm/readiness"] {
            assert_eq!(get(at, path), (200, "serving\n".into()));
        }
        assert_eq!(get(at, "/nowhere").0, 404);
        assert_eq!(node.edge.admin_requests.get(), 5, "each request counts, found or not");
    }

    #[test]
    fn a_draining_node_is_healthy_but_not_ready() {
        let (at, _) = start(Fake { phase: Phase::Draining, ..Fake::default() }, Patience::default());
        assert_eq!(get(at, "/healthz").0, 200);
        assert_eq!(get(at, "/readyz"), (503, "draining\n".into()));
    }

    #[test]
    fn a_standby_is_healthy_and_says_that_it_is_not_ready_for_calls() {
        let (at, _) = start(Fake { phase: Phase::Standby, armed: true, ..Fake::default() }, Patience::default());
        assert_eq!(get(at, "/healthz").0, 200);
        assert_eq!(get(at, "/readyz"), (503, "standby\n".into()));
        assert_eq!(get(at, "/ready/switchover"), (200, "armed\n".into()));
        assert_eq!(serde_json::from_str::<Diff>(&get(at, "/api/peer/diff").1).unwrap(), Diff::default());
    }

    #[test]
    fn who_is_not_armed_or_stands_still_is_not_ready_for_a_switchover() {
        let (at, _) = start(Fake::default(), Patience::default());
        assert_eq!(get(at, "/ready/switchover").0, 503);
        assert_eq!(get(at, "/api/peer/diff").0, 404);
        let stuck = Fake { armed: true, stuck: Some("worker 2".into()), ..Fake::default() };
        let (at, _) = start(stuck, Patience::default());
        assert_eq!(get(at, "/ready/switchover"), (503, "worker 2\n".into()));
    }

    #[test]
    fn a_stuck_worker_is_neither() {
        let (at, _) = start(Fake { stuck: Some("worker 2".into()), ..Fake::default() }, Patience::default());
        assert_eq!(get(at, "/healthz"), (503, "worker 2\n".into()));
        assert_eq!(get(at, "/readyz"), (503, "worker 2\n".into()));
    }

    #[test]
    fn rows_come_as_json_and_metrics_as_text() {
        let (at, node) = start(Fake::default(), Patience::default());
        let status: Status = serde_json::from_str(&get(at, "/api/status").1).unwrap();
        assert_eq!((status.node, status.epoch.as_str(), status.uptime_seconds), (3, "9.3", 60));
        assert_eq!((status.calls, status.ringing), (4, 1));
        assert_eq!(status.loss_if_failed_now, report::Loss { ringing: 1, answered: 4 });
        assert_eq!(status.trouble.iter().map(|r| r.aor.as_str()).collect::<Vec<_>>(), ["sip:b"]);
        let resources: Vec<ResourceRow> = serde_json::from_str(&get(at, "/api/resources").1).unwrap();
        assert_eq!(resources.len(), 2);
        let calls: Vec<CallRow> = serde_json::from_str(&get(at, "/api/calls?limit=7").1).unwrap();
        assert_eq!(calls[0].id, "0f");
        get(at, "/api/calls");
        get(at, "/api/calls?limit=999999999");
        assert_eq!(*node.asked.lock().unwrap(), [7, DEFAULT_ROWS, limits::CALL_ROWS]);
        assert_eq!(get(at, "/api/calls?limit=many").0, 400);
        let (status, text) = get(at, "/metrics");
        assert!(status == 200 && text.lines().any(|l| l == "tandem_calls 4"), "{text}");
    }

    #[test]
    fn orders_are_posted_and_not_by_web_pages() {
        let (at, node) = start(Fake::default(), Patience::default());
        for path in ["drain", "resume", "reload", "switchover", "peer/declare-dead?id=2"] {
            let (status, body) = send(at, &format!("POST /api/{path} HTTP/1.1"));
            assert_eq!(status, 200, "{body}");
            assert_eq!(serde_json::from_str::<Answer>(&body).unwrap().done, ["done"]);
        }
        assert_eq!(get(at, "/api/drain").0, 405);
        assert_eq!(send(at, "POST /api/drain HTTP/1.1\r\nOrigin: http://x").0, 403);
        assert_eq!(send(at, "POST /api/peer/declare-dead HTTP/1.1").0, 400);
        let orders = [Order::Drain, Order::Resume, Order::Reload, Order::Switchover, Order::DeclareDead(NodeId(2))];
        assert_eq!(*node.orders.lock().unwrap(), orders);
    }

    #[test]
    fn a_refused_order_says_why() {
        let (at, _) = start(Fake { refuse: vec!["line 3".into()], ..Fake::default() }, Patience::default());
        let (status, body) = send(at, "POST /api/reload HTTP/1.1");
        assert_eq!(status, 422);
        assert_eq!(serde_json::from_str::<Answer>(&body).unwrap().errors, ["line 3"]);
    }

    #[test]
    fn a_node_that_hangs_costs_a_503_and_health_still_answers() {
        let patience = Patience { answer: Duration::from_millis(20), ..Patience::default() };
        let (at, node) = start(Fake::default(), patience);
        let hangs = node.lock.lock().unwrap();
        for _ in 0..QUESTIONS + 2 {
            assert_eq!(get(at, "/api/status"), (503, "the node does not answer\n".into()));
        }
        assert_eq!(get(at, "/healthz").0, 200);
        assert_eq!(node.edge.admin_timeouts.get(), QUESTIONS as u64 + 2);
        drop(hangs);
        // Which of the waiting threads finishes first is open, so this may be refused once more.
        while get(at, "/api/status").0 != 200 {}
    }

    fn answer_of(body: &str) -> Answer {
        serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"))
    }

    #[test]
    fn a_reload_that_takes_its_time_keeps_nobody_out_and_no_second_one_begins() {
        let (at, node) = start(Fake::default(), Patience::default());
        let slow = node.names.lock().unwrap();
        let first = std::thread::spawn(move || send(at, "POST /api/reload HTTP/1.1"));
        while node.begun.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        for _ in 0..QUESTIONS {
            let (status, body) = send(at, "POST /api/reload HTTP/1.1");
            assert_eq!((status, answer_of(&body).errors), (409, vec!["a reload is under way".to_owned()]));
        }
        for path in ["/metrics", "/api/status", "/api/resources"] {
            assert_eq!(get(at, path).0, 200, "{path}");
        }
        for path in ["drain", "switchover"] {
            assert_eq!(send(at, &format!("POST /api/{path} HTTP/1.1")).0, 200, "{path}");
        }
        drop(slow);
        assert_eq!(first.join().unwrap().0, 200);
        assert_eq!(node.edge.admin_timeouts.get(), 0);
        assert_eq!(*node.orders.lock().unwrap(), [Order::Drain, Order::Switchover, Order::Reload]);
        assert_eq!(send(at, "POST /api/reload HTTP/1.1").0, 200, "and the next one is welcome");
    }

    #[test]
    fn an_order_that_goes_on_says_so_and_one_that_never_began_does_not() {
        let patience = Patience { answer: Duration::from_millis(20), ..Patience::default() };
        let (at, node) = start(Fake::default(), patience);
        let slow = node.names.lock().unwrap();
        let (status, body) = send(at, "POST /api/reload HTTP/1.1");
        let told = answer_of(&body);
        assert_eq!((status, told.errors.len()), (202, 0));
        assert!(told.done.len() == 1 && told.done[0].contains("tandem status"), "{told:?}");
        drop(slow);
        while node.orders.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(*node.orders.lock().unwrap(), [Order::Reload], "what was begun is done");
        let hangs = node.lock.lock().unwrap();
        for _ in 0..QUESTIONS {
            assert_eq!(get(at, "/api/status").0, 503);
        }
        assert_eq!(send(at, "POST /api/drain HTTP/1.1"), (503, "the node does not answer\n".into()));
        drop(hangs);
        while get(at, "/api/status").0 != 200 {}
        assert_eq!(*node.orders.lock().unwrap(), [Order::Reload], "nobody has drained it");
    }

    fn hang(at: SocketAddr, octets: &[u8]) -> std::net::TcpStream {
        let mut stream = std::net::TcpStream::connect(at).unwrap();
        stream.write_all(octets).unwrap();
        stream
    }

    fn wait_for_the_end(mut stream: std::net::TcpStream) {
        let mut rest = Vec::new();
        let _reset_counts_as_closed = stream.read_to_end(&mut rest);
        assert_eq!(rest, b"", "nothing was asked");
    }

    #[test]
    fn clients_that_hang_are_cut_in_time() {
        let patience = Patience { visit: Duration::from_millis(20), ..Patience::default() };
        let (at, node) = start(Fake::default(), patience);
        for octets in [&b""[..], b"GET /metrics HT", b"GET /metrics HTTP/1.1\r\nx: "] {
            wait_for_the_end(hang(at, octets));
        }
        assert_eq!(node.edge.admin_cut.get(), 3);
    }

    #[test]
    fn the_oldest_visitor_makes_place() {
        let (at, node) = start(Fake::default(), Patience { places: 2, ..Patience::default() });
        let hung: Vec<_> = (0..5).map(|_| hang(at, b"GET /readyz HT")).collect();
        assert_eq!(get(at, "/readyz").0, 200, "served although every place was taken");
        hung.into_iter().take(4).for_each(wait_for_the_end);
        assert_eq!(node.edge.admin_cut.get(), 4);
    }
}
