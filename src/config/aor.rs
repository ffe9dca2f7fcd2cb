//! AORs of media servers, as operators write them. Our own reader decides; rsip, the published SIP library, is asked
//! for a second opinion, so that a text which two readers see differently never becomes a route.

use std::net::IpAddr;

use rsip::common::uri::param::Param;

use crate::base::{Host, Transport};
use shim::{Scheme, Uri};

mod shim {
    use crate::base::Host;
    pub enum Scheme {
        Sip,
        Sips,
        Tel,
        Other,
    }
    pub struct Uri<'a> {
        pub scheme: Scheme,
        pub user: Option<&'a [u8]>,
        pub host: Host<'a>,
        pub port: Option<u16>,
        pub params: &'a [u8],
        pub headers: &'a [u8],
    }
    impl<'a> Uri<'a> {
        pub fn parse(text: &'a [u8]) -> Option<Uri<'a>> {
            let text = std::str::from_utf8(text).ok()?;
            let (scheme, rest) = text.split_once(':')?;
            let scheme = match scheme.to_ascii_lowercase().as_str() {
                "sip" => Scheme::Sip,
                "sips" => Scheme::Sips,
                "tel" => Scheme::Tel,
                _ => Scheme::Other,
            };
            let (rest, headers) = rest.split_once('?').unwrap_or((rest, ""));
            let (hp, params) = rest.split_at(rest.find(';').unwrap_or(rest.len()));
            let (user, hp) = hp.rsplit_once('@').map_or((None, hp), |(u, h)| (Some(u.as_bytes()), h));
            let split = if hp.ends_with(']') { None } else { hp.rsplit_once(':') };
            let (host, port) = match split {
                Some((h, p)) => (h, Some(p.parse().ok()?)),
                None => (hp, None),
            };
            let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
            let host = match bare {
                Some(v6) => Host::Ip(v6.parse::<std::net::Ipv6Addr>().ok()?.into()),
                None => match host.parse::<std::net::Ipv4Addr>() {
                    Ok(ip) => Host::Ip(ip.into()),
                    Err(_) => {
                        let ok = !host.is_empty()
                            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
                        ok.then_some(Host::Name(host.as_bytes()))?
                    }
                },
            };
            Some(Uri { scheme, user, host, port, params: params.as_bytes(), headers: headers.as_bytes() })
        }
    }
}

/// An AOR that names one server: `sip:host[:port][;transport=udp|tcp]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aor {
    /// IP literal without brackets, or a name in lower case.
    pub host: String,
    /// The literal, if it is one.
    pub ip: Option<IpAddr>,
    /// 5060 if not written (RFC 3261 §19.1.2).
    pub port: u16,
    /// UDP if not written (RFC 3263 §4.1).
    pub transport: Transport,
}

/// Why an AOR cannot be used, and the cure.
pub(super) type Refused = (String, Option<String>);

impl Aor {
    /// Reads an AOR.
    pub fn read(text: &str) -> Result<Self, Refused> {
        let form = || Some(String::from("write sip:HOST:PORT, with ;transport=tcp for a stream"));
        let Some(uri) = Uri::parse(text.as_bytes()) else {
            let suggestion = if text.contains(':') { form() } else { Some(format!("did you mean \"sip:{text}\"?")) };
            return Err((String::from("it is not a SIP URI"), suggestion));
        };
        match uri.scheme {
            Scheme::Sip => {}
            Scheme::Sips => return Err(no_tls(text)),
            Scheme::Tel | Scheme::Other => return Err((String::from("it is not a SIP URI"), form())),
        }
        if uri.user.is_some() {
            return Err((String::from("a call keeps the user part that it came with, so this has none"), form()));
        }
        if !uri.headers.is_empty() {
            return Err((String::from("a server's address has no URI headers"), form()));
        }
        if uri.port == Some(0) {
            return Err((
                String::from("port 0 is no port"),
                Some(String::from("write the port that the server listens on")),
            ));
        }
        let aor = Self { transport: transport_of(text, &uri)?, port: uri.port.unwrap_or(5060), ..Self::at(&uri.host)? };
        if !rsip_agrees(text, &uri, &aor) {
            return Err((String::from("two SIP parsers read it differently"), form()));
        }
        Ok(aor)
    }

    /// `sip:host:port;transport=…`, lower case, everything written out: equal for all spellings of one server.
    pub fn canonical(&self) -> String {
        let transport = self.transport.param();
        match self.ip {
            Some(IpAddr::V6(ip)) => format!("sip:[{ip}]:{};transport={transport}", self.port),
            _ => format!("sip:{}:{};transport={transport}", self.host, self.port),
        }
    }

    fn at(host: &Host<'_>) -> Result<Self, Refused> {
        let (host, ip) = match host {
            Host::Ip(ip) if ip.is_unspecified() || ip.is_multicast() => {
                let cause = format!("{ip} is no single server");
                return Err((cause, Some(String::from("write the server's own address"))));
            }
            Host::Ip(ip) => (ip.to_string(), Some(*ip)),
            Host::Name(name) => {
                let name = String::from_utf8_lossy(name).to_ascii_lowercase();
                (String::from(name.strip_suffix('.').unwrap_or(&name)), None)
            }
        };
        Ok(Self { host, ip, port: 5060, transport: Transport::Udp })
    }
}

/// Only `transport` may stand behind host and port: anything else would change what reaches the server.
fn transport_of(text: &str, uri: &Uri<'_>) -> Result<Transport, Refused> {
    let mut transport = None;
    for param in uri.params.split(|b| *b == b';').filter(|p| !p.is_empty()) {
        let (name, value) = match param.iter().position(|b| *b == b'=') {
            Some(n) => (&param[..n], &param[n + 1..]),
            None => (param, &param[param.len()..]),
        };
        let shown = String::from_utf8_lossy(if name.eq_ignore_ascii_case(b"transport") { value } else { name });
        if !name.eq_ignore_ascii_case(b"transport") {
            let cause = format!("the parameter `{}` means nothing here", super::reader::shorten(&shown));
            return Err((cause, Some(String::from("only ;transport=udp and ;transport=tcp do"))));
        }
        if value.eq_ignore_ascii_case(b"tls") {
            return Err(no_tls(text));
        }
        let Some(read) = Transport::parse(value) else {
            let cause = format!("\"{}\" is no transport", super::reader::shorten(&shown));
            return Err((cause, Some(String::from("transports are udp and tcp"))));
        };
        if transport.replace(read).is_some() {
            return Err((String::from("it has two transports"), Some(String::from("keep one"))));
        }
    }
    Ok(transport.unwrap_or(Transport::Udp))
}

fn no_tls(text: &str) -> Refused {
    let plain = super::reader::shorten(text).replacen("sips:", "sip:", 1).replacen(";transport=tls", "", 1);
    (String::from("this version does not speak TLS"), Some(format!("use \"{plain}\" on a trusted net")))
}

/// Whether rsip reads the same host, port and transport. It has no grammar for IPv6 references (RFC 3261 §25.1,
/// `IPv6reference`), so it is shown a name in the place of one.
fn rsip_agrees(text: &str, uri: &Uri<'_>, aor: &Aor) -> bool {
    const STAND_IN: &str = "ipv6.invalid";
    let (shown, host) = match (text.find('['), text.find(']')) {
        (Some(open), Some(close)) if matches!(aor.ip, Some(IpAddr::V6(_))) && open < close => {
            (format!("{}{STAND_IN}{}", &text[..open], &text[close + 1..]), String::from(STAND_IN))
        }
        _ => (String::from(text), aor.host.clone()),
    };
    let Ok(other) = rsip::Uri::try_from(shown.as_str()) else { return false };
    let transport = other.params.iter().find_map(|p| match p {
        Param::Transport(t) => Some(t.to_string()),
        _ => None,
    });
    let other_host = other.host().to_string().to_ascii_lowercase();
    matches!(other.is_sips(), Ok(false))
        && other.auth.is_none()
        && other_host.strip_suffix('.').unwrap_or(&other_host) == host
        && other.port().map(|p| *p.value()) == uri.port
        && transport.is_none_or(|t| t.eq_ignore_ascii_case(aor.transport.param()))
}
