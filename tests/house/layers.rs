//! Layers: a module uses only what is declared above it, at the top and inside folders; the core has no side effects.

use std::collections::BTreeMap;

use crate::report;
use crate::source::{File, files, is_word, lines_with, text};

/// The first top-level module that is not core.
const EDGE: &str = "config";

/// What the core must not know: clocks, sockets, threads, locks, the environment, files, terminals, unseeded hashing.
const BANNED_IN_CORE: &[&str] = &[
    "Instant",
    "SystemTime",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "UnixStream",
    "UnixListener",
    "Mutex",
    "RwLock",
    "Condvar",
    "mpsc",
    "LazyLock",
    "OnceLock",
    "thread_local",
    "thread::",
    "std::thread",
    "std::fs",
    "std::env",
    "std::io",
    "std::process",
    "tokio",
    "socket2",
    "parking_lot",
    "prometheus",
    "libc",
    "rsip",
    "RandomState",
    "collections::HashMap",
    "collections::HashSet",
    "print",
    "println",
    "eprint",
    "eprintln",
];

/// The only files with `unsafe`: system calls, and allocators that count.
const UNSAFE: &[&str] = &[
    "src/runtime/sys/mod.rs",
    "src/runtime/sys/interfaces.rs",
    "src/runtime/sys/packet.rs",
    "src/runtime/sys/process.rs",
    "benches/parse.rs",
    "tests/zero_alloc.rs",
];

/// The modules that `mod` lines declare in a file, in order.
fn declared(code: &str) -> Vec<String> {
    let name = |line: &str| {
        let line = line.trim().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_string())
    };
    code.lines().filter_map(name).collect()
}

fn top() -> Vec<String> {
    declared(&crate::source::strip(&text("src/lib.rs")))
}

/// The module path of a file: `src/sip/uri.rs` is `[sip, uri]`, `src/sip/mod.rs` is `[sip]`.
fn module(file: &File) -> Vec<String> {
    let path = file.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(String::from).collect()
}

/// Every path in `code` that begins with `crate::` or `super::`, from the root; groups are written out.
fn paths(code: &str, own: &[String]) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for (at, start) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        let before = &code.as_bytes()[..at];
        if before.last().is_some_and(|&b| is_word(b)) || before.ends_with(b"super::") {
            continue;
        }
        let (mut base, mut rest) = (Vec::new(), &code[at + start.len()..]);
        if start == "super::" {
            let ups = 1 + rest.split("::").take_while(|s| *s == "super").count();
            rest = &rest["super::".len() * (ups - 1)..];
            base = own[..own.len().saturating_sub(ups)].to_vec();
        }
        let mut trees = Vec::new();
        tree(rest, &base, &mut trees);
        let line = code[..at].matches('\n').count() + 1;
        found.extend(trees.into_iter().map(|path| (line, path)));
    }
    found
}

/// Writes out one use tree that follows `base`; returns what follows it.
fn tree<'a>(rest: &'a str, base: &[String], out: &mut Vec<Vec<String>>) -> &'a str {
    let mut rest = rest.trim_start();
    let mut base = base.to_vec();
    loop {
        if let Some(group) = rest.strip_prefix('{') {
            rest = group;
            while !rest.trim_start().starts_with('}') && !rest.trim_start().is_empty() {
                rest = tree(rest, &base, out).trim_start().trim_start_matches(|c: char| c != ',' && c != '}');
                rest = rest.strip_prefix(',').unwrap_or(rest);
            }
            return rest.trim_start().strip_prefix('}').unwrap_or_default();
        }
        let len = rest.bytes().take_while(|&b| is_word(b)).count();
        if len > 0 {
            base.push(rest[..len].to_string());
        }
        rest = &rest[len..];
        match rest.strip_prefix("::") {
            Some(next) if len > 0 => rest = next,
            _ => {
                out.push(base);
                return rest;
            }
        }
    }
}

/// Which child a folder's re-export comes from: `pub use scan::Malformed` in `sip/mod.rs` maps `Malformed` to `scan`.
fn re_exports(code: &str) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    for (at, _) in code.match_indices("pub use ") {
        let mut trees = Vec::new();
        tree(&code[at + "pub use ".len()..], &[], &mut trees);
        for path in trees.into_iter().filter(|p| p.len() >= 2) {
            let from = usize::from(path[0] == "self");
            map.insert(path[path.len() - 1].clone(), path[from].clone());
        }
    }
    map
}

/// One folder level: its children in order, and what it re-exports from them.
struct Level {
    children: Vec<String>,
    shown: BTreeMap<String, String>,
}

/// Why a use of `path` by the module `own` breaks the order; `None` if it keeps it.
fn breach(own: &[String], path: &[String], levels: &BTreeMap<Vec<String>, Level>) -> Option<String> {
    for depth in 0..own.len() {
        let level = levels.get(&own[..depth])?;
        let wanted = path.get(depth)?;
        let wanted = level.shown.get(wanted).unwrap_or(wanted);
        if *wanted == own[depth] {
            continue;
        }
        let mine = level.children.iter().position(|c| *c == own[depth])?;
        return match level.children.iter().position(|c| c == wanted) {
            Some(theirs) if theirs < mine => None,
            Some(_) => Some(format!("`{}` stands below `{}`", wanted, own[depth])),
            None if depth == 0 => None,
            None => Some(format!("`{}` belongs to the folder's own mod.rs, which stands below", path.join("::"))),
        };
    }
    None
}

#[test]
fn a_module_uses_only_what_is_declared_above_it() {
    let sources = files(&["src"], ".rs");
    let mut levels = BTreeMap::from([(vec![], Level { children: top(), shown: BTreeMap::new() })]);
    for file in sources.iter().filter(|f| f.path != "src/lib.rs" && f.path != "src/main.rs") {
        let code = file.code();
        let children = declared(&code);
        if !children.is_empty() {
            levels.insert(module(file), Level { children, shown: re_exports(&code) });
        }
    }
    let mut findings = Vec::new();
    for file in sources.iter().filter(|f| f.path != "src/lib.rs" && f.path != "src/main.rs") {
        let own = module(file);
        for (line, path) in paths(&file.code_without_tests(), &own) {
            if let Some(why) = breach(&own, &path, &levels) {
                findings.push(format!("{}:{line}: {why}", file.path));
            }
        }
    }
    report("a module uses only what is declared above it", findings);
}

#[test]
fn every_source_file_is_declared_and_the_root_shows_modules_only() {
    let mut findings = Vec::new();
    for file in files(&["src"], ".rs").iter().filter(|f| f.path != "src/lib.rs" && f.path != "src/main.rs") {
        let path = module(file);
        let (name, above) = path.split_last().unwrap();
        let parent = if above.is_empty() { "src/lib.rs".into() } else { format!("src/{}/mod.rs", above.join("/")) };
        if !declared(&crate::source::strip(&text(&parent))).contains(name) && name != "tests" {
            findings.push(format!("{} is not declared in {parent}", file.path));
        }
    }
    // A re-export at the root would be a way around the order.
    findings.extend(lines_with(&text("src/lib.rs"), "pub use").iter().map(|n| format!("src/lib.rs:{n}: pub use")));
    report("lib.rs is the map", findings);
}

fn core_files() -> Vec<File> {
    let top = top();
    let edge = top.iter().position(|m| m == EDGE).expect("the edge is declared");
    let in_core = |f: &File| top[..edge].contains(&module(f)[0]);
    files(&["src"], ".rs").into_iter().filter(in_core).collect()
}

#[test]
fn the_core_has_no_side_effects() {
    let mut findings = Vec::new();
    for file in core_files() {
        let code = file.code_without_tests();
        for word in BANNED_IN_CORE {
            findings.extend(lines_with(&code, word).iter().map(|n| format!("{}:{n}: {word}", file.path)));
        }
    }
    report("the core knows no clock, socket, thread, lock, environment, file or terminal", findings);
}

#[test]
fn unsafe_stands_in_one_place() {
    let mut findings = Vec::new();
    for file in files(&["src", "tests", "benches", "fuzz"], ".rs") {
        if !UNSAFE.contains(&file.path.as_str()) {
            findings.extend(lines_with(&file.code(), "unsafe").iter().map(|n| format!("{}:{n}", file.path)));
        }
    }
    for file in core_files() {
        let head = module(&file).len() == 1;
        if head && !file.code().contains("#![forbid(unsafe_code)]") {
            findings.push(format!("{} does not forbid unsafe code", file.path));
        }
    }
    report("unsafe code", findings);
}

#[test]
fn the_reader_of_paths_sees_through_groups() {
    let own = ["sip".to_string(), "uri".to_string()];
    let found = |code: &str| paths(code, &own).into_iter().map(|(_, p)| p.join("::")).collect::<Vec<_>>();
    assert_eq!(found("use crate::{base::{Time, Host}, out};"), ["base::Time", "base::Host", "out"]);
    assert_eq!(
        found("use super::{scan::Span, Malformed}; x(crate::node::Node)"),
        ["node::Node", "sip::scan::Span", "sip::Malformed"]
    );
}
