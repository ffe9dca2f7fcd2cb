//! The connecting side: raises a link again and again until it stands.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{self, Instant};

use crate::base::NodeId;
use crate::replica::Stream;
use crate::replica::handshake::Refusal;
use crate::runtime::link::opening::{self, NotOpened, Open};
use crate::runtime::link::shared::{Pair, Shared, Standing};

/// A connection is established within this time, or tried anew.
const CONNECT_DEADLINE: Duration = Duration::from_secs(1);

/// The next path is tried beside the first when that is silent for so long.
const STAGGER: Duration = Duration::from_millis(50);

/// The pause after the first failure: a process that is started again is back within 30 ms. It doubles with each
/// further one.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Openings without an answer after which operators are told that the secrets differ.
const SILENT: u32 = 3;

/// Keeps the link to a peer up (`connects`), or finds out while it is down whether its host refuses, until the runtime
/// ends.
pub async fn keep(shared: Arc<Shared>, index: usize, connects: bool) {
    let mut standing = shared.peers[index].standing.subscribe();
    let (mut pause, mut silent) = (FIRST_PAUSE, 0);
    while !shared.is_stopping() {
        if *standing.borrow_and_update() != Standing::Down {
            silent = 0;
            let since = Instant::now();
            if standing.wait_for(|s| *s == Standing::Down).await.is_err() {
                return;
            }
            // One that falls as soon as it stands must not be raised without end.
            if since.elapsed() >= LAST_PAUSE {
                pause = FIRST_PAUSE;
                continue;
            }
        } else if shared.config.faults.is_parted() {
            // Nothing is raised over a network that is cut.
        } else if connects {
            raise(&shared, index, &mut silent).await;
        } else {
            // For no other reason than to learn whether it is refused.
            drop(connect(&shared, index).await);
        }
        if *standing.borrow() == Standing::Down {
            // The peer may raise it meanwhile.
            let _ = time::timeout(pause, standing.wait_for(|s| *s != Standing::Down)).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}

/// Opens both streams, the urgent one first.
async fn raise(shared: &Arc<Shared>, index: usize, silent: &mut u32) {
    let peer = shared.peers[index].member.node;
    let mut open: Vec<Open> = Vec::with_capacity(2);
    for stream in Stream::ALL {
        let Some((tcp, remote)) = connect(shared, index).await else { return };
        match opening::ask(shared, peer, stream, tcp).await {
            Ok(opened) => open.push(opened),
            Err(why) => return failed(shared, index, remote, &why, silent),
        }
    }
    if let Ok([urgent, bulk]) = <[Open; 2]>::try_from(open)
        && urgent.greeting.incarnation == bulk.greeting.incarnation
    {
        shared.opened(index, Pair { greeting: urgent.greeting, halves: [urgent.half, bulk.half] });
    }
}

fn failed(shared: &Shared, index: usize, remote: SocketAddr, why: &NotOpened, silent: &mut u32) {
    let refusal = match *why {
        NotOpened::Refused(refusal) => {
            shared.stats.refused(refusal);
            refusal
        }
        NotOpened::Broken(ref broken) => return shared.no_tls(remote, broken),
        NotOpened::Slow | NotOpened::Gone => {
            shared.stats.dial_silent.count();
            *silent += 1;
            if *silent < SILENT {
                return;
            }
            Refusal::WrongSecret
        }
    };
    let peer = &shared.peers[index];
    let bit = 1 << (refusal as u8);
    if peer.told.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
        let NodeId(node) = peer.member.node;
        if matches!(why, NotOpened::Refused(_)) {
            tracing::warn!("no link to member {node} at {remote}: {refusal}");
        } else {
            tracing::warn!(
                "no link to member {node}: {remote} closes without an answer; probably {refusal}, or `peer-tls` differs"
            );
        }
    }
}

/// A connection over the first path that gives one. Later paths start a little later, those that are silent last.
async fn connect(shared: &Arc<Shared>, index: usize) -> Option<(TcpStream, SocketAddr)> {
    let mut attempts = JoinSet::new();
    let peer = &shared.peers[index];
    let silent = peer.silent.load(Ordering::Relaxed);
    let mut paths: Vec<_> = shared.config.own.iter().zip(&peer.member.addrs).enumerate().collect();
    paths.sort_by_key(|(path, _)| silent >> path & 1);
    for (turn, (_, (own, remote))) in (0..).zip(paths) {
        let (shared, own, remote) = (Arc::clone(shared), *own, *remote);
        attempts.spawn(async move {
            time::sleep(STAGGER * turn).await;
            match time::timeout(CONNECT_DEADLINE, over(own, remote)).await {
                Ok(Ok(tcp)) => return Some((tcp, remote)),
                Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => shared.refused(index),
                Ok(Err(_)) | Err(_) => shared.stats.dial_unreachable.count(),
            }
            None
        });
    }
    while let Some(attempt) = attempts.join_next().await {
        if let Ok(Some(connected)) = attempt {
            return Some(connected);
        }
    }
    None
}

async fn over(own: SocketAddr, remote: SocketAddr) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Each path has its own address; the port is the kernel's choice.
    socket.bind(SocketAddr::new(own.ip(), 0))?;
    socket.connect(remote).await
}
