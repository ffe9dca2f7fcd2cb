//! Log lines to standard error through a bounded queue and a thread of its own. Whoever logs never waits: a reader
//! that does not keep up loses lines, which are counted.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::metrics::Edge;
use crate::base::limits;

/// How long the end of the process waits for the last lines.
const FLUSH: Duration = Duration::from_millis(500);
/// How often it looks whether the queue has place for its question.
const STEP: Duration = Duration::from_millis(5);

/// The way of all log lines. Clones share it.
#[derive(Clone)]
pub struct Log {
    queue: SyncSender<Item>,
    edge: Arc<Edge>,
    /// Changes the filter, once this log is the process's.
    filter: Arc<OnceLock<Filter>>,
}

type Filter = Box<dyn Fn(EnvFilter) + Send + Sync>;

enum Item {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

impl Log {
    /// Starts the thread that writes to `sink`; it counts in `edge`.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub fn start(sink: impl Write + Send + 'static, edge: Arc<Edge>) -> io::Result<Self> {
        let (queue, lines) = sync_channel(limits::LOG_LINES);
        let counters = Arc::clone(&edge);
        std::thread::Builder::new().name("log".into()).spawn(move || drain(&lines, sink, &counters))?;
        Ok(Self { queue, edge, filter: Arc::default() })
    }

    /// Makes this the log of the whole process. `level` is `[log] level`; the environment variable `RUST_LOG` beats
    /// it. Panics are logged too, for the same reason: their usual way to standard error may block. Where a log is
    /// installed already, that one stays.
    ///
    /// # Errors
    ///
    /// What is wrong with `RUST_LOG`.
    pub fn install(&self, level: Level) -> Result<(), String> {
        let filter = match environment() {
            Some(wanted) => EnvFilter::try_new(&wanted).map_err(|e| format!("RUST_LOG=\"{wanted}\": {e}"))?,
            None => EnvFilter::default().add_directive(level.into()),
        };
        let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let format = tracing_subscriber::fmt().with_writer(self.clone()).with_ansi(colours);
        let format = format.with_env_filter(filter).with_filter_reloading();
        let handle = format.reload_handle();
        if format.try_init().is_ok() {
            let change = move |filter| drop(handle.reload(filter));
            let _first = self.filter.set(Box::new(change));
            std::panic::set_hook(Box::new(|panic| tracing::warn!("{}", panic.to_string().replace('\n', " "))));
        }
        Ok(())
    }

    /// Changes the level, unless `RUST_LOG` rules.
    pub fn set_level(&self, level: Level) {
        if let (None, Some(change)) = (environment(), self.filter.get()) {
            change(EnvFilter::default().add_directive(level.into()));
        }
    }

    /// Waits until what was logged so far is written, but not for long on a reader that has stopped reading.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        for _ in 0..FLUSH.as_millis() / STEP.as_millis() {
            match self.queue.try_send(Item::Flush(done.clone())) {
                Ok(()) => break,
                Err(_) => std::thread::sleep(STEP),
            }
        }
        let _timeout = written.recv_timeout(FLUSH);
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = &'a Log;

    fn make_writer(&'a self) -> &'a Log {
        self
    }
}

/// One call is one line: the formatter hands over whole events.
impl Write for &Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut kept = line[..line.len().min(limits::LOG_LINE)].to_vec();
        if kept.len() < line.len() {
            kept.extend_from_slice(b"...\n");
        }
        if self.queue.try_send(Item::Line(kept)).is_err() {
            self.edge.log_dropped.count();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn environment() -> Option<String> {
    std::env::var("RUST_LOG").ok().filter(|v| !v.is_empty())
}

fn drain(lines: &Receiver<Item>, mut sink: impl Write, edge: &Edge) {
    let mut told = 0;
    for item in lines {
        match item {
            Item::Line(line) => {
                let written = sink.write_all(&line).is_ok();
                if written { &edge.log_written } else { &edge.log_dropped }.count();
            }
            Item::Flush(done) => {
                let _nobody_waits = (sink.flush(), done.try_send(()));
            }
        }
        let dropped = edge.log_dropped.get();
        if dropped > told && writeln!(sink, "WARN tandem: {} log lines dropped", dropped - told).is_ok() {
            told = dropped;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    /// A sink that takes nothing until it is released, and then shows what it took.
    struct Stalled {
        release: Receiver<()>,
        taken: Sender<Vec<u8>>,
    }

    impl Write for Stalled {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            let _go_on = self.release.recv();
            let _ = self.taken.send(octets.to_vec());
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_reader_costs_lines_and_nothing_else() {
        let (release, stop) = channel();
        let (taken, seen) = channel();
        let edge = Arc::new(Edge::default());
        let log = Log::start(Stalled { release: stop, taken }, Arc::clone(&edge)).unwrap();
        for n in 0..limits::LOG_LINES + 10 {
            (&log).write_all(format!("line {n}\n").as_bytes()).unwrap();
        }
        // The thread holds at most one line; the queue holds the rest of what is not lost.
        let dropped = edge.log_dropped.get();
        assert!((9..=10).contains(&dropped), "{dropped}");
        drop(release);
        log.flush();
        let text: Vec<u8> = seen.try_iter().flatten().collect();
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("line 0\n"), "{text}");
        assert!(text.contains(&format!("{dropped} log lines dropped")), "the gap is told");
        assert_eq!(edge.log_written.get(), (limits::LOG_LINES + 10) as u64 - dropped);
    }

    #[test]
    fn a_long_line_is_cut() {
        let (taken, seen) = channel();
        let (release, stop) = channel();
        drop(release);
        let log = Log::start(Stalled { release: stop, taken }, Arc::default()).unwrap();
        (&log).write_all(&[b'x'; limits::LOG_LINE + 1]).unwrap();
        log.flush();
        assert_eq!(seen.try_iter().flatten().count(), limits::LOG_LINE + 4);
    }
}
