//! Metrics of what surrounds the node: sockets, the admin listener, the log, the process.

use std::sync::atomic::Ordering;

use super::family::{Family, Sample, counter, gauge};
use crate::runtime::stats::{Closed, SendError};
use crate::runtime::tls::Handshake;

/// In the order in which people look for them.
pub(super) static EDGE: &[Family] = &[
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
        "tandem_stranger_datagrams_total",
        "UDP datagrams dropped unread because sip.allow-from does not name their source.",
        &[],
        |s, rows| rows.edge(&s.io.stranger_datagrams),
    ),
    counter(
        "tandem_receive_overflow_total",
        "Datagrams that the kernel dropped because a receive buffer was full.",
        &[],
        |s, rows| rows.edge(&s.io.receive_overflow),
    ),
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
    counter("tandem_tls_handshakes_total", "TLS handshakes, by side and outcome.", &["side", "outcome"], |s, rows| {
        if certificate_end(s) > 0 {
            for outcome in Handshake::ALL {
                let [server, client] = [&s.io.handshakes_accepted, &s.io.handshakes_opened];
                rows.add(&["server", outcome.name()], server[outcome as usize].get() as f64);
                rows.add(&["client", outcome.name()], client[outcome as usize].get() as f64);
            }
        }
    }),
    counter("tandem_tls_aliases_total", "Connections that authenticated peers offered for reuse.", &[], |s, rows| {
        if certificate_end(s) > 0 {
            rows.edge(&s.io.aliases);
        }
    }),
    gauge(
        "tandem_tls_certificate_not_after_timestamp_seconds",
        "End of the validity of this node's certificate, Unix time.",
        &[],
        |s, rows| {
            if certificate_end(s) > 0 {
                rows.count(certificate_end(s));
            }
        },
    ),
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
];

/// 0 while no listener speaks TLS: then its metrics are not shown.
fn certificate_end(sample: &Sample) -> u64 {
    sample.io.certificate_not_after.load(Ordering::Relaxed)
}
