//! The accepting side: connections that have not proved who they are, few and not for long, and the first stream of a
//! peer until the second one comes.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time;

use crate::base::limits;
use crate::replica::Stream;
use crate::replica::handshake::Refusal;
use crate::runtime::link::opening::{self, NotOpened, Open};
use crate::runtime::link::shared::{Pair, Shared};
use crate::runtime::link::stats::Turned;

/// How long a listener rests when there are no descriptors for what it would accept.
const REST: Duration = Duration::from_millis(100);

/// What stands before the door.
pub struct Door {
    shared: Arc<Shared>,
    runtime: Handle,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The number of the next connection.
    next: u64,
    /// In the order in which they came.
    half_open: VecDeque<Visitor>,
    /// Urgent streams that wait for their bulk stream, with the number of their connection. By peer.
    waiting: Vec<Option<(u64, Open)>>,
}

struct Visitor {
    number: u64,
    host: IpAddr,
    /// From an address of `cluster.member`: strangers cannot take its place.
    member: bool,
    task: AbortHandle,
}

impl Door {
    /// Nobody stands there.
    pub fn new(shared: Arc<Shared>, runtime: Handle) -> Self {
        let waiting = shared.peers.iter().map(|_| None).collect();
        Self { shared, runtime, state: Mutex::new(State { waiting, ..State::default() }) }
    }

    /// Accepts connections until the runtime ends.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        while !self.shared.is_stopping() {
            match listener.accept().await {
                Ok(_) if self.shared.config.faults.is_parted() => {}
                Ok((tcp, remote)) => self.receive(tcp, remote),
                Err(e) => {
                    self.shared.stats.accept_errors.count();
                    tracing::debug!("cannot accept a peer: {e}");
                    time::sleep(REST).await;
                }
            }
        }
    }

    fn receive(self: &Arc<Self>, tcp: TcpStream, remote: SocketAddr) {
        self.shared.stats.accepted.count();
        let (host, member) = (remote.ip(), self.shared.is_member(remote.ip()));
        let mut state = self.state.lock();
        if let Some(oldest) = state.surplus(host, member) {
            oldest.abort();
            self.shared.stats.turned(Turned::Evicted);
        }
        let number = state.next;
        state.next += 1;
        let door = Arc::clone(self);
        let task = self.runtime.spawn(async move {
            let opened = opening::admit(&door.shared, tcp).await;
            door.state.lock().half_open.retain(|visitor| visitor.number != number);
            match opened {
                Ok(open) => door.enter(number, open).await,
                Err(why) => door.turn_away(&why, remote, member),
            }
        });
        state.half_open.push_back(Visitor { number, host, member, task: task.abort_handle() });
    }

    /// Keeps the urgent stream until the bulk stream comes, which is connected second.
    async fn enter(&self, number: u64, open: Open) {
        let Some((index, _)) = self.shared.peer(open.peer) else { return };
        if open.stream == Stream::Urgent {
            self.state.lock().waiting[index] = Some((number, open));
            time::sleep(opening::DEADLINE).await;
            let mut state = self.state.lock();
            if state.waiting[index].as_ref().is_some_and(|(other, _)| *other == number) {
                state.waiting[index] = None;
                self.shared.stats.turned(Turned::Alone);
            }
            return;
        }
        let urgent = self.state.lock().waiting[index].take();
        match urgent {
            Some((_, urgent)) if urgent.greeting.incarnation == open.greeting.incarnation => {
                self.shared.opened(index, Pair { greeting: open.greeting, halves: [urgent.half, open.half] });
            }
            _ => self.shared.stats.turned(Turned::Alone),
        }
    }

    fn turn_away(&self, why: &NotOpened, remote: SocketAddr, member: bool) {
        let stats = &self.shared.stats;
        match *why {
            NotOpened::Slow => stats.turned(Turned::Slow),
            NotOpened::Gone => stats.turned(Turned::Gone),
            NotOpened::Broken(ref broken) => {
                stats.turned(Turned::Tls);
                if member {
                    self.shared.no_tls(remote, broken);
                }
            }
            NotOpened::Refused(refusal) => {
                stats.refused(refusal);
                tracing::debug!(%remote, "a connection to the peer port was refused: {refusal}");
                // What anybody can send is not worth a line; what a member sends is.
                let proved = !matches!(refusal, Refusal::Garbage | Refusal::WrongSecret);
                if proved || (member && refusal == Refusal::WrongSecret) {
                    tell(&self.shared, remote, refusal);
                }
            }
        }
    }
}

impl State {
    /// Takes the oldest out that a new one from this host leaves no room for.
    fn surplus(&mut self, host: IpAddr, member: bool) -> Option<AbortHandle> {
        let of_host = |v: &Visitor| v.host == host;
        let of_sort = |v: &Visitor| v.member == member;
        let count = |which: &dyn Fn(&Visitor) -> bool| self.half_open.iter().filter(|v| which(v)).count();
        let oldest = if count(&of_host) >= limits::HALF_OPEN_PER_SOURCE {
            self.half_open.iter().position(of_host)
        } else if count(&of_sort) >= limits::HALF_OPEN {
            self.half_open.iter().position(of_sort)
        } else {
            None
        };
        self.half_open.remove(oldest?).map(|visitor| visitor.task)
    }
}

/// Tells operators of a refusal once, until a link stands again.
fn tell(shared: &Shared, remote: SocketAddr, refusal: Refusal) {
    let from = |peer: &&crate::runtime::link::shared::Peer| peer.member.addrs.iter().any(|a| a.ip() == remote.ip());
    let Some(peer) = shared.peers.iter().find(from).or(shared.peers.first()) else { return };
    let bit = 1 << (refusal as u8);
    if peer.told.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
        tracing::warn!("the peer at {} was refused: {refusal}", remote.ip());
    }
}
