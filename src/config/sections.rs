//! `[proxy]`, `[admin]` and `[log]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tracing::Level;

use super::prefix::Prefix;
use super::reader::{Reader, Section, Value, kind, shorten};
use super::settings::Listen;
use crate::base::Transport;
use crate::node::ProxyConfig;
use crate::proxy::Retried;

/// Listeners of one node: each costs a socket that every worker watches.
const LISTENERS: usize = 64;

/// Entries of `sip.allow-from` and of `sip.proxy-protocol-from`: more are the work of a firewall.
const SOURCES: usize = 256;

/// What `[proxy]` says.
pub(super) struct Proxy {
    pub listeners: Vec<Listen>,
    pub allow_from: Option<Vec<Prefix>>,
    pub proxy_protocol_from: Vec<Prefix>,
    pub config: ProxyConfig,
    pub workers: usize,
    pub drain_timeout: Duration,
}

/// `[proxy]`.
pub(super) fn proxy(reader: &mut Reader<'_>, section: &Section<'_>) -> Proxy {
    let ms = Duration::from_millis;
    let default = ProxyConfig::default();
    let config = ProxyConfig {
        t1: reader.duration(section, "sip.timer.t1", ms(10)..=ms(10_000)).unwrap_or(default.t1),
        t2: reader.duration(section, "sip.timer.t2", ms(10)..=ms(60_000)).unwrap_or(default.t2),
        t4: reader.duration(section, "sip.timer.t4", ms(10)..=ms(60_000)).unwrap_or(default.t4),
        // RFC 3261 §16.6 item 11: more than three minutes.
        timer_c: reader.duration(section, "sip.timer.c", ms(180_001)..=ms(3_600_000)).unwrap_or(default.timer_c),
        inactivity: reader
            .duration(section, "inactivity-lease", ms(60_000)..=ms(7 * 86_400_000))
            .unwrap_or(default.inactivity),
        server: server_header(reader, section).unwrap_or(default.server),
        retried: reader.choice(section, "sip.retried-invite", &RETRIED).unwrap_or_default(),
    };
    let workers = reader.number(section, "sip.threadpoolsize", 1..=64);
    Proxy {
        listeners: listeners(reader, section),
        allow_from: networks(reader, section, "sip.allow-from", CALLERS),
        proxy_protocol_from: networks(reader, section, "sip.proxy-protocol-from", BALANCERS).unwrap_or_default(),
        config,
        workers: workers.map_or_else(default_workers, |n| n as usize),
        drain_timeout: reader
            .duration(section, "drain-timeout", ms(0)..=ms(86_400_000))
            .unwrap_or(Duration::from_secs(60)),
    }
}

const RETRIED: [(&str, Retried); 3] =
    [("join", Retried::Join), ("replace", Retried::Replace), ("reject", Retried::Reject)];

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(8))
}

fn server_header(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<String> {
    let text = reader.text(section, "server-header")?;
    if text.len() > 128 || !text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        let at = section.value("server-header")?.span().start;
        let cause = "must be at most 128 printable ASCII characters";
        reader.refuse(section, "server-header", at, cause, None);
        return None;
    }
    Some(text.into())
}

/// `sip.transport`; by default UDP and TCP on port 5060 of every IPv4 address, as in the model product.
fn listeners(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<Listen> {
    const KEY: &str = "sip.transport";
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5060));
    if section.value(KEY).is_none() {
        return [Transport::Udp, Transport::Tcp].map(|transport| Listen { transport, addr: any }).into();
    }
    let Some(list) = reader.list(section, KEY) else { return Vec::new() };
    if list.is_empty() || list.len() > LISTENERS {
        let at = section.value(KEY).map_or(section.at, |v| v.span().start);
        let cause = format!("has {} entries; allowed is 1 to {LISTENERS}", list.len());
        reader.refuse(section, KEY, at, &cause, Some(String::from("for example [\"udp:0.0.0.0:5060\"]")));
        return Vec::new();
    }
    let mut listeners = Vec::with_capacity(list.len());
    for value in list {
        if let Some(listen) = listener(reader, section, KEY, value) {
            reader.places.put(format!("proxy.{KEY}[{}]", listeners.len()), reader.place(value.span().start));
            listeners.push(listen);
        }
    }
    listeners
}

fn listener(reader: &mut Reader<'_>, section: &Section<'_>, key: &str, value: &Value<'_>) -> Option<Listen> {
    let at = value.span().start;
    let form =
        || Some(String::from("write \"udp:IP:PORT\", \"tcp:IP:PORT\" or \"tls:IP:PORT\", an IPv6 address in brackets"));
    let text = value.get_ref().as_str().unwrap_or_default();
    let (transport, rest) = text.split_once(':').unwrap_or(("", text));
    if transport == "tls" && !super::tls::SPOKEN {
        let cause = format!("has the entry \"{}\": this build does not speak TLS", shorten(text));
        reader.refuse(section, key, at, &cause, Some(format!("use \"tcp:{}\" on a trusted net", shorten(rest))));
        return None;
    }
    // The model writes `any` for all addresses.
    let addr = match rest.strip_prefix("any:") {
        Some(port) => port.parse().ok().map(|port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
        None => rest.parse().ok(),
    };
    let listen = Transport::parse(transport.as_bytes()).zip(addr).map(|(transport, addr)| Listen { transport, addr });
    if listen.is_none() {
        let shown = if value.get_ref().is_str() { shorten(text) } else { kind(value.get_ref()).into() };
        reader.refuse(section, key, at, &format!("has the entry \"{shown}\", which is no listener"), form());
    }
    listen
}

/// What to do instead of an empty `sip.allow-from`, without which everybody is heard.
const CALLERS: &str = "list the networks of those who place calls, or remove the key to let everybody in";

/// Likewise for `sip.proxy-protocol-from`.
const BALANCERS: &str = "list the addresses of your load balancers, or remove the key";

/// A list of networks; `None` without the key. `otherwise` is what to do instead of an empty one.
fn networks(reader: &mut Reader<'_>, section: &Section<'_>, key: &'static str, otherwise: &str) -> Option<Vec<Prefix>> {
    let list = reader.list(section, key)?;
    if list.is_empty() || list.len() > SOURCES {
        let at = section.value(key).map_or(section.at, |v| v.span().start);
        let cause = format!("has {} entries; allowed is 1 to {SOURCES}", list.len());
        reader.refuse(section, key, at, &cause, Some(otherwise.into()));
        return None;
    }
    let mut prefixes = Vec::with_capacity(list.len());
    for value in list {
        let text = value.get_ref().as_str();
        let shown = text.map_or_else(|| kind(value.get_ref()).to_owned(), shorten);
        match Prefix::read(text.unwrap_or_default()) {
            Ok(prefix) => prefixes.push(prefix),
            Err((why, suggestion)) => {
                let cause = format!("has the entry \"{shown}\", which {why}");
                reader.refuse(section, key, value.span().start, &cause, Some(suggestion));
            }
        }
    }
    Some(prefixes)
}

/// `[admin] listen`.
pub(super) fn admin(reader: &mut Reader<'_>, section: &Section<'_>) -> SocketAddr {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 9090));
    let Some(text) = reader.text(section, "listen") else { return default };
    text.parse().unwrap_or_else(|_| {
        let at = section.value("listen").map_or(section.at, |v| v.span().start);
        let cause = format!("cannot be \"{}\"", shorten(text));
        reader.refuse(
            section,
            "listen",
            at,
            &cause,
            Some(String::from("write \"IP:PORT\", such as \"127.0.0.1:9090\"")),
        );
        default
    })
}

/// `[admin] drill`.
pub(super) fn drill(reader: &mut Reader<'_>, section: &Section<'_>) -> bool {
    reader.boolean(section, "drill").unwrap_or(false)
}

/// `[log] level`.
pub(super) fn log(reader: &mut Reader<'_>, section: &Section<'_>) -> Level {
    let levels = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    reader.choice(section, "level", &levels).unwrap_or(Level::INFO)
}
