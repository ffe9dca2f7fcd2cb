//! `Stats` to Prometheus. The core counts in plain integers; here, and only here, they get names and units.

pub mod process;
pub mod family;
mod call_table;
mod resource_table;
mod edge_table;
mod pair_table;
mod peer_table;
pub mod table;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, Registry, TextEncoder};

pub use family::{Edge, Family, PairSample, Sample};
pub use table::{FAULT_METRICS, families, pair_families};

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
    use std::collections::HashSet;
    use std::sync::Arc;

    use super::family::Kind;
    use super::process::Process;
    use super::*;
    use crate::balance::{Ask, Farm, Outcome, ResourceView};
    use crate::base::{Epoch, LegId, NodeId, Time};
    use crate::node::Gauges;
    use crate::runtime::servers;
    use crate::runtime::stats::IoStats;

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
            withheld: 0,
            debt: 0,
            capacity,
            placed: 20,
            failed: 3,
            last_probe: Some(Time::from_micros(9_500_000)),
        }
    }

    fn pair() -> PairSample {
        let took = Some(std::time::Duration::from_millis(3));
        PairSample {
            status: crate::cluster::Status {
                witness: Some(crate::cluster::WitnessStatus { answers: Some(true), held: false, holder: None }),
                ..crate::report::pair::tests::status()
            },
            facts: crate::report::PairFacts { took, ..Default::default() },
            links: Default::default(),
            beats: Default::default(),
            traps: Default::default(),
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
            pair: Some(pair()),
            io: Arc::new(IoStats { certificate_not_after: 1_800_000_000.into(), ..IoStats::default() }),
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
        let table = [include_str!("call_table.rs"), include_str!("pair_table.rs")].concat();
        for (name, _) in crate::proxy::stats::Stats::default().named() {
            let shown = table.contains(&format!("s.stats.calls.{name})"))
                || table.contains(&format!("s.stats.calls.{name} as"));
            assert!(shown, "{name}");
        }
    }

    #[test]
    fn a_node_alone_exports_nothing_of_a_pair() {
        let sample = Sample { pair: None, ..sample() };
        let names: Vec<String> = collect(&sample).iter().map(|family| family.name().to_owned()).collect();
        assert!(pair_families().all(|family| names.iter().all(|name| name != family.name)));
        assert_eq!(names.len(), families().count() - pair_families().count());
        let text = Exporter::new(move || sample.clone()).scrape();
        for line in
            ["tandem_epoch 7", r#"tandem_role{role="active"} 1"#, r#"tandem_loss_if_failed_now{phase="answered"} 8"#]
        {
            assert!(text.lines().any(|l| l == line), "{line} missing in\n{text}");
        }
    }

    #[test]
    fn no_series_is_exported_twice_while_the_old_address_of_a_name_drains() {
        let at = |remote| servers::tests::farm(&[("sip:mcp.example", remote), ("sip:b.example", "192.0.2.9:5060")]).1;
        let mut farm = Farm::new(at("192.0.2.1:5060"));
        let ask = Ask { leg: LegId(1), service: None, secure: false, tried: &[], shows: &() };
        let grant = farm.admit(Time::ZERO, &ask).unwrap();
        farm.reconfigure(Time::ZERO, at("192.0.2.2:5060"));
        let sample = Sample { resources: farm.view(), ..sample() };
        assert_eq!(sample.resources.len(), 3);
        let text = Exporter::new(move || sample.clone()).scrape();
        let mut seen = HashSet::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let series = line.rsplit_once(' ').unwrap().0;
            assert!(seen.insert(series), "{series} twice in\n{text}");
        }
        let old = r#"tandem_ports_in_use{group="A",resource="sip:mcp.example (192.0.2.1:5060)"} 1"#;
        assert!(text.lines().any(|line| line == old), "{text}");
        farm.release(Time::ZERO, grant, Outcome::Completed);
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
            "tandem_epoch 0",
            r#"tandem_role{role="starting"} 1"#,
            r#"tandem_role{role="active"} 0"#,
            "tandem_armed 0",
            "tandem_witness_reachable 1",
            "tandem_witness_held 0",
            r#"tandem_loss_if_failed_now{phase="answered"} 0"#,
            "tandem_takeover_last_seconds 0.003",
            r#"tandem_peer_path_heard{path="1"} 0"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} missing in\n{text}");
        }
        assert!(!text.contains(r#"tandem_port_capacity{group="MCP",resource="sip:b"}"#), "unlimited is not a number");
    }
}
