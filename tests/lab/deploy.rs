//! What `deploy/` gives to operators, as it stands there, each alone: the scripts between programs that stand in for
//! others, and what keepalived says of its configuration.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::rig::keepalived::{HOLDER, keepalived};
use crate::rig::lan::{Lan, Net};
use crate::rig::pair::NODES;
use crate::rig::poll::SOON;
use crate::rig::stubs::{Stubs, deployed};
use crate::rig::world::World;

/// keepalived's words for whoever is not the holder.
const OTHERS: [&str; 4] = ["BACKUP", "FAULT", "STOP", "DELETED"];

/// An admin interface that says what a test wants, and remembers what it was asked.
struct Admin {
    at: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Admin {
    /// Paths and the answers to them: status and body. Others are not found; one without an answer waits for ever.
    fn start(world: &World, host: u8, answers: &[(&'static str, Option<(u16, String)>)]) -> Admin {
        let listener = TcpListener::bind(world.addr(host, 9090)).expect("a listener");
        let (at, asked) = (listener.local_addr().expect("its address"), Arc::new(Mutex::new(Vec::new())));
        let answers: HashMap<_, _> = answers.iter().cloned().collect();
        let admin = Admin { at, asked: Arc::clone(&asked) };
        thread::spawn(move || {
            let mut waiting = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                // All of the head: what is left unread when a socket is closed resets the connection.
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
                asked.lock().expect("no panic").push(path.to_owned());
                match answers.get(path) {
                    Some(None) => waiting.push(stream),
                    Some(Some((status, body))) => {
                        let length = body.len();
                        let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n");
                        let _gone = write!(stream, "{head}\r\n{body}");
                    }
                    None => {
                        let _gone = write!(stream, "HTTP/1.1 404 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                    }
                }
            }
        });
        admin
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("no panic"))
    }
}

/// Metrics as a node in this role writes them.
fn metrics(role: &str) -> String {
    let one = |name| format!("tandem_role{{role=\"{name}\"}} {}\n", u8::from(name == role));
    ["active", "standby", "starting", "asking", "left"].map(one).concat() + "tandem_epoch 7\n"
}

#[test]
fn the_check_says_yes_to_the_active_node_alone() {
    let world = World::beside("deploy-check");
    let stubs = Stubs::new(&world, "none");
    let check = |what: &[&str], at: SocketAddr| {
        stubs.run("keepalived/tandem-check", what, &[("TANDEM_ADMIN", &at.to_string())]).status.code()
    };
    for (host, role) in (1..).zip(["active", "standby", "starting", "asking", "left"]) {
        let sound = [("/healthz", Some((200, "ok\n".to_owned()))), ("/metrics", Some((200, metrics(role))))];
        let admin = Admin::start(&world, host, &sound);
        assert_eq!(check(&["lives"], admin.at), Some(0), "{role} lives");
        assert_eq!(admin.asked(), ["/healthz"]);
        assert_eq!(check(&["serves"], admin.at), Some(i32::from(role != "active")), "{role} serves");
        assert_eq!(admin.asked(), ["/metrics"]);
    }
    let unsound = [("/healthz", Some((503, "worker 2\n".to_owned()))), ("/metrics", Some((500, metrics("active"))))];
    let admin = Admin::start(&world, 11, &unsound);
    assert_eq!(check(&["lives"], admin.at), Some(22), "curl: an HTTP error");
    assert_eq!(check(&["serves"], admin.at), Some(1), "what comes with an error does not count");
    let hangs = Admin::start(&world, 12, &[("/healthz", None), ("/metrics", None)]);
    assert_eq!(check(&["lives"], hangs.at), Some(28), "curl: its time is up, before keepalived's is");
    assert_eq!(check(&["serves"], hangs.at), Some(1));
    assert_eq!(check(&["lives"], world.addr(13, 9090)), Some(7), "curl: nobody there");
    assert_eq!(check(&["serves"], world.addr(13, 9090)), Some(1));
    assert_eq!([check(&[], admin.at), check(&["other"], admin.at)], [Some(2); 2]);
}

#[test]
fn the_notification_asks_for_the_role_only_where_the_address_came_and_the_role_is_not() {
    let world = World::beside("deploy-notify");
    let notify = |stubs: &Stubs, state: &str| {
        let check = stubs.folder.join("check").display().to_string();
        let args = ["INSTANCE", "tandem", state, "150"];
        assert!(stubs.run("keepalived/tandem-notify", &args, &[("TANDEM_CHECK", &check)]).status.success());
        stubs.calls()
    };
    let stubs = |name: &str, serves: u8, switchover: u8| {
        let stubs = Stubs::new(&world, name).program("logger", "").program("check", &format!("exit {serves}"));
        stubs.program("tandem", &format!("exit {switchover}"))
    };
    let here = format!("logger -t tandem-notify the address is here: tandem is {HOLDER}");
    let moved_first = stubs("moved-first", 0, 0);
    for state in OTHERS {
        let gone = format!("logger -t tandem-notify the address is not here any more: tandem is {state}");
        assert_eq!(notify(&moved_first, state), [gone]);
    }
    assert_eq!(notify(&moved_first, HOLDER), [here.as_str(), "check serves"]);
    assert_eq!(notify(&stubs("follows", 1, 0), HOLDER), [here.as_str(), "check serves", "tandem switchover"]);
    let trouble = "logger -t tandem-notify the roles do not follow: see tandem status";
    assert_eq!(notify(&stubs("refused", 1, 1), HOLDER), [here.as_str(), "check serves", "tandem switchover", trouble]);
}

/// `move-address` with its configuration, on its own.
fn move_address(world: &World, stubs: &Stubs, args: &[&str]) -> (Option<i32>, Vec<String>, String) {
    let conf = world.write("move-address.conf", "INTERFACE_ID=eni-7 DEVICE=eth5\n").display().to_string();
    let done = stubs.run("failover-script/move-address", args, &[("MOVE_ADDRESS_CONF", &conf)]);
    (done.status.code(), stubs.calls(), String::from_utf8_lossy(&done.stderr).into_owned())
}

#[test]
fn the_example_script_tells_the_api_and_the_kernel_what_moves() {
    let world = World::beside("deploy-move");
    let stubs = |name: &str, api: u8, ip: u8, sudo: u8| {
        let ends = |code: u8| format!("exit {code}");
        Stubs::new(&world, name).program("aws", &ends(api)).program("ip", &ends(ip)).program("sudo", &ends(sudo))
    };
    let take = "aws ec2 assign-private-ip-addresses --network-interface-id eni-7 \
                --private-ip-addresses 192.0.2.10 192.0.2.20 --allow-reassignment";
    let (active, standby) = (["active", "7", "192.0.2.10", "192.0.2.20"], ["standby", "7", "192.0.2.10", "192.0.2.20"]);
    let ip = |what: &str, n: u8| format!("ip address {what} 192.0.2.{n}0/32 dev eth5");
    let sudo = |what: &str, n: u8| format!("sudo -n {}", ip(what, n));

    let may = stubs("may", 0, 0, 1);
    let (code, calls, said) = move_address(&world, &may, &active);
    assert_eq!((code, calls), (Some(0), vec![take.to_owned(), ip("replace", 1), ip("replace", 2)]));
    assert_eq!(said, "move-address: active in epoch 7: 192.0.2.10 192.0.2.20\n");
    let (code, calls, said) = move_address(&world, &may, &standby);
    assert_eq!((code, calls), (Some(0), vec![ip("delete", 1), ip("delete", 2)]));
    assert_eq!(said, "move-address: standby in epoch 7: 192.0.2.10 192.0.2.20\n");

    let by_sudo = stubs("sudo", 0, 2, 0);
    let (code, calls, _) = move_address(&world, &by_sudo, &active);
    let each = [ip("replace", 1), sudo("replace", 1), ip("replace", 2), sudo("replace", 2)];
    assert_eq!((code, calls), (Some(0), [vec![take.to_owned()], each.to_vec()].concat()));

    let may_not = stubs("may-not", 0, 2, 3);
    let (code, calls, said) = move_address(&world, &may_not, &active);
    assert_eq!((code, calls), (Some(3), vec![take.to_owned(), ip("replace", 1), sudo("replace", 1)]));
    assert!(!said.contains("in epoch"), "it does not claim what it has not done: {said}");
    let (code, calls, _) = move_address(&world, &may_not, &standby);
    let each = [ip("delete", 1), sudo("delete", 1), ip("delete", 2), sudo("delete", 2)];
    assert_eq!((code, calls), (Some(0), each.to_vec()), "an address that is not there is given up already");

    let six = |what: &str| format!("ip address {what} 2001:db8::10/128 dev eth5 nodad");
    let (code, calls, _) = move_address(&world, &may, &["standby", "7", "2001:db8::10"]);
    assert_eq!((code, calls), (Some(0), vec![six("delete")]));
    let (code, calls, _) = move_address(&world, &may, &["active", "7", "2001:db8::10"]);
    assert_eq!((code, calls.last()), (Some(0), Some(&six("replace"))));

    let (code, calls, _) = move_address(&world, &stubs("refused", 254, 0, 0), &active);
    assert_eq!((code, calls), (Some(254), vec![take.to_owned()]), "the kernel gets no address that the API refused");
    for wrong in [&["leader", "7", "192.0.2.10"][..], &["active", "7"], &[]] {
        let (code, calls, _) = move_address(&world, &may, wrong);
        assert_eq!((code, calls), (Some(2), vec![]), "{wrong:?}");
    }
}

#[test]
fn the_example_script_gives_the_kernel_whole_addresses_that_it_may_use_at_once() {
    let world = World::beside("deploy-kernel");
    let Some(lan) = Lan::new() else { return };
    let host = lan.host("one");
    lan.plug(&host, "eth0", Net::Left, &NODES[..1]);
    let stubs = Stubs::new(&world, "bin").program("aws", "");
    let conf = world.write("move-address.conf", "INTERFACE_ID=eni-7 DEVICE=eth0\n");
    let shown = |role: &str| {
        let mut command = host.command(deployed("failover-script/move-address"));
        command.args([role, "7", "192.0.2.10", "2001:db8::10"]);
        let done = command.env("PATH", stubs.path()).env("MOVE_ADDRESS_CONF", &conf).output().expect("the script");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        host.ip("-o addr show dev eth0")
    };
    let six = |shown: &str| shown.lines().find(|line| line.contains("2001:db8::10")).map(str::to_owned);
    for _again in 0..2 {
        let held = shown("active");
        assert!(held.contains(" inet 192.0.2.10/32 "), "{held}");
        let six = six(&held).expect("the IPv6 address");
        assert!(six.contains(" inet6 2001:db8::10/128 ") && !six.contains("tentative"), "{six}");
    }
    let held = shown("standby");
    assert!(!held.contains("192.0.2.10") && six(&held).is_none(), "{held}");
}

#[test]
fn keepalived_takes_the_configuration_without_a_word() {
    let world = World::beside("keepalived-check");
    let Some(lan) = Lan::new() else { return };
    let host = lan.host("one");
    lan.plug(&host, "eth0", Net::Left, &NODES[..1]);
    for n in [0, 1] {
        let mut checked = keepalived(&world, &host, n, true);
        let status = checked.wait(SOON);
        assert_eq!((status.code(), checked.log()), (Some(0), String::new()));
    }
}
