//! A call as one end saw it, in a form that two runs can be compared in: repetitions removed, identifiers of one run
//! replaced by what kind of thing they are, transactions in the order of their numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::actor::Passed;
use super::message::Message;

/// A transaction as an end tells them apart: who asked, CSeq number, method (an ACK belongs to its INVITE).
type Key = (u32, bool, String);

/// What one end saw of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Each transaction's messages, each once, in the order of their first time.
    transactions: BTreeMap<Key, Vec<String>>,
}

impl View {
    /// What of `passed` belongs to this call. A 100 is left out: it speaks of one hop, and a survivor that relays an
    /// answer need not send another.
    pub fn of(passed: &[Passed], call_id: &str, servers: &[&str]) -> View {
        let mut view = View::default();
        for passed in passed.iter().filter(|p| p.message.call_id() == call_id && p.message.status() != Some(100)) {
            let text = normal(passed, servers);
            let seen = view.transactions.entry(key(passed)).or_default();
            if !seen.contains(&text) {
                seen.push(text);
            }
        }
        view
    }

    /// Joins what another end of the same kind saw: a call that one of several media servers took.
    pub fn join(mut self, other: View) -> View {
        for (key, texts) in other.transactions {
            self.transactions.entry(key).or_default().extend(texts);
        }
        self
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    /// The start lines, for a short look.
    pub fn lines(&self) -> Vec<&str> {
        self.transactions.values().flatten().map(|text| text.lines().next().unwrap_or("")).collect()
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((cseq, asked, method), texts) in &self.transactions {
            writeln!(f, "-- {cseq} {method}{}", if *asked { ", asked here" } else { "" })?;
            texts.iter().try_for_each(|text| writeln!(f, "{text}"))?;
        }
        Ok(())
    }
}

/// Asserts that two views are equal; says what differs.
#[track_caller]
pub fn assert_same(what: &str, with: &View, without: &View) {
    let (with, without) = (with.to_string(), without.to_string());
    let only = |a: &str, b: &str| {
        let b: BTreeSet<&str> = b.lines().collect();
        a.lines().filter(|line| !b.contains(line)).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(
        with == without,
        "{what}: the views differ;\nonly with the fault: {:#?}\nonly without: {:#?}\nall of it with the fault:\n{with}",
        only(&with, &without),
        only(&without, &with),
    );
}

/// The branches of each request that came in, by CSeq number and method: more than one means that it was sent as a new
/// request instead of once more.
pub fn branches(passed: &[Passed], call_id: &str) -> BTreeMap<(u32, String), BTreeSet<String>> {
    let mut found: BTreeMap<(u32, String), BTreeSet<String>> = BTreeMap::new();
    let requests = passed.iter().filter(|p| !p.sent && p.message.status().is_none());
    for message in requests.map(|p| &p.message).filter(|m| m.call_id() == call_id) {
        let (number, method) = message.cseq();
        found.entry((number, method.to_owned())).or_default().insert(message.branch().to_owned());
    }
    found
}

fn key(passed: &Passed) -> Key {
    let message = &passed.message;
    let (number, method) = message.cseq();
    let asked = passed.sent == message.status().is_none();
    (number, asked, if method == "ACK" { "INVITE" } else { method }.to_owned())
}

fn normal(passed: &Passed, servers: &[&str]) -> String {
    let message = &passed.message;
    let mut text = format!("{} {}\n", if passed.sent { "->" } else { "<-" }, message.start);
    for (name, value) in message.headers() {
        let value = match name {
            "via" => values(message, "via", via),
            "route" | "record-route" => values(message, name, route),
            "from" | "to" => cut(value, "tag="),
            "call-id" => String::new(),
            // A body numbers its session, and the number grows.
            "content-length" if !message.body.is_empty() => String::new(),
            _ => value.to_owned(),
        };
        let line = format!("{name}: {value}\n");
        // Several Via or Route values are written as one line here, however they came.
        if !text.ends_with(&line) || !matches!(name, "via" | "route" | "record-route") {
            text.push_str(&line);
        }
    }
    for line in String::from_utf8_lossy(&message.body).lines() {
        text.push_str(if line.starts_with("o=") { "o=" } else { line });
        text.push('\n');
    }
    servers.iter().fold(text, |text, server| text.replace(server, "SERVER"))
}

fn values(message: &Message, name: &str, normal: fn(&str) -> String) -> String {
    message.all(name).into_iter().map(normal).collect::<Vec<_>>().join(", ")
}

fn via(value: &str) -> String {
    cut(value, "branch=")
}

/// A Route value without what its parameters say: our token is one of them.
fn route(value: &str) -> String {
    let mut parts = value.split(';');
    let uri = parts.next().unwrap_or("").to_owned();
    parts.fold(uri, |text, part| format!("{text};{}", part.split('=').next().unwrap_or("")))
}

/// `value` with what follows `name` up to the next parameter left out.
fn cut(value: &str, name: &str) -> String {
    let Some((before, after)) = value.split_once(name) else { return value.to_owned() };
    let rest = after.split_once(';').map_or(String::new(), |(_, rest)| format!(";{rest}"));
    format!("{before}{name}{rest}")
}
