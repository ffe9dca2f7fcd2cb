//! Ends another thread's sleep in `poll`.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use crate::runtime::sys;

/// Readable from [`Waker::notify`] until [`Waker::clear`].
#[derive(Debug)]
pub struct Waker(File);

impl Waker {
    /// A waker that nobody has notified.
    pub fn new() -> io::Result<Self> {
        sys::event().map(Waker)
    }

    /// Makes it readable.
    pub fn notify(&self) {
        // A full counter (EAGAIN) means that it is readable already.
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    /// Takes all notifications.
    pub fn clear(&self) {
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::runtime::sys::{Interest, poll};

    #[test]
    fn it_ends_a_poll_until_it_is_cleared() {
        let waker = Waker::new().unwrap();
        let mut interests = [Interest::readable(waker.as_fd())];
        assert_eq!(poll(&mut interests, Some(Duration::ZERO)).unwrap(), 0);
        waker.notify();
        assert_eq!(poll(&mut interests, None).unwrap(), 1);
        assert!(interests[0].ready() && !interests[0].error());
        waker.clear();
        assert_eq!(poll(&mut interests, Some(Duration::ZERO)).unwrap(), 0);
    }
}
