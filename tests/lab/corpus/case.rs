//! A message with its outcomes, and the manifest that lists them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A message and what has to come of it.
#[derive(Clone)]
pub struct Case {
    /// File or rule.
    pub name: String,
    /// The message.
    pub octets: Vec<u8>,
    /// The outcomes allowed for a datagram.
    pub udp: Vec<Word>,
    /// The outcomes allowed on a stream.
    pub tcp: Vec<Word>,
}

/// What comes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It leaves, changed only as RFC 3261 §16.6 asks. An OPTIONS to the node may be answered instead.
    Forward,
    /// The first of two leaves.
    ForwardFirst,
    /// Both leave.
    ForwardBoth,
    /// It leaves with as much body as Content-Length says.
    ForwardTruncated,
    /// This status, and nothing leaves.
    Status(u16),
    /// This status, then the stream is closed.
    StatusClose(u16),
    /// Nothing leaves.
    Drop,
    /// Nothing leaves, and it is no error.
    Ignore,
    /// The stream is closed.
    Close,
    /// The stream waits for the rest until its deadline.
    Wait,
    /// It leaves as long as it says it is; the octets behind it are answered with 400, then the stream is closed.
    ResyncError,
    /// It is sound; whether it fits a call is another matter.
    Parse,
}

impl Word {
    /// Whether the stream is closed as soon as the message has been seen.
    pub fn closes(self) -> bool {
        matches!(self, Word::StatusClose(_) | Word::Close | Word::ResyncError)
    }

    fn read(word: &str) -> Word {
        match word {
            "forward" => Word::Forward,
            "forward-first" => Word::ForwardFirst,
            "forward-both" => Word::ForwardBoth,
            "forward-truncated" => Word::ForwardTruncated,
            "drop" => Word::Drop,
            "ignore" => Word::Ignore,
            "close" => Word::Close,
            "wait" => Word::Wait,
            "resync-error" => Word::ResyncError,
            "parse" => Word::Parse,
            other => match other.strip_suffix("+close") {
                Some(code) => Word::StatusClose(code.parse().expect("a status")),
                None => Word::Status(other.parse().unwrap_or_else(|_| panic!("outcome {other}"))),
            },
        }
    }

    /// `A-or-B`.
    pub fn list(words: &str) -> Vec<Word> {
        words.split("-or-").map(Word::read).collect()
    }
}

/// Where the node's policy decides before routing does: it places INVITEs, answers OPTIONS, and refuses the rest without
/// a call. Each of these parses, which is what the corpus asks; none is refused with 400.
const POLICY: &[(&str, &str)] = &[
    ("rfc4475/wsinv.dat", "481"), // an INVITE with a To tag and without a Route of ours
    ("rfc4475/intmeth.dat", "501"),
    ("rfc4475/esc02.dat", "501"),
    ("rfc4475/dblreq.dat", "405"),   // REGISTER
    ("rfc4475/mpart01.dat", "405"),  // MESSAGE
    ("rfc4475/regbadct.dat", "405"), // REGISTER
];

/// Where the corpus is, if it is here.
pub fn directory() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let dir = env::var_os("TANDEM_CORPUS").map_or(beside, PathBuf::from);
    dir.join("manifest.tsv").exists().then_some(dir)
}

/// All files of the manifest; their checksums must be right.
pub fn read(dir: &Path) -> Vec<Case> {
    let manifest = fs::read_to_string(dir.join("manifest.tsv")).expect("a manifest");
    let rows: Vec<Vec<&str>> = manifest.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    verify(dir, &rows);
    rows.iter().map(|row| case(dir, row)).collect()
}

fn case(dir: &Path, row: &[&str]) -> Case {
    let [name, _, octets, _, _, _, udp, tcp, ..] = row else { panic!("a row of the manifest: {row:?}") };
    let content = fs::read(dir.join(name)).expect("a file of the corpus");
    assert_eq!(content.len().to_string(), *octets, "{name}");
    let (mut udp, mut tcp) = (Word::list(udp), Word::list(tcp));
    if let Some((_, policy)) = POLICY.iter().find(|(file, _)| file == name) {
        udp.extend(Word::list(policy));
        tcp.extend(Word::list(policy));
    }
    Case { name: (*name).to_owned(), octets: content, udp, tcp }
}

fn verify(dir: &Path, rows: &[Vec<&str>]) {
    let sums: String = rows.iter().map(|row| format!("{}  {}\n", row[1], row[0])).collect();
    let list = Path::new(env!("CARGO_TARGET_TMPDIR")).join("corpus.sha256");
    fs::write(&list, sums).expect("a writable directory");
    let check = Command::new("sha256sum").args(["--check", "--quiet", "--strict"]).arg(&list).current_dir(dir).output();
    let check = check.expect("sha256sum");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

/// Copies that are transactions and calls of their own: as many octets, another branch and From tag.
#[derive(Default)]
pub struct Fresh {
    next: u32,
}

impl Fresh {
    /// A number of its own.
    pub fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// A copy with a branch of its own, if it has one.
    pub fn copy(&mut self, octets: &[u8]) -> Vec<u8> {
        let mut copy = octets.to_vec();
        let Some(branch) = behind(octets, b"z9hG4bK") else { return copy };
        let number = self.number();
        for at in [Some(branch), behind(octets, b"tag=")].into_iter().flatten() {
            let token = word(&mut copy[at..]).filter(|o| o.is_ascii_alphanumeric());
            let mut rest = number;
            for octet in token.take(6) {
                *octet = b"0123456789abcdefghijklmnopqrstuv"[(rest % 32) as usize];
                rest /= 32;
            }
        }
        copy
    }
}

/// `octets` with the tag that one of its copies has.
pub fn tagged_as(octets: &[u8], copy: &[u8]) -> Vec<u8> {
    let mut tagged = octets.to_vec();
    if let (Some(at), Some(from)) = (behind(octets, b"tag="), behind(copy, b"tag=")) {
        word(&mut tagged[at..]).zip(&copy[from..]).for_each(|(octet, new)| *octet = *new);
    }
    tagged
}

/// Where the octets behind the first `mark` begin.
fn behind(octets: &[u8], mark: &[u8]) -> Option<usize> {
    let at = octets.windows(mark.len()).position(|w| w.eq_ignore_ascii_case(mark));
    at.map(|at| at + mark.len())
}

/// A value up to what ends it.
fn word(octets: &mut [u8]) -> impl Iterator<Item = &mut u8> {
    octets.iter_mut().take_while(|o| !b";,\r\n \t".contains(o))
}
