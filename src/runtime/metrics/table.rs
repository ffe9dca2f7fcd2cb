//! Every metric: name, unit, meaning, labels, and where its value comes from. `rm…` are the model product's names.

use super::family::{Family, Kind, Rows, Sample};
use crate::balance::ResourceView;
use crate::report::{Phase, usable};
use crate::runtime::stats::{Closed, SendError};

/// Metrics that stay at zero unless something goes wrong; each is moved by a test of its own fault, all others by
/// ordinary traffic.
pub const FAULT_METRICS: &[&str] =
    &["tandem_admin_timeouts_total", "tandem_admin_cut_total", "tandem_log_dropped_total"];

/// All of them, in the order in which people look for them.
pub static FAMILIES: &[Family] = &[
    gauge("tandem_build_info", "Version of the running program; always 1.", &["version"], |_, rows| {
        rows.add(&[env!("CARGO_PKG_VERSION")], 1.0);
    }),
    gauge("tandem_uptime_seconds", "Time since the node began to serve.", &[], |s, rows| {
        rows.one(s.now.since(s.started).as_secs_f64());
    }),
    gauge("tandem_role", "1 for the role of this node in its cluster.", &["role"], |_, rows| {
        rows.add(&["active"], 1.0);
    }),
    gauge("tandem_epoch", "Counter of the epoch in force; grows with each start.", &[], |s, rows| {
        rows.count(u64::from(s.epoch.counter));
    }),
    gauge("tandem_phase", "1 for what the node does with new calls: serving, draining, stopping.", &["phase"], phases),
    gauge("tandem_calls", "Answered calls alive.", &[], |s, rows| rows.size(s.gauges.legs)),
    gauge("tandem_ringing", "INVITEs without a final answer yet.", &[], |s, rows| rows.size(s.gauges.ringing)),
    gauge("tandem_sessions", "Sessions alive.", &[], |s, rows| rows.size(s.gauges.sessions)),
    gauge("tandem_transactions", "Transactions alive, by side.", &["side"], |s, rows| {
        rows.add(&["server"], s.gauges.server_transactions as f64);
        rows.add(&["client"], s.gauges.client_transactions as f64);
    }),
    gauge("tandem_remembered_calls", "Ended calls still remembered, for 64*T1.", &[], |s, rows| {
        rows.size(s.gauges.remembered);
    }),
    gauge("tandem_timers", "Timers pending.", &[], |s, rows| rows.size(s.gauges.timers)),
    gauge(
        "tandem_loss_if_failed_now",
        "Calls that nobody could carry on if this node failed now; answered ones wait for its return.",
        &["phase"],
        |s, rows| {
            rows.add(&["ringing"], s.gauges.ringing as f64);
            rows.add(&["answered"], s.gauges.legs as f64);
        },
    ),
    gauge("tandem_ports_in_use", "Ports held by calls and attempts.", &["group", "resource"], |s, rows| {
        for r in &s.resources {
            rows.add(&[&r.group, &r.aor], f64::from(r.in_use));
        }
    }),
    gauge("tandem_port_capacity", "port-capacity; absent when unlimited.", &["group", "resource"], |s, rows| {
        for r in &s.resources {
            if let Some(capacity) = r.capacity {
                rows.add(&[&r.group, &r.aor], f64::from(capacity));
            }
        }
    }),
    gauge(
        "tandem_resource_health",
        "1 for the observed state of a resource.",
        &["group", "resource", "state"],
        healths,
    ),
    counter("tandem_resource_placed_total", "INVITEs placed on a resource.", &["group", "resource"], |s, rows| {
        for r in &s.resources {
            rows.add(&[&r.group, &r.aor], r.placed as f64);
        }
    }),
    counter(
        "tandem_resource_failed_total",
        "INVITEs placed on a resource that ended without a call.",
        &["group", "resource"],
        |s, rows| {
            for r in &s.resources {
                rows.add(&[&r.group, &r.aor], r.failed as f64);
            }
        },
    ),
    gauge(
        "tandem_seconds_since_last_probe",
        "Age of the last probe sent to or answered by a resource; absent when it is not probed.",
        &["resource"],
        |s, rows| {
            for r in &s.resources {
                if let Some(probed) = r.last_probe {
                    rows.add(&[&r.aor], s.now.since(probed).as_secs_f64());
                }
            }
        },
    ),
    counter("tandem_reloads_total", "Reloads of the configuration, by outcome.", &["outcome"], |s, rows| {
        rows.add(&["applied"], s.edge.reloads_applied.get() as f64);
        rows.add(&["refused"], s.edge.reloads_refused.get() as f64);
    }),
    counter("tandem_admin_requests_total", "Requests answered by the admin listener.", &[], |s, rows| {
        rows.edge(&s.edge.admin_requests);
    }),
    counter("tandem_admin_timeouts_total", "Admin requests whose answer was not ready in time.", &[], |s, rows| {
        rows.edge(&s.edge.admin_timeouts);
    }),
    counter("tandem_admin_cut_total", "Admin connections cut because the client was slow.", &[], |s, rows| {
        rows.edge(&s.edge.admin_cut);
    }),
    counter("tandem_log_written_total", "Log lines written.", &[], |s, rows| rows.edge(&s.edge.log_written)),
    counter("tandem_log_dropped_total", "Log lines dropped because their reader did not keep up.", &[], |s, rows| {
        rows.edge(&s.edge.log_dropped);
    }),
    counter("tandem_datagrams_received_total", "UDP datagrams received.", &[], |s, rows| rows.edge(&s.io.datagrams_in)),
    counter("tandem_received_bytes_total", "Octets of the UDP datagrams received.", &[], |s, rows| {
        rows.edge(&s.io.octets_in)
    }),
    counter("tandem_datagrams_sent_total", "UDP datagrams sent.", &[], |s, rows| rows.edge(&s.io.datagrams_out)),
    counter("tandem_sent_bytes_total", "Octets of the UDP datagrams sent.", &[], |s, rows| rows.edge(&s.io.octets_out)),
    counter(
        "tandem_receive_overflow_total",
        "Datagrams that the kernel dropped because a receive buffer was full.",
        &[],
        |s, rows| rows.edge(&s.io.receive_overflow),
    ),
    counter("tandem_keepalives_total", "Keep-alives and other traffic that is no SIP and no error.", &[], |s, rows| {
        rows.edge(&s.io.keepalives);
    }),
    counter("tandem_receive_batches_total", "Receive batches.", &[], |s, rows| rows.edge(&s.io.batches)),
    counter("tandem_full_receive_batches_total", "Receive batches that came back full.", &[], |s, rows| {
        rows.edge(&s.io.full_batches);
    }),
    counter("tandem_send_errors_total", "Datagrams that could not be sent, by cause.", &["cause"], |s, rows| {
        for cause in SendError::ALL {
            rows.add(&[cause.name()], s.io.send_errors[cause as usize].get() as f64);
        }
    }),
    counter("tandem_icmp_errors_total", "ICMP errors that quote a datagram of ours.", &[], |s, rows| {
        rows.edge(&s.io.icmp_errors);
    }),
    counter("tandem_panics_total", "Panics caught while something was handled.", &[], |s, rows| {
        rows.edge(&s.io.panics)
    }),
    gauge("tandem_streams", "Stream connections alive.", &[], |s, rows| rows.count(s.io.streams())),
    counter("tandem_streams_accepted_total", "Stream connections accepted.", &[], |s, rows| {
        rows.edge(&s.io.streams_accepted);
    }),
    counter("tandem_streams_opened_total", "Stream connections opened.", &[], |s, rows| {
        rows.edge(&s.io.streams_opened)
    }),
    counter("tandem_streams_unreachable_total", "Stream connections that could not be opened.", &[], |s, rows| {
        rows.edge(&s.io.streams_unreachable);
    }),
    counter("tandem_accept_errors_total", "Failed accepts, for want of descriptors or memory.", &[], |s, rows| {
        rows.edge(&s.io.accept_errors);
    }),
    counter("tandem_streams_closed_total", "Stream connections closed, by reason.", &["reason"], |s, rows| {
        for reason in Closed::ALL {
            rows.add(&[reason.name()], s.io.streams_closed[reason as usize].get() as f64);
        }
    }),
    counter("tandem_stream_messages_received_total", "Messages received over streams.", &[], |s, rows| {
        rows.edge(&s.io.stream_messages_in);
    }),
    counter("tandem_stream_messages_sent_total", "Messages sent over streams.", &[], |s, rows| {
        rows.edge(&s.io.stream_messages_out);
    }),
    counter("tandem_names_resolved_total", "Next hops whose name was resolved.", &[], |s, rows| {
        rows.edge(&s.io.names_resolved);
    }),
    counter("tandem_names_failed_total", "Next hops whose name has no address.", &[], |s, rows| {
        rows.edge(&s.io.names_failed);
    }),
    gauge("process_resident_memory_bytes", "Resident memory.", &[], |s, rows| rows.count(s.process.resident)),
    gauge("process_virtual_memory_bytes", "Address space.", &[], |s, rows| rows.count(s.process.virtual_memory)),
    counter("process_cpu_seconds_total", "Processor time, user and system.", &[], |s, rows| rows.one(s.process.cpu)),
    gauge("process_start_time_seconds", "Start of the process, Unix time.", &[], |s, rows| rows.one(s.began)),
    gauge("process_threads", "Threads.", &[], |s, rows| rows.count(s.process.threads)),
    gauge("process_open_fds", "Open file descriptors.", &[], |s, rows| rows.count(s.process.open_fds)),
    gauge("process_max_fds", "Limit of open file descriptors.", &[], |s, rows| rows.count(s.process.max_fds)),
    gauge("rmPRStatus", "State of a physical resource, as its label.", &["rmPRName", "rmPRStatus"], |s, rows| {
        for r in &s.resources {
            rows.add(&[&r.aor, if usable(r.health) { "AVAILABLE" } else { "UNAVAILABLE" }], 1.0);
        }
    }),
    gauge("rmPRActiveCalls", "Ports of a physical resource in use.", &["rmPRName"], |s, rows| {
        for r in &s.resources {
            rows.add(&[&r.aor], f64::from(r.in_use));
        }
    }),
    counter("rmPRTotalCalls", "INVITEs placed on a physical resource.", &["rmPRName"], |s, rows| {
        for r in &s.resources {
            rows.add(&[&r.aor], r.placed as f64);
        }
    }),
];

const fn gauge(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    rows: fn(&Sample, &mut Rows),
) -> Family {
    Family { name, help, kind: Kind::Gauge, labels, rows }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    rows: fn(&Sample, &mut Rows),
) -> Family {
    Family { name, help, kind: Kind::Counter, labels, rows }
}

fn phases(sample: &Sample, rows: &mut Rows) {
    for phase in [Phase::Serving, Phase::Draining, Phase::Stopping] {
        rows.add(&[phase.name()], f64::from(u8::from(sample.phase == phase)));
    }
}

fn healths(sample: &Sample, rows: &mut Rows) {
    for ResourceView { group, aor, health, .. } in &sample.resources {
        for state in ["up", "suspect", "overloaded", "draining", "down"] {
            rows.add(&[group, aor, state], f64::from(u8::from(state == *health)));
        }
    }
}
