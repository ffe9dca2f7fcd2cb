//! Callers on TCP and TLS: a takeover takes their connection, and no call with it. All calls of a caller are on one
//! connection, each at a point of its own when the active node goes. The media server is played by hand.

use std::time::Instant;

use crate::rig::call::Call;
use crate::rig::inbox::Inbox;
use crate::rig::mcp;
use crate::rig::message::{Message, sent_by};
use crate::rig::node::Setup;
use crate::rig::pair::{CALLER, PATIENCE, Pair, Plan, SERVERS, VIP, sip};
use crate::rig::phone::{Line, Phone};
use crate::rig::poll::until_true;
use crate::rig::tls::Authority;
use crate::rig::udp::Udp;
use crate::rig::world::World;

/// How the active node goes.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// SIGKILL of its process.
    Kill,
    /// Every cable of its host.
    Host,
}

impl Fault {
    fn befall(self, pair: &mut Pair<'_>, active: usize) {
        match self {
            Fault::Kill => pair.crash(active),
            Fault::Host => {
                [&pair.field.cables, &pair.field.seconds].iter().for_each(|cables| cables[active].cut());
            }
        }
    }
}

/// A call with the message that it is at.
type At = (Call, Message);

/// A caller and its calls, all on one connection.
struct Caller {
    phone: Phone,
    line: Line,
    answered: Call,
    /// Answered; its BYE is at the media server.
    leaving: At,
    /// Refused; the caller has not acknowledged it.
    refused: At,
    ringing: At,
    /// Rings, and is given up after the takeover.
    given_up: At,
    /// Its INVITE is at the media server, which has said nothing.
    begun: At,
}

/// A pair and its only media server.
struct Stage<'w> {
    pair: Pair<'w>,
    server: Udp,
    /// What the media server was sent and has not looked at.
    inbox: Inbox,
    /// What it has looked at.
    seen: Vec<Message>,
}

impl<'w> Stage<'w> {
    /// With a caller on TCP and one on TLS.
    fn new(world: &'w World) -> Option<(Stage<'w>, [Phone; 2])> {
        let plan = Plan::new(world, "10")?;
        let (callers, at) = (&plan.field.callers, sip(SERVERS[0]));
        let ca = Authority::founded();
        let section = ca.section(world, &ca.issue(&[&VIP.to_string()], 2090), "");
        let own = ca.issue(&[&CALLER.to_string()], 2090);
        let phones = [Phone::tcp(callers, CALLER, sip(VIP)), Phone::tls(callers, CALLER, (VIP, 5061).into(), ca, own)];
        let server = plan.field.servers.within(|| Udp::bind(at));
        let plan = plan.both(|mut setup| {
            setup.listen.push("tls:0.0.0.0:5061".to_owned());
            Setup { groups: section.clone(), ..setup }.members(&[at], "100")
        });
        let pair = plan.start(world);
        Some((Stage { pair, server, inbox: Inbox::default(), seen: Vec::new() }, phones))
    }

    /// What the media server says to `request`.
    fn say(&self, request: &Message, status: u16) {
        self.server.send(sip(VIP), mcp::reply(request, self.server.at, status));
    }

    /// The next request of this method that comes for `call`.
    #[track_caller]
    fn asked(&mut self, call: &Call, method: &str) -> Message {
        let next = |limit| self.server.octets(limit).and_then(|(octets, _)| Message::read(&octets));
        let what = format!("{method} of {}", call.id);
        let request = self.inbox.take(&what, next, |m| m.asks(method) && m.call_id() == call.id);
        self.seen.push(request.clone());
        request
    }

    /// Begins a call.
    fn begun(&mut self, phone: &Phone, line: &mut Line) -> At {
        let call = phone.call();
        line.send(&call.invite());
        let invite = self.asked(&call, "INVITE");
        (call, invite)
    }

    /// Begins a call up to its 180.
    fn ringing(&mut self, phone: &Phone, line: &mut Line) -> At {
        let (call, invite) = self.begun(phone, line);
        self.say(&invite, 180);
        response(line, &call, 180, "INVITE");
        (call, invite)
    }

    fn answered(&mut self, phone: &Phone, line: &mut Line) -> Call {
        let (mut call, invite) = self.ringing(phone, line);
        self.answer(line, &mut call, &invite);
        call
    }

    /// The media server answers, and its 200 and the ACK come over `line`.
    fn answer(&mut self, line: &mut Line, call: &mut Call, invite: &Message) -> Message {
        self.say(invite, 200);
        let answer = response(line, call, 200, "INVITE");
        call.established(&answer);
        line.send(&call.ack());
        self.asked(call, "ACK");
        answer
    }

    /// A request inside the call, and the 200 of the media server.
    fn ask(&mut self, line: &mut Line, call: &mut Call, method: &str) {
        line.send(&call.next(method));
        let request = self.asked(call, method);
        self.say(&request, 200);
        assert_eq!(response(line, call, 200, method).cseq(), request.cseq());
    }

    /// Places the calls of a caller.
    fn place(&mut self, phone: Phone) -> Caller {
        let mut line = phone.connect();
        let answered = self.answered(&phone, &mut line);
        let mut leaving = self.answered(&phone, &mut line);
        line.send(&leaving.next("BYE"));
        let bye = self.asked(&leaving, "BYE");
        let (refused, invite) = self.begun(&phone, &mut line);
        self.say(&invite, 486);
        let refusal = response(&mut line, &refused, 486, "INVITE");
        self.asked(&refused, "ACK");
        let ringing = self.ringing(&phone, &mut line);
        let given_up = self.ringing(&phone, &mut line);
        let begun = self.begun(&phone, &mut line);
        let (leaving, refused) = ((leaving, bye), (refused, refusal));
        Caller { phone, line, answered, leaving, refused, ringing, given_up, begun }
    }

    /// The active node goes. Returns when the other one is active and each caller's kernel knows that its connection is
    /// dead: a farewell alone would not tell a caller who only writes. Nobody writes anything: the survivor sees to it.
    fn fail(&mut self, fault: Fault, callers: &mut [Caller]) {
        let active = self.pair.until_armed();
        // From here on an INVITE that comes again is the survivor's.
        self.assert_repetitions();
        let began = Instant::now();
        fault.befall(&mut self.pair, active);
        until_true("dead connections", PATIENCE, || callers.iter_mut().all(|caller| caller.line.is_dead()));
        println!("{fault:?}: connections of callers reset after {:?}", began.elapsed());
        self.pair.until_active(1 - active);
    }

    /// Asserts that the media server got nothing since it last looked but repetitions of what it knows.
    #[track_caller]
    fn assert_repetitions(&mut self) {
        for message in self.server.drain().into_iter().chain(self.inbox.empty()) {
            assert!(self.seen.contains(&message), "asked anew: {message:?}");
        }
    }

    /// The survivor asks the media server once more, in the same octets.
    #[track_caller]
    fn asked_again(&mut self, call: &Call, invite: &Message) {
        assert_eq!(self.asked(call, "INVITE"), *invite, "another INVITE would be another call");
    }

    /// All calls of a caller after the takeover. What was asked before it is answered over a connection that the survivor
    /// opens to where the Via says (RFC 3261 §18.2.2); the caller opens one of its own for what it asks itself.
    fn go_on(&mut self, caller: Caller) {
        let Caller { phone, mut answered, leaving, refused, mut ringing, given_up, mut begun, .. } = caller;
        self.say(&leaving.1, 200);
        let (mut theirs, from) = phone.accept();
        assert_eq!(from.ip(), VIP, "from the address that the caller knows");
        response(&mut theirs, &leaving.0, 200, "BYE");
        // Nobody knows whether this had left.
        assert_eq!(response(&mut theirs, &refused.0, 486, "INVITE"), refused.1);
        theirs.send(&refused.0.ack_refusal(&refused.1));
        for (call, invite) in [&mut ringing, &mut begun] {
            self.asked_again(call, invite);
            let answer = self.answer(&mut theirs, call, invite);
            assert_eq!((answer.branch(), answer.all("via").len()), (call.branch.as_str(), 1), "{answer:?}");
            assert_eq!(sent_by(answer.top_via()), phone.sent_by().to_string());
            self.ask(&mut theirs, call, "INFO");
            self.ask(&mut theirs, call, "BYE");
        }
        let mut ours = phone.connect();
        for method in ["INFO", "UPDATE", "BYE"] {
            self.ask(&mut ours, &mut answered, method);
        }
        self.give_up(&mut ours, &mut theirs, &given_up);
        for mut line in [ours, theirs] {
            let finals: Vec<_> = line.rest().into_iter().filter(|m| m.status() != Some(180)).collect();
            assert!(finals.is_empty(), "{}: nothing more was owed: {finals:?}", phone.transport());
        }
        assert!(phone.knock().is_none(), "one connection of the survivor's was enough");
    }

    /// A CANCEL over a new connection finds the INVITE of the old one, and the 487 goes where its answer would.
    fn give_up(&mut self, ours: &mut Line, theirs: &mut Line, (call, invite): &At) {
        self.asked_again(call, invite);
        self.say(invite, 180);
        ours.send(&call.cancel());
        assert_eq!(response(ours, call, 200, "CANCEL").branch(), call.branch);
        let cancel = self.asked(call, "CANCEL");
        assert_eq!((cancel.branch(), cancel.cseq()), (invite.branch(), (1, "CANCEL")));
        self.say(&cancel, 200);
        self.say(invite, 487);
        let ack = self.asked(call, "ACK");
        assert_eq!((ack.branch(), ack.cseq()), (invite.branch(), (1, "ACK")));
        let refusal = response(theirs, call, 487, "INVITE");
        assert_eq!(refusal.branch(), call.branch);
        theirs.send(&call.ack_refusal(&refusal));
    }

    /// No port is in use, and nobody was asked anything twice.
    fn ends(mut self) {
        let survivor = self.pair.active().expect("an active node");
        self.pair.wait("no port in use", || {
            let metrics = self.pair.nodes[survivor].try_metrics()?;
            let names = ["tandem_ports_in_use", "tandem_calls", "tandem_ringing"];
            names.iter().all(|name| metrics.sum(name) == 0.0).then_some(())
        });
        self.assert_repetitions();
    }
}

/// What the caller hears.
#[track_caller]
fn response(line: &mut Line, call: &Call, status: u16, method: &str) -> Message {
    let what = format!("{status} to {method} of {}", call.id);
    line.take(&what, |m| m.answers(status, method) && m.call_id() == call.id)
}

fn outlive(name: &str, fault: Fault) {
    let world = World::beside(name);
    let Some((mut stage, phones)) = Stage::new(&world) else { return };
    let mut callers = phones.map(|phone| stage.place(phone));
    stage.fail(fault, &mut callers);
    callers.into_iter().for_each(|caller| stage.go_on(caller));
    stage.ends();
}

#[test]
fn calls_over_tcp_and_tls_outlive_a_killed_process() {
    outlive("ha-streams-kill", Fault::Kill);
}

#[test]
fn calls_over_tcp_and_tls_outlive_a_host_that_is_gone() {
    outlive("ha-streams-host", Fault::Host);
}

/// The node opened the connection, so the media server has to be told as a caller is: nobody writes on it.
fn server_notices(name: &str, fault: Fault) {
    let world = World::beside(name);
    let Some(plan) = Plan::new(&world, "10") else { return };
    let server = Phone::tcp(&plan.field.servers, SERVERS[0], sip(VIP));
    let aor = format!("sip:{};transport=tcp", server.sent_by());
    let plan = plan.both(|setup| {
        let setup = Setup { groups: String::new(), ..setup };
        setup.group("MCP", "monitor-method = \"none\"", &[], "").resource(&aor, "port-capacity = 10")
    });
    let mut pair = plan.start(&world);
    let caller = pair.field.callers.within(|| Udp::bind((CALLER, 5070).into()));
    let mut call = Call::new(caller.at, sip(VIP));
    let active = pair.until_armed();
    caller.send(sip(VIP), call.invite());
    let (mut line, from) = server.accept();
    assert_eq!(from.ip(), VIP);
    let asks = |method: &'static str| move |m: &Message| m.asks(method);
    let says = |request: &Message, status| {
        let contact = format!("ms@{}", server.sent_by());
        mcp::reply(request, server.sent_by(), status).replace(&contact, &format!("{contact};transport=tcp"))
    };
    let invite = line.take("INVITE", asks("INVITE"));
    line.send(&says(&invite, 180));
    let hears = |status, method| caller.expect(&format!("{status} to {method}"), |m| m.answers(status, method));
    hears(180, "INVITE");
    fault.befall(&mut pair, active);
    until_true("a dead connection", PATIENCE, || line.is_dead());
    pair.until_active(1 - active);
    // RFC 3261 section 18.2.2: the connection is gone, so the answer goes to where the Via says.
    let mut ours = server.connect();
    ours.send(&says(&invite, 200));
    let answer = hears(200, "INVITE");
    call.established(&answer);
    caller.send(sip(VIP), call.ack());
    let (mut theirs, from) = server.accept();
    assert_eq!(from.ip(), VIP);
    theirs.take("ACK", asks("ACK"));
    caller.send(sip(VIP), call.next("BYE"));
    let bye = theirs.take("BYE", asks("BYE"));
    theirs.send(&says(&bye, 200));
    hears(200, "BYE");
    for repeated in theirs.rest() {
        assert_eq!(repeated, invite, "nothing is asked anew");
    }
    pair.wait("no port in use", || {
        let metrics = pair.nodes[1 - active].try_metrics()?;
        (metrics.sum("tandem_ports_in_use") == 0.0).then_some(())
    });
}

#[test]
fn a_media_server_on_tcp_notices_a_killed_process_and_answers_over_a_new_connection() {
    server_notices("ha-streams-server", Fault::Kill);
}

#[test]
fn a_media_server_on_tcp_notices_a_host_that_is_gone_and_answers_over_a_new_connection() {
    server_notices("ha-streams-server-host", Fault::Host);
}
