//! What outlives the process: the node's key and its epoch counter, in `state-dir`.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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

/// The secrets that keys are derived from, first one stamps: the lines of `secret_file` (at most two, for rotation), or
/// `node.key` in `dir`, 32 random octets that are made once, so that a restart keeps its dialogs.
pub fn secrets(secret_file: Option<&Path>, dir: &Path) -> Result<Vec<Vec<u8>>, StateError> {
    let Some(path) = secret_file else {
        return Ok(vec![node_key(&dir.join("node.key"))?.to_vec()]);
    };
    let text = fs::read(path).map_err(failed(path, "read the secret file"))?;
    let lines: Vec<Vec<u8>> =
        text.split(|b| *b == b'\n').map(|line| line.trim_ascii().to_vec()).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() || lines.iter().any(|line| line.len() < SECRET) {
        let cause = "each line must be a secret of at least 16 octets (make one: openssl rand -hex 32)";
        return Err(failed(path, "use the secret file")(io::Error::new(io::ErrorKind::InvalidData, cause)));
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

    #[test]
    fn the_node_key_is_made_once_and_is_private() {
        let dir = Scratch::new("key");
        let first = secrets(None, &dir.0).unwrap();
        assert_eq!(first, secrets(None, &dir.0).unwrap());
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
        let found = secrets(Some(&path), &dir.0).unwrap();
        assert_eq!(found, [b"0123456789abcdef".to_vec(), b"fedcba9876543210".to_vec()]);
        fs::write(&path, "short\n").unwrap();
        let error = secrets(Some(&path), &dir.0).unwrap_err().to_string();
        assert!(error.contains("at least 16 octets"), "{error}");
    }
}
