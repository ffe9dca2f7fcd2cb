//! The choice of a member: `round-robin`, `least-used`, `least-percent`.
//!
//! Seats are looked at in a circle, beginning behind the one chosen last, so equal loads are dealt in turn.
//! Round-robin counts turns: who has had the fewest is next. A member that cannot take its turn because this call has
//! already tried it is made good with the next call. One that is full, suspect or down falls behind the floor, and
//! turns below the floor lapse: nobody who comes back is flooded with what he missed.

use slab::Slab;

use super::group::{Group, Member, SchemeName};
use super::health::Rank;
use super::ledger::Ledger;
use crate::base::Time;

/// Why a group has no member for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// A member would have done, but this node may take no port of it: they are in use, or not its to spend.
    Full,
    /// None is usable and untried.
    NoMember,
}

/// A member chosen.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Its seat.
    pub at: usize,
    /// The fewest turns that a member which can take calls has had by now.
    floor: u64,
}

/// The member that shall take the next call; `skip` names those that may not.
pub fn choose(
    group: &Group,
    members: &Slab<Member>,
    ledger: &Ledger,
    now: Time,
    skip: impl Fn(&Member) -> bool,
) -> Result<Choice, Blocked> {
    let mut best: Option<(Rank, Load, usize)> = None;
    let mut blocked = Blocked::NoMember;
    let mut fewest = [u64::MAX; Rank::ALL];
    for at in (group.next..group.seats.len()).chain(0..group.next) {
        let seat = group.seats[at];
        let member = &members[seat.member as usize];
        let Some(rank) = member.health.rank(now) else { continue };
        let (count, skipped) = (ledger.count(seat.member), skip(member));
        if !member.ration.admits(now, count) {
            blocked = if skipped { blocked } else { Blocked::Full };
            continue;
        }
        let turns = group.turns(at);
        fewest[rank as usize] = fewest[rank as usize].min(turns);
        if skipped {
            continue;
        }
        let load = match group.scheme {
            SchemeName::RoundRobin => Load::number(turns - group.floor),
            SchemeName::LeastUsed => Load::number(count.all.into()),
            SchemeName::LeastPercent => Load::share(count.all, member.port_capacity),
        };
        if rank == Rank::Good && load.part == 0 {
            return Ok(Choice { at, floor: group.floor });
        }
        if best.as_ref().is_none_or(|(r, l, _)| rank < *r || (rank == *r && load.less(l))) {
            best = Some((rank, load, at));
        }
    }
    let (rank, _, at) = best.ok_or(blocked)?;
    let floor = fewest[..=rank as usize].iter().copied().min().unwrap_or(group.floor);
    Ok(Choice { at, floor })
}

/// Notes that a member was chosen.
pub fn took(group: &mut Group, choice: Choice) {
    group.seats[choice.at].turns = group.turns(choice.at) + 1;
    group.floor = choice.floor;
    group.next = (choice.at + 1) % group.seats.len();
}

/// A fraction; the smaller one is chosen.
#[derive(Clone, Copy, Debug)]
struct Load {
    part: u32,
    whole: u32,
}

impl Load {
    fn number(number: u64) -> Self {
        Load { part: u32::try_from(number).unwrap_or(u32::MAX), whole: 1 }
    }

    /// Of an unlimited capacity any number is nothing.
    fn share(in_use: u32, capacity: Option<u32>) -> Self {
        capacity.map_or(Load { part: 0, whole: 1 }, |whole| Load { part: in_use, whole })
    }

    fn less(&self, other: &Load) -> bool {
        u64::from(self.part) * u64::from(other.whole) < u64::from(other.part) * u64::from(self.whole)
    }
}
