//! The choice of a member: `round-robin`, `least-used`, `least-percent`.
//!
//! Seats are looked at in a circle, beginning behind the one chosen last, so equal loads are dealt in turn.
//! Round-robin deals in rounds: in each round a member gets at most one call. A member that is full or already tried
//! when its turn comes is taken later in the same round if it can be. When none that still has a turn can take the
//! call, the next round begins and unused turns lapse: nobody who comes back is flooded with what he missed.

use slab::Slab;

use super::group::{Group, Member, SchemeName};
use super::health::Rank;
use super::ledger::Ledger;
use crate::base::{ResourceId, Time};

/// Why a group has no member for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// A member would have done, but all its ports are taken.
    Full,
    /// None is usable and untried.
    NoMember,
}

/// The seat of the member that shall take the next call; `skip` names those that may not.
pub fn choose(
    group: &Group,
    members: &Slab<Member>,
    ledger: &Ledger,
    now: Time,
    skip: impl Fn(ResourceId) -> bool,
) -> Result<usize, Blocked> {
    let mut best: Option<(Rank, Load, usize)> = None;
    let mut blocked = Blocked::NoMember;
    for at in (group.next..group.seats.len()).chain(0..group.next) {
        let seat = group.seats[at];
        let member = &members[seat.member as usize];
        let Some(rank) = member.health.rank(now) else { continue };
        if skip(member.id) {
            continue;
        }
        let in_use = ledger.count(seat.member);
        if !member.has_room(in_use) {
            blocked = Blocked::Full;
            continue;
        }
        let load = match group.scheme {
            SchemeName::RoundRobin => Load { part: u32::from(seat.round == group.round), whole: 1 },
            SchemeName::LeastUsed => Load { part: in_use, whole: 1 },
            SchemeName::LeastPercent => Load::share(in_use, member.port_capacity),
        };
        if rank == Rank::Good && load.part == 0 {
            return Ok(at);
        }
        if best.as_ref().is_none_or(|(r, l, _)| rank < *r || (rank == *r && load.less(l))) {
            best = Some((rank, load, at));
        }
    }
    best.map(|(_, _, at)| at).ok_or(blocked)
}

/// Notes that the member at `at` was chosen.
pub fn took(group: &mut Group, at: usize) {
    if group.seats[at].round == group.round {
        group.round += 1;
    }
    group.seats[at].round = group.round;
    group.next = (at + 1) % group.seats.len();
}

/// A fraction; the smaller one is chosen.
#[derive(Clone, Copy, Debug)]
struct Load {
    part: u32,
    whole: u32,
}

impl Load {
    /// Of an unlimited capacity any number is nothing.
    fn share(in_use: u32, capacity: Option<u32>) -> Self {
        capacity.map_or(Load { part: 0, whole: 1 }, |whole| Load { part: in_use, whole })
    }

    fn less(&self, other: &Load) -> bool {
        u64::from(self.part) * u64::from(other.whole) < u64::from(other.part) * u64::from(self.whole)
    }
}
