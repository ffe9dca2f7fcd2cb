//! Metrics of what goes over the networks between the nodes of a pair: the link, the beats; and of the traps.

use super::family::{Family, Rows, Sample, counter};
use super::pair_table::of;
use crate::replica::Stream;
use crate::replica::envelope::BadBeat;
use crate::replica::frame::Broken;
use crate::replica::handshake::Refusal;
use crate::runtime::link::{Ended, LinkStats, Turned};
use crate::runtime::stats::Counter;

/// In the order in which people look for them.
pub(super) static PEER: &[Family] = &[
    counter("tandem_peer_links_opened_total", "Links that came to stand.", &[], |s, rows| {
        of(s, |pair| rows.edge(&pair.links.links_up));
    }),
    counter("tandem_peer_links_closed_total", "Links that ended, by cause.", &["cause"], |s, rows| {
        of(s, |pair| each(rows, Ended::ALL.map(Ended::name), &pair.links.links_down));
    }),
    counter("tandem_peer_frames_received_total", "Frames of the peer, by stream.", &["stream"], |s, rows| {
        streams(s, rows, |links| &links.frames_in);
    }),
    counter("tandem_peer_frames_sent_total", "Frames queued for the peer, by stream.", &["stream"], |s, rows| {
        streams(s, rows, |links| &links.frames_out);
    }),
    counter("tandem_peer_received_bytes_total", "Octets received from the peer, by stream.", &["stream"], |s, rows| {
        streams(s, rows, |links| &links.octets_in);
    }),
    counter("tandem_peer_sent_bytes_total", "Octets written to the peer, by stream.", &["stream"], |s, rows| {
        streams(s, rows, |links| &links.octets_out);
    }),
    counter("tandem_peer_frames_unsent_total", "Frames for a peer whose link did not stand.", &[], |s, rows| {
        of(s, |pair| rows.edge(&pair.links.unsent));
    }),
    counter("tandem_peer_frames_skipped_total", "Frames of kinds that this version does not know.", &[], |s, rows| {
        of(s, |pair| rows.edge(&pair.links.skipped));
    }),
    counter("tandem_peer_frames_broken_total", "Frames that ended a link, by reason.", &["reason"], |s, rows| {
        of(s, |pair| {
            each(rows, Broken::ALL.map(Broken::name), &pair.links.broken);
            rows.add(&["content"], s.stats.peer.bad_frames as f64);
        });
    }),
    counter("tandem_peer_connections_accepted_total", "Connections to the peer port.", &[], |s, rows| {
        of(s, |pair| rows.edge(&pair.links.accepted));
    }),
    counter(
        "tandem_peer_connections_turned_away_total",
        "Of these: closed before their hello was judged, by reason.",
        &["reason"],
        |s, rows| of(s, |pair| each(rows, Turned::ALL.map(Turned::name), &pair.links.turned)),
    ),
    counter(
        "tandem_peer_handshakes_refused_total",
        "Openings refused by either side, by reason.",
        &["reason"],
        |s, rows| {
            of(s, |pair| each(rows, Refusal::ALL.map(Refusal::name), &pair.links.refusals));
        },
    ),
    counter(
        "tandem_peer_connects_failed_total",
        "Connections to the peer that failed, by cause.",
        &["cause"],
        |s, rows| {
            of(s, |pair| {
                rows.add(&["refused"], pair.links.dial_refused.get() as f64);
                rows.add(&["unreachable"], pair.links.dial_unreachable.get() as f64);
                rows.add(&["silent"], pair.links.dial_silent.get() as f64);
            });
        },
    ),
    counter("tandem_peer_accept_errors_total", "Failed accepts on the peer port.", &[], |s, rows| {
        of(s, |pair| rows.edge(&pair.links.accept_errors));
    }),
    counter("tandem_beats_received_total", "Authentic beats of the peer.", &[], |s, rows| {
        of(s, |pair| rows.edge(&pair.beats.beats_in));
    }),
    counter("tandem_beats_sent_total", "Beats sent.", &[], |s, rows| of(s, |pair| rows.edge(&pair.beats.beats_out))),
    counter("tandem_beats_unsent_total", "Beats that the kernel did not take.", &[], |s, rows| {
        of(s, |pair| rows.edge(&pair.beats.unsent));
    }),
    counter(
        "tandem_beats_refused_total",
        "Datagrams on the beats' port that count for nothing.",
        &["reason"],
        |s, rows| {
            of(s, |pair| {
                each(rows, BadBeat::ALL.map(BadBeat::name), &pair.beats.bad);
                rows.add(&["astray"], pair.beats.astray.get() as f64);
            });
        },
    ),
    counter(
        "tandem_beat_floods_total",
        "Turns in which the beats' port had more than any peer sends.",
        &[],
        |s, rows| {
            of(s, |pair| rows.edge(&pair.beats.floods));
        },
    ),
    counter("tandem_traps_total", "SNMP traps to each target, by what became of them.", &["outcome"], |s, rows| {
        of(s, |pair| {
            rows.add(&["sent"], pair.traps.sent.get() as f64);
            rows.add(&["failed"], pair.traps.failed.get() as f64);
            rows.add(&["dropped"], pair.traps.dropped.get() as f64);
        });
    }),
];

/// One row for each name and its counter.
fn each<const N: usize>(rows: &mut Rows, names: [&str; N], counters: &[Counter; N]) {
    for (name, counter) in names.iter().zip(counters) {
        rows.add(&[name], counter.get() as f64);
    }
}

fn streams(sample: &Sample, rows: &mut Rows, of_links: fn(&LinkStats) -> &[Counter; Stream::ALL.len()]) {
    of(sample, |pair| each(rows, Stream::ALL.map(Stream::name), of_links(&pair.links)));
}
