//! Sizes, as a ratchet: what is too large today is listed with its size, and may only shrink.

use crate::report;
use crate::source::{files, is_word};

/// Lines of a source file without its tests. The aim is 200.
const FILE: usize = 400;
/// Lines of a function, from `fn` to its closing brace. The aim is 30.
const FUNCTION: usize = 70;

/// Files above the limit and their present size.
const LARGE_FILES: &[(&str, usize)] = &[];
/// Functions above the limit (`path::name`) and their present size.
const LARGE_FUNCTIONS: &[(&str, usize)] = &[];

/// Compares what was measured with the limit and the list of exceptions.
fn ratchet(sizes: Vec<(String, usize)>, limit: usize, exceptions: &[(&str, usize)]) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, size) in &sizes {
        let allowed = exceptions.iter().find(|(n, _)| n == name).map_or(limit, |(_, size)| *size);
        if *size > allowed {
            findings.push(format!("{name}: {size} lines, at most {allowed}"));
        }
    }
    for (name, allowed) in exceptions {
        let now = sizes.iter().filter(|(n, _)| n == name).map(|(_, size)| *size).max().unwrap_or(0);
        if now < *allowed {
            findings.push(format!("{name}: {now} lines now; lower its entry from {allowed}"));
        }
    }
    findings
}

/// Name, first and last line of every function with a body.
fn functions(code: &str) -> Vec<(String, usize)> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if at > 0 && is_word(bytes[at - 1]) {
            continue;
        }
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let Some(len) = body(&code[at..]).filter(|_| !name.is_empty()) else { continue };
        found.push((name, code[at..at + len].matches('\n').count() + 1));
    }
    found
}

/// The length of a function from `fn` to its closing brace; `None` for a declaration.
fn body(code: &str) -> Option<usize> {
    let (mut braces, mut nested) = (0, 0);
    for (at, b) in code.bytes().enumerate() {
        match b {
            b'(' | b'[' => nested += 1,
            b')' | b']' => nested -= 1,
            b';' if nested == 0 && braces == 0 => return None,
            b'{' => braces += 1,
            b'}' => {
                braces -= 1;
                if braces == 0 && nested == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[test]
fn files_stay_small() {
    let lines = |code: String| code.trim_end().matches('\n').count() + 1;
    let sizes =
        files(&["src", "benches"], ".rs").iter().map(|f| (f.path.clone(), lines(f.code_without_tests()))).collect();
    report("file sizes", ratchet(sizes, FILE, LARGE_FILES));
}

#[test]
fn functions_stay_small() {
    let mut sizes = Vec::new();
    for file in files(&["src", "benches"], ".rs") {
        let named = |(name, size)| (format!("{}::{name}", file.path), size);
        sizes.extend(functions(&file.code_without_tests()).into_iter().map(named));
    }
    assert!(!sizes.is_empty(), "no function was found");
    report("function sizes", ratchet(sizes, FUNCTION, LARGE_FUNCTIONS));
}

#[test]
fn tests_stand_last() {
    let mut findings = Vec::new();
    for file in files(&["src"], ".rs") {
        let code = file.code();
        let Some(at) = code.find("#[cfg(test)]\nmod tests {") else { continue };
        if body(&code[at..].replacen("#[cfg(test)]", "", 1)).is_none_or(|len| code[at + 12 + len..].contains(is_code)) {
            findings.push(file.path);
        }
    }
    report("tests stand at the end of their file", findings);
}

fn is_code(c: char) -> bool {
    !c.is_whitespace()
}

#[test]
fn the_ratchet_only_turns_one_way() {
    let sizes = |n| vec![("a".to_string(), n)];
    assert!(ratchet(sizes(10), 10, &[]).is_empty());
    assert_eq!(ratchet(sizes(11), 10, &[]), ["a: 11 lines, at most 10"]);
    assert!(ratchet(sizes(15), 10, &[("a", 15)]).is_empty());
    assert_eq!(ratchet(sizes(14), 10, &[("a", 15)]), ["a: 14 lines now; lower its entry from 15"]);
    assert_eq!(functions("fn a();\nfn b(x: [u8; 2]) {\n if x {}\n}\n"), [("b".to_string(), 3)]);
}
