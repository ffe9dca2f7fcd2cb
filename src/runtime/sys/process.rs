//! What a process may do, how urgently, and which signals reach it.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use libc::{c_int, c_ulong};

use super::result::check;

/// Addresses, links and routes may be changed; number of its bit in a capability set.
pub const CAP_NET_ADMIN: u32 = 12;
/// Raw and packet sockets may be opened.
pub const CAP_NET_RAW: u32 = 13;

/// How the scheduler treats a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// SCHED_RR, lowest priority: before every ordinary process.
    RealTime,
    /// Nice value -20.
    Nice,
    /// As everybody; it may be late when the machine is starved.
    Ordinary,
}

/// Header of capget(2) and capset(2), which libc has no type for.
#[repr(C)]
struct Header {
    version: u32,
    pid: c_int,
}

/// One half of the three sets: capabilities 0 to 31, then 32 to 63.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// _LINUX_CAPABILITY_VERSION_3: two halves.
const VERSION: u32 = 0x2008_0522;

fn sets() -> io::Result<[Sets; 2]> {
    let mut header = Header { version: VERSION, pid: 0 };
    let mut sets = [Sets::default(); 2];
    // SAFETY: version 3 reads one header and writes two halves.
    let got = unsafe { libc::syscall(libc::SYS_capget, &mut header, sets.as_mut_ptr()) };
    check(got as c_int)?;
    Ok(sets)
}

/// Whether this thread may use the capability now.
pub fn capable(capability: u32) -> io::Result<bool> {
    Ok(sets()?[0].effective & (1 << capability) != 0)
}

/// Gives capabilities below 32 up, in every set, for this thread and those that it starts.
pub fn give_up(capabilities: &[u32]) -> io::Result<()> {
    let mut sets = sets()?;
    for &capability in capabilities {
        let keep = !(1 << capability);
        let set = &mut sets[0];
        *set = Sets {
            effective: set.effective & keep,
            permitted: set.permitted & keep,
            inheritable: set.inheritable & keep,
        };
        let (lower, none): (c_ulong, c_ulong) = (libc::PR_CAP_AMBIENT_LOWER as c_ulong, 0);
        // SAFETY: prctl takes numbers here.
        check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, lower, c_ulong::from(capability), none, none) })?;
    }
    let mut header = Header { version: VERSION, pid: 0 };
    // SAFETY: version 3 reads one header and two halves.
    let set = unsafe { libc::syscall(libc::SYS_capset, &mut header, sets.as_ptr()) };
    check(set as c_int).map(drop)
}

/// Puts the calling thread before others, as far as that is permitted. For threads that wake up, do little and wait
/// again.
pub fn hurry() -> Urgency {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: 0 is the calling thread; the parameters are valid for the call; neither call touches other memory.
    unsafe {
        if libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &parameters) == 0 {
            Urgency::RealTime
        } else if libc::setpriority(libc::PRIO_PROCESS, 0, -20) == 0 {
            Urgency::Nice
        } else {
            Urgency::Ordinary
        }
    }
}

/// How many descriptors this process may have.
pub fn descriptors() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for the call, which cannot fail for a limit that exists.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

/// Keeps what is mapped now in memory, if that is permitted. Later mappings stay free: they must not fail for a limit.
pub fn lock_memory() -> bool {
    // SAFETY: mlockall takes a number.
    unsafe { libc::mlockall(libc::MCL_CURRENT) == 0 }
}

/// SIGINT, SIGTERM and SIGHUP, which service managers and terminals send to whole groups, no longer end this process.
pub fn outlive_group_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// The child gets SIGKILL when the thread that starts it ends, however that ends.
pub fn die_together(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec the child calls prctl alone, which is a bare system call that takes numbers here.
    unsafe {
        command.pre_exec(|| {
            let (signal, none): (c_ulong, c_ulong) = (libc::SIGKILL as c_ulong, 0);
            check(libc::prctl(libc::PR_SET_PDEATHSIG, signal, none, none, none)).map(drop)
        })
    }
}

/// Ends this process at once, as a crash does: nothing is said, closed or given back.
pub fn die() {
    // SAFETY: kill takes numbers; the process that it names is this one.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

/// Kills a child that leads a process group of its own, and the whole group.
pub fn kill_group(leader: u32) -> io::Result<()> {
    // Never 0 or 1: those would be our own group, or everybody.
    let leader = c_int::try_from(leader).ok().filter(|pid| *pid > 1).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: kill takes numbers.
    check(unsafe { libc::kill(-leader, libc::SIGKILL) }).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_capability_that_is_given_up_is_gone_for_this_thread_alone() {
        let before = [CAP_NET_ADMIN, CAP_NET_RAW].map(|c| capable(c).unwrap());
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:")).unwrap().trim();
        let effective = u64::from_str_radix(effective, 16).unwrap();
        assert_eq!(before, [CAP_NET_ADMIN, CAP_NET_RAW].map(|c| effective & (1 << c) != 0));
        std::thread::spawn(|| {
            give_up(&[CAP_NET_ADMIN]).unwrap();
            assert!(!capable(CAP_NET_ADMIN).unwrap());
        })
        .join()
        .unwrap();
        assert_eq!(before, [CAP_NET_ADMIN, CAP_NET_RAW].map(|c| capable(c).unwrap()));
    }

    #[test]
    fn a_group_dies_with_its_leader() {
        let script = "sleep 600 & echo up; sleep 600";
        let mut command = Command::new("sh");
        let mut child = command.args(["-c", script]).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut String::new()).unwrap();
        kill_group(child.id()).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        // The end of the pipe: nobody is left who could write.
        assert_eq!(output.read_to_end(&mut Vec::new()).unwrap(), 0);
        assert_eq!(kill_group(0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(kill_group(1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
