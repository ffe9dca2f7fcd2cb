//! What outlives the process: the node's key and its epoch counter, in `state-dir`.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::base::{Epoch, NodeId};
use crate::cluster::{HaMode, Mode};
use crate::config::Cluster;

/// A file that could not be read or written.
#[derive(Debug)]
pub struct StateError {
    /// Which.
    pub path: PathBuf,
    /// What was tried.
    pub what: &'static str,
    /// Why not.
    pub source: io::Error,
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.what, self.path.display(), self.source)?;
        if self.source.kind() == io::ErrorKind::PermissionDenied {
            f.write_str(
                "; give the user that runs tandem access to it, or set cluster.state-dir to a directory of its own",
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for StateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Makes `dir` (0700) if it is not there.
pub fn make_dir(dir: &Path) -> Result<(), StateError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir, "make the directory"))
}

/// The variable that holds the cluster's secrets where no `secret-file` is named; its form is that of the file.
pub const SECRET_VARIABLE: &str = "TANDEM_CLUSTER_SECRET";

/// The secrets that keys are derived from, first one stamps, at most two (for rotation), one a line: those of the
/// cluster's `secret-file`, else those of the `variable` ([`SECRET_VARIABLE`]), else `node.key` in `state-dir`, 32 random
/// octets that are made once, so that a restart keeps its dialogs. A pair must share them, and has no `node.key`.
pub fn secrets(cluster: &Cluster, variable: Option<&OsStr>) -> Result<Vec<Vec<u8>>, StateError> {
    if let Some(path) = &cluster.secret_file {
        return secrets_of(path);
    }
    let name = Path::new(SECRET_VARIABLE);
    match variable {
        Some(text) => lines(text.as_encoded_bytes()).map_err(failed(name, "use the environment variable")),
        None if cluster.is_pair() => {
            let cause = "it is not set, and there is no cluster.secret-file: the nodes of a pair share a secret";
            let cause = io::Error::new(io::ErrorKind::NotFound, cause);
            Err(failed(name, "use the environment variable")(cause))
        }
        None => Ok(vec![node_key(&cluster.state_dir.join("node.key"))?.to_vec()]),
    }
}

/// The secrets that a file holds, one a line.
///
/// # Errors
///
/// It cannot be read, or what stands there is too short for a secret.
pub fn secrets_of(path: &Path) -> Result<Vec<Vec<u8>>, StateError> {
    let text = fs::read(path).map_err(failed(path, "read the secret file"))?;
    lines(&text).map_err(failed(path, "use the secret file"))
}

fn lines(text: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let lines: Vec<Vec<u8>> =
        text.split(|b| *b == b'\n').map(|line| line.trim_ascii().to_vec()).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() || lines.iter().any(|line| line.len() < SECRET) {
        let cause = "each line must be a secret of at least 16 octets (make one: openssl rand -hex 32)";
        return Err(io::Error::new(io::ErrorKind::InvalidData, cause));
    }
    Ok(lines)
}

/// Octets that a secret must have at least.
const SECRET: usize = 16;

/// Random octets from the kernel.
pub fn random<const N: usize>() -> Result<[u8; N], StateError> {
    let path = Path::new("/dev/urandom");
    let mut octets = [0; N];
    File::open(path).and_then(|mut f| f.read_exact(&mut octets)).map_err(failed(path, "read"))?;
    Ok(octets)
}

fn node_key(path: &Path) -> Result<[u8; 32], StateError> {
    match fs::read(path) {
        Ok(octets) => octets.try_into().map_err(|_| {
            let cause = "it does not hold 32 octets; restore it, or delete it and lose the dialogs that live";
            failed(path, "use the node key")(io::Error::new(io::ErrorKind::InvalidData, cause))
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let key = random::<32>()?;
            replace(path, &key)?;
            Ok(key)
        }
        Err(e) => Err(failed(path, "read the node key")(e)),
    }
}

/// The counter of this start's epoch: one more than that of the last start, durable before it is used.
pub fn next_epoch(dir: &Path) -> Result<u32, StateError> {
    let path = dir.join("epoch");
    let last = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse::<u32>().map_err(|_| {
            let cause = "it does not hold a number; write the last epoch that the log shows into it";
            failed(&path, "use the epoch counter")(io::Error::new(io::ErrorKind::InvalidData, cause))
        })?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
        Err(e) => return Err(failed(&path, "read the epoch counter")(e)),
    };
    let next = last.wrapping_add(1).max(1);
    replace(&path, format!("{next}\n").as_bytes())?;
    Ok(next)
}

/// Makes the epochs up to `upto` durable ahead of need: the next start begins behind them.
pub fn reserve_epochs(dir: &Path, upto: u32) -> Result<(), StateError> {
    replace(&dir.join("epoch"), format!("{upto}\n").as_bytes())
}

/// Keeps the mode that is in force, and what the file says meanwhile.
pub fn keep_mode(dir: &Path, mode: Mode, file: HaMode) -> Result<(), StateError> {
    let Mode { mode, word } = mode;
    replace(&dir.join("ha-mode"), format!("{mode} {} {} {file}\n", word.counter, word.node.0).as_bytes())
}

/// The mode to start with: the one that was in force, unless the file has been edited since; then what it says is a later
/// word, of this node.
pub fn mode_at_start(settings: &Cluster) -> Result<Mode, StateError> {
    let path = settings.state_dir.join("ha-mode");
    let (file, me) = (settings.ha_mode, settings.node);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Ok(Mode { mode: file, word: Epoch { counter: 0, node: settings.first() } });
        }
        Err(e) => return Err(failed(&path, "read the mode")(e)),
    };
    let kept = mode_of(&text).ok_or_else(|| {
        let cause = "it does not hold a mode; delete it on both nodes, and the configuration counts";
        failed(&path, "use the mode")(io::Error::new(io::ErrorKind::InvalidData, cause))
    })?;
    let (mode, before) = kept;
    if before == file && settings.modes().contains(&mode.mode) {
        return Ok(mode);
    }
    let edited = Mode { mode: file, word: Epoch { counter: mode.word.counter.saturating_add(1), node: me } };
    keep_mode(&settings.state_dir, edited, file)?;
    Ok(edited)
}

fn mode_of(text: &str) -> Option<(Mode, HaMode)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [mode, counter, node, file] = words[..] else { return None };
    let word = Epoch { counter: counter.parse().ok()?, node: NodeId(node.parse().ok()?) };
    Some((Mode { mode: mode.parse().ok()?, word }, file.parse().ok()?))
}

/// Writes a file whole or not at all: beside it, to disk, then in its place.
fn replace(path: &Path, content: &[u8]) -> Result<(), StateError> {
    let beside = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        // The rename is durable only with the directory.
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    };
    write().map_err(failed(path, "write"))
}

fn failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError { path, what, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::Settings;

    /// A directory that is gone when the test ends.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("tandem-state-{name}-{}", std::process::id()));
            make_dir(&dir).unwrap();
            Scratch(dir)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// A cluster of one whose state is in `dir`.
    fn alone(dir: &Path) -> Cluster {
        let text = format!("[cluster]\nstate-dir = {dir:?}\n[[resource-group]]\nname = \"A\"");
        Settings::parse(&text).expect("sound").0.cluster
    }

    #[test]
    fn the_node_key_is_made_once_and_is_private() {
        let dir = Scratch::new("key");
        let first = secrets(&alone(&dir.0), None).unwrap();
        assert_eq!(first, secrets(&alone(&dir.0), None).unwrap());
        assert_eq!(first[0].len(), 32);
        let mode = fs::metadata(dir.0.join("node.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn each_start_has_a_greater_epoch() {
        let dir = Scratch::new("epoch");
        assert_eq!(next_epoch(&dir.0).unwrap(), 1);
        assert_eq!(next_epoch(&dir.0).unwrap(), 2);
        fs::write(dir.0.join("epoch"), "seven").unwrap();
        let error = next_epoch(&dir.0).unwrap_err().to_string();
        assert!(error.contains("epoch") && error.contains("does not hold a number"), "{error}");
    }

    #[test]
    fn a_secret_file_holds_one_secret_per_line() {
        let dir = Scratch::new("secret");
        let path = dir.0.join("secret");
        fs::write(&path, "0123456789abcdef\n\n fedcba9876543210 \n").unwrap();
        let cluster = Cluster { secret_file: Some(path.clone()), ..alone(&dir.0) };
        let variable = Some(OsStr::new("another secret, which a file outranks"));
        assert_eq!(secrets(&cluster, variable).unwrap(), [b"0123456789abcdef".to_vec(), b"fedcba9876543210".to_vec()]);
        fs::write(&path, "short\n").unwrap();
        let error = secrets(&cluster, None).unwrap_err().to_string();
        assert!(error.contains("at least 16 octets"), "{error}");
    }

    #[test]
    fn a_variable_stands_in_for_the_file_and_a_pair_needs_one_of_them() {
        let dir = Scratch::new("variable");
        let alone = alone(&dir.0);
        let variable = Some(OsStr::new("0123456789abcdef\nfedcba9876543210"));
        assert_eq!(secrets(&alone, variable).unwrap(), [b"0123456789abcdef".to_vec(), b"fedcba9876543210".to_vec()]);
        let error = secrets(&alone, Some(OsStr::new("hush-hush"))).unwrap_err().to_string();
        assert!(error.contains("TANDEM_CLUSTER_SECRET") && !error.contains("hush"), "{error}");
        let pair = Cluster { ha_mode: HaMode::ActiveStandby, ..alone };
        let error = secrets(&pair, None).unwrap_err().to_string();
        assert!(error.contains("TANDEM_CLUSTER_SECRET") && error.contains("cluster.secret-file"), "{error}");
        assert!(!dir.0.join("node.key").exists(), "a key that the peer has not");
        assert_eq!(secrets(&pair, variable).unwrap().len(), 2);
    }
}
