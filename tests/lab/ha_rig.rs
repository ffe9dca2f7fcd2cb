//! The rig of the pair, tried on what is known: a network of namespaces, its faults, its observers, and one node that
//! runs alone in it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tandem::agent::media_server::Behaviour;
use tandem::agent::script::{Outcome, Plan, Step};

use crate::rig::actor::{self, Passed};
use crate::rig::lan::{self, Lan, Net};
use crate::rig::load::{Answering, Load};
use crate::rig::node::Setup;
use crate::rig::pair::{self, CALLER, Field, SERVERS, VIP};
use crate::rig::poll::{SOON, until_true};
use crate::rig::relay::Relay;
use crate::rig::tcp::Tcp;
use crate::rig::udp::Udp;
use crate::rig::view::{self, View};
use crate::rig::watch::{Asker, Frame, Watch};
use crate::rig::world::World;

const NODE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 21);

/// A call with everything in it.
fn plan() -> Plan {
    let pause = Duration::from_millis(60);
    let steps = [Step::ReInvite, Step::Update, Step::Info].map(|step| (pause, step)).to_vec();
    Plan { extra: "Supported: 100rel\r\n".to_owned(), hold: pause, steps, ..Plan::default() }
}

#[test]
fn a_node_alone_is_killed_and_started_again_between_two_equal_calls() {
    let world = World::new("ha-alone");
    let Some(lan) = Lan::new() else { return };
    let (node, callers, servers) = (lan.host("node"), lan.host("callers"), lan.host("servers"));
    lan.plug(&node, "eth0", Net::Left, &[NODE]);
    lan.plug(&callers, "eth0", Net::Left, &[CALLER]);
    lan.plug(&servers, "eth0", Net::Left, &[SERVER]);
    let [sip, at, server_at] = [NODE, CALLER, SERVER].map(|ip| SocketAddr::from((ip, 5060)));
    let server = actor::media_server(&servers, "mcp", server_at, Behaviour::default());
    let mut setup = Setup::new(&world).members(&[server_at], "10");
    setup.listen = vec![format!("udp:{sip}")];
    let mut running = setup.inside(&node).start(&world);
    let watch = Watch::over(&callers);
    let caller = actor::caller(&callers, "uac", at, sip);

    let call = || {
        let call_id = caller.call(plan());
        let reports = caller.finish("the end of the call", SOON);
        assert_eq!(reports.iter().map(|r| r.outcome).collect::<Vec<_>>(), [Outcome::Completed], "{reports:?}");
        server.wait_for("the BYE", SOON, |p| p.message.call_id() == call_id && p.message.asks("BYE"));
        let views = [caller.passed(), server.passed()].map(|p| View::of(&p, &call_id, &[&server_at.to_string()]));
        let branches = view::branches(&server.passed(), &call_id);
        assert!(branches.values().all(|b| b.len() == 1), "{branches:?}");
        views
    };
    let first = call();
    let seen: Vec<&str> = first[1].lines().into_iter().map(|l| l.split(' ').nth(1).unwrap_or("")).collect();
    let requests: Vec<&str> = seen.into_iter().filter(|word| !word.starts_with("SIP/")).collect();
    assert_eq!(requests, ["INVITE", "ACK", "PRACK", "INVITE", "ACK", "UPDATE", "INFO", "BYE"], "{}", first[1]);

    let pid = running.process.pid();
    let killed = caller.when(|p: &Passed| p.sent && p.message.asks("INVITE"), move || lan::kill(pid));
    caller.call(plan());
    until_true("the kill", SOON, || killed.yes());
    running.process.wait(SOON);
    let nobody = callers.within(|| Udp::bind(SocketAddr::from((CALLER, 0))));
    let refused = || {
        nobody.try_send(sip, "\r\n\r\n");
        watch.seen().into_iter().any(|(_, f)| matches!(f, Frame::Icmp { from: NODE, to: CALLER, .. }))
    };
    until_true("the caller's kernel is told: nobody kept the sockets of a node that ran alone", SOON, refused);
    running.start_again(&world);
    let reports = caller.finish("a call that a restart could not save, or did", Duration::from_secs(30));
    assert_eq!(reports.len(), 1, "{reports:?}");
    let again = call();
    for (which, (again, first)) in ["caller", "server"].iter().zip(again.iter().zip(&first)) {
        view::assert_same(which, again, first);
    }
    assert_eq!((caller.violations(), server.violations()), (vec![], vec![]));
}

#[test]
fn load_goes_through_a_node_in_a_host() {
    let world = World::new("ha-load");
    let Some(field) = Field::new() else { return };
    field.nodes[0].ip(&format!("addr add {VIP}/24 dev eth0"));
    let servers = Answering::left(&world, &field.servers);
    let mut setup = Setup::new(&world).members(&SERVERS.map(pair::sip), "100").inside(&field.nodes[0]);
    setup.listen = vec![format!("udp:{VIP}:5060")];
    let node = setup.start(&world);
    let mut load = Load::start(&world, &field.callers, CALLER, 60, 30, Duration::from_millis(300));
    until_true("calls begun", SOON, || load.begun() > 0);
    assert!(load.goes_on());
    load.assert_lossless(Duration::from_secs(30));
    node.until("no port in use", |m| m.sum("tandem_ports_in_use") == 0.0);
    servers.assert_all(60);
    let (code, said) = node.order(&["status"]);
    assert!(code == Some(0) && said.contains("MCP"), "{said}");
}

#[test]
fn cables_rules_and_observers_do_what_they_say() {
    let _world = World::new("ha-cables");
    let Some(lan) = Lan::new() else { return };
    let (a, b, c) = (lan.host("a"), lan.host("b"), lan.host("c"));
    let cable = lan.plug(&a, "eth0", Net::Left, &[NODE, VIP]);
    lan.plug(&b, "eth0", Net::Right, &[SERVER]);
    lan.plug(&c, "eth0", Net::Right, &[CALLER]);
    let here = a.within(|| Udp::bind(SocketAddr::from((NODE, 5060))));
    let there = b.within(|| Udp::bind(SocketAddr::from((SERVER, 5060))));
    let arrives = || {
        there.try_send(here.at, "\r\n\r\n");
        here.octets(Duration::from_millis(50)).is_some()
    };
    until_true("a datagram through both bridges", SOON, arrives);
    for (what, cable) in [("cable", &cable), ("trunk", &lan.trunk())] {
        cable.cut();
        assert!(!arrives(), "{what} cut");
        cable.heal();
        until_true(&format!("{what} healed"), SOON, arrives);
    }
    let rules = a.deaf_to(SERVER);
    assert!(!arrives(), "deaf");
    drop(rules);
    until_true("it hears again", SOON, arrives);
    let rules = a.lossy(5060, 100);
    assert!(!arrives(), "lossy");
    drop(rules);
    until_true("no loss", SOON, arrives);

    c.within(|| Udp::bind(SocketAddr::from((CALLER, 0)))).try_send(SocketAddr::from((VIP, 7)), "x");
    until_true("a neighbour", SOON, || c.neighbour(VIP) == Some(a.mac("eth0")));

    cable.rate("64kbit");
    let noise = [b'\r'; 1_000];
    (0..100).for_each(|_| there.try_send(here.at, noise));
    let arrived = std::iter::from_fn(|| here.octets(Duration::from_millis(500))).count();
    assert!((1..100).contains(&arrived), "{arrived} of 100 through a thin cable");

    let watch = Watch::over(&c);
    let asker = Asker::start(&c, "eth0", VIP);
    until_true("answers", SOON, || watch.answers(VIP).len() >= 3);
    watch.assert_one_holder(VIP, 1);
    assert_eq!(watch.answers(VIP)[0].1, a.mac("eth0"));
    b.ip(&format!("addr add {VIP}/24 dev eth0"));
    until_true("two holders", SOON, || {
        let macs: Vec<String> = watch.answers(VIP).into_iter().map(|(_, mac)| mac).collect();
        macs.contains(&a.mac("eth0")) && macs.contains(&b.mac("eth0"))
    });
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| watch.assert_one_holder(VIP, 1)));
    assert!(caught.is_err(), "two holders are noticed");
    assert!(a.holds(VIP) && b.holds(VIP) && !c.holds(VIP));
    drop(asker);
    let errors = || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| watch.assert_no_icmp_to(CALLER)));
    until_true("an ICMP error is noticed", SOON, || {
        c.within(|| Udp::bind(SocketAddr::from((CALLER, 0)))).try_send(SocketAddr::from((SERVER, 7)), "x");
        errors().is_err()
    });
}

#[test]
fn a_relay_delays_and_stalls() {
    let _world = World::new("ha-relay");
    let Some(lan) = Lan::new() else { return };
    let (a, b) = (lan.host("a"), lan.host("b"));
    lan.plug(&a, "eth0", Net::Second, &[NODE]);
    lan.plug(&b, "eth0", Net::Second, &[SERVER]);
    let at = SocketAddr::from((SERVER, 9_801));
    let listener = b.within(|| std::net::TcpListener::bind(at)).expect("a listener");
    let relay = Relay::between(&a, &[SERVER], 9_801);
    let mut near = a.within(|| Tcp::connect(NODE.into(), at));
    let mut far = Tcp::accepted(listener.accept().expect("a connection").0);
    relay.delay(Duration::from_millis(150));
    let options = "OPTIONS sip:x SIP/2.0\r\nContent-Length: 0\r\n\r\n";
    let sent = std::time::Instant::now();
    near.send(options);
    far.expect("a message", |m| m.asks("OPTIONS"));
    assert!(sent.elapsed() >= Duration::from_millis(150), "it takes its time");
    assert_eq!(relay.carried(), options.len() as u64);
    relay.stall(true);
    near.send(options);
    assert!(far.message(Duration::from_millis(400)).is_none() && !far.closed, "nothing more");
    relay.stall(false);
    far.expect("a message", |m| m.asks("OPTIONS"));
}
