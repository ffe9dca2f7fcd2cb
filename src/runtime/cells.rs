//! Cells with locks: what keeps the parts of a node when several threads drive it.
#![forbid(unsafe_code)]

use parking_lot::Mutex;

use crate::node::{Cell, Cells};

/// One lock per shard, one for the hub, one for the farm.
#[derive(Debug)]
pub struct Locked;

impl Cells for Locked {
    type Cell<T> = Mutex<T>;
}

impl<T> Cell<T> for Mutex<T> {
    fn new(value: T) -> Self {
        Mutex::new(value)
    }

    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.lock())
    }
}
