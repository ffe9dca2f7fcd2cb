//! [`Reader`]: the one that reads standing links and tells the node. It lives on the receiver's thread.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::NodeId;
use crate::replica::frame::Decoder;
use crate::replica::{Kind, Stream};
use crate::runtime::link::carrier::Carrier;
use crate::runtime::link::links::Links;
use crate::runtime::link::outgoing::Outgoing;
use crate::runtime::link::shared::{DownCause, Event, Greeting, Pair, Peers, Shared, Standing};
use crate::runtime::sys::Interest;

/// Reads of one stream in one turn, so that a peer that sends without end does not keep calls waiting.
const READS: usize = 4;

/// Reads of a stream whose other end is gone: all that its socket can hold.
const LAST_READS: usize = 1_024;

/// Reads the streams of all peers.
pub struct Reader {
    shared: Arc<Shared>,
    peers: Arc<dyn Peers>,
    /// By peer; `None` while its link does not stand.
    links: Vec<Option<[Incoming; 2]>>,
}

/// The read half of a stream.
struct Incoming {
    carrier: Arc<dyn Carrier>,
    decoder: Decoder,
}

impl Reader {
    /// The reader of `links`. There must be one, or nothing stands.
    pub fn new(links: &Links, peers: Arc<dyn Peers>) -> Self {
        let shared = Arc::clone(&links.shared);
        let links = shared.peers.iter().map(|_| None).collect();
        Self { shared, peers, links }
    }

    /// Whether a link stands: then whoever waits must wait in `poll`.
    pub fn is_up(&self) -> bool {
        self.links.iter().any(Option::is_some)
    }

    /// Appends what to poll for. The streams stay open until [`Reader::serve`].
    pub fn interests(&self, list: &mut Vec<Interest>) {
        list.push(Interest::readable(self.shared.waker.as_fd()));
        let deaf = self.shared.config.faults.is_deaf();
        for (link, peer) in self.links.iter().zip(&self.shared.peers) {
            for (incoming, slot) in link.iter().flatten().zip(&peer.out) {
                if deaf {
                    list.push(Interest::none());
                    continue;
                }
                let mut interest = Interest::readable(incoming.carrier.fd());
                if slot.blocked.load(Ordering::Acquire) {
                    interest = interest.or_writable();
                }
                list.push(interest);
            }
        }
    }

    /// Does what the last `poll` found to be done; `list` is what [`Reader::interests`] appended.
    pub fn serve(&mut self, list: &mut [Interest]) {
        let Some((waker, streams)) = list.split_first_mut() else { return };
        let woken = waker.ready();
        if !woken && streams.iter().all(|interest| !interest.ready()) {
            return;
        }
        if woken {
            waker.clear();
            self.shared.waker.clear();
        }
        let mut streams = streams.iter_mut();
        for index in 0..self.links.len() {
            if self.links[index].is_none() {
                continue;
            }
            for stream in Stream::ALL {
                if let Some(interest) = streams.next() {
                    self.turn(index, stream, interest);
                    interest.clear();
                }
            }
        }
        if woken {
            self.news();
        }
        self.peers.settled();
        self.shared.peers.iter().for_each(|peer| self.shared.flush(peer));
    }

    /// One stream that may be ready.
    fn turn(&mut self, index: usize, stream: Stream, interest: &Interest) {
        let slot = &self.shared.peers[index].out[stream as usize];
        if interest.writable() && slot.blocked.swap(false, Ordering::AcqRel) {
            if let Some(open) = slot.outgoing.lock().as_mut() {
                open.unblock();
            }
            slot.dirty.store(true, Ordering::Release);
            self.shared.flush(&self.shared.peers[index]);
        }
        if interest.ready()
            && !self.shared.config.faults.is_deaf()
            && let Err(cause) = self.read(index, stream, READS)
        {
            self.lost(index, cause);
        }
    }

    /// Ends a link for what happened to one of its streams, unless a goodbye has come before that.
    fn lost(&mut self, index: usize, cause: DownCause) {
        let last = self.read(index, Stream::Urgent, LAST_READS).err();
        self.fall(index, last.filter(|last| *last == DownCause::Goodbye).unwrap_or(cause));
    }

    /// Hands over what has come on a stream, in so many reads at most.
    fn read(&mut self, index: usize, stream: Stream, reads: usize) -> Result<(), DownCause> {
        let Self { shared, peers, links } = self;
        let Some(incoming) = links[index].as_mut().map(|link| &mut link[stream as usize]) else { return Ok(()) };
        let (peer, stats) = (shared.peers[index].member.node, &shared.stats);
        for turn in 0.. {
            if turn >= reads && !incoming.carrier.holds() {
                break;
            }
            let room = incoming.decoder.room();
            let wanted = room.len();
            let count = match incoming.carrier.read(room) {
                Ok(0) => return Err(DownCause::Closed),
                Ok(count) => count,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return Ok(()),
                Err(e) => return Err(DownCause::of(&e)),
            };
            stats.octets_in[stream as usize].add(count as u64);
            incoming.decoder.filled(count);
            let skipped = incoming.decoder.skipped();
            loop {
                match incoming.decoder.next_frame() {
                    Ok(Some(frame)) if frame.kind == Kind::Goodbye => return Err(DownCause::Goodbye),
                    Ok(Some(frame)) => {
                        stats.frames_in[stream as usize].count();
                        peers.frame(peer, stream, frame.kind, frame.payload);
                    }
                    Ok(None) => break,
                    Err(broken) => {
                        stats.broken[broken as usize].count();
                        return Err(DownCause::Bad(broken));
                    }
                }
            }
            stats.skipped.add(incoming.decoder.skipped() - skipped);
            // No more is there now, most likely; TLS may have taken only a part of it.
            if count < wanted && !incoming.carrier.holds() && reads < LAST_READS {
                break;
            }
        }
        Ok(())
    }

    /// What other threads have left.
    fn news(&mut self) {
        for index in 0..self.links.len() {
            for stream in Stream::ALL {
                let slot = &self.shared.peers[index].out[stream as usize];
                let failed = slot.failed.lock().take();
                if let Some(cause) = failed {
                    self.lost(index, cause);
                } else if slot.room.swap(false, Ordering::AcqRel) && self.links[index].is_some() {
                    self.peers.room(self.shared.peers[index].member.node);
                }
            }
        }
        while let Some(event) = self.shared.take_event() {
            match event {
                Event::Opened(index, pair) => {
                    self.fall(index, DownCause::Closed);
                    if !self.shared.is_stopping() {
                        self.stand(index, *pair);
                    }
                }
                Event::Refused(index) if self.links[index].is_none() => {
                    self.peers.down(self.shared.peers[index].member.node, DownCause::Refused);
                }
                Event::Refused(_) => {}
            }
        }
    }

    fn stand(&mut self, index: usize, pair: Pair) {
        let Pair { greeting, halves } = pair;
        let peer = &self.shared.peers[index];
        let mut streams = Stream::ALL.into_iter();
        self.links[index] = Some(halves.map(|half| {
            let stream = streams.next().unwrap_or(Stream::Bulk);
            let slot = &peer.out[stream as usize];
            let carrier = half.carrier;
            let outgoing = Outgoing::new(Arc::clone(&carrier), half.sealer, stream);
            // What was left of the last one means nothing for this one.
            let mut open = slot.outgoing.lock();
            slot.blocked.store(false, Ordering::Release);
            slot.room.store(false, Ordering::Release);
            *slot.failed.lock() = None;
            *open = Some(outgoing);
            Incoming { carrier, decoder: half.decoder }
        }));
        peer.told.store(0, Ordering::Relaxed);
        peer.standing.send_replace(Standing::Up);
        self.shared.stats.links_up.count();
        let Greeting { incarnation, .. } = greeting;
        let NodeId(node) = peer.member.node;
        tracing::info!("the link to member {node} stands (incarnation {incarnation:016x})");
        self.peers.up(peer.member.node, &greeting);
        // What came with the last octets of the opening is nowhere to be polled for.
        for stream in Stream::ALL {
            if let Err(cause) = self.read(index, stream, READS) {
                return self.lost(index, cause);
            }
        }
    }

    /// Ends a link if it stands.
    fn fall(&mut self, index: usize, cause: DownCause) {
        let Some(link) = self.links[index].take() else { return };
        let own = self.shared.is_stopping() && cause == DownCause::Closed;
        let cause = if own { DownCause::Local } else { cause };
        let peer = &self.shared.peers[index];
        for (incoming, slot) in link.iter().zip(&peer.out) {
            *slot.outgoing.lock() = None;
            incoming.carrier.close();
        }
        if let Some(ended) = cause.ended() {
            self.shared.stats.down(ended);
        }
        // New streams may be here already.
        peer.standing.send_if_modified(|s| {
            *s == Standing::Up && {
                *s = Standing::Down;
                true
            }
        });
        let NodeId(node) = peer.member.node;
        if matches!(cause, DownCause::Goodbye | DownCause::Local) {
            tracing::info!("the link to member {node} ended: {cause}");
        } else {
            tracing::warn!("the link to member {node} fell: {cause}");
        }
        self.peers.down(peer.member.node, cause);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.links.iter().flatten().flatten().for_each(|incoming| incoming.carrier.close());
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::replica::frame::Sealer;
    use crate::replica::handshake::{Local, VERSIONS, cluster_hash};
    use crate::runtime::link::shared::{Config, Member};
    use crate::token::{Keys, SessionKey};

    const PEER: NodeId = NodeId(2);

    /// A stream that was reset behind what its socket still holds; it gives no more than so much at once.
    struct Reset {
        held: Mutex<Vec<u8>>,
        at_once: usize,
        end: std::os::unix::net::UnixStream,
    }

    impl Reset {
        fn behind(held: Vec<u8>, at_once: usize) -> Arc<Reset> {
            let (end, _) = std::os::unix::net::UnixStream::pair().unwrap();
            Arc::new(Reset { held: Mutex::new(held), at_once, end })
        }
    }

    impl Carrier for Reset {
        fn read(&self, to: &mut [u8]) -> io::Result<usize> {
            let mut held = self.held.lock();
            let count = held.len().min(to.len()).min(self.at_once);
            if count == 0 {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            to[..count].copy_from_slice(&held[..count]);
            held.drain(..count);
            Ok(count)
        }

        fn write(&self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }

        fn close(&self) {}

        fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
            self.end.as_fd()
        }
    }

    #[derive(Default)]
    struct Ear(Mutex<(usize, Vec<DownCause>)>);

    impl Peers for Ear {
        fn up(&self, _: NodeId, _: &Greeting) {}

        fn down(&self, _: NodeId, cause: DownCause) {
            self.0.lock().1.push(cause);
        }

        fn frame(&self, _: NodeId, _: Stream, _: Kind, _: &[u8]) {
            let mut heard = self.0.lock();
            assert!(heard.1.is_empty(), "a frame after the end");
            heard.0 += 1;
        }

        fn room(&self, _: NodeId) {}

        fn settled(&self) {}
    }

    fn key(keys: &Keys) -> SessionKey {
        keys.session(keys.id(), &[b"urgent"]).unwrap()
    }

    #[test]
    fn the_last_words_of_a_lost_peer_are_read_to_the_end() {
        const FRAMES: usize = 300;
        // As TCP and as TLS give it.
        for at_once in [usize::MAX, 16 * 1024] {
            let keys = Keys::new("tests", &[b"a secret of two nodes"]).unwrap();
            let (mut sealer, mut held) = (Sealer::new(key(&keys)), Vec::new());
            (0..FRAMES).for_each(|_| sealer.seal(Kind::Records, &[7; 5_000], &mut held).unwrap());
            let decoders = [key(&keys), key(&keys)].map(Decoder::new);
            let local = Local {
                node: NodeId(1),
                incarnation: 1,
                cluster: cluster_hash("tests"),
                config: [0; 16],
                capabilities: 0,
                versions: VERSIONS,
                members: vec![NodeId(1), PEER],
            };
            let peers = vec![Member { node: PEER, addrs: vec!["127.0.0.2:9801".parse().unwrap()] }];
            let own = vec!["127.0.0.1:9801".parse().unwrap()];
            let faults = Arc::default();
            let config = Config { local, keys, own, peers, seed: [1; 32], faults, encryption: None };
            let (links, ear) = (Links::new(config, Arc::default()).unwrap(), Arc::new(Ear::default()));
            let mut reader = Reader::new(&links, Arc::<Ear>::clone(&ear));
            let [urgent, bulk] = decoders;
            reader.links[0] = Some([
                Incoming { carrier: Reset::behind(held, at_once), decoder: urgent },
                Incoming { carrier: Reset::behind(Vec::new(), at_once), decoder: bulk },
            ]);
            // Bulk tells of the loss first.
            let cause = reader.read(0, Stream::Bulk, READS).unwrap_err();
            reader.lost(0, cause);
            let heard = ear.0.lock();
            assert_eq!((heard.0, &heard.1[..]), (FRAMES, &[cause][..]), "{at_once} at once");
            drop(heard);
        }
    }
}
