//! One test's own piece of the loopback network and of the disk.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// 256 addresses and a directory, and the turn: a world is alone, or beside others that mind no company.
pub struct World {
    block: u32,
    dir: PathBuf,
    _turn: File,
}

impl World {
    /// Waits until nobody else is there, and is alone.
    pub fn new(name: &str) -> World {
        Self::open(name, File::lock)
    }

    /// Waits until nobody is there who wants to be alone. For tests that wait most of their time, and that listen on
    /// their own addresses only.
    pub fn beside(name: &str) -> World {
        Self::open(name, File::lock_shared)
    }

    fn open(name: &str, take: fn(&File) -> io::Result<()>) -> World {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let turn = File::create(tmp.join("lab.turn")).expect("a file that says whose turn it is");
        take(&turn).expect("the turn");
        // Late retransmissions of an earlier test must not find anybody: each test has addresses of its own.
        let block = (process::id() * 16 + NEXT.fetch_add(1, Ordering::Relaxed)) % 0x4000;
        let dir = tmp.join(format!("{name}-{}", process::id()));
        fs::create_dir_all(&dir).expect("a directory for logs");
        World { block, dir, _turn: turn }
    }

    /// 127.128.0.0/10 is cut into blocks of 256.
    pub fn ip(&self, host: u8) -> Ipv4Addr {
        let [_, _, high, low] = self.block.to_be_bytes();
        Ipv4Addr::new(127, 128 + high, low, host)
    }

    /// An address with a port.
    pub fn addr(&self, host: u8, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.ip(host)), port)
    }

    /// A file in the test's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file in the test's directory.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("a writable directory");
        path
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("logs of the failed test: {}", self.dir.display());
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
