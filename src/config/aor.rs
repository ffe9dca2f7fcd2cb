//! AORs of media servers, as operators write them. Our own reader decides; rsip, the published SIP library, is asked
//! for a second opinion, so that a text which two readers see differently never becomes a route.

use std::net::IpAddr;

use rsip::common::uri::param::Param;

use super::reader::shorten;
use super::tls::SPOKEN;
use crate::base::{Host, Transport};
use crate::sip::{Scheme, Uri};

/// An AOR that names one server: `sip:host[:port][;transport=udp|tcp|tls]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aor {
    /// IP literal without brackets, or a name in lower case.
    pub host: String,
    /// The literal, if it is one.
    pub ip: Option<IpAddr>,
    /// If not written 5060, or 5061 over TLS (RFC 3261 §19.1.2).
    pub port: u16,
    /// UDP if not written (RFC 3263 §4.1).
    pub transport: Transport,
}

/// Why an AOR cannot be used, and the cure.
pub(super) type Refused = (String, Option<String>);

impl Aor {
    /// Reads an AOR.
    pub fn read(text: &str) -> Result<Self, Refused> {
        let form = || {
            Some(String::from("write sip:HOST:PORT, with ;transport=tcp for a stream, ;transport=tls for a secure one"))
        };
        let uri = match Uri::parse(text.as_bytes()) {
            Some(uri) if uri.scheme == Scheme::Sip => uri,
            Some(uri) if uri.scheme == Scheme::Sips => return Err(sips(text)),
            _ if names_port_0(text) => {
                let cure = "write the port that the server listens on";
                return Err((String::from("port 0 is no port"), Some(cure.into())));
            }
            _ => {
                let whole = format!("sip:{text}");
                let meant = Uri::parse(whole.as_bytes()).filter(|uri| uri.user.is_none());
                let meant = meant.map(|_| format!("did you mean \"{}\"?", shorten(&whole)));
                return Err((String::from("it is not a SIP URI"), meant.or_else(form)));
            }
        };
        if uri.user.is_some() {
            return Err((String::from("a call keeps the user part that it came with, so this has none"), form()));
        }
        if !uri.headers.is_empty() {
            return Err((String::from("a server's address has no URI headers"), form()));
        }
        let transport = transport_of(text, &uri)?;
        let port = uri.port.unwrap_or(transport.default_port());
        let aor = Self { transport, port, ..Self::at(&uri.host)? };
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
                let name = name.strip_suffix('.').unwrap_or(&name);
                // RFC 3261 §25.1: a toplabel begins with a letter. Resolvers would make an address of "10.1".
                if !name.rsplit('.').next().is_some_and(|label| label.starts_with(|c: char| c.is_ascii_alphabetic())) {
                    return Err((format!("\"{}\" is neither an address nor a name", shorten(name)), None));
                }
                (String::from(name), None)
            }
        };
        Ok(Self { host, ip, port: 5060, transport: Transport::Udp })
    }
}

fn names_port_0(text: &str) -> bool {
    let head = text.split([';', '?']).next().and_then(|head| head.strip_suffix(":0"));
    head.is_some_and(|head| Uri::parse(head.as_bytes()).is_some_and(|uri| uri.port.is_none()))
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
            let cause = format!("the parameter `{}` means nothing here", shorten(&shown));
            return Err((cause, Some(String::from("only ;transport=udp, ;transport=tcp and ;transport=tls do"))));
        }
        if value.eq_ignore_ascii_case(b"tls") && !SPOKEN {
            return Err(no_tls(text));
        }
        let Some(read) = Transport::parse(value) else {
            let cause = format!("\"{}\" is no transport", shorten(&shown));
            return Err((cause, Some(String::from("transports are udp, tcp and tls"))));
        };
        if transport.replace(read).is_some() {
            return Err((String::from("it has two transports"), Some(String::from("keep one"))));
        }
    }
    Ok(transport.unwrap_or(Transport::Udp))
}

fn no_tls(text: &str) -> Refused {
    let plain = shorten(text).replacen(";transport=tls", "", 1);
    (String::from("this build does not speak TLS"), Some(format!("use \"{plain}\" on a trusted net")))
}

/// A call keeps the scheme that it came with, so the address of a server says only how it is reached.
fn sips(text: &str) -> Refused {
    let bare = text.get(5..).and_then(|rest| rest.split(';').next()).unwrap_or_default();
    (
        String::from("a server is reached by a transport, not by a scheme"),
        Some(format!("write \"sip:{};transport=tls\"", shorten(bare))),
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    fn rsip_agrees_with(text: &str) -> bool {
        let uri = Uri::parse(text.as_bytes()).expect("a URI to us");
        let at = Aor::at(&uri.host).expect("one server");
        rsip_agrees(text, &uri, &Aor { transport: uri.transport().unwrap_or(Transport::Udp), ..at })
    }

    #[test]
    fn two_parsers_agree_on_what_operators_write() {
        for text in [
            "sip:198.51.100.21",
            "sip:198.51.100.21:5070",
            "sip:198.51.100.21:5070;transport=tcp",
            "sip:MCP1.Example.COM.;Transport=UDP",
            "SIP:mcp1:05070",
            "sip:[2001:db8::1]",
            "sip:[2001:db8::1]:5070;transport=tcp",
            "sip:mcp1.example.com;transport=tls",
        ] {
            assert!(rsip_agrees_with(text), "{text}");
        }
    }

    #[test]
    fn what_two_parsers_read_differently_is_refused() {
        // Empty headers: nothing to us, part of the host to rsip.
        assert!(!rsip_agrees_with("sip:mcp1?"));
        assert_eq!(Aor::read("sip:mcp1?").unwrap_err().0, "two SIP parsers read it differently");
        let (text, other) = ("sip:mcp1:5070;transport=tcp", Aor::read("sip:mcp2:5070;transport=tcp").unwrap());
        let uri = Uri::parse(text.as_bytes()).unwrap();
        assert!(!rsip_agrees(text, &uri, &other), "another host");
        let udp = Aor { transport: Transport::Udp, ..Aor::read(text).unwrap() };
        assert!(!rsip_agrees(text, &uri, &udp), "another transport");
        let elsewhere = Uri::parse(b"sip:mcp1:5071;transport=tcp").unwrap();
        assert!(!rsip_agrees(text, &elsewhere, &Aor::read(text).unwrap()), "another port");
    }
}
