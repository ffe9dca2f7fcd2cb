//! Streams of the pair's addresses: the peer knows which are open, so that it can make the kernels of callers and media
//! servers notice at once when it takes over.
//! With them it learns by which hardware addresses this node answers.
#![forbid(unsafe_code)]

use crate::base::{Flow, NodeId};
use crate::replica::callers::News;
use crate::replica::{Kind, Stream};
use crate::runtime::tcp::Watch;
use crate::runtime::vip::{Connection, Mac, Tickle};

use super::machine::Pair;

/// News of one frame at most.
const AT_ONCE: usize = 4_096;

impl Pair {
    /// Tells the peer of this host's hardware addresses and of every stream that is open to an address of the pair.
    pub(super) fn tell_callers(&self, peer: NodeId) {
        let _ = self.peer.set(peer);
        let flows = self.driver.streams.all();
        let shared: Vec<&Flow> = flows.iter().filter(|flow| self.driver.node.shares(flow.local.ip())).collect();
        let mut payload = Vec::new();
        News::Anew.write(&mut payload);
        self.cards.lock().own().iter().for_each(|card| News::Card(card.0).write(&mut payload));
        for flows in shared.chunks(AT_ONCE) {
            flows.iter().for_each(|flow| News::Opened(**flow).write(&mut payload));
            self.send_news(&std::mem::take(&mut payload));
        }
        if !payload.is_empty() {
            self.send_news(&payload);
        }
    }

    /// What the peer says of its host and its callers.
    pub(super) fn hear_callers(&self, payload: &[u8]) {
        let of = |flow: Flow| Connection { local: flow.local, remote: flow.remote };
        for news in News::read(payload) {
            let tickle = match news {
                News::Anew => Tickle::Clear,
                News::Opened(flow) => Tickle::Add(of(flow)),
                News::Ended(flow) => Tickle::Remove(of(flow)),
                News::Card(card) => {
                    self.cards.lock().learn(Mac(card));
                    continue;
                }
            };
            // A guard that does not listen is told about elsewhere.
            let _ = self.guest.as_ref().unwrap_or(&self.vip).tickle(tickle);
        }
    }

    fn news(&self, flow: &Flow, news: News) {
        if self.driver.node.shares(flow.local.ip()) {
            let mut payload = Vec::new();
            news.write(&mut payload);
            self.send_news(&payload);
        }
    }

    fn send_news(&self, payload: &[u8]) {
        if let Some(peer) = self.peer.get() {
            self.links.send(*peer, Stream::Urgent, Kind::Callers, payload);
            self.links.flush();
        }
    }
}

impl Watch for Pair {
    fn began(&self, ends: &Flow) {
        self.news(ends, News::Opened(*ends));
    }

    fn ended(&self, ends: &Flow) {
        self.news(ends, News::Ended(*ends));
    }
}
