//! The tree as the rules see it: files, and Rust text without comments and literals.

use std::fs;
use std::path::{Path, PathBuf};

/// The package's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A text file of the tree.
pub struct File {
    /// Path from the root, with `/`.
    pub path: String,
    /// As it stands.
    pub text: String,
}

/// All files below the folders or files `places` whose name ends with `ending`, in order of their paths.
pub fn files(places: &[&str], ending: &str) -> Vec<File> {
    let mut paths = Vec::new();
    places.iter().for_each(|place| walk(&root().join(place), &mut paths));
    paths.sort();
    let read = |p: PathBuf| {
        let path = p.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
        Some(File { path, text: fs::read_to_string(&p).ok()? })
    };
    paths.into_iter().filter(|p| p.to_str().unwrap().ends_with(ending)).filter_map(read).collect()
}

fn walk(place: &Path, paths: &mut Vec<PathBuf>) {
    if place.is_file() {
        return paths.push(place.to_path_buf());
    }
    // Build output, grown corpora and lab logs are nobody's writing.
    if ["target", "corpus", "artifacts", "out", ".git"].iter().any(|skip| place.ends_with(skip)) {
        return;
    }
    let Ok(entries) = fs::read_dir(place) else { return };
    entries.for_each(|entry| walk(&entry.unwrap().path(), paths));
}

/// A text file at the root; empty when it is not there.
pub fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_default()
}

impl File {
    /// The code without comments and literals; lines and columns stay.
    pub fn code(&self) -> String {
        strip(&self.text)
    }

    /// As [`File::code`], up to the tests at the end of the file.
    pub fn code_without_tests(&self) -> String {
        let mut code = self.code();
        if self.path.ends_with("/tests.rs") {
            code.clear();
        } else if let Some(at) = code.find("#[cfg(test)]\nmod tests") {
            code.truncate(at);
        }
        code
    }
}

/// Blanks comments and the inside of string and character literals.
pub fn strip(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out: Vec<u8> = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_or_comment(&bytes[at..], out.last().copied()).map_or(at, |len| at + len);
        if end == at {
            out.push(bytes[at]);
            at += 1;
        } else {
            let blank = bytes[at..end].iter().map(|&b| if b == b'\n' { b'\n' } else { b' ' });
            out.extend(blank);
            at = end;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The length of the comment or literal that `rest` begins with.
fn literal_or_comment(rest: &[u8], before: Option<u8>) -> Option<usize> {
    let in_word = before.is_some_and(is_word);
    match rest {
        [b'/', b'/', ..] => Some(rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len())),
        [b'/', b'*', ..] => Some(block_comment(rest)),
        [b'"', ..] => Some(quoted(rest, 1)),
        [b'b' | b'c', b'"', ..] if !in_word => Some(quoted(rest, 2)),
        [b'r', b'"' | b'#', ..] if !in_word => raw(rest, 1),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !in_word => raw(rest, 2),
        [b'\'', b'\\', ..] => Some(3 + rest[3..].iter().position(|&b| b == b'\'')? + 1),
        [b'\'', ..] => character(rest),
        _ => None,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &[u8], start: usize) -> usize {
    let mut at = start;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn raw(rest: &[u8], start: usize) -> Option<usize> {
    let hashes = rest[start..].iter().take_while(|&&b| b == b'#').count();
    let open = start + hashes;
    if rest.get(open) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = rest[open + 1..].windows(close.len()).position(|w| w == close)?;
    Some(open + 1 + body + close.len())
}

/// A character literal and not a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    let head = &rest[1..rest.len().min(6)];
    let width = std::str::from_utf8(head).map_or_else(
        |e| std::str::from_utf8(&head[..e.valid_up_to()]).ok()?.chars().next().map(char::len_utf8),
        |s| s.chars().next().map(char::len_utf8),
    )?;
    (rest.get(1 + width) == Some(&b'\'')).then_some(width + 2)
}

/// Whether `b` may stand in an identifier.
pub fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// Where `needle` stands in `text` as a whole word: line numbers from 1.
pub fn lines_with(text: &str, needle: &str) -> Vec<usize> {
    let whole = |at: usize| {
        let (bytes, end) = (text.as_bytes(), at + needle.len());
        let edge = |b: u8, other: Option<&u8>| !is_word(b) || !other.is_some_and(|&o| is_word(o));
        let before = at.checked_sub(1).and_then(|n| bytes.get(n));
        edge(bytes[at], before) && edge(bytes[end - 1], bytes.get(end))
    };
    let line = |at: usize| text[..at].matches('\n').count() + 1;
    text.match_indices(needle).map(|(at, _)| at).filter(|&at| whole(at)).map(line).collect()
}

#[test]
fn comments_and_literals_are_blanked_and_nothing_else() {
    let blanked = |text: &str| strip(text).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(blanked("a // b\nc /* d /* e */ f */ g"), "a c g");
    assert_eq!(blanked(r##"let s = "x \" y"; b"z"; r#"q " q"#; t"##), "let s = ; ; ; t");
    assert_eq!(blanked("fn f<'a>(x: &'a u8) { ['{', '\\'', '\u{e9}', b'}'] }"), "fn f<'a>(x: &'a u8) { [ , , , b ] }");
    assert_eq!(lines_with("unsafe_code\nan unsafe one\n", "unsafe"), [2]);
}
