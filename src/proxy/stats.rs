//! Plain counters of one shard. The core counts, the edge exports.

use super::reject::Reason;

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters since the start; each only grows.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// Requests refused, by reason: see [`Reason::ALL`].
            pub rejected: [u64; Reason::ALL.len()],
            /// Final responses to initial INVITEs by class: 2xx, 3xx, 4xx, 5xx, 6xx.
            pub invite_finals: [u64; 5],
        }

        impl Default for Stats {
            fn default() -> Self {
                Self { $($name: 0,)* rejected: [0; Reason::ALL.len()], invite_finals: [0; 5] }
            }
        }

        impl Stats {
            /// The plain counters by name, in the order of their declaration.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }

            /// Adds another shard's counters.
            pub fn add(&mut self, other: &Stats) {
                $(self.$name += other.$name;)*
                self.rejected.iter_mut().zip(other.rejected).for_each(|(a, b)| *a += b);
                self.invite_finals.iter_mut().zip(other.invite_finals).for_each(|(a, b)| *a += b);
            }
        }
    };
}

stats! {
    /// Sound requests received.
    requests,
    /// Sound responses received.
    responses,
    /// Requests forwarded, first transmissions.
    requests_forwarded,
    /// Responses forwarded.
    responses_forwarded,
    /// Responses of our own.
    responses_generated,
    /// Retransmitted requests that met their transaction.
    retransmissions_absorbed,
    /// Retransmissions sent (timers A, E, G).
    retransmissions_sent,
    /// Timers B and F: requests that nobody answered.
    transaction_timeouts,
    /// Timer H: finals that nobody acknowledged.
    unacknowledged_finals,
    /// INVITEs that came again in a new transaction while the first one lived.
    retried_invites,
    /// Requests given to the node beside this one because it alone reaches their resource.
    through_peer,
    /// INVITEs placed on a resource, each attempt.
    attempts,
    /// Of these: after another member had failed.
    retries,
    /// Attempts given up because no response at all came in time.
    first_response_timeouts,
    /// Attempts given up by Timer C.
    timer_c_expired,
    /// Transport errors of requests.
    transport_errors,
    /// Initial INVITEs accepted for processing.
    calls_offered,
    /// Legs answered.
    calls_answered,
    /// Answered legs ended by BYE.
    calls_ended_bye,
    /// Answered legs ended by Session-Expires.
    calls_ended_session_expired,
    /// Answered legs ended by inactivity.
    calls_ended_inactive,
    /// Calls whose 2xx was never acknowledged.
    calls_ended_unacknowledged,
    /// Legs rebuilt from a Route token.
    legs_rebuilt,
    /// Records of other nodes that were read.
    records_applied,
    /// Of these: dropped because a table was full, or their resource is not configured here.
    records_without_room,
    /// Calls in set-up that were continued for a node that died or gave them away.
    setups_taken_over,
    /// Answered legs that were taken over likewise.
    legs_taken_over,
    /// CANCEL requests that met their INVITE.
    cancels,
    /// Responses without a transaction that were relayed because their branch is ours.
    stray_relayed,
    /// Messages given to the node that serves beside this one, because their transaction may be there.
    offered,
    /// Responses without a transaction that were dropped.
    stray_dropped,
    /// Responses whose next Via names no address that anything may be sent to.
    unsendable,
    /// In-dialog requests whose next hop nobody vouched for, of legs unknown here.
    next_hop_unverified,
    /// Route tokens that are forged or foreign.
    forged_tokens,
    /// Recorded messages that left before their record was safe.
    commit_unprotected,
}

impl Stats {
    /// Counts a refusal.
    pub fn reject(&mut self, reason: Reason) {
        self.rejected[reason as usize] += 1;
    }

    /// Counts a final response to an initial INVITE.
    pub fn invite_final(&mut self, status: u16) {
        if let 200..700 = status {
            self.invite_finals[status as usize / 100 - 2] += 1;
        }
    }
}
