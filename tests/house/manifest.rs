//! Cargo.toml: dependencies are explained and used, lints stand, and the world is linked five times, no more.

use crate::report;
use crate::source::{files, lines_with, root, text};

/// The test binaries. Each is one more link of everything.
const TEST_BINARIES: &[&str] = &["core", "house", "lab", "sim", "zero_alloc"];

/// `(section, name, line)` of every dependency.
fn dependencies() -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in text("Cargo.toml").lines() {
        if let Some(head) = line.strip_prefix('[') {
            section = head.trim_end_matches(']').to_string();
        } else if let Some((name, _)) = line.split_once('=')
            && section.ends_with("dependencies")
            && !line.starts_with('#')
        {
            found.push((section.clone(), name.trim().to_string(), line.to_string()));
        }
    }
    found
}

#[test]
fn every_dependency_is_explained_and_used() {
    let code = |places: &[&str]| files(places, ".rs").iter().map(|f| f.code()).collect::<Vec<_>>();
    let (src, rest) = (code(&["src"]), code(&["tests", "benches"]));
    let mut findings = Vec::new();
    let dependencies = dependencies();
    assert!(dependencies.len() > 10, "Cargo.toml was not understood");
    for (section, name, line) in dependencies {
        if line.split_once(" # ").is_none_or(|(_, why)| why.trim().len() < 5) {
            findings.push(format!("{name}: no comment says why"));
        }
        let word = name.replace('-', "_");
        let used = |texts: &Vec<String>| texts.iter().any(|t| !lines_with(t, &word).is_empty());
        let anywhere = section.starts_with("dev") && used(&rest);
        if !(anywhere || used(&src)) {
            findings.push(format!("{name}: not used"));
        }
    }
    report("dependencies", findings);
}

#[test]
fn there_are_five_test_binaries() {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join("tests")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        if path.extension().is_some_and(|e| e == "rs") || path.join("main.rs").exists() {
            found.push(name);
        }
    }
    found.sort();
    assert_eq!(found, TEST_BINARIES);
}

#[test]
fn lints_stand() {
    let manifest = text("Cargo.toml");
    for line in ["unsafe_code = \"deny\"", "missing_docs = \"warn\"", "edition = \"2024\"", "license = \"Apache-2.0\""]
    {
        assert!(manifest.lines().any(|l| l == line), "Cargo.toml lacks `{line}`");
    }
}
