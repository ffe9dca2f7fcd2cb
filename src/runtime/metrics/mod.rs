//! `Stats` to Prometheus. The core counts in plain integers; here, and only here, they get names and units.

pub mod process;
pub mod family;
mod call_table;
mod resource_table;
mod edge_table;
pub mod table;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, Registry, TextEncoder};

pub use family::{Edge, Family, Sample};
pub use table::{FAULT_METRICS, families};

/// The registry that `/metrics` writes out.
pub struct Exporter {
    registry: Registry,
}

impl Exporter {
    /// Registers every family; each scrape calls `sample` once.
    ///
    /// # Panics
    ///
    /// If two families of the table share a name: a fault of the table, which every start would show.
    pub fn new(sample: impl Fn() -> Sample + Send + Sync + 'static) -> Self {
        let collector = FromSample { sample, descs: families().map(desc).collect() };
        let registry = Registry::new();
        registry.register(Box::new(collector)).expect("every family has a name of its own");
        Self { registry }
    }

    /// The text of one scrape (exposition format 0.0.4).
    pub fn scrape(&self) -> String {
        let mut text = Vec::new();
        // Writing to memory cannot fail, and `collect` leaves no family empty.
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        debug_assert!(encoded.is_ok(), "{encoded:?}");
        String::from_utf8(text).unwrap_or_default()
    }
}

struct FromSample<F> {
    sample: F,
    descs: Vec<Desc>,
}

impl<F: Fn() -> Sample + Send + Sync> Collector for FromSample<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        collect(&(self.sample)())
    }
}

/// All families that have rows in this sample.
fn collect(sample: &Sample) -> Vec<MetricFamily> {
    families().filter_map(|family| family.collect(sample)).collect()
}

fn desc(family: &Family) -> Desc {
    let labels = family.labels.iter().map(|l| (*l).to_owned()).collect();
    Desc::new(family.name.to_owned(), family.help.to_owned(), labels, Default::default())
        .expect("names and labels are of the Prometheus alphabet")
}

#[cfg(test)]
mod tests {
    use super::family::Kind;
    use super::process::Process;
    use super::*;
    use crate::balance::ResourceView;
    use crate::base::{Epoch, NodeId, Time};
    use crate::node::Gauges;

    fn resource(aor: &str, health: &'static str, capacity: Option<u32>) -> ResourceView {
        ResourceView {
            group: "MCP".into(),
            aor: aor.into(),
            id: crate::balance::resource_id(aor),
            health,
            reason: "",
            in_use: 4,
            own: 1,
            allowance: Some(9),
            debt: 0,
            capacity,
            placed: 20,
            failed: 3,
            last_probe: Some(Time::from_micros(9_500_000)),
        }
    }

    fn sample() -> Sample {
        Sample {
            now: Time::from_micros(10_000_000),
            started: Time::from_micros(4_000_000),
            node: NodeId(1),
            epoch: Epoch { counter: 7, node: NodeId(1) },
            gauges: Gauges { legs: 8, ringing: 2, ..Gauges::default() },
            resources: vec![resource("sip:a", "up", Some(10)), resource("sip:b", "down", None)],
            process: Process::read(),
            ..Sample::default()
        }
    }

    #[test]
    fn names_follow_the_conventions() {
        for family in families() {
            let Family { name, help, kind, .. } = family;
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
            if name.starts_with("rm") {
                continue; // The model's own names.
            }
            assert!(name.starts_with("tandem_") || name.starts_with("process_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
        }
    }

    #[test]
    fn every_fault_metric_is_in_the_table() {
        for name in FAULT_METRICS {
            assert!(families().any(|f| f.name == *name), "{name}");
        }
    }

    #[test]
    fn every_family_shows_rows_and_only_declared_labels() {
        let all = collect(&sample());
        assert_eq!(all.len(), families().count(), "a family without a row is a dead metric");
        for (shown, family) in all.iter().zip(families()) {
            for metric in shown.get_metric() {
                let names: Vec<&str> = metric.get_label().iter().map(|l| l.name()).collect();
                assert_eq!(names, family.labels, "{}", family.name);
            }
        }
    }

    #[test]
    fn every_counter_of_the_core_is_exported() {
        let table = include_str!("call_table.rs");
        for (name, _) in crate::proxy::stats::Stats::default().named() {
            // The gate of a single node is always open: nothing ever leaves unprotected.
            let shown = name == "commit_unprotected"
                || table.contains(&format!("s.stats.calls.{name})"))
                || table.contains(&format!("s.stats.calls.{name} as"));
            assert!(shown, "{name}");
        }
    }

    #[test]
    fn counts_by_reason_stand_under_their_names() {
        let mut sample = sample();
        let reason = crate::sip::Malformed::NoCallId;
        sample.stats.malformed[reason as usize] = 7;
        sample.stats.calls.reject(crate::proxy::reject::Reason::Draining);
        sample.stats.calls.invite_final(486);
        let text = Exporter::new(move || sample.clone()).scrape();
        for line in [
            r#"tandem_malformed_total{reason="no_call_id"} 7"#,
            r#"tandem_rejected_total{reason="draining"} 1"#,
            r#"tandem_invite_finals_total{class="4xx"} 1"#,
            "rmTotal4xxInviteSent 1",
            "rmTotal5xxInviteSent 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} missing in\n{text}");
        }
    }

    #[test]
    fn a_scrape_reads_as_text() {
        let text = Exporter::new(sample).scrape();
        for line in [
            r#"tandem_ports_in_use{group="MCP",resource="sip:a"} 4"#,
            r#"tandem_port_capacity{group="MCP",resource="sip:a"} 10"#,
            r#"tandem_resource_health{group="MCP",resource="sip:b",state="down"} 1"#,
            r#"tandem_resource_health{group="MCP",resource="sip:b",state="up"} 0"#,
            r#"tandem_seconds_since_last_probe{resource="sip:a"} 0.5"#,
            r#"tandem_loss_if_failed_now{phase="ringing"} 2"#,
            r#"rmPRStatus{rmPRName="sip:b",rmPRStatus="UNAVAILABLE"} 1"#,
            r#"rmPRTotalCalls{rmPRName="sip:a"} 20"#,
            "# TYPE rmPRTotalCalls counter",
            "tandem_epoch 7",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} missing in\n{text}");
        }
        assert!(!text.contains(r#"tandem_port_capacity{group="MCP",resource="sip:b"}"#), "unlimited is not a number");
    }
}
