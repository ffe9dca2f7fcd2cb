//! Words that must not stand in the tree.

use crate::report;
use crate::source::{File, files, lines_with};

/// Unfinished work, silenced tools, words we do not use, and places that only one machine has. Case counts.
const BANNED: &[&str] = &[
    "todo!",
    "unimplemented!",
    "dbg!",
    "FIXME",
    "XXX",
    "TODO",
    "HACK",
    "#[ignore",
    "#[allow(",
    "#![allow(",
    "/home/",
    "/root/",
    "/work/",
    "/Users/",
];

/// The same, any case.
const BANNED_ANY_CASE: &[&str] = &["master", "slave", "whitelist", "blacklist"];

/// Where a number belongs to a tracker and not to the code: `issue 7`, `issue #7`, `PR 7`.
const TRACKER: &[&str] = &["issue", "ticket", "pull request", "PR", "commit"];

/// Test files that may wait in real time, because they watch real processes, and how often they say so.
// How long a process is stopped is the fault itself.
const SLEEPS: &[(&str, usize)] = &[("tests/lab/ha_self.rs", 2)];

const SELF: &str = "tests/house/words.rs";

fn tree() -> Vec<File> {
    let mut all = Vec::new();
    for ending in [".rs", ".md", ".toml", ".service", ".sh", "/run", ".xml", ".cfg", "/seed", "/soak"] {
        all.extend(files(&["src", "tests", "benches", "fuzz", "deploy", ".ci"], ending));
    }
    let root = std::fs::read_dir(crate::source::root()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let papers: Vec<String> = root.filter(|n| n.ends_with(".md") || n.ends_with(".toml")).collect();
    all.extend(files(&papers.iter().map(String::as_str).collect::<Vec<_>>(), ""));
    all.retain(|f| f.path != SELF);
    all
}

#[test]
fn no_banned_word() {
    let mut findings = Vec::new();
    for file in tree() {
        let lower = file.text.to_ascii_lowercase();
        for word in BANNED {
            findings.extend(lines_with(&file.text, word).iter().map(|n| format!("{}:{n}: {word}", file.path)));
        }
        for word in BANNED_ANY_CASE {
            findings.extend(lines_with(&lower, word).iter().map(|n| format!("{}:{n}: {word}", file.path)));
        }
    }
    report("banned words", findings);
}

#[test]
fn code_stands_without_its_history() {
    let mut findings = Vec::new();
    for file in files(&["src", "tests", "benches", "fuzz"], ".rs").into_iter().filter(|f| f.path != SELF) {
        for (number, line) in file.text.lines().enumerate() {
            let names_tracker = |word: &&&str| {
                line.match_indices(**word).any(|(at, _)| {
                    let rest = line[at + word.len()..].trim_start_matches([' ', '#']);
                    rest.starts_with(|c: char| c.is_ascii_digit()) && line[at + word.len()..].starts_with([' ', '#'])
                })
            };
            if let Some(word) = TRACKER.iter().find(names_tracker) {
                findings.push(format!("{}:{}: {word} number", file.path, number + 1));
            }
        }
    }
    report("comments say why, not when", findings);
}

#[test]
fn code_is_ascii_outside_comments_and_literals() {
    let mut findings = Vec::new();
    for file in files(&["src", "tests", "benches", "fuzz"], ".rs") {
        let code = file.code();
        let odd = |(_, line): &(usize, &str)| !line.is_ascii();
        findings.extend(code.lines().enumerate().filter(odd).map(|(n, _)| format!("{}:{}", file.path, n + 1)));
    }
    report("code is ASCII", findings);
}

#[test]
fn tests_do_not_sleep() {
    let mut findings = Vec::new();
    for file in files(&["src", "tests", "fuzz"], ".rs") {
        let code = file.code();
        let tests_only = &code[if file.path.starts_with("src/") { file.code_without_tests().len() } else { 0 }..];
        let found = lines_with(tests_only, "sleep").len();
        let allowed = SLEEPS.iter().find(|(path, _)| *path == file.path).map_or(0, |(_, n)| *n);
        if found != allowed {
            findings.push(format!("{}: {found} sleeps, {allowed} listed", file.path));
        }
    }
    report("tests wait for a condition, not for a time", findings);
}
