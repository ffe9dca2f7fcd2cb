//! Whose SIP is heard: the allow-list of sources (`sip.allow-from`), asked before anything is parsed.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::config::{Prefix, Settings};
use crate::identity::Identities;

/// The addresses from which SIP is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources(Option<Ranges>);

/// First and last address of each range, ascending, apart from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Sources {
    /// All addresses.
    pub const EVERYBODY: Sources = Sources(None);

    /// Everybody, unless the operator lists networks: then those, load balancers, the resources' `hosts`, the members of
    /// the cluster, and this machine, since a call may pass it twice.
    pub fn of(settings: &Settings, hosts: Vec<IpAddr>, identities: &Identities) -> Self {
        let Some(networks) = &settings.allow_from else { return Self::EVERYBODY };
        let members = settings.cluster.members.iter().flat_map(|member| &member.paths).map(|path| path.ip());
        let services = settings.cluster.service_ips.iter().flat_map(|s| &s.ips);
        let virtual_ips = settings.cluster.virtual_ips.iter().chain(services).map(|virtual_ip| virtual_ip.ip);
        let balancers = &settings.proxy_protocol_from;
        let networks: Vec<Prefix> = networks.iter().chain(balancers).copied().collect();
        let own = identities.iter().map(|identity| identity.addr.ip());
        Self::only(&networks, hosts.into_iter().chain(members).chain(virtual_ips).chain(own))
    }

    /// These networks and these hosts, no others.
    pub fn only(networks: &[Prefix], hosts: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut ranges = Ranges::default();
        networks.iter().for_each(|network| ranges.add(network.first(), network.last()));
        hosts.into_iter().map(|host| host.to_canonical()).for_each(|host| ranges.add(host, host));
        tidy(&mut ranges.v4);
        tidy(&mut ranges.v6);
        Sources(Some(ranges))
    }

    /// Whether SIP from this address is taken.
    pub fn permit(&self, source: IpAddr) -> bool {
        let Some(ranges) = &self.0 else { return true };
        match source.to_canonical() {
            IpAddr::V4(ip) => covers(&ranges.v4, ip.to_bits()),
            IpAddr::V6(ip) => covers(&ranges.v6, ip.to_bits()),
        }
    }
}

impl Ranges {
    fn add(&mut self, first: IpAddr, last: IpAddr) {
        match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => self.v4.push((first.to_bits(), last.to_bits())),
            (IpAddr::V6(first), IpAddr::V6(last)) => self.v6.push((first.to_bits(), last.to_bits())),
            _ => debug_assert!(false, "{first} and {last} are of two families"),
        }
    }
}

fn tidy<T: Ord + Copy>(ranges: &mut Vec<(T, T)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let joins = next.0 <= kept.1;
        if joins {
            kept.1 = kept.1.max(next.1);
        }
        joins
    });
}

fn covers<T: Ord + Copy>(ranges: &[(T, T)], ip: T) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= ip);
    behind.checked_sub(1).is_some_and(|at| ip <= ranges[at].1)
}

/// Where the list that is in force hangs. A reload replaces it; those who ask often look at its number first.
#[derive(Debug)]
pub struct Door {
    list: Mutex<Arc<Sources>>,
    number: AtomicU64,
}

impl Default for Door {
    /// Open to everybody.
    fn default() -> Self {
        Self { list: Mutex::new(Arc::new(Sources::EVERYBODY)), number: AtomicU64::new(0) }
    }
}

impl Door {
    /// Puts another list in force.
    pub fn hang(&self, sources: Arc<Sources>) {
        let mut list = self.list.lock();
        *list = sources;
        self.number.fetch_add(1, Ordering::Release);
    }
}

/// Stands at the [`Door`] for one thread. Traffic comes from few addresses in long runs: the one that was let in last
/// is not looked up again.
#[derive(Debug)]
pub struct Porter {
    list: Arc<Sources>,
    number: u64,
    last: Option<IpAddr>,
}

impl Porter {
    /// A porter who knows the list that is in force.
    pub fn new(door: &Door) -> Self {
        let list = door.list.lock();
        Self { list: Arc::clone(&list), number: door.number.load(Ordering::Acquire), last: None }
    }

    /// Learns of a new list. Once per batch will do.
    pub fn look(&mut self, door: &Door) {
        if self.number != door.number.load(Ordering::Acquire) {
            *self = Self::new(door);
        }
    }

    /// Whether what comes from `source` is let in.
    pub fn admit(&mut self, source: IpAddr) -> bool {
        if self.last == Some(source) {
            return true;
        }
        let known = self.list.permit(source);
        if known {
            self.last = Some(source);
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ListenerId, Transport};
    use crate::identity::Identity;

    fn networks(list: &str) -> Vec<Prefix> {
        let group = "[[resource-group]]\nname = \"A\"\n";
        let (settings, _) = Settings::parse(&format!("[proxy]\nsip.allow-from = [{list}]\n{group}")).unwrap();
        settings.allow_from.unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_end_where_they_end_and_families_are_apart() {
        let list = networks(r#""192.0.2.0/25", "192.0.2.64/26", "198.51.100.7", "2001:db8::/32""#);
        let sources = Sources::only(&list, [ip("203.0.113.9"), ip("::ffff:203.0.113.10")]);
        let permitted = [
            "192.0.2.0",
            "192.0.2.127",
            "::ffff:192.0.2.127",
            "198.51.100.7",
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            "203.0.113.9",
            "203.0.113.10",
        ];
        let strangers = [
            "192.0.1.255",
            "192.0.2.128",
            "198.51.100.6",
            "198.51.100.8",
            "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
            "2001:db9::",
            "::192.0.2.1",
            "203.0.113.8",
            "0.0.0.0",
            "::",
        ];
        for known in permitted {
            assert!(sources.permit(ip(known)), "{known}");
        }
        for stranger in strangers {
            assert!(!sources.permit(ip(stranger)), "{stranger}");
            assert!(Sources::EVERYBODY.permit(ip(stranger)));
        }
        let six = Sources::only(&networks(r#""::/0""#), []);
        assert!(six.permit(ip("2001:db8::1")) && !six.permit(ip("192.0.2.1")) && !six.permit(ip("::ffff:192.0.2.1")));
        assert!(!Sources::only(&[], []).permit(ip("192.0.2.1")));
    }

    #[test]
    fn resources_members_and_this_machine_are_heard_in_any_case() {
        let text = |sources: &str| {
            format!(
                "[cluster]\nha-mode = \"active-standby\"\nvirtual-ip = \"192.0.2.10\"\nsecret-file = \"/s\"\n\
                 mymemberid = 1\nmember.1 = [\"192.0.2.11:9801\", \"198.51.100.11:9801\"]\nmember.2 = [\"192.0.2.12:9801\", \"198.51.100.12:9801\"]\n\
                 [proxy]\n{sources}\n[[resource-group]]\nname = \"A\"\n"
            )
        };
        let own = Identity::new(Transport::Udp, "192.0.2.99:5060".parse().unwrap(), ListenerId(0));
        let of = |sources: &str| {
            let (settings, _) = Settings::parse(&text(sources)).unwrap();
            Sources::of(&settings, vec![ip("203.0.113.1")], &Identities::new([own.clone()]))
        };
        let sources = of("sip.allow-from = [\"203.0.113.128/25\"]");
        let heard =
            ["192.0.2.10", "192.0.2.11", "192.0.2.12", "198.51.100.12", "192.0.2.99", "203.0.113.1", "203.0.113.200"];
        assert_eq!(heard.map(|host| sources.permit(ip(host))), [true; 7]);
        assert!(!sources.permit(ip("192.0.2.13")) && !sources.permit(ip("203.0.113.2")));
        assert_eq!(of(""), Sources::EVERYBODY);
    }

    #[test]
    fn a_large_list_says_what_a_search_through_all_of_it_says() {
        let hosts: Vec<IpAddr> = (0..2_000u32).map(|n| std::net::Ipv4Addr::from_bits(n * 3 % 4_096).into()).collect();
        let list = networks(r#""0.0.1.0/24", "0.0.1.128/25", "0.0.8.0/30""#);
        let sources = Sources::only(&list, hosts.iter().copied());
        for n in 0..5_000u32 {
            let host = IpAddr::from(std::net::Ipv4Addr::from_bits(n));
            let known = hosts.contains(&host) || list.iter().any(|p| (p.first()..=p.last()).contains(&host));
            assert_eq!(sources.permit(host), known, "{host}");
        }
    }

    #[test]
    fn a_porter_forgets_whom_the_new_list_does_not_name() {
        let door = Door::default();
        let mut porter = Porter::new(&door);
        assert!(porter.admit(ip("192.0.2.1")));
        door.hang(Arc::new(Sources::only(&networks(r#""192.0.2.2""#), [])));
        porter.look(&door);
        assert!(!porter.admit(ip("192.0.2.1")));
        assert!(porter.admit(ip("192.0.2.2")) && porter.admit(ip("192.0.2.2")) && !porter.admit(ip("192.0.2.3")));
        door.hang(Arc::new(Sources::EVERYBODY));
        porter.look(&door);
        assert!(porter.admit(ip("192.0.2.3")));
    }
}
