//! SIP over TCP and TLS (RFC 3261 §18, §26): accepting, opening on demand, finding the connection that a message takes,
//! limits.
#![forbid(unsafe_code)]

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time;

use crate::base::{ConnId, Flow, ListenerId, Transport, limits};
use crate::config::Change;
use crate::node::{Input, Received};
use crate::runtime::connection::{Around, Connection, NotTaken};
use crate::runtime::dial::{self, CONNECT_DEADLINE, tune};
use crate::runtime::inlet::Inlet;
use crate::runtime::proxy_protocol::Balancers;
use crate::runtime::reuse::{Way, offer};
use crate::runtime::secure::{Prepared, Secure, SecureError};
use crate::runtime::sources::Sources;
use crate::runtime::stats::{Closed, IoStats};
use crate::runtime::stream_table::Table;
use crate::runtime::sys;
use crate::runtime::tls::{Broken, Name};
use crate::runtime::wire::Wire;

/// How long a listener rests when there are no descriptors for what it would accept.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Every SIP stream of the node.
///
/// A response leaves on the connection that its request came in on, while that lives (RFC 3261 §18.2.2). Anything else
/// leaves on a connection that this node opened to the same address from the same address. Connections that others
/// opened are not reused for requests, except over TLS where the other side proved who it is and offered it (RFC 5923 §1).
pub struct Streams {
    table: Mutex<Table>,
    /// One for each stream until its descriptor is closed: one that was told to end still has it for a moment.
    places: Arc<Semaphore>,
    /// Set where a listener speaks TLS.
    secure: RwLock<Option<Arc<Secure>>>,
    next: AtomicU64,
    runtime: Handle,
    balancers: Balancers,
    /// Addresses that no stream is opened from.
    pub shared: dial::Shared,
    stats: Arc<IoStats>,
    inlet: Weak<dyn Inlet>,
    watch: OnceLock<Weak<dyn Watch>>,
}

/// Who must know which streams are open, whoever opened them: the ends of each.
pub trait Watch: Send + Sync {
    /// There is one more.
    fn began(&self, ends: &Flow);
    /// It has ended.
    fn ended(&self, ends: &Flow);
}

impl Streams {
    /// No streams yet. What comes in on them goes to `inlet`.
    pub fn new(runtime: Handle, stats: Arc<IoStats>, inlet: Weak<dyn Inlet>) -> Self {
        let descriptors = sys::process::descriptors();
        let table = Table::new(descriptors);
        if table.most() < limits::CONNECTIONS {
            tracing::info!(
                "at most {} streams of SIP, since this process may have {descriptors} descriptors; \
                 LimitNOFILE= in the unit file or ulimit -n allows more",
                table.most()
            );
        }
        Self {
            places: Arc::new(Semaphore::new(table.most())),
            table: Mutex::new(table),
            secure: RwLock::default(),
            next: AtomicU64::new(1),
            runtime,
            balancers: Balancers::default(),
            shared: dial::Shared::default(),
            stats,
            inlet,
            watch: OnceLock::new(),
        }
    }

    /// Hosts that [`CONNECTIONS_PER_SOURCE`](crate::base::limits::CONNECTIONS_PER_SOURCE) does not bind.
    pub fn exempt(&self, hosts: impl IntoIterator<Item = IpAddr>) {
        self.table.lock().exempt = hosts.into_iter().collect();
    }

    /// Only these may have connections to this node from now on; those of others are closed. Connections that this node
    /// opens are not asked.
    pub fn welcome(&self, sources: Arc<Sources>) {
        let mut table = self.table.lock();
        let strangers = table.all.values().filter(|c| c.accepted && !sources.permit(c.flow.remote.ip()));
        strangers.for_each(|c| c.end(Closed::Stranger));
        table.welcome = Some(sources);
    }

    /// From now on a stream from one of these begins with a PROXY header, which says whose it is.
    pub fn forwarded_by(&self, balancers: Sources) {
        self.balancers.are(balancers);
    }

    /// From now on TLS is spoken with these files; connections that live go on with what they began with. Says what an
    /// operator wants to know of it. `None`: no listener speaks TLS.
    ///
    /// # Errors
    ///
    /// If the cryptography cannot do what is needed; then nothing has changed.
    pub fn speak(&self, prepared: Option<Prepared>) -> Result<Option<Change>, SecureError> {
        let Some(prepared) = prepared else { return Ok(None) };
        let (until, last_day) = (prepared.not_after(), prepared.last_day());
        match self.secure() {
            Some(secure) => secure.replace(prepared)?,
            None => *self.secure.write() = Some(Arc::new(Secure::new(prepared)?)),
        }
        let before = self.stats.certificate_not_after.swap(until, Ordering::Relaxed);
        Ok((before != until).then_some(Change::CertificateRenewed { last_day }))
    }

    fn secure(&self) -> Option<Arc<Secure>> {
        self.secure.read().clone()
    }

    /// Sends a message over the connection of its flow, or over one to its remote address, which is opened if need be.
    /// `authority`: the next hop's name, if its address was resolved from one; over TLS it must be proved.
    pub fn send(self: &Arc<Self>, flow: Flow, authority: Option<&[u8]>, message: &[u8]) -> Result<(), NotTaken> {
        let (connection, fresh) = self.connection(flow, authority)?;
        let sent = connection.send(message);
        if let Some(names) = fresh {
            // Only now, so that a connection that is refused finds the message in its queue and reports it.
            self.runtime.spawn(Arc::clone(self).open(connection, names));
        }
        sent.inspect(|()| self.stats.stream_messages_out.count())
    }

    /// Closes a connection when what is queued on it has left.
    pub fn close(&self, id: ConnId, reason: Closed) {
        if let Some(connection) = self.table.lock().all.get(&id) {
            connection.end(reason);
        }
    }

    /// Closes those from and to addresses that are `gone`. What waits on them is not reported as undelivered: whoever has the
    /// address now answers for it.
    pub fn leave(&self, gone: impl Fn(IpAddr) -> bool) {
        let table = self.table.lock();
        table.all.values().filter(|c| gone(c.flow.local.ip())).for_each(|c| c.end(Closed::Moved));
    }

    /// Closes every connection and opens no more.
    pub fn stop(&self) {
        let mut table = self.table.lock();
        table.stopped = true;
        table.all.values().for_each(|c| c.end(Closed::Local));
    }

    /// The connection that a message takes; with it, if it is yet to be opened, the names that it must lead to.
    fn connection(
        &self,
        flow: Flow,
        authority: Option<&[u8]>,
    ) -> Result<(Arc<Connection>, Option<Vec<Name>>), NotTaken> {
        let mut table = self.table.lock();
        if let Some(living) = flow.conn.and_then(|id| table.all.get(&id)).filter(|c| c.takes()) {
            return Ok((Arc::clone(living), None));
        }
        let way = Way::of(&flow, authority);
        if let Some(opened) = table.opened.get(&way).and_then(|id| table.all.get(id)).filter(|c| c.takes()) {
            return Ok((Arc::clone(opened), None));
        }
        let names = match (flow.transport, self.secure()) {
            (Transport::Tls, Some(secure)) => secure.expected(flow.remote.ip(), authority),
            (Transport::Tls, None) => return Err(NotTaken),
            _ => Vec::new(),
        };
        if flow.transport == Transport::Tls
            && let Some(offered) = table.aliases.find(&flow).and_then(|id| table.all.get(&id))
            && offered.takes()
            && offered.proves(&names)
        {
            return Ok((Arc::clone(offered), None));
        }
        if table.stopped || !table.make_room() {
            return Err(NotTaken);
        }
        let connection = Connection::new(self.next_id(), flow, false);
        table.opened.insert(way.clone(), connection.id);
        table.ways.insert(connection.id, way);
        table.all.insert(connection.id, Arc::clone(&connection));
        Ok((connection, Some(names)))
    }

    async fn open(self: Arc<Self>, connection: Arc<Connection>, names: Vec<Name>) {
        let opened = async {
            let place = Arc::clone(&self.places).acquire_owned().await;
            let opened = self.shared.open(connection.flow.local.ip(), connection.flow.remote).await;
            (opened, place)
        };
        match time::timeout(CONNECT_DEADLINE, opened).await {
            Ok((Ok(stream), _place)) => {
                self.stats.streams_opened.count();
                let wire = match (connection.flow.transport, self.secure()) {
                    (Transport::Tls, Some(secure)) => secure.open(names),
                    _ => Ok(Wire::Plain),
                };
                self.serve(connection, stream, wire).await;
            }
            Ok((Err(_), _)) | Err(_) => {
                self.stats.streams_unreachable.count();
                self.forget(&connection);
            }
        }
    }

    async fn serve(&self, connection: Arc<Connection>, stream: TcpStream, wire: Result<Wire, Broken>) {
        let Some(inlet) = self.inlet.upgrade() else { return };
        if let (Ok(local), Ok(remote)) = (stream.local_addr(), stream.peer_addr()) {
            connection.is_between(local, remote);
        }
        if let (Some(watch), Some(ends)) = (self.watch(), connection.ends()) {
            watch.began(&ends);
        }
        let offered = |message: &[u8]| self.offered(&connection, message);
        let around = Around { inlet: &*inlet, stats: &self.stats, offered: &offered };
        let ended = match wire {
            Ok(wire) => connection.run(stream, wire, &around).await,
            Err(broken) => connection.refuse(broken, &self.stats),
        };
        let why = ended.broken.as_ref().map(|b| b.why.as_str());
        tracing::debug!(reason = ?ended.reason, why, remote = %connection.flow.remote, "stream closed");
        if let (false, Some(secure)) = (connection.accepted, self.secure()) {
            secure.tell(connection.flow.remote, why);
        }
        self.forget(&connection);
    }

    /// From here on `watch` is told which streams begin and end.
    pub fn watched_by(&self, watch: Weak<dyn Watch>) {
        let _ = self.watch.set(watch);
    }

    /// The ends of all that live.
    pub fn all(&self) -> Vec<Flow> {
        self.table.lock().all.values().filter_map(|c| c.ends()).collect()
    }

    fn watch(&self) -> Option<Arc<dyn Watch>> {
        self.watch.get().and_then(Weak::upgrade)
    }

    /// A peer that proved who it is has sent a message: does it offer its connection?
    fn offered(&self, connection: &Connection, message: &[u8]) {
        let flow = connection.flow;
        if let Some(target) = offer(message, flow.remote.ip()) {
            self.table.lock().aliases.offer(connection.id, flow.local.ip(), target);
            self.stats.aliases.count();
        }
    }

    /// Takes a connection out of the table and tells the node what never left.
    fn forget(&self, connection: &Connection) {
        self.table.lock().remove(connection);
        if let (Some(ends), Some(watch)) = (connection.ends(), self.watch()) {
            watch.ended(&ends);
        }
        let Some(inlet) = self.inlet.upgrade() else { return };
        let unsent = connection.unsent();
        if connection.ended() == Some(Closed::Moved) {
            return;
        }
        for message in unsent {
            inlet.input(Input::Undelivered(Received { flow: connection.flow, bytes: &message }));
        }
    }

    /// Accepts streams on a listener until the runtime ends.
    pub async fn accept(self: Arc<Self>, listener: ListenerId, transport: Transport, socket: TcpListener) {
        let mut spare = File::open("/dev/null").ok();
        let mut starved = false;
        loop {
            match socket.accept().await {
                Ok((stream, remote)) => {
                    starved = false;
                    self.stats.streams_accepted.count();
                    match self.balancers.forward(remote.ip()) {
                        false => self.admit(listener, transport, stream, remote).await,
                        true => self.introduce(listener, transport, stream, remote),
                    }
                }
                Err(e) if sys::is_of_the_peer(&e) => {}
                Err(e) => {
                    self.stats.accept_errors.count();
                    if !std::mem::replace(&mut starved, true) {
                        tracing::warn!(
                            "cannot accept streams: {e}; raise LimitNOFILE= in the unit file, or find who holds so many"
                        );
                    }
                    // The spare descriptor lets one be accepted only to be closed, so that its client knows at once.
                    drop(spare.take());
                    if let Ok(Ok((stream, _))) = time::timeout(ACCEPT_REST, socket.accept()).await {
                        self.stats.streams_accepted.count();
                        self.stats.closed(Closed::Refused);
                        drop(stream);
                    }
                    spare = File::open("/dev/null").ok();
                    if spare.is_none() {
                        time::sleep(ACCEPT_REST).await;
                    }
                }
            }
        }
    }

    /// Waits for what the load balancer says of a stream, beside those that come next.
    fn introduce(
        self: &Arc<Self>,
        listener: ListenerId,
        transport: Transport,
        mut stream: TcpStream,
        remote: SocketAddr,
    ) {
        let Some(place) = self.balancers.place() else { return self.stats.closed(Closed::Refused) };
        let streams = Arc::clone(self);
        self.runtime.spawn(async move {
            match streams.balancers.source(&mut stream, remote).await {
                Some(source) => streams.admit(listener, transport, stream, source).await,
                None => streams.stats.closed(Closed::ProxyHeader),
            }
            drop(place);
        });
    }

    async fn admit(
        self: &Arc<Self>,
        listener: ListenerId,
        transport: Transport,
        stream: TcpStream,
        remote: SocketAddr,
    ) {
        let Ok(local) = stream.local_addr() else { return self.stats.closed(Closed::Error) };
        // Without these the stream still works.
        let _ = tune(&stream);
        let flow = Flow { transport, listener, local, remote, conn: None };
        let connection = Connection::new(self.next_id(), flow, true);
        if !self.enter(&connection, &stream) {
            return;
        }
        // Those that gave way close their descriptors first.
        let place = Arc::clone(&self.places).acquire_owned();
        let Ok(Ok(place)) = time::timeout(ACCEPT_REST, place).await else {
            connection.end(Closed::Refused);
            self.table.lock().remove(&connection);
            return self.stats.closed(Closed::Refused);
        };
        let wire = match (transport, self.secure()) {
            (Transport::Tls, Some(secure)) => secure.accept(),
            _ => Ok(Wire::Plain),
        };
        let streams = Arc::clone(self);
        self.runtime.spawn(async move {
            streams.serve(connection, stream, wire).await;
            drop(place);
        });
    }

    /// Puts a connection that was accepted into the table, if it is welcome and there is room.
    fn enter(&self, connection: &Arc<Connection>, stream: &TcpStream) -> bool {
        let (remote, refused) = (connection.flow.remote, |why| {
            self.stats.closed(why);
            false
        });
        let mut table = self.table.lock();
        if !table.welcomes(remote.ip()) {
            // A reset leaves nothing behind, neither here nor on the way.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            return refused(Closed::Stranger);
        }
        if table.stopped || !table.make_room_from(remote.ip()) || !table.make_room() {
            return refused(Closed::Refused);
        }
        if connection.flow.transport == Transport::Tls && !table.begin_handshake(connection) {
            return refused(Closed::Refused);
        }
        table.sources.entry(remote.ip()).or_default().insert(connection.id);
        table.all.insert(connection.id, Arc::clone(connection));
        true
    }

    fn next_id(&self) -> ConnId {
        ConnId(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);
    const OPTIONS: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 0\r\n\r\n";

    /// What the node would have been told.
    #[derive(Debug, PartialEq)]
    enum Told {
        Message(Flow, Vec<u8>),
        Bad(Vec<u8>),
        Undelivered(Flow, Vec<u8>),
    }

    /// Whom it tells, and whether it is undecided.
    struct Ear(Mutex<mpsc::Sender<Told>>, Arc<Undecided>);

    /// Whether nobody knows who handles what comes, and how often that was asked.
    #[derive(Default)]
    struct Undecided {
        yes: AtomicBool,
        asked: AtomicU64,
    }

    impl Inlet for Ear {
        fn undecided(&self, _: &Flow) -> bool {
            self.1.asked.fetch_add(1, Ordering::SeqCst);
            self.1.yes.load(Ordering::SeqCst)
        }

        fn input(&self, input: Input<'_>) {
            let told = match input {
                Input::Message(r) => Told::Message(r.flow, r.bytes.to_vec()),
                Input::BadStream(r, _) => Told::Bad(r.bytes.to_vec()),
                Input::Undelivered(r) => Told::Undelivered(r.flow, r.bytes.to_vec()),
                _ => return,
            };
            self.0.lock().send(told).unwrap();
        }

        fn deliver(&self, _: Flow, _: Option<&[u8]>, _: &[u8]) {}
    }

    struct World {
        streams: Arc<Streams>,
        addr: SocketAddr,
        told: mpsc::Receiver<Told>,
        stats: Arc<IoStats>,
        undecided: Arc<Undecided>,
        _ear: Arc<dyn Inlet>,
        _runtime: tokio::runtime::Runtime,
    }

    impl World {
        fn new() -> Self {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let (ear, told) = mpsc::channel();
            let undecided = Arc::new(Undecided::default());
            let ear: Arc<dyn Inlet> = Arc::new(Ear(Mutex::new(ear), Arc::clone(&undecided)));
            let stats = Arc::new(IoStats::default());
            let streams = Arc::new(Streams::new(runtime.handle().clone(), stats.clone(), Arc::downgrade(&ear)));
            let socket = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
            let addr = socket.local_addr().unwrap();
            runtime.spawn(Arc::clone(&streams).accept(ListenerId(3), Transport::Tcp, socket));
            World { streams, addr, told, stats, undecided, _ear: ear, _runtime: runtime }
        }

        fn connect(&self) -> std::net::TcpStream {
            let stream = std::net::TcpStream::connect(self.addr).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            stream
        }

        fn flow(&self, remote: SocketAddr) -> Flow {
            Flow { transport: Transport::Tcp, listener: ListenerId(3), local: self.addr, remote, conn: None }
        }

        fn told(&self) -> Told {
            self.told.recv_timeout(LIMIT).unwrap()
        }

        fn message(&self) -> (Flow, Vec<u8>) {
            match self.told() {
                Told::Message(flow, bytes) => (flow, bytes),
                other => panic!("{other:?}"),
            }
        }
    }

    fn read_exactly(stream: &mut std::net::TcpStream, expected: &[u8]) {
        let mut memory = vec![0; expected.len()];
        stream.read_exact(&mut memory).unwrap();
        assert_eq!(memory, expected);
    }

    #[test]
    fn messages_come_whole_however_they_are_cut_and_answers_take_their_connection() {
        let world = World::new();
        let mut peer = world.connect();
        for octet in OPTIONS {
            peer.write_all(&[*octet]).unwrap();
        }
        peer.write_all(&[OPTIONS, OPTIONS, b"\r\n\r\n"].concat()).unwrap();
        let (flow, bytes) = world.message();
        assert_eq!((flow.remote, flow.local), (peer.local_addr().unwrap(), world.addr));
        assert_eq!((flow.listener, bytes.as_slice()), (ListenerId(3), OPTIONS));
        assert_eq!([world.message(), world.message()], [(flow, OPTIONS.to_vec()), (flow, OPTIONS.to_vec())]);
        read_exactly(&mut peer, b"\r\n");
        world.streams.send(flow, None, b"answer").unwrap();
        read_exactly(&mut peer, b"answer");
        assert_eq!((world.stats.streams_accepted.get(), world.stats.streams_opened.get()), (1, 0));
    }

    /// PROXY, IPv4, 192.0.2.7:5060 to somewhere.
    const FORWARDED: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x13\xc4\x13\xc5";

    #[test]
    fn a_load_balancer_says_whose_the_streams_are_that_it_forwards() {
        let world = World::new();
        let began = Arc::new(Ends::default());
        let watch: Arc<dyn Watch> = began.clone();
        world.streams.watched_by(Arc::downgrade(&watch));
        let only = |text: &str| Sources::only(&[], [text.parse().unwrap()]);
        world.streams.forwarded_by(only("127.0.0.1"));
        world.streams.welcome(Arc::new(only("192.0.2.7")));
        let mut balancer = world.connect();
        balancer.write_all(&[FORWARDED, OPTIONS].concat()).unwrap();
        let (flow, bytes) = world.message();
        assert_eq!((flow.remote, flow.local), ("192.0.2.7:5060".parse().unwrap(), world.addr));
        assert_eq!(bytes, OPTIONS, "what lies behind it is the stream");
        world.streams.send(flow, None, b"answer").unwrap();
        read_exactly(&mut balancer, b"answer");
        let ends = [(true, (balancer.local_addr().unwrap(), world.addr))];
        assert_eq!(*began.0.lock(), ends, "what the networks see of it");
        // Others than those that may speak gain nothing by a balancer in between.
        let mut stranger = world.connect();
        let forwarded: Vec<u8> = FORWARDED.iter().map(|b| if *b == 7 { 8 } else { *b }).collect();
        stranger.write_all(&[&forwarded, OPTIONS].concat()).unwrap();
        assert!(!matches!(stranger.read(&mut [0]), Ok(1..)));
        let mut silent = world.connect();
        silent.write_all(OPTIONS).unwrap();
        assert!(!matches!(silent.read(&mut [0]), Ok(1..)));
        let closed = [Closed::Stranger, Closed::ProxyHeader].map(|why| world.stats.streams_closed[why as usize].get());
        assert_eq!((closed, world.stats.streams()), ([1, 1], 1));
        assert!(world.told.try_recv().is_err());
    }

    #[test]
    fn what_comes_while_nobody_knows_who_handles_it_waits_in_order() {
        let world = World::new();
        let mut peer = world.connect();
        peer.write_all(OPTIONS).unwrap();
        let (flow, _) = world.message();
        world.undecided.yes.store(true, Ordering::SeqCst);
        let numbered = |n: usize| OPTIONS.iter().map(|b| if *b == b'1' { b'0' + n as u8 } else { *b }).collect();
        let all: Vec<Vec<u8>> = (2..8).map(numbered).collect();
        peer.write_all(&all.concat()).unwrap();
        // It lives and can be written to; what is read of it is not handled.
        world.streams.send(flow, None, b"answer").unwrap();
        read_exactly(&mut peer, b"answer");
        let (asked, end) = (world.undecided.asked.load(Ordering::SeqCst), sys::now() + LIMIT);
        while world.undecided.asked.load(Ordering::SeqCst) < asked + 50 {
            assert!(sys::now() < end, "it asks again and again");
            std::thread::yield_now();
        }
        assert!(world.told.try_recv().is_err());
        world.undecided.yes.store(false, Ordering::SeqCst);
        assert_eq!(all.iter().map(|_| world.message().1).collect::<Vec<_>>(), all);
    }

    #[test]
    fn streams_of_an_address_that_moved_are_reset_and_nothing_on_them_comes_back() {
        let world = World::new();
        let began = Arc::new(Ends::default());
        let watch: Arc<dyn Watch> = began.clone();
        world.streams.watched_by(Arc::downgrade(&watch));
        let mut caller = world.connect();
        caller.write_all(OPTIONS).unwrap();
        world.message();
        let server = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
        let flow = world.flow(server.local_addr().unwrap());
        world.streams.send(flow, None, b"request").unwrap();
        let (mut opened, ours) = server.accept().unwrap();
        read_exactly(&mut opened, b"request");
        world.undecided.yes.store(true, Ordering::SeqCst);
        world.streams.leave(|ip| ip != world.addr.ip());
        assert_eq!(world.streams.all().len(), 2);
        world.streams.leave(|ip| ip == world.addr.ip());
        for stream in [&mut caller, &mut opened] {
            let error = stream.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
        assert_eq!(world.stats.streams_closed[Closed::Moved as usize].get(), 2);
        let both = [(caller.local_addr().unwrap(), world.addr), (flow.remote, ours)];
        let mut ends = began.0.lock().clone();
        ends.sort_by_key(|(began, ends)| (!began, ends.0 == flow.remote));
        let told = |began| both.map(|(remote, local)| (began, (remote, local)));
        assert_eq!(ends[..2], told(true), "with the port that the kernel chose for what was opened here");
        until_ended(&began);
        assert!(world.told.try_recv().is_err());
    }

    /// What was told of streams: whether it began, its remote and local end.
    #[derive(Default)]
    struct Ends(Mutex<Vec<(bool, (SocketAddr, SocketAddr))>>);

    impl Watch for Ends {
        fn began(&self, ends: &Flow) {
            self.0.lock().push((true, (ends.remote, ends.local)));
        }

        fn ended(&self, ends: &Flow) {
            self.0.lock().push((false, (ends.remote, ends.local)));
        }
    }

    fn until_ended(ends: &Ends) {
        let end = sys::now() + LIMIT;
        while ends.0.lock().len() < 4 {
            assert!(sys::now() < end, "both have ended");
            std::thread::yield_now();
        }
    }

    #[test]
    fn strangers_are_reset_and_lose_what_they_had() {
        let world = World::new();
        let only = |text: &str| Arc::new(Sources::only(&[], [text.parse().unwrap()]));
        world.streams.welcome(only("127.0.0.1"));
        let mut known = world.connect();
        known.write_all(OPTIONS).unwrap();
        world.message();
        let server = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
        world.streams.send(world.flow(server.local_addr().unwrap()), None, b"request").unwrap();
        let (mut opened, _) = server.accept().unwrap();
        world.streams.welcome(only("192.0.2.1"));
        let mut octet = [0];
        assert!(!matches!(known.read(&mut octet), Ok(1..)), "it is a stranger now");
        let mut stranger = world.connect();
        assert!(!matches!(stranger.read(&mut octet), Ok(1..)));
        assert_eq!(world.stats.streams_closed[Closed::Stranger as usize].get(), 2);
        opened.write_all(OPTIONS).unwrap();
        assert_eq!(world.message().1, OPTIONS, "where this node went itself, nobody is a stranger");
        assert_eq!(world.stats.streams(), 1);
    }

    #[test]
    fn lost_framing_is_answered_and_closed() {
        let world = World::new();
        let mut peer = world.connect();
        let bad = b"INVITE sip:a@b SIP/2.0\r\nContent-Length: -1\r\n\r\n";
        peer.write_all(bad).unwrap();
        assert_eq!(world.told(), Told::Bad(bad.to_vec()));
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
        drop(peer);
        let mut next = world.connect();
        next.write_all(OPTIONS).unwrap();
        assert_eq!(world.message().1, OPTIONS);
        assert_eq!(world.stats.streams_closed[Closed::Framing as usize].get(), 1);
    }

    #[test]
    fn a_request_opens_one_connection_and_takes_it_again() {
        let world = World::new();
        let server = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
        let flow = world.flow(server.local_addr().unwrap());
        world.streams.send(flow, None, b"first,").unwrap();
        world.streams.send(flow, None, b"second").unwrap();
        let (mut stream, source) = server.accept().unwrap();
        assert_eq!(source.ip(), world.addr.ip(), "it leaves from the host that our Via names");
        read_exactly(&mut stream, b"first,second");
        stream.write_all(OPTIONS).unwrap();
        let (back, _) = world.message();
        assert_eq!((back.local, back.remote), (world.addr, flow.remote));
        assert!(back.conn.is_some());
        // The connection it named is gone: a new one is opened to the same place.
        drop(stream);
        world.streams.close(back.conn.unwrap(), Closed::Local);
        world.streams.send(back, None, b"third").unwrap();
        let (mut stream, _) = server.accept().unwrap();
        read_exactly(&mut stream, b"third");
    }

    #[test]
    fn what_cannot_be_delivered_comes_back() {
        let world = World::new();
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        world.streams.send(world.flow(gone), None, b"one").unwrap();
        match world.told() {
            Told::Undelivered(flow, bytes) => assert_eq!((flow.remote, bytes.as_slice()), (gone, &b"one"[..])),
            other => panic!("{other:?}"),
        }
        assert_eq!(world.stats.streams_unreachable.get(), 1);
    }

    #[test]
    fn a_peer_that_does_not_read_loses_its_connection() {
        let world = World::new();
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let flow = world.flow(server.local_addr().unwrap());
        let message = vec![b'x'; 60_000];
        world.streams.send(flow, None, &message).unwrap();
        // Without a stream that is full already, all that waits could leave at the last moment.
        let (mut stream, _) = server.accept().unwrap();
        stream.read_exact(&mut vec![0; message.len()]).unwrap();
        let sent = (0..10_000).take_while(|_| world.streams.send(flow, None, &message).is_ok()).count();
        assert!(sent >= limits::OUTBOUND / message.len() && sent < 10_000, "{sent}");
        assert!(matches!(world.told(), Told::Undelivered(..)));
        assert_eq!(world.stats.streams_closed[Closed::Full as usize].get(), 1);
    }

    #[test]
    fn a_source_with_too_many_connections_loses_its_oldest_stranger() {
        let world = World::new();
        let mut known = world.connect();
        known.write_all(OPTIONS).unwrap();
        world.message();
        let mut strangers: Vec<_> = (1..limits::CONNECTIONS_PER_SOURCE).map(|_| world.connect()).collect();
        let mut last = world.connect();
        last.write_all(OPTIONS).unwrap();
        let (flow, _) = world.message();
        assert_eq!(strangers[0].read(&mut [0; 1]).unwrap(), 0, "the oldest one that never sent a message is closed");
        known.write_all(OPTIONS).unwrap();
        assert_eq!(world.message().0.remote, known.local_addr().unwrap());
        assert_eq!(flow.remote, last.local_addr().unwrap());
        assert_eq!(world.streams.table.lock().all.len(), limits::CONNECTIONS_PER_SOURCE);
    }
}
