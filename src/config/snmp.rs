//! `[snmp]`.

use std::net::{IpAddr, SocketAddr};

use super::entry::{Refused, entries, single};
use super::reader::{Reader, Section};
use super::settings::{Community, Oid, Snmp, TrapVersion};

/// Receivers of traps: each trap is sent to all of them.
const TARGETS: usize = 8;
/// Octets of a community: what every receiver takes.
const COMMUNITY: usize = 255;
/// Sub-identifiers of `enterprise`: SNMP allows 128 (RFC 2578 section 3.5), and traps and objects add three.
const ENTERPRISE: usize = 125;

/// Reads the section; `None`: no traps.
pub(super) fn snmp(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Snmp> {
    let versions = [("v1", TrapVersion::V1), ("v2c", TrapVersion::V2c)];
    let targets = entries(reader, section, "trap-target", TARGETS, target);
    let snmp = Snmp {
        version: reader.choice(section, "version", &versions).unwrap_or_default(),
        community: community(reader, section).unwrap_or_default(),
        enterprise: enterprise(reader, section).unwrap_or_default(),
        targets,
    };
    if section.value("trap-target").is_none() {
        for key in ["version", "community", "enterprise"] {
            reader.idle(section, key, "without `trap-target`");
        }
        return None;
    }
    Some(snmp)
}

/// `IP:PORT`, or an IP with the well-known port 162.
fn target(text: &str) -> Result<SocketAddr, Refused> {
    const FORM: &str = "write \"IP\" or \"IP:PORT\", an IPv6 address with a port in brackets; usual is port 162";
    let alone = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 162));
    let target = text.parse::<SocketAddr>().or_else(|_| alone()).map_err(|_| ("is no address", FORM))?;
    if target.port() == 0 {
        return Err(("has port 0, where nobody listens", FORM));
    }
    single(target.ip(), FORM)?;
    Ok(target)
}

/// A refusal never shows it.
fn community(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Community> {
    let text = reader.text(section, "community")?;
    if text.is_empty() || text.len() > COMMUNITY || text.chars().any(char::is_control) {
        let at = section.value("community")?.span().start;
        reader.refuse(section, "community", at, "must be 1 to 255 octets without control characters", None);
        return None;
    }
    Some(Community::new(text))
}

fn enterprise(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Oid> {
    let text = reader.text(section, "enterprise")?;
    let arcs: Option<Vec<u32>> = text.split('.').map(|arc| arc.parse().ok()).collect();
    // RFC 2578 section 7.1.3 and X.660: the first two sub-identifiers share an octet.
    let sound =
        |arcs: &Vec<u32>| (3..=ENTERPRISE).contains(&arcs.len()) && arcs[0] <= 2 && (arcs[0] == 2 || arcs[1] < 40);
    let oid = arcs.filter(sound).map(Oid);
    if oid.is_none() {
        let at = section.value("enterprise")?.span().start;
        let suggestion = Some(String::from("write numbers with dots between, such as \"1.3.6.1.4.1.99999.1\""));
        reader.refuse(section, "enterprise", at, "is no object identifier", suggestion);
    }
    oid
}
