//! Metrics of the resources. `rm...` are the model product's names.

use super::family::{Family, Rows, Sample, counter, gauge};
use crate::balance::ResourceView;
use crate::report::usable;

/// In the order in which people look for them.
pub(super) static RESOURCES: &[Family] = &[
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
        "tandem_capacity_drift",
        "Ports in use above port-capacity; no new call is placed until it is 0.",
        &["group", "resource"],
        |s, rows| {
            for r in &s.resources {
                rows.add(&[&r.group, &r.aor], f64::from(r.debt));
            }
        },
    ),
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

fn healths(sample: &Sample, rows: &mut Rows) {
    for ResourceView { group, aor, health, .. } in &sample.resources {
        for state in ["up", "suspect", "overloaded", "draining", "down"] {
            rows.add(&[group, aor, state], f64::from(u8::from(state == *health)));
        }
    }
}
