//! All metrics, and those that only a fault moves.

use super::call_table::CALLS;
use super::edge_table::EDGE;
use super::family::Family;
use super::pair_table::PAIR;
use super::peer_table::PEER;
use super::resource_table::RESOURCES;

/// Metrics that stay at zero until something goes wrong. Each is moved by a test of its own fault, all others by
/// ordinary traffic: calls over UDP and TCP, cancelled ones, refused ones, keep-alives, a reload.
pub const FAULT_METRICS: &[&str] = &[
    // A media server dies, stalls or answers late.
    "tandem_first_response_timeouts_total",
    "tandem_icmp_errors_total",
    "tandem_names_failed_total",
    "tandem_retries_total",
    "tandem_stray_responses_total",
    "tandem_streams_unreachable_total",
    "tandem_through_peer_total",
    "tandem_timer_c_expired_total",
    "tandem_transaction_timeouts_total",
    "tandem_transport_errors_total",
    // The network loses.
    "tandem_receive_overflow_total",
    "tandem_retransmissions_absorbed_total",
    "tandem_retransmissions_sent_total",
    "tandem_send_errors_total",
    "tandem_unacknowledged_finals_total",
    // Somebody sends what is wrong.
    "tandem_forged_tokens_total",
    "tandem_malformed_answered_total",
    "tandem_malformed_total",
    "tandem_next_hop_unverified_total",
    "tandem_unsendable_responses_total",
    // This node was restarted, is starved or is at fault.
    "rmTotal5xxInviteSent",
    "tandem_accept_errors_total",
    "tandem_full_receive_batches_total",
    "tandem_legs_rebuilt_total",
    "tandem_panics_total",
    "tandem_silent_shards",
    // Those who watch hang.
    "tandem_admin_cut_total",
    "tandem_admin_timeouts_total",
    "tandem_log_dropped_total",
];

/// Every metric of this program.
pub fn families() -> impl Iterator<Item = &'static Family> {
    CALLS.iter().chain(RESOURCES).chain(EDGE).chain(pair_families())
}

/// Those that only a node of a pair exports.
pub fn pair_families() -> impl Iterator<Item = &'static Family> {
    PAIR.iter().chain(PEER)
}
