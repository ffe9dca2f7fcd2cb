//! Our own witness, `tandem witness`: one datagram, one answer.

use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use super::contract::{Me, Silence, Witness};
use super::frame::{self, Frame, LONGEST, Question};
use crate::cluster::{Ask, Word};
use crate::config::Host;
use crate::runtime::sys;
use crate::token::Keys;

/// A node's way to its witness.
pub(super) struct Own {
    host: Host,
    me: Me,
    keys: Keys,
    serial: u64,
    /// Made anew after each failure: the name may have another address by then.
    socket: Option<UdpSocket>,
}

impl Own {
    pub fn new(host: Host, me: Me, keys: Keys, counter: u32) -> Self {
        Self { host, me, keys, serial: u64::from(counter) << 32, socket: None }
    }

    fn exchange(&mut self, ask: Ask, within: Duration) -> Result<Word, Silence> {
        self.serial += 1;
        let Me { cluster, node, .. } = self.me.clone();
        let question = Question { cluster, node, serial: self.serial, ask };
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => connect(&self.host)?,
        };
        let (sent, mut memory) = (sys::now(), [0; LONGEST + 1]);
        socket.send(&frame::question(&self.keys, &question))?;
        loop {
            let left = within.saturating_sub(sys::now().since(sent));
            if left.is_zero() {
                return Err(Silence::Late);
            }
            socket.set_read_timeout(Some(left))?;
            let length = socket.recv(&mut memory)?;
            let Some((cluster, node, Frame::Answer(serial, reply, lease))) = frame::read(&self.keys, &memory[..length])
            else {
                continue;
            };
            // What answers an earlier question came too late for it.
            if serial == self.serial && node == self.me.node && cluster == self.me.cluster {
                self.socket = Some(socket);
                return Ok(reply.word(sent, lease));
            }
        }
    }
}

impl Witness for Own {
    fn ask(&mut self, ask: Ask, within: Duration) -> Result<Word, Silence> {
        self.exchange(ask, within)
    }
}

fn connect(host: &Host) -> Result<UdpSocket, Silence> {
    let addresses = (host.name.as_str(), host.port).to_socket_addrs()?;
    let mut last = Silence::Odd(format!("{} has no address", host.name));
    for address in addresses {
        let any = if address.is_ipv4() { SocketAddr::from(([0; 4], 0)) } else { SocketAddr::from(([0u16; 8], 0)) };
        match UdpSocket::bind(any).and_then(|socket| socket.connect(address).map(|()| socket)) {
            Ok(socket) => return Ok(socket),
            Err(e) => last = e.into(),
        }
    }
    Err(last)
}
