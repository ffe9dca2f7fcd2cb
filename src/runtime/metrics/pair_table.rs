//! Metrics that only a node of a pair has: what it is, how far its peer is, what waits. A node alone exports none of them.

use super::family::{Family, PairSample, Rows, Sample, counter, gauge};
use crate::cluster::Step;
use crate::report::pair::{age, path_state};

/// In the order in which people look for them.
pub(super) static PAIR: &[Family] = &[
    gauge("tandem_armed", "1 if either node could fail without a loss.", &[], |s, rows| {
        of(s, |pair| rows.one(yes(pair.status.armed)));
    }),
    gauge("tandem_pair_step", "1 for how far the node is on its way into the pair.", &["step"], |s, rows| {
        of(s, |pair| {
            for step in [Step::Standalone, Step::Joining, Step::Syncing, Step::Armed, Step::Serving] {
                rows.add(&[&step.to_string()], yes(pair.status.step == step));
            }
        });
    }),
    gauge("tandem_takeover_last_seconds", "From the last claim to the announced addresses.", &[], |s, rows| {
        of(s, |pair| pair.facts.took.into_iter().for_each(|took| rows.one(took.as_secs_f64())));
    }),
    counter("tandem_takeovers_total", "Times this node became active.", &[], |s, rows| {
        of(s, |pair| rows.count(pair.facts.takeovers));
    }),
    counter("tandem_taken_over_total", "Calls carried on for the peer, by phase.", &["phase"], |s, rows| {
        of(s, |_| {
            rows.add(&["set_up"], s.stats.calls.setups_taken_over as f64);
            rows.add(&["answered"], s.stats.calls.legs_taken_over as f64);
        });
    }),
    gauge("tandem_peer_linked", "1 while the link to the peer stands.", &[], |s, rows| {
        of(s, |pair| rows.one(yes(pair.facts.exposure.linked)));
    }),
    gauge("tandem_peer_path_heard", "1 for a path on which the peer is heard and hears this node.", &["path"], paths),
    gauge("tandem_peer_config_differs", "1 if the peer is configured differently.", &[], |s, rows| {
        of(s, |pair| rows.one(yes(pair.status.peers.iter().any(|peer| peer.config_differs))));
    }),
    gauge("tandem_peer_divergence_sessions", "Calls that may differ between the nodes.", &[], |s, rows| {
        of(s, |pair| rows.size(pair.facts.exposure.apart));
    }),
    gauge("tandem_peer_unacked_records", "Records that the peer has not acknowledged.", &[], |s, rows| {
        of(s, |pair| rows.count(pair.facts.exposure.records));
    }),
    gauge("tandem_peer_unacked_oldest_seconds", "Age of the oldest of them; 0 when there is none.", &[], |s, rows| {
        of(s, |pair| rows.one(age(s.now, pair.facts.exposure.oldest)));
    }),
    gauge("tandem_peer_ringing", "INVITEs without a final answer that the peer acts for.", &[], |s, rows| {
        of(s, |pair| rows.size(pair.facts.exposure.peer_ringing));
    }),
    gauge("tandem_held_messages", "Messages that wait for the peer's word.", &[], |s, rows| {
        of(s, |_| rows.size(s.gauges.held));
    }),
    counter("tandem_held_messages_total", "Messages that waited for the peer's word.", &[], |s, rows| {
        of(s, |_| rows.count(s.stats.gate.held));
    }),
    counter("tandem_held_seconds_total", "How long they waited, in all.", &[], |s, rows| {
        of(s, |_| rows.one(s.stats.gate.waited_us as f64 / 1e6));
    }),
    counter(
        "tandem_commit_unprotected_total",
        "Messages that should have waited for the peer's word and left without it.",
        &[],
        |s, rows| of(s, |_| rows.count(s.stats.gate.unprotected + s.stats.calls.commit_unprotected)),
    ),
    gauge("tandem_witness_reachable", "1 while the witness answers; only with a witness.", &[], |s, rows| {
        of(s, |pair| pair.status.witness.into_iter().for_each(|w| rows.one(yes(w.answers == Some(true)))));
    }),
    gauge("tandem_witness_held", "1 while this node holds the lease of the witness; only with one.", &[], |s, rows| {
        of(s, |pair| pair.status.witness.into_iter().for_each(|w| rows.one(yes(w.held))));
    }),
    counter("tandem_records_written_total", "Records written for the peer.", &[], |s, rows| {
        of(s, |_| rows.count(s.stats.gate.records));
    }),
    counter("tandem_records_applied_total", "Records of the peer that were put into the tables.", &[], |s, rows| {
        of(s, |_| rows.count(s.stats.calls.records_applied));
    }),
    counter(
        "tandem_records_without_room_total",
        "Records of the peer that found a table full or their resource not configured here.",
        &[],
        |s, rows| of(s, |_| rows.count(s.stats.calls.records_without_room)),
    ),
    counter(
        "tandem_lane_overflows_total",
        "Times the peer lagged so far that it is synchronised anew.",
        &[],
        |s, rows| {
            of(s, |_| rows.count(s.stats.gate.overflows));
        },
    ),
    counter("tandem_buckets_sent_total", "Buckets of calls that were sent whole to the peer.", &[], |s, rows| {
        of(s, |_| rows.count(s.stats.peer.buckets_sent));
    }),
    counter("tandem_buckets_diverged_total", "Buckets that differed in a later comparison; mended.", &[], |s, rows| {
        of(s, |_| rows.count(s.stats.peer.divergent_buckets));
    }),
    counter(
        "tandem_relayed_total",
        "Messages passed on to the node that acts for them, by direction.",
        &["direction"],
        |s, rows| {
            of(s, |_| {
                let offered = s.stats.calls.offered as f64;
                rows.add(&["out"], s.stats.peer.relayed_out as f64 + offered);
                rows.add(&["in"], s.stats.peer.relayed_in as f64);
            });
        },
    ),
    counter(
        "tandem_stale_messages_total",
        "Messages for a virtual address dropped because the peer acts for it.",
        &[],
        |s, rows| of(s, |_| rows.count(s.stats.stale)),
    ),
];

/// What a node of a pair has to say; nothing on a node alone.
pub(super) fn of(sample: &Sample, tell: impl FnOnce(&PairSample)) {
    if let Some(pair) = &sample.pair {
        tell(pair);
    }
}

fn yes(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn paths(sample: &Sample, rows: &mut Rows) {
    of(sample, |pair| {
        for (n, path) in pair.status.peers.iter().flat_map(|peer| peer.paths.iter().enumerate()) {
            rows.add(&[&n.to_string()], yes(path_state(path) == "heard"));
        }
    });
}
