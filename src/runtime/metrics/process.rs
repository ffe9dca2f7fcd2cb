//! What the kernel says of this process, read from /proc/self alone (a hardened unit sees no more). What cannot be
//! read stays zero.

use std::fs;

/// Ticks per second of the times in /proc: fixed for user space on Linux, whatever the kernel's own rate.
const TICKS: f64 = 100.0;

/// Memory, processor time and descriptors of this process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Process {
    /// Resident memory, octets.
    pub resident: u64,
    /// Address space, octets.
    pub virtual_memory: u64,
    /// Processor time, user and system, seconds.
    pub cpu: f64,
    /// Threads.
    pub threads: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Their limit.
    pub max_fds: u64,
}

impl Process {
    /// Reads everything now. A few file reads: tens of microseconds, more with thousands of descriptors.
    pub fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let status = text("/proc/self/status");
        let field = |name: &str| first_number(&status, name).unwrap_or(0);
        Self {
            resident: field("VmRSS:") * 1024,
            virtual_memory: field("VmSize:") * 1024,
            threads: field("Threads:"),
            cpu: cpu(&text("/proc/self/stat")).unwrap_or(0.0),
            max_fds: first_number(&text("/proc/self/limits"), "Max open files").unwrap_or(0),
            // The listing itself holds one descriptor.
            open_fds: fs::read_dir("/proc/self/fd").map_or(0, |dir| (dir.count() as u64).saturating_sub(1)),
        }
    }
}

/// The number right after `name` at the start of a line.
fn first_number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// Processor time in seconds. The second field is the program's name and may hold blanks and brackets: fields count
/// from its end (proc(5)).
fn cpu(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks = |n: usize| rest.split_whitespace().nth(n)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_itself() {
        let one = Process::read();
        assert!(one.resident > 1 << 20 && one.virtual_memory >= one.resident, "{one:?}");
        assert!(one.threads >= 1 && one.open_fds >= 3 && one.max_fds >= one.open_fds, "{one:?}");
    }

    #[test]
    fn a_program_name_with_blanks_and_brackets_does_not_shift_the_fields() {
        assert_eq!(cpu("7 (a ) b) S 1 1 1 0 -1 4 1 0 0 0 250 50 0 0 20 0 4 0 900 0 0"), Some(3.0));
        assert_eq!(cpu("7 (a"), None);
    }
}
