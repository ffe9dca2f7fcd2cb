//! House rules as tests: layers, sizes, words, papers. Each rule reads the tree once and names every place at fault.

mod layers;
mod manifest;
mod papers;
mod sizes;
mod source;
mod words;

/// Fails with all findings at once.
fn report(rule: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}
