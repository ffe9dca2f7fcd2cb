//! What speaks against members, told from node to node.

use super::escrow::Withheld;
use super::farm::Farm;
use super::health::Doubt;
use crate::base::Time;

impl Farm {
    /// What speaks at `now` against which members.
    pub fn doubts(&self, now: Time) -> impl Iterator<Item = Doubt> {
        self.members.iter().filter_map(move |(_, m)| {
            let (withheld, withheld_until) = (m.withheld.at(now), m.withheld.until);
            match m.health.doubt(now, m.id) {
                doubt if withheld == 0 => doubt,
                doubt => {
                    let doubt = doubt.unwrap_or(Doubt::of(m.id));
                    Some(Doubt { withheld, withheld_until, ..doubt })
                }
            }
        })
    }

    /// What a node had seen whose calls are taken over.
    pub fn hear(&mut self, now: Time, doubt: &Doubt) {
        self.see(now);
        if let Some(key) = self.key(doubt.resource) {
            let member = &mut self.members[key as usize];
            member.health.hear(now, doubt);
            if doubt.withheld > member.withheld.at(now) {
                member.withheld = Withheld { ports: doubt.withheld, until: doubt.withheld_until };
                member.ration(&self.budget, self.reserve, self.lending.as_ref());
            }
        }
    }
}
