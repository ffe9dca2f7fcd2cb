//! Papers: what README and its neighbours say is true of the tree and of the program.

use std::process::Command;

use crate::report;
use crate::source::{File, files, root, strip, text};

const PAPERS: &[&str] =
    &["ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md", "deny.toml"];

/// The heading in README whose one code block is all that a newcomer types.
const SET_UP: &str = "## Set up";

fn papers() -> Vec<File> {
    let mut all = files(&["deploy", "fuzz"], ".md");
    all.extend(files(PAPERS, ".md"));
    all
}

/// The lines of fenced code blocks.
fn blocks(text: &str) -> Vec<&str> {
    let mut inside = false;
    let keep = |line: &&str| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        inside && !fence
    };
    text.lines().filter(keep).collect()
}

/// Text between single backticks, outside of fenced blocks.
fn ticks(text: &str) -> Vec<&str> {
    let mut inside = false;
    let keep = |line: &&str| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    };
    text.lines().filter(keep).flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn the_papers_are_there() {
    let missing = PAPERS.iter().filter(|p| text(p).len() < 100).map(|p| p.to_string()).collect();
    report("papers", missing);
    assert!(text("LICENSE").contains("Apache License") && text("LICENSE").contains("Version 2.0, January 2004"));
    assert!(text("ARCHITECTURE.md").split_whitespace().count() <= 1_500, "ARCHITECTURE.md is longer than three pages");
}

#[test]
fn two_commands_set_it_up() {
    let readme = text("README.md");
    let section = readme.split_once(SET_UP).expect("README says how to set up").1;
    let section = section.split("\n## ").next().unwrap();
    let commands: Vec<&str> = blocks(section).into_iter().filter(|l| !l.trim().is_empty()).collect();
    assert_eq!(commands, ["cargo run --release -- demo", "./tests/run"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(root().join("tests/run")).expect("tests/run exists").permissions().mode();
        assert!(mode & 0o111 != 0, "tests/run cannot be executed");
    }
}

/// Every `tandem ...` command line that the papers show, as words.
fn commands() -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for paper in papers() {
        for line in blocks(&paper.text).into_iter().chain(ticks(&paper.text)) {
            let line = line.trim().trim_start_matches("$ ").split(" #").next().unwrap();
            let rest = ["tandem ", "cargo run --release -- "].iter().find_map(|start| line.strip_prefix(start));
            let words: Vec<String> = rest.unwrap_or_default().split_whitespace().map(String::from).collect();
            if words.first().is_some_and(|w| w.starts_with(|c: char| c.is_ascii_lowercase())) {
                found.push((paper.path.clone(), words));
            }
        }
    }
    found
}

/// What `tandem ARGS` prints on standard output; `None` if it fails.
fn tandem(args: &[&str]) -> Option<String> {
    let done = Command::new(env!("CARGO_BIN_EXE_tandem")).args(args).current_dir(root()).output().unwrap();
    done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
}

#[test]
fn every_command_in_the_papers_exists() {
    let commands = commands();
    for wanted in ["run", "check", "demo", "status", "resources", "calls"] {
        assert!(commands.iter().any(|(p, c)| p == "README.md" && c[0] == wanted), "README does not show `{wanted}`");
    }
    let mut findings = Vec::new();
    for (paper, words) in commands {
        let Some(help) = tandem(&[&words[0], "--help"]) else {
            findings.push(format!("{paper}: no command `{}`", words[0]));
            continue;
        };
        for flag in words[1..].iter().filter(|w| w.starts_with("--")) {
            let flag = flag.split('=').next().unwrap();
            if !help.contains(flag) {
                findings.push(format!("{paper}: `{}` has no `{flag}`", words[0]));
            }
        }
    }
    report("commands in the papers", findings);
}

#[test]
fn every_command_is_in_the_readme() {
    let help = tandem(&["--help"]).expect("tandem --help");
    let listed = help.split_once("Commands:").expect("tandem has commands").1.split("\n\n").next().unwrap();
    let names = listed
        .lines()
        .filter_map(|l| l.strip_prefix("  ")?.split_whitespace().next().filter(|_| !l.starts_with("   ")));
    let shown = commands();
    let missing = names.filter(|n| *n != "help" && !shown.iter().any(|(p, c)| p == "README.md" && c[0] == *n));
    report("commands that README does not show", missing.map(String::from).collect());
}

#[test]
fn every_file_in_the_papers_exists() {
    let mut findings = Vec::new();
    for paper in papers() {
        let folder = root().join(&paper.path);
        let folder = folder.parent().unwrap();
        let links = paper.text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let links = links.filter(|l| !l.is_empty() && !l.contains("://"));
        let named = ticks(&paper.text).into_iter().filter(|t| is_path(t));
        for path in links.chain(named) {
            let path = path.trim_end_matches('/');
            if !root().join(path).exists() && !folder.join(path).exists() {
                findings.push(format!("{}: {path}", paper.path));
            }
        }
    }
    report("files that the papers name and the tree lacks", findings);
}

/// Whether a word in backticks names a file of the tree: a known ending, or a folder at the top.
fn is_path(word: &str) -> bool {
    let plain =
        word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b)) && !word.starts_with(['/', '.', '-']);
    let ending = [".md", ".rs", ".toml", ".service"].iter().any(|e| word.ends_with(e));
    let folder = ["src/", "tests/", "benches/", "fuzz/", "deploy/"].iter().any(|f| word.starts_with(f));
    // Made by tools, not kept in the tree.
    let made = ["fuzz/corpus", "fuzz/artifacts", "tests/lab/out"].iter().any(|f| word.starts_with(f));
    plain && (ending || folder) && !made
}

#[test]
fn the_readme_speaks_of_this_version_and_this_example() {
    let (readme, manifest) = (text("README.md"), text("Cargo.toml"));
    let value = |key: &str| {
        let line = manifest.lines().find(|l| l.starts_with(&format!("{key} = "))).unwrap();
        line.split('"').nth(1).unwrap().to_string()
    };
    assert!(readme.contains(&format!("Rust {}", value("rust-version"))), "README names another Rust");
    assert!(
        text("clippy.toml").contains(&format!("msrv = \"{}\"", value("rust-version"))),
        "clippy.toml names another Rust"
    );
    assert!(text("CHANGELOG.md").contains(&format!("## {}", value("version"))), "CHANGELOG lacks this version");
    assert!(readme.contains("deploy/tandem.toml"), "README does not name the example configuration");
}

#[test]
fn the_example_configurations_are_sound() {
    let examples = files(&["deploy"], ".toml");
    for wanted in ["deploy/tandem.toml", "deploy/tandem-pair.toml"] {
        assert!(examples.iter().any(|f| f.path == wanted), "{wanted}");
    }
    let unsound = examples.into_iter().filter(|f| tandem(&["check", &f.path]).is_none());
    report("examples that `tandem check` refuses", unsound.map(|f| f.path).collect());
}

#[test]
fn every_fuzz_target_is_explained_seeded_and_run() {
    let manifest = text("fuzz/Cargo.toml");
    let targets: Vec<&str> =
        manifest.split("[[bin]]").skip(1).filter_map(|bin| bin.split("name = \"").nth(1)?.split('"').next()).collect();
    assert!(targets.contains(&"node"));
    let mut findings = Vec::new();
    for target in targets {
        let explained = text("fuzz/README.md").contains(&format!("| `{target}` |"));
        let listed = |script: &str| text(script).split_whitespace().any(|word| word.trim_end_matches(';') == target);
        if !(explained && listed("fuzz/seed") && listed("fuzz/run")) {
            findings.push(target.to_string());
        }
    }
    report("fuzz targets", findings);
}

#[test]
fn every_metric_in_the_papers_is_exported() {
    let source: String = files(&["src/runtime"], ".rs").into_iter().map(|f| f.text).collect();
    let mut findings = Vec::new();
    for paper in papers() {
        for word in ticks(&paper.text) {
            let name = word.split('{').next().unwrap();
            let metric = name.starts_with("tandem_") || name.starts_with("rm") && name.len() > 6 && name.is_ascii();
            if metric && !name.contains(' ') && !name.ends_with(['_', '*']) && !source.contains(&format!("\"{name}\""))
            {
                findings.push(format!("{}: {name}", paper.path));
            }
        }
    }
    report("metrics that the papers name and nothing exports", findings);
}

#[test]
fn every_option_in_the_papers_is_read() {
    let reader: String = files(&["src/config"], ".rs").into_iter().map(|f| f.text).collect();
    let mut findings = Vec::new();
    // Option tables: a row begins with the option in backticks.
    for line in text("README.md").lines().filter(|l| l.starts_with("| `")) {
        let word = line.split('`').nth(1).unwrap();
        let option = word.bytes().all(|b| b.is_ascii_lowercase() || b"-.".contains(&b)) && word.contains(['-', '.']);
        let key = word.rsplit_once('.').filter(|_| !word.starts_with("sip.")).map_or(word, |(_, key)| key);
        if option && !is_path(word) && !reader.contains(&format!("\"{key}\"")) {
            findings.push(word.to_string());
        }
    }
    report("options that README explains and nothing reads", findings);
}

#[test]
fn the_architecture_lists_the_layers_in_order() {
    let lib = strip(&text("src/lib.rs"));
    let order = lib.lines().filter_map(|l| l.trim().strip_prefix("pub mod ")?.strip_suffix(';'));
    let order: Vec<&str> = order.collect();
    let paper = text("ARCHITECTURE.md");
    let first_word = |l: &&str| l.split_whitespace().next().unwrap_or_default().to_string();
    let drawn: Vec<String> = blocks(&paper).iter().map(first_word).filter(|w| order.contains(&w.as_str())).collect();
    assert_eq!(drawn, order);
}
