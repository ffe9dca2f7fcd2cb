//! Both nodes serve behind a balancer that gives each datagram to a random one of them.

use std::time::Duration;

use tandem::agent::media_server::Behaviour;
use tandem::agent::script::{Outcome, Plan as Script, Step};

use crate::rig::actor::{self, Actor};
use crate::rig::both::Spread;
use crate::rig::call::{self, Call};
use crate::rig::load::{Answering, Load};
use crate::rig::mcp;
use crate::rig::message::sent_by;
use crate::rig::node::{Setup, loud};
use crate::rig::pair::{CALLER, NODES, PATIENCE, Plan, SERVERS, VIP, sip};
use crate::rig::phone::Phone;
use crate::rig::udp::Udp;
use crate::rig::world::World;

/// Whether time is not short.
fn full() -> bool {
    std::env::var_os("TANDEM_LAB_FULL").is_some()
}

#[test]
fn calls_whose_datagrams_go_to_random_nodes_are_all_whole() {
    let world = World::beside("both_sprayed");
    let Some(plan) = Plan::new(&world, "2000") else { return };
    let (plan, _balancer) = plan.behind(Spread::Datagrams);
    let servers = Answering::left(&world, &plan.field.servers);
    let pair = plan.start_both(&world);
    let calls = if full() { 20_000 } else { 400 };
    let load = Load::start(&world, &pair.field.callers, CALLER, calls, 100, Duration::from_millis(500));
    load.assert_lossless(PATIENCE + Duration::from_secs(u64::from(calls) / 50));
    servers.assert_all(calls.into());
    pair.until_idle();
    let metrics = [0, 1].map(|n| pair.nodes[n].metrics());
    let ended: f64 = metrics.iter().map(|m| m.sum("tandem_calls_ended_total")).sum();
    assert_eq!(ended, f64::from(calls), "each call has one end");
    for (n, m) in metrics.iter().enumerate() {
        assert!(m.sum("tandem_calls_answered_total") > f64::from(calls / 4), "node {} serves its part", n + 1);
        assert!(m.labelled("tandem_relayed_total", "in") > f64::from(calls / 4), "messages find their transaction");
        // A machine that stands still for a moment makes a peer unheard for as long; no node may be taken for dead.
        let unheard = |line: &&String| line.contains("not armed");
        let loud: Vec<_> = loud(&pair.nodes[n].log()).into_iter().filter(|line| !unheard(&line)).collect();
        assert!(loud.is_empty(), "{loud:#?}");
        assert_eq!(m.sum("tandem_panics_total"), 0.0, "a caught panic");
    }
}

/// Everything that may happen inside a call.
fn scripts() -> [(Script, Outcome); 4] {
    let pause = Duration::from_millis(150);
    let steps = [Step::ReInvite, Step::Update, Step::Info, Step::Refer].map(|step| (pause, step)).to_vec();
    let plain = Script { hold: pause, ..Script::default() };
    [
        (Script { extra: "Supported: 100rel\r\n".to_owned(), steps, ..plain.clone() }, Outcome::Completed),
        (Script { cancel_after: Some(pause), ..plain.clone() }, Outcome::Cancelled),
        (Script { hang_up_after: Some(pause), hold: Duration::from_secs(30), ..plain.clone() }, Outcome::Completed),
        (plain, Outcome::Completed),
    ]
}

#[test]
fn requests_inside_calls_and_cancels_find_their_transaction_on_either_node() {
    let world = World::beside("both_requests");
    let Some(plan) = Plan::new(&world, "2000") else { return };
    let (plan, _balancer) = plan.behind(Spread::Datagrams);
    let behaviour = Behaviour { answer_after: Duration::from_millis(400), ..Behaviour::default() };
    let server = |(name, ip)| actor::media_server(&plan.field.servers, name, sip(ip), behaviour);
    let servers: Vec<_> = ["ma", "mb"].into_iter().zip(SERVERS).map(server).collect();
    let caller = actor::caller(&plan.field.callers, "uac", sip(CALLER), sip(VIP));
    let pair = plan.start_both(&world);
    for round in 0..if full() { 250 } else { 5 } {
        let scripts: Vec<_> = (0..8).map(|n| scripts()[n % 4].clone()).collect();
        for (script, _) in &scripts {
            caller.call(script.clone());
        }
        for report in caller.finish(&format!("the calls of round {round}"), PATIENCE) {
            let (_, wanted) = &scripts[(report.call as usize - 1) % 8];
            assert_eq!(report.outcome, *wanted, "{report:?}");
            assert!(report.refused.is_empty(), "{report:?}");
        }
    }
    pair.until_idle();
    for violations in servers.iter().map(Actor::violations).chain([caller.violations()]) {
        assert_eq!(violations, [""; 0]);
    }
}

#[test]
fn a_node_that_is_killed_under_a_sprayed_load_loses_no_call() {
    let world = World::beside("both_killed");
    let Some(plan) = Plan::new(&world, "2000") else { return };
    let (plan, mut balancer) = plan.behind(Spread::Datagrams);
    let servers = Answering::left(&world, &plan.field.servers);
    let mut pair = plan.start_both(&world);
    // The one that leads; in full the other one, too.
    let kills = if full() { 2 } else { 1 };
    for killed in 0..kills {
        let calls = 600;
        let load = Load::start(&world, &pair.field.callers, CALLER, calls, 100, Duration::from_millis(1_500));
        pair.wait("calls on the way", || (load.begun() >= 200).then_some(()));
        pair.crash(killed);
        // What a balancer's check does once it has failed.
        balancer.serve(&[1 - killed]);
        pair.wait("the survivor alone", || {
            (pair.nodes[1 - killed].role().as_deref() == Some("active") && !pair.nodes[1 - killed].armed())
                .then_some(())
        });
        load.assert_lossless(Duration::from_secs(60));
        pair.revive(killed);
        pair.until_both();
        balancer.serve(&[0, 1]);
    }
    servers.assert_all(kills as u64 * 600);
    pair.until_idle();
}

#[test]
fn callers_that_keep_to_a_node_are_served_by_it_and_by_the_other_one_while_it_is_away() {
    let world = World::beside("both_sources");
    let Some(plan) = Plan::new(&world, "2000") else { return };
    let (plan, mut balancer) = plan.behind(Spread::Sources);
    let servers = Answering::left(&world, &plan.field.servers);
    let mut pair = plan.start_both(&world);
    let load = Load::start(&world, &pair.field.callers, CALLER, 400, 100, Duration::from_millis(1_000));
    pair.wait("calls on the way", || (load.begun() >= 100).then_some(()));
    // It gives its calls away before it goes, and passes on what still comes in.
    pair.nodes[1].process.signal("TERM");
    pair.wait("one node alone", || (pair.nodes[0].armed()).then_some(()).xor(Some(())));
    balancer.serve(&[0]);
    load.assert_lossless(Duration::from_secs(60));
    pair.nodes[1].process.wait(PATIENCE);
    pair.revive(1);
    pair.until_both();
    servers.assert_all(400);
    pair.until_idle();
}

/// More calls at once than there are ports: every port is used, and none twice, though each node has half of each limit.
fn fills(name: &str, spread: Spread) {
    const LIMIT: usize = 20;
    let world = World::beside(name);
    let Some(plan) = Plan::new(&world, &LIMIT.to_string()) else { return };
    let (plan, _balancer) = plan.behind(spread);
    let server = |(name, ip)| actor::media_server(&plan.field.servers, name, sip(ip), Behaviour::default());
    let servers: Vec<_> = ["ma", "mb"].into_iter().zip(SERVERS).map(server).collect();
    let caller = actor::caller(&plan.field.callers, "uac", sip(CALLER), sip(VIP));
    let pair = plan.start_both(&world);
    let most = || servers.iter().map(Actor::most_calls).collect::<Vec<_>>();
    // In full the limits are tried again and again; otherwise until all ports were used at once.
    let (least, rounds) = if full() { (100, 100) } else { (3, 20) };
    let mut refused = 0;
    for round in 0..rounds {
        if round >= least && most() >= vec![LIMIT; 2] {
            break;
        }
        for _ in 0..100 {
            caller.call(Script { hold: Duration::from_millis(700), ..Script::default() });
        }
        for report in caller.finish("the calls of a round", PATIENCE) {
            assert!(matches!(report.outcome, Outcome::Completed | Outcome::Failed(480)), "{report:?}");
            refused += usize::from(report.outcome != Outcome::Completed);
        }
    }
    assert_eq!(most(), [LIMIT; 2], "as many as there are ports");
    assert!(refused > 0, "more calls than ports");
    pair.until_idle();
    assert!(pair.nodes.iter().all(|node| node.metrics().sum("tandem_capacity_drift") == 0.0));
}

#[test]
fn every_port_is_used_and_none_twice_where_calls_come_to_both_nodes() {
    fills("both_fill", Spread::Datagrams);
}

#[test]
fn a_node_to_which_all_calls_come_borrows_the_ports_of_the_other_one() {
    fills("both_borrow", Spread::Sources);
}

#[test]
fn media_servers_that_one_node_does_not_reach_are_used_through_the_other_one() {
    let world = World::beside("both_path");
    let Some(plan) = Plan::new(&world, "2000") else { return };
    let (plan, _balancer) = plan.behind(Spread::Datagrams);
    let servers = Answering::left(&world, &plan.field.servers);
    let probed = "monitor-method = \"option\"\nmonitor-interval = \"200ms\"\nmonitor-timeout = \"200ms\"";
    let members = SERVERS.map(sip);
    let alone = |setup: Setup| Setup { groups: String::new(), ..setup }.group("MCP", probed, &members, "2000");
    let pair = plan.both(alone).start_both(&world);
    let [ma, mb] = SERVERS;
    let _blind = pair.field.nodes[0]
        .rules("ip", &format!("type filter hook output priority 0;\nip daddr {{ {ma}, {mb} }} drop\n"));
    pair.wait("servers out of reach of one node", || {
        let seen = pair.nodes.iter().map(|node| members.map(|member| node.metrics().health(member, "down")));
        seen.eq([[true; 2], [false; 2]]).then_some(())
    });
    let load = Load::start(&world, &pair.field.callers, CALLER, 200, 50, Duration::from_millis(500));
    load.assert_lossless(Duration::from_secs(60));
    servers.assert_all(200);
    let through: Vec<f64> = pair.nodes.iter().map(|node| node.metrics().sum("tandem_through_peer_total")).collect();
    // Half of all INVITEs, ACKs and BYEs came to the one that reaches nobody.
    assert!(through[0] >= 100.0 && through[1] == 0.0, "{through:?}");
    pair.until_idle();
}

/// Processor time of both nodes for one call, in microseconds.
fn cost(name: &str, spread: Option<Spread>) -> f64 {
    const CALLS: u32 = 4_000;
    let world = World::beside(name);
    let Some(plan) = Plan::new(&world, "5000") else { return 1.0 };
    let (plan, _balancer) = match spread {
        Some(spread) => {
            let (plan, balancer) = plan.behind(spread);
            (plan, Some(balancer))
        }
        None => (plan, None),
    };
    let servers = Answering::left(&world, &plan.field.servers);
    let pair = plan.launch(&world);
    if spread.is_some() {
        pair.until_both()
    } else {
        _ = pair.until_armed()
    }
    let spent = || pair.nodes.iter().map(|node| node.metrics().sum("process_cpu_seconds_total")).sum::<f64>();
    let before = spent();
    let load = Load::start(&world, &pair.field.callers, CALLER, CALLS, 400, Duration::from_millis(500));
    load.assert_lossless(Duration::from_secs(60));
    let spent = spent() - before;
    servers.assert_all(CALLS.into());
    spent * 1e6 / f64::from(CALLS)
}

/// A figure, printed and not judged; only where time is not short.
#[test]
fn what_a_call_costs_where_both_nodes_serve() {
    if !full() {
        return;
    }
    let pair = cost("cost_pair", None);
    for (name, spread) in [("cost_sprayed", Spread::Datagrams), ("cost_sources", Spread::Sources)] {
        let both = cost(name, Some(spread));
        println!("{spread:?}: {both:.0} us a call on both nodes, {:.2} of a pair with a standby", both / pair);
    }
}

/// A connection that a node opens leaves from an address that only it has: what is answered to the one that both have may
/// come to the other node.
#[test]
fn a_caller_on_tcp_is_reached_by_whichever_node_its_media_server_asked() {
    let world = World::beside("both_tcp");
    let Some(plan) = Plan::new(&world, "10") else { return };
    let (plan, _balancer) = plan.behind(Spread::Datagrams);
    let server = plan.field.servers.within(|| Udp::bind(sip(SERVERS[0])));
    let alone = |setup: Setup| Setup { groups: String::new(), ..setup }.members(&[server.at], "10");
    let pair = plan.both(alone).start_both(&world);
    for n in 0..4 {
        let phone = Phone::tcp(&pair.field.callers, CALLER, sip(VIP));
        let caller = pair.field.callers.within(|| Udp::bind(phone.sent_by()));
        let mut call = Call::new(caller.at, sip(VIP));
        caller.send(sip(VIP), call.invite().replace(";transport=UDP", ";transport=TCP"));
        let invite = server.expect("INVITE", |m| m.asks("INVITE") && m.call_id() == call.id);
        server.send(sip(VIP), mcp::reply(&invite, server.at, 200));
        let answer = caller.answer(200, "INVITE");
        call.established(&answer);
        caller.send(sip(VIP), call.ack());
        server.expect("ACK", |m| m.asks("ACK") && m.call_id() == call.id);

        let routes: String = invite.all("record-route").iter().map(|route| format!("Route: {route}\r\n")).collect();
        let (from, to, target) = (answer.one("to"), answer.one("from"), call::between(invite.one("contact")));
        let bye = format!(
            "BYE {target} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKbye{n}\r\nMax-Forwards: 70\r\n{routes}\
             From: {from}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n",
            server.at, call.id,
        );
        server.send(sip(VIP), bye);
        let (mut line, opener) = phone.accept();
        assert!(NODES.contains(&opener.ip().to_string().parse().unwrap()), "{opener} is one node's alone");
        let bye = line.take("BYE", |m| m.asks("BYE") && m.call_id() == call.id);
        assert_eq!(
            sent_by(bye.top_via()),
            sip(VIP).to_string(),
            "any node takes the answer, should the connection break"
        );
        line.send(&mcp::reply(&bye, phone.sent_by(), 200));
        server.expect("200", |m| m.answers(200, "BYE") && m.call_id() == call.id);
    }
    pair.until_idle();
}
