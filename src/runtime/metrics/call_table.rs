//! Metrics of the node: what it is, what is alive in it, what it has done. `rm...` are the model product's names.

use super::family::{Family, Rows, Sample, counter, gauge};
use crate::cluster::Role;
use crate::proxy::reject::Reason;
use crate::report::{self, Phase};
use crate::sip::Malformed;

/// In the order in which people look for them.
pub(super) static CALLS: &[Family] = &[
    gauge("tandem_build_info", "Version of the running program; always 1.", &["version"], |_, rows| {
        rows.add(&[env!("CARGO_PKG_VERSION")], 1.0);
    }),
    gauge("tandem_uptime_seconds", "Time since the node began to serve.", &[], |s, rows| {
        rows.one(s.now.since(s.started).as_secs_f64());
    }),
    gauge("tandem_role", "1 for the role of this node in its cluster.", &["role"], |s, rows| {
        for role in [Role::Active, Role::Standby, Role::Starting, Role::Asking, Role::Left] {
            rows.add(&[report::pair::role(role)], f64::from(u8::from(s.role() == role)));
        }
    }),
    gauge("tandem_epoch", "Counter of the epoch in force; grows with each start and takeover.", &[], |s, rows| {
        rows.count(u64::from(s.term().counter));
    }),
    gauge("tandem_phase", "1 for what the node does with new calls.", &["phase"], phases),
    gauge("tandem_calls", "Answered calls alive.", &[], |s, rows| rows.size(s.gauges.legs)),
    gauge("tandem_ringing", "INVITEs without a final answer yet.", &[], |s, rows| rows.size(s.gauges.ringing)),
    gauge("tandem_sessions", "Sessions alive.", &[], |s, rows| rows.size(s.gauges.sessions)),
    gauge("tandem_transactions", "Transactions alive, by side.", &["side"], |s, rows| {
        rows.add(&["server"], s.gauges.server_transactions as f64);
        rows.add(&["client"], s.gauges.client_transactions as f64);
    }),
    gauge(
        "tandem_remembered_calls",
        "Ended calls still remembered: for 64*T1, or while the peer may believe in them.",
        &[],
        |s, rows| {
            rows.size(s.gauges.remembered);
        },
    ),
    gauge("tandem_pins", "Keys that bind calls to a media server (pin-by).", &[], |s, rows| rows.size(s.gauges.pins)),
    counter("tandem_pin_moves_total", "Keys that moved because their media server was down.", &[], |s, rows| {
        rows.count(s.stats.pins.moved)
    }),
    counter(
        "tandem_pin_refusals_total",
        "INVITEs refused because the media server of their key took no call, or could not be decided.",
        &[],
        |s, rows| rows.count(s.stats.pins.refused),
    ),
    gauge("tandem_timers", "Timers pending.", &[], |s, rows| rows.size(s.gauges.timers)),
    gauge(
        "tandem_loss_if_failed_now",
        "Calls that nobody could carry on if this node failed now.",
        &["phase"],
        |s, rows| {
            let loss = s.loss();
            rows.add(&["ringing"], loss.ringing as f64);
            rows.add(&["answered"], loss.answered as f64);
        },
    ),
    counter("tandem_requests_received_total", "Sound requests received.", &[], |s, rows| {
        rows.count(s.stats.calls.requests)
    }),
    counter("tandem_responses_received_total", "Sound responses received.", &[], |s, rows| {
        rows.count(s.stats.calls.responses)
    }),
    counter("tandem_requests_forwarded_total", "Requests forwarded, first transmissions.", &[], |s, rows| {
        rows.count(s.stats.calls.requests_forwarded)
    }),
    counter("tandem_responses_forwarded_total", "Responses forwarded.", &[], |s, rows| {
        rows.count(s.stats.calls.responses_forwarded)
    }),
    counter("tandem_responses_generated_total", "Responses of this node's own.", &[], |s, rows| {
        rows.count(s.stats.calls.responses_generated)
    }),
    counter(
        "tandem_retransmissions_absorbed_total",
        "Retransmitted requests that met their transaction.",
        &[],
        |s, rows| rows.count(s.stats.calls.retransmissions_absorbed),
    ),
    counter("tandem_retransmissions_sent_total", "Retransmissions sent: timers A, E, G.", &[], |s, rows| {
        rows.count(s.stats.calls.retransmissions_sent)
    }),
    counter("tandem_transaction_timeouts_total", "Requests that nobody answered: timers B, F.", &[], |s, rows| {
        rows.count(s.stats.calls.transaction_timeouts)
    }),
    counter(
        "tandem_unacknowledged_finals_total",
        "Final responses that nobody acknowledged: timer H.",
        &[],
        |s, rows| rows.count(s.stats.calls.unacknowledged_finals),
    ),
    counter("tandem_transport_errors_total", "Requests that could not be delivered.", &[], |s, rows| {
        rows.count(s.stats.calls.transport_errors)
    }),
    counter("tandem_calls_offered_total", "Initial INVITEs accepted for processing.", &[], |s, rows| {
        rows.count(s.stats.calls.calls_offered)
    }),
    counter("tandem_calls_answered_total", "Calls answered.", &[], |s, rows| rows.count(s.stats.calls.calls_answered)),
    counter("tandem_calls_ended_total", "Answered calls that ended, by reason.", &["reason"], |s, rows| {
        rows.add(&["bye"], s.stats.calls.calls_ended_bye as f64);
        rows.add(&["session_expired"], s.stats.calls.calls_ended_session_expired as f64);
        rows.add(&["inactive"], s.stats.calls.calls_ended_inactive as f64);
        rows.add(&["unacknowledged"], s.stats.calls.calls_ended_unacknowledged as f64);
    }),
    counter("tandem_attempts_total", "INVITEs placed on a resource.", &[], |s, rows| {
        rows.count(s.stats.calls.attempts)
    }),
    counter("tandem_retries_total", "INVITEs placed on a resource after another one had failed.", &[], |s, rows| {
        rows.count(s.stats.calls.retries)
    }),
    counter(
        "tandem_retried_invites_total",
        "INVITEs that came again in a new transaction while the first one lived.",
        &[],
        |s, rows| rows.count(s.stats.calls.retried_invites),
    ),
    counter(
        "tandem_through_peer_total",
        "Requests given to the peer because it alone reaches their media server.",
        &[],
        |s, rows| rows.count(s.stats.calls.through_peer),
    ),
    counter(
        "tandem_first_response_timeouts_total",
        "Attempts given up because no response came in time.",
        &[],
        |s, rows| rows.count(s.stats.calls.first_response_timeouts),
    ),
    counter(
        "tandem_timer_c_expired_total",
        "Attempts given up because no final response came in time.",
        &[],
        |s, rows| rows.count(s.stats.calls.timer_c_expired),
    ),
    counter("tandem_cancels_total", "CANCEL requests that met their INVITE.", &[], |s, rows| {
        rows.count(s.stats.calls.cancels)
    }),
    counter("tandem_legs_rebuilt_total", "Calls counted again from the token in their Route.", &[], |s, rows| {
        rows.count(s.stats.calls.legs_rebuilt)
    }),
    counter(
        "tandem_invite_finals_total",
        "Final responses sent to initial INVITEs, by class.",
        &["class"],
        |s, rows| {
            for (class, count) in ["2xx", "3xx", "4xx", "5xx", "6xx"].iter().zip(s.stats.calls.invite_finals) {
                rows.add(&[class], count as f64);
            }
        },
    ),
    counter("tandem_rejected_total", "Sound requests refused by this node, by reason.", &["reason"], |s, rows| {
        for (reason, count) in Reason::ALL.iter().zip(s.stats.calls.rejected) {
            rows.add(&[reason.name()], count as f64);
        }
    }),
    counter("tandem_malformed_total", "Messages that cannot be read, by reason.", &["reason"], |s, rows| {
        for (reason, count) in Malformed::ALL.iter().zip(s.stats.malformed) {
            rows.add(&[reason.name()], count as f64);
        }
    }),
    counter("tandem_malformed_answered_total", "Of these: answered with a refusal.", &[], |s, rows| {
        rows.count(s.stats.refusals);
    }),
    counter(
        "tandem_stray_responses_total",
        "Responses without a transaction, by what became of them.",
        &["outcome"],
        |s, rows| {
            rows.add(&["relayed"], s.stats.calls.stray_relayed as f64);
            rows.add(&["dropped"], s.stats.calls.stray_dropped as f64);
        },
    ),
    counter(
        "tandem_unsendable_responses_total",
        "Responses whose next Via names no address to send to.",
        &[],
        |s, rows| rows.count(s.stats.calls.unsendable),
    ),
    counter(
        "tandem_next_hop_unverified_total",
        "Requests forwarded to a next hop that nobody vouched for, of calls unknown here.",
        &[],
        |s, rows| rows.count(s.stats.calls.next_hop_unverified),
    ),
    counter("tandem_forged_tokens_total", "Route tokens that are forged or foreign.", &[], |s, rows| {
        rows.count(s.stats.calls.forged_tokens)
    }),
    counter("tandem_keepalives_total", "Keep-alives and other traffic that is no SIP and no error.", &[], |s, rows| {
        rows.count(s.stats.keep_alives + s.stats.stun + s.io.keepalives.get());
    }),
    counter(
        "tandem_panics_total",
        "Failed assertions of this program, each at the cost of one message.",
        &[],
        |s, rows| {
            rows.count(s.stats.panics + s.io.panics.get());
        },
    ),
    gauge("tandem_silent_shards", "Parts of this node that have stopped for good; restart it.", &[], |s, rows| {
        rows.count(s.stats.silent_shards);
    }),
    counter("rmTotal4xxInviteSent", "Final responses of class 4xx sent to initial INVITEs.", &[], |s, rows| {
        rows.count(s.stats.calls.invite_finals[2]);
    }),
    counter("rmTotal5xxInviteSent", "Final responses of class 5xx sent to initial INVITEs.", &[], |s, rows| {
        rows.count(s.stats.calls.invite_finals[3]);
    }),
];

fn phases(sample: &Sample, rows: &mut Rows) {
    for phase in Phase::ALL {
        rows.add(&[phase.name()], f64::from(u8::from(sample.phase == phase)));
    }
}
