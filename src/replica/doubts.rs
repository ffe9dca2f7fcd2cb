//! What an active node has seen of resources, for whoever takes over: it starts from there, and not from faith in all.

use std::time::Duration;

use prost::Message as _;

use crate::balance::Doubt;
use crate::base::{ResourceId, Time};

/// More are not told: a farm with so many doubtful members has other troubles.
pub const LIMIT: usize = 1_000;

#[derive(Clone, PartialEq, prost::Message)]
struct Telling {
    #[prost(message, repeated, tag = "1")]
    members: Vec<Member>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Member {
    #[prost(fixed64, tag = "1")]
    resource: u64,
    #[prost(uint32, tag = "2")]
    failures: u32,
    #[prost(bool, tag = "3")]
    calls: bool,
    /// Remaining, in milliseconds: clocks of nodes are not compared.
    #[prost(uint64, tag = "4")]
    overloaded: u64,
    #[prost(bool, tag = "5")]
    explicit: bool,
    #[prost(uint32, tag = "6")]
    withheld: u32,
    /// Remaining, in milliseconds.
    #[prost(uint64, tag = "7")]
    withheld_for: u64,
}

/// Appends all doubts of a node; none: it has none any more.
pub fn write(now: Time, doubts: &[Doubt], payload: &mut Vec<u8>) {
    let member = |doubt: &Doubt| Member {
        resource: doubt.resource.0,
        failures: doubt.failures.into(),
        calls: doubt.calls,
        overloaded: doubt.overloaded_until.since(now).as_millis() as u64,
        explicit: doubt.explicit,
        withheld: doubt.withheld,
        withheld_for: doubt.withheld_until.since(now).as_millis() as u64,
    };
    let members = doubts.iter().take(LIMIT).map(member).collect();
    payload.extend_from_slice(&Telling { members }.encode_to_vec());
}

/// What a payload that came at `now` tells; `None`: it makes no sense.
pub fn read(now: Time, payload: &[u8]) -> Option<Vec<Doubt>> {
    let doubt = |member: &Member| Doubt {
        resource: ResourceId(member.resource),
        failures: member.failures.min(u8::MAX.into()) as u8,
        calls: member.calls,
        overloaded_until: match member.overloaded {
            0 => Time::ZERO,
            // Whatever a peer writes; how long a server is believed is for `Health::hear` to say.
            left => now + Duration::from_millis(left.min(DAY)),
        },
        explicit: member.explicit,
        withheld: member.withheld,
        withheld_until: match member.withheld {
            0 => Time::ZERO,
            _ => now + Duration::from_millis(member.withheld_for.min(DAY)),
        },
    };
    let telling = Telling::decode(payload).ok()?;
    Some(telling.members.iter().take(LIMIT).map(doubt).collect())
}

const DAY: u64 = 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubts_come_back_by_the_clock_of_the_reader() {
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let failed = Doubt { failures: 3, calls: true, ..Doubt::of(ResourceId(1)) };
        let full = Doubt { overloaded_until: at(107), explicit: true, ..Doubt::of(ResourceId(u64::MAX)) };
        let left = Doubt { withheld: 9, withheld_until: at(160), ..Doubt::of(ResourceId(7)) };
        let mut payload = Vec::new();
        write(at(100), &[failed, full, left], &mut payload);
        let (full, left) = (Doubt { overloaded_until: at(12), ..full }, Doubt { withheld_until: at(65), ..left });
        assert_eq!(read(at(5), &payload), Some(vec![failed, full, left]));
        assert_eq!(read(at(5), b""), Some(Vec::new()));
        assert_eq!(read(at(5), b"\x0a\xff"), None);
    }

    #[test]
    fn the_octets_of_version_1_stay() {
        let doubt = Doubt {
            resource: ResourceId(0x0102_0304_0506_0708),
            failures: 2,
            calls: true,
            overloaded_until: Time::ZERO + Duration::from_millis(300),
            explicit: true,
            ..Doubt::of(ResourceId(0))
        };
        let mut payload = Vec::new();
        write(Time::ZERO, &[doubt], &mut payload);
        let octets = *b"\x0a\x12\x09\x08\x07\x06\x05\x04\x03\x02\x01\x10\x02\x18\x01\x20\xac\x02\x28\x01";
        assert_eq!(payload, octets);
        assert_eq!(read(Time::ZERO, &octets), Some(vec![doubt]));
    }
}
