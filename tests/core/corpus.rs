//! Every message of the corpus gets its outcome, as far as parser and framing decide it: over a datagram, and over a
//! stream however it is cut. The corpus is not part of this repository; without it the other tests prove each rule with
//! messages of our own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tandem::sip::{Edits, Index, Malformed, Message, Method, Reply, noise, reason_phrase, refuse};

use crate::framing::{Event, cuts, events, whole};
use crate::sha256;

/// One line of the manifest.
pub struct Row {
    pub file: String,
    pub octets: Vec<u8>,
    udp: Vec<String>,
    tcp: Vec<String>,
}

/// All rows with their octets, checksums verified; `None` when there is no corpus.
pub fn rows() -> Option<Vec<Row>> {
    let folder = folder();
    let Ok(manifest) = fs::read_to_string(folder.join("manifest.tsv")) else {
        println!("corpus: ABSENT");
        return None;
    };
    let rows: Vec<Row> = manifest.lines().skip(1).map(|line| row(&folder, line)).collect();
    println!("corpus: {} files, checksums verified", rows.len());
    Some(rows)
}

fn folder() -> PathBuf {
    match std::env::var_os("TANDEM_CORPUS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"),
    }
}

fn row(folder: &Path, line: &str) -> Row {
    let columns: Vec<&str> = line.split('\t').collect();
    let [file, sum, length, _, _, _, udp, tcp, ..] = columns[..] else { panic!("manifest line {line:?}") };
    let octets = fs::read(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert_eq!(octets.len().to_string(), length, "{file}: length");
    assert_eq!(sha256::hex(&octets), sum, "{file}: checksum");
    let words = |text: &str| match text {
        "resync-error" | "forward-first" | "forward-both" | "forward-truncated" => vec![text.to_owned()],
        _ => text.split("-or-").map(str::to_owned).collect(),
    };
    Row { file: file.to_owned(), octets, udp: words(udp), tcp: words(tcp) }
}

fn source() -> SocketAddr {
    "203.0.113.9:45060".parse().unwrap()
}

/// The status that a refusal would carry.
fn status(reason: Malformed) -> u16 {
    match reason {
        Malformed::Version => 505,
        Malformed::UriTooLong => 414,
        Malformed::TooLarge | Malformed::TooManyHeaders | Malformed::TooManyVias | Malformed::TooManyRoutes => 513,
        _ => 400,
    }
}

/// Outcomes that need an accepted message; what follows is for the proxy to say.
fn of_the_proxy(word: &str) -> bool {
    matches!(word, "parse" | "200" | "403" | "404" | "405" | "416" | "420" | "440" | "481" | "483" | "501")
        || word.starts_with("forward")
}

/// The words that fit what happened to `bytes` as a datagram or a framed message.
fn words(bytes: &[u8], result: Result<(), Malformed>, index: &Index) -> Vec<String> {
    match result {
        Ok(()) => {
            let message = index.message(bytes);
            let silent = !message.is_request() || message.method() == Method::Ack;
            if silent { vec!["drop".into(), "accepted".into()] } else { vec!["accepted".into()] }
        }
        Err(reason) => match answer(index, bytes, status(reason)) {
            Some(status) => vec![status.to_string()],
            None => vec!["drop".into()],
        },
    }
}

/// The status of the answer to a message that did not parse, after a look at the answer itself.
fn answer(index: &Index, bytes: &[u8], status: u16) -> Option<u16> {
    let reply = Reply { status, reason: reason_phrase(status), to_tag: Some(b"t"), extra: &[] };
    let mut out = Vec::new();
    if !refuse(index, bytes, &reply, source(), &mut out) {
        assert!(out.is_empty());
        return None;
    }
    assert!(out.starts_with(format!("SIP/2.0 {status} ").as_bytes()));
    assert!(out.ends_with(b"Content-Length: 0\r\n\r\n"));
    assert!(!out.contains(&0));
    let text = String::from_utf8_lossy(&out);
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count(), "bare LF in an answer");
    assert!(text.contains("Via: SIP/"), "an answer without Via");
    assert!(out.len() < bytes.len() + 80, "the answer is larger than the request");
    Some(status)
}

fn fits(wanted: &[String], got: &[String]) -> bool {
    wanted.iter().any(|wanted| got.iter().any(|got| got == wanted || got == "accepted" && of_the_proxy(wanted)))
}

#[test]
fn every_datagram_has_its_outcome() {
    let Some(rows) = rows() else { return };
    let mut index = Index::new();
    let mut wrong = Vec::new();
    for row in &rows {
        let got = match noise(&row.octets) {
            Some(_) => vec!["ignore".to_owned()],
            None => {
                let result = index.parse(&row.octets);
                words(&row.octets, result, &index)
            }
        };
        if !fits(&row.udp, &got) {
            wrong.push(format!("{}: wanted {:?}, got {got:?} {:?}", row.file, row.udp, index.parse(&row.octets)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_stream_has_its_outcome() {
    let Some(rows) = rows() else { return };
    let mut wrong = Vec::new();
    for row in &rows {
        let got = stream_words(&row.octets);
        let resync = row.tcp == ["resync-error"];
        let fit = match &row.tcp[..] {
            _ if resync => got == [["accepted"], ["close"]],
            // The file ends with five octets that belong to neither message.
            [word] if word == "forward-both" => got == [["accepted"], ["ignore"], ["accepted"], ["close"]],
            wanted => fits(wanted, got.last().map_or(&[], Vec::as_slice)) && got.len() == 1,
        };
        if !fit {
            wrong.push(format!("{}: wanted {:?}, got {got:?} {:?}", row.file, row.tcp, whole(&row.octets)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What happens to each thing on a stream.
fn stream_words(octets: &[u8]) -> Vec<Vec<String>> {
    let mut index = Index::new();
    let mut got = Vec::new();
    let mut at = 0;
    for event in whole(octets) {
        got.push(match event {
            Event::Message(length) => {
                let message = &octets[at..at + length];
                at += length;
                let result = index.parse(message);
                let mut words = words(message, result, &index);
                // Whoever cannot be answered on a connection of his own is not served on it any longer.
                if result.is_err() && words == ["drop"] {
                    words.push("close".into());
                }
                words
            }
            Event::Ping | Event::Noise => {
                at += 2;
                vec!["ignore".into()]
            }
            Event::Lost(error) => {
                let head = &octets[at..at + error.head];
                let _ = index.parse(head);
                let answer = if head.is_empty() { None } else { answer(&index, head, status(error.reason)) };
                match answer {
                    Some(status) => vec![format!("{status}+close"), "close".into()],
                    None => vec!["close".into()],
                }
            }
            Event::Rest(_) => vec!["wait".into()],
        });
    }
    got
}

#[test]
fn outcomes_do_not_depend_on_the_cuts() {
    let Some(rows) = rows() else { return };
    for row in &rows {
        let expected = whole(&row.octets);
        for cut in cuts(row.octets.len()) {
            assert_eq!(
                events(&row.octets, |at| if at < cut { cut } else { usize::MAX }),
                expected,
                "{} {cut}",
                row.file
            );
        }
        assert_eq!(events(&row.octets, |at| at + 1), expected, "{} octet by octet", row.file);
    }
}

#[test]
fn sound_messages_come_out_octet_by_octet() {
    let Some(rows) = rows() else { return };
    let mut index = Index::new();
    let mut seen = 0;
    for row in rows.iter().filter(|row| row.udp == ["parse"]) {
        index.parse(&row.octets).unwrap_or_else(|fault| panic!("{}: {fault}", row.file));
        let mut out = Vec::new();
        Edits::new().write(&index.message(&row.octets), &mut out);
        assert_eq!(out, row.octets, "{}", row.file);
        assert!(every_value_is_readable(&index.message(&row.octets)), "{}", row.file);
        seen += 1;
    }
    assert_eq!(seen, 332);
}

fn every_value_is_readable(message: &Message<'_>) -> bool {
    message.vias().all(|via| via.is_some())
        && message.routes().all(|route| route.is_some())
        && message.record_routes().all(|route| route.is_some_and(|r| r.parsed().is_some()))
        && message.contacts().all(|contact| contact.is_none_or(|c| c.parsed().is_some()))
}
