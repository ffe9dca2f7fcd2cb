//! etcd as the witness: its JSON gateway (version 3), one short connection for each request.
//!
//! The lease of a pair is the key `tandem/NAME/lease`, bound to a lease of etcd and made only where there is none; its value is
//! the member that holds it. `tandem/NAME/alone/N` is 1 while member N goes on alone.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::{Value, json};

use super::contract::{Me, Silence, Witness};
use crate::base::Time;
use crate::cluster::{Ask, LEASE, Note, Reply, Word};
use crate::config::Host;
use crate::runtime::sys;

/// Octets of an answer.
const ANSWER: u64 = 64 << 10;

/// A node's way to etcd.
pub(super) struct Etcd {
    host: Host,
    me: Me,
    /// The lease of etcd that this process made.
    lease: Option<String>,
    /// What is noted of this node.
    noted: Option<bool>,
}

/// What etcd has of a pair.
struct Found {
    holder: Option<String>,
    other_alone: bool,
}

impl Etcd {
    pub fn new(host: Host, me: Me) -> Self {
        Self { host, me, lease: None, noted: None }
    }

    fn key(&self, end: &str) -> String {
        base64(format!("tandem/{}/{end}", self.me.cluster).as_bytes())
    }

    fn value(&self) -> String {
        base64(self.me.node.0.to_string().as_bytes())
    }

    fn note(&mut self, alone: bool, end: Time) -> Result<(), Silence> {
        if self.noted != Some(alone) {
            let key = self.key(&format!("alone/{}", self.me.node.0));
            let value = base64(if alone { b"1" } else { b"0" });
            // Without an answer nobody knows.
            self.noted = None;
            self.post("kv/put", &json!({ "key": key, "value": value }), end)?;
            self.noted = Some(alone);
        }
        Ok(())
    }

    /// All keys of the pair.
    fn look(&self, end: Time) -> Result<Found, Silence> {
        let range =
            json!({ "key": self.key(""), "range_end": base64(format!("tandem/{}0", self.me.cluster).as_bytes()) });
        let found = self.post("kv/range", &range, end)?;
        let empty = Vec::new();
        let rows = found["kvs"].as_array().unwrap_or(&empty);
        let value = |key: &str| rows.iter().find(|row| row["key"] == key).and_then(|row| row["value"].as_str());
        let alone = |node: &crate::base::NodeId| value(&self.key(&format!("alone/{}", node.0))) == Some(&base64(b"1"));
        let other_alone = self.me.others.iter().any(alone);
        Ok(Found { holder: value(&self.key("lease")).map(str::to_owned), other_alone })
    }

    /// How long the lease that this process made lasts from now on; `None`: it has ended.
    fn renew(&mut self, end: Time) -> Result<Option<Duration>, Silence> {
        let Some(id) = self.lease.clone() else { return Ok(None) };
        let said = self.post("lease/keepalive", &json!({ "ID": id }), end)?;
        let left = seconds(&said["result"]["TTL"]);
        self.lease = self.lease.take().filter(|_| left.is_some());
        Ok(left)
    }

    /// Makes the key, if nobody has it.
    fn take(&mut self, end: Time) -> Result<Option<Duration>, Silence> {
        let granted = self.post("lease/grant", &json!({ "TTL": LEASE.as_secs() }), end)?;
        let (Some(id), Some(left)) = (granted["ID"].as_str(), seconds(&granted["TTL"])) else {
            return Err(Silence::Odd(format!("etcd gives no lease: {granted}")));
        };
        self.lease = Some(id.to_owned());
        let key = self.key("lease");
        let txn = json!({
            "compare": [{ "key": key, "target": "CREATE", "result": "EQUAL", "create_revision": "0" }],
            "success": [{ "request_put": { "key": key, "value": self.value(), "lease": id } }],
        });
        let said = self.post("kv/txn", &txn, end)?;
        if said["succeeded"] == true {
            return Ok(Some(left));
        }
        self.give_back(end)?;
        Ok(None)
    }

    fn give_back(&mut self, end: Time) -> Result<(), Silence> {
        if let Some(id) = self.lease.take() {
            self.post("lease/revoke", &json!({ "ID": id }), end)?;
        }
        Ok(())
    }

    fn post(&self, path: &str, body: &Value, end: Time) -> Result<Value, Silence> {
        let left = || Some(end.since(sys::now())).filter(|left| !left.is_zero()).ok_or(Silence::Late);
        let mut stream = connect(&self.host, &left)?;
        stream.set_write_timeout(Some(left()?))?;
        let body = body.to_string();
        // HTTP/1.0: the answer is not chunked and ends with the connection.
        let head = format!("POST /v3/{path} HTTP/1.0\r\nHost: {}\r\nContent-Length: {}\r\n\r\n", self.host, body.len());
        stream.write_all(format!("{head}{body}").as_bytes())?;
        let mut octets = Vec::new();
        let mut memory = [0; 4_096];
        loop {
            stream.set_read_timeout(Some(left()?))?;
            match stream.read(&mut memory)? {
                0 => break,
                read => octets.extend_from_slice(&memory[..read]),
            }
            if octets.len() as u64 > ANSWER {
                return Err(Silence::Odd(format!("what answers to /v3/{path} does not come to an end")));
            }
        }
        parse(&octets)
            .ok_or_else(|| Silence::Odd(format!("what answers to /v3/{path} is no etcd of version 3.4 or later")))?
    }
}

impl Witness for Etcd {
    fn ask(&mut self, ask: Ask, within: Duration) -> Result<Word, Silence> {
        let mut sent = sys::now();
        let end = sent + within;
        if ask.note == Note::Shared {
            self.note(false, end)?;
        }
        if !ask.hold {
            self.give_back(end)?;
        }
        let mut left = None;
        if self.lease.is_some() {
            sent = sys::now();
            left = self.renew(end)?;
        }
        let mut found = self.look(end)?;
        let own = self.value();
        if found.holder.as_ref() != Some(&own) {
            left = None;
        }
        if ask.hold && found.holder.is_none() {
            self.give_back(end)?;
            sent = sys::now();
            left = self.take(end)?;
            found.holder = left.map(|_| own.clone());
        }
        let held = left.is_some();
        // Who does not hold the lease spends nothing alone.
        if held && ask.note == Note::Alone {
            self.note(true, end)?;
        }
        let id = |holder: &String| {
            let others = self.me.others.iter().copied();
            others.chain([self.me.node]).find(|node| base64(node.0.to_string().as_bytes()) == *holder)
        };
        let holder = found.holder.as_ref().and_then(id);
        let alone = self.noted == Some(true);
        let reply = Reply { held, alone, other_alone: found.other_alone, holder };
        Ok(reply.word(sent, left.unwrap_or_default()))
    }
}

fn connect(host: &Host, left: &impl Fn() -> Result<Duration, Silence>) -> Result<TcpStream, Silence> {
    let mut last = Silence::Odd(format!("{} has no address", host.name));
    for address in (host.name.as_str(), host.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left()?) {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e.into(),
        }
    }
    Err(last)
}

/// The body of an answer; `None`: it is no answer of etcd.
fn parse(octets: &[u8]) -> Option<Result<Value, Silence>> {
    let (head, body) = std::str::from_utf8(octets).ok()?.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.get(2..5)?;
    let body: Value = serde_json::from_str(body.trim()).ok()?;
    Some(match status {
        "200" => Ok(body),
        _ => Err(Silence::Odd(format!("etcd says {status}: {body}"))),
    })
}

/// Numbers of 64 bits are texts there; 0 and nothing are one.
fn seconds(value: &Value) -> Option<Duration> {
    let seconds = value.as_str().and_then(|text| text.parse().ok()).or(value.as_u64())?;
    Some(Duration::from_secs(seconds)).filter(|left| !left.is_zero())
}

/// RFC 4648 section 4.
fn base64(octets: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in octets.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, octet| word << 8 | u32::from(*octet)) << (8 * (3 - chunk.len()));
        for n in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * n) & 63) as usize];
            text.push(if n <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_written_as_rfc_4648_does() {
        for (octets, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(octets.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn what_is_no_answer_of_etcd_is_none() {
        let said = |text: &str| parse(text.as_bytes());
        assert_eq!(said("HTTP/1.0 200 OK\r\nx: y\r\n\r\n{\"TTL\":\"3\"}\n").unwrap().unwrap()["TTL"], "3");
        assert!(said("HTTP/1.0 503 Busy\r\n\r\n{}").unwrap().unwrap_err().to_string().contains("etcd says 503"));
        assert!(said("HTTP/1.0 404 No\r\n\r\n404 page not found").is_none());
        assert!(said("SIP/2.0 200 OK\r\n\r\n{}").is_none() && said("").is_none());
        let ttl = |value: Value| seconds(&value);
        assert_eq!([json!("3"), json!(3)].map(ttl), [Some(Duration::from_secs(3)); 2]);
        assert_eq!([json!("0"), json!(null), json!("-1")].map(ttl), [None; 3]);
    }
}
