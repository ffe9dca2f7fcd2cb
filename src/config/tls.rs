//! `[tls]`: what this node presents, whom it trusts and which names it accepts. The files are read by `runtime`.

use std::path::PathBuf;

use super::finding::Finding;
use super::reader::{Reader, Section, shorten};
use super::settings::{ClientCertificate, Settings, Tls};
use crate::base::Transport;

/// Whether this build speaks TLS.
pub(super) const SPOKEN: bool = cfg!(feature = "tls");

/// Names of peers: each is compared with each certificate.
const NAMES: usize = 256;

/// `[tls]`; `None` if something that has no default is missing.
pub(super) fn tls(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Tls> {
    reader.missing(section, "certificate", "write the path of a PEM file: this node's certificate, then its chain");
    reader.missing(section, "key", "write the path of a PEM file: the private key of `certificate`");
    let words = [
        ("none", ClientCertificate::None),
        ("request", ClientCertificate::Request),
        ("require", ClientCertificate::Require),
    ];
    let client_certificate = reader.choice(section, "client-certificate", &words).unwrap_or_default();
    let peer_names = peer_names(reader, section);
    let (certificate, key) = (path(reader, section, "certificate"), path(reader, section, "key"));
    let trusted_ca = path(reader, section, "trusted-ca");
    if client_certificate != ClientCertificate::None
        && section.value("trusted-ca").is_none()
        && let Some(value) = section.value("client-certificate")
    {
        let cause = "needs to know who may sign them: `trusted-ca` is missing";
        let cure = Some(String::from("add `trusted-ca`, a PEM file with the certificates of the CAs"));
        reader.refuse(section, "client-certificate", value.span().start, cause, cure);
    }
    Some(Tls { certificate: certificate?, key: key?, trusted_ca, client_certificate, peer_names })
}

fn path(reader: &mut Reader<'_>, section: &Section<'_>, key: &str) -> Option<PathBuf> {
    let text = reader.text(section, key)?;
    if text.is_empty() || text.contains('\0') {
        let at = section.value(key)?.span().start;
        reader.refuse(section, key, at, "is not a path", None);
        return None;
    }
    Some(PathBuf::from(text))
}

fn peer_names(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<String> {
    const KEY: &str = "peer-names";
    let list = reader.list(section, KEY).unwrap_or_default();
    if list.len() > NAMES {
        let at = section.value(KEY).map_or(section.at, |v| v.span().start);
        reader.refuse(section, KEY, at, &format!("has {} entries; allowed is 0 to {NAMES}", list.len()), None);
    }
    let mut names = Vec::new();
    for value in list.iter().take(NAMES) {
        let text = value.get_ref().as_str().unwrap_or_default();
        match peer_name(text) {
            Some(name) => names.push(name),
            None => {
                let cause = format!("has the entry \"{}\", which is no name of a domain or host", shorten(text));
                // RFC 5922 §7.2.
                let cure = "write it in full, without wildcards: \"sip.example.com\" or an IP address";
                reader.refuse(section, KEY, value.span().start, &cause, Some(cure.into()));
            }
        }
    }
    names
}

/// A domain name in lower case, or an IP literal without brackets; `sip:` in front of it is how certificates write it.
fn peer_name(text: &str) -> Option<String> {
    let bare = text.strip_prefix("sip:").unwrap_or(text);
    let literal = bare.strip_prefix('[').and_then(|b| b.strip_suffix(']')).unwrap_or(bare);
    if let Ok(ip) = literal.parse::<std::net::IpAddr>() {
        return Some(ip.to_string());
    }
    let name = bare.strip_suffix('.').unwrap_or(bare);
    let label =
        |l: &str| (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    (name.len() <= 253 && name.split('.').all(label)).then(|| name.to_ascii_lowercase())
}

/// Notes what `[tls]` and the rest of the configuration need of each other.
pub(super) fn check(reader: &mut Reader<'_>, settings: &Settings, has_section: bool) {
    let listener = settings.listeners.iter().position(|l| l.transport == Transport::Tls);
    if let (Some(n), false) = (listener, has_section) {
        let cause = format!("listener {} needs a certificate, and there is no section [tls]", settings.listeners[n]);
        let cure = "add [tls] with `certificate` and `key`";
        error(reader, format!("proxy.sip.transport[{n}]"), cause, cure);
    }
    let peer_tls = settings.cluster.peer_tls && settings.cluster.is_pair();
    if peer_tls {
        check_peer_tls(reader, settings, has_section);
    }
    if let (None, true, false) = (listener, has_section, peer_tls) {
        let (key, cause) =
            (String::from("tls"), String::from("[tls] has no effect without a TLS listener or `peer-tls`"));
        let suggestion = Some(String::from("add \"tls:0.0.0.0:5061\" to `sip.transport` in [proxy]"));
        reader.warnings.push(Finding { place: reader.places.of(&key), key, cause, suggestion });
    }
    if settings.tls.as_ref().is_none_or(|tls| tls.trusted_ca.is_some()) {
        return;
    }
    for (n, group) in settings.groups.iter().enumerate() {
        for (r, resource) in group.resources.iter().enumerate().filter(|(_, r)| r.transport == Transport::Tls) {
            let cause = format!("nobody is trusted to vouch for {}: `trusted-ca` is missing", shorten(&resource.aor));
            let cure = "add it to [tls]: a PEM file with the certificates of the CAs that sign your servers'";
            error(reader, format!("resource-group[{n}].resource[{r}].aor"), cause, cure);
        }
    }
}

/// Both nodes show certificates, and each must know who may sign the other's.
fn check_peer_tls(reader: &mut Reader<'_>, settings: &Settings, has_section: bool) {
    let (cause, cure) = match &settings.tls {
        _ if !SPOKEN => ("cannot be true: this build does not speak TLS", "use a build with the feature `tls`"),
        None if !has_section => (
            "needs a certificate, and there is no section [tls]",
            "add [tls] with `certificate`, `key` and `trusted-ca`",
        ),
        Some(tls) if tls.trusted_ca.is_none() => (
            "needs to know who may sign the other node's certificate: `trusted-ca` is missing in [tls]",
            "add `trusted-ca`, a PEM file with the certificates of the CAs",
        ),
        _ => return,
    };
    error(reader, String::from("cluster.peer-tls"), String::from(cause), cure);
}

fn error(reader: &mut Reader<'_>, key: String, cause: String, cure: &str) {
    let place = reader.places.of(&key);
    reader.errors.push(Finding { place, key, cause, suggestion: Some(cure.into()) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_have_whole_names() {
        let read = |text| peer_name(text).unwrap_or_default();
        assert_eq!(read("sip:SBC1.Example.com."), "sbc1.example.com");
        assert_eq!(read("sip:[2001:DB8::1]"), "2001:db8::1");
        assert_eq!(read("192.0.2.7"), "192.0.2.7");
        for bad in ["", "*.example.com", ".example.com", "sip:a@example.com", "example..com", "a b", "sip:"] {
            assert_eq!(peer_name(bad), None, "{bad}");
        }
    }
}
