//! What the parts of a node are kept in.

/// What the parts of a node are kept in. The core brings [`Single`]; `runtime` brings one with locks.
pub trait Cells {
    /// The cell of one part.
    type Cell<T>: Cell<T>;
}

/// One part of a node.
pub trait Cell<T> {
    /// Wraps a part.
    fn new(value: T) -> Self;
    /// Lends it for one call. Never nested on the same cell.
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R;
}

/// Cells for one thread: simulator, benches, fuzzing.
#[derive(Debug)]
pub struct Single;

impl Cells for Single {
    type Cell<T> = std::cell::RefCell<T>;
}

impl<T> Cell<T> for std::cell::RefCell<T> {
    fn new(value: T) -> Self {
        std::cell::RefCell::new(value)
    }

    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.borrow_mut())
    }
}
