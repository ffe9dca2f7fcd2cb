//! Who decides when the nodes of a pair do not hear each other: asked by a thread of its own, so that nothing waits for it.
#![forbid(unsafe_code)]

mod contract;
mod frame;
mod own;
mod etcd;
mod watch;
pub mod serve;

use crate::config::Settings;
use crate::config::Witness as Place;
use crate::token::Keys;

pub use contract::{Silence, Witness};
pub use watch::Watch;

use contract::Me;

/// The witness that `settings` name; `counter`: of this start, above that of every earlier one.
pub fn of(settings: &Settings, keys: &Keys, counter: u32) -> Option<Box<dyn Witness>> {
    let cluster = &settings.cluster;
    let others = cluster.peer().map(|peer| peer.id).into_iter().collect();
    let me = Me { cluster: cluster.name.clone(), node: cluster.node, others };
    match cluster.witness.as_ref().filter(|_| cluster.is_pair())? {
        Place::Own(host) => Some(Box::new(own::Own::new(host.clone(), me, keys.clone(), counter))),
        Place::Etcd(host) => Some(Box::new(etcd::Etcd::new(host.clone(), me))),
    }
}
