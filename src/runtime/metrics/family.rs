//! What a metric is made from, and what it is read from.

use std::sync::Arc;

use prometheus::proto::{self, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::process::Process;
use crate::balance::ResourceView;
use crate::base::{Epoch, NodeId, Time};
use crate::cluster::{Role, Status};
use crate::node::{Gauges, Stats};
use crate::report::pair::loss;
use crate::report::{Loss, PairFacts, Phase};
use crate::runtime::beat::BeatStats;
use crate::runtime::link::LinkStats;
use crate::runtime::snmp::TrapStats;
use crate::runtime::stats::{Counter, IoStats};

/// Everything that one scrape or one status shows, taken at one instant.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// When it was taken.
    pub now: Time,
    /// When the node began to serve.
    pub started: Time,
    /// `cluster.name`.
    pub cluster: String,
    /// `cluster.mymemberid`.
    pub node: NodeId,
    /// The epoch in force.
    pub epoch: Epoch,
    /// Whether new calls are taken.
    pub phase: Phase,
    /// Counters of the node.
    pub stats: Stats,
    /// What is alive in it.
    pub gauges: Gauges,
    /// Its resources.
    pub resources: Vec<ResourceView>,
    /// Counters of its sockets.
    pub io: Arc<IoStats>,
    /// Counters of what serves operators.
    pub edge: Arc<Edge>,
    /// What the kernel says of the process.
    pub process: Process,
    /// When the process began, seconds of the Unix epoch.
    pub began: f64,
    /// The pair, if this node is one of a pair.
    pub pair: Option<PairSample>,
}

/// What a node of a pair shows beside the rest.
#[derive(Clone, Debug)]
pub struct PairSample {
    /// The cluster's own words.
    pub status: Status,
    /// What is known beside them.
    pub facts: PairFacts,
    /// Counters of the links.
    pub links: Arc<LinkStats>,
    /// Counters of the beats.
    pub beats: Arc<BeatStats>,
    /// Counters of the traps.
    pub traps: Arc<TrapStats>,
}

impl Sample {
    /// What nobody could carry on if this node failed now.
    pub fn loss(&self) -> Loss {
        let (ringing, answered) = (self.gauges.ringing as u64, self.gauges.legs as u64);
        match &self.pair {
            Some(pair) => loss(&pair.status, pair.facts.exposure, ringing, answered),
            None => Loss { ringing, answered },
        }
    }

    /// The role of this node; one without a peer is always active.
    pub fn role(&self) -> Role {
        match self.pair.as_ref().map_or(Role::Active, |pair| pair.status.role) {
            // Whoever serves is active for those who watch.
            Role::Joined => Role::Active,
            role => role,
        }
    }

    /// The counter of the epoch in force: of a pair, that of whoever is active.
    pub fn term(&self) -> Epoch {
        self.pair.as_ref().map_or(self.epoch, |pair| pair.status.term)
    }
}

/// Counters of the parts that serve operators, written by whoever does the work.
#[derive(Debug, Default)]
pub struct Edge {
    /// Requests answered by the admin listener.
    pub admin_requests: Counter,
    /// Requests that it could not answer in time.
    pub admin_timeouts: Counter,
    /// Connections that it cut because they were slow.
    pub admin_cut: Counter,
    /// Log lines written.
    pub log_written: Counter,
    /// Log lines dropped because their reader did not keep up.
    pub log_dropped: Counter,
    /// Reloads that came into force.
    pub reloads_applied: Counter,
    /// Reloads that were refused.
    pub reloads_refused: Counter,
}

/// One metric of the table: its name, and how its rows are read from a [`Sample`].
pub struct Family {
    /// As exported.
    pub name: &'static str,
    /// One sentence for whoever reads it at night.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// Names of its labels. Their values come from closed sets or from the configuration, never from messages.
    pub labels: &'static [&'static str],
    /// Adds the rows.
    pub(super) rows: fn(&Sample, &mut Rows),
}

/// What a value means over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// The rows of one family under construction.
pub struct Rows {
    family: &'static Family,
    metrics: Vec<Metric>,
}

impl Family {
    /// Its rows in this sample; `None` if there are none.
    pub(super) fn collect(&'static self, sample: &Sample) -> Option<MetricFamily> {
        let mut rows = Rows { family: self, metrics: Vec::new() };
        (self.rows)(sample, &mut rows);
        if rows.metrics.is_empty() {
            return None;
        }
        let mut collected = MetricFamily::default();
        collected.set_name(self.name.to_owned());
        collected.set_help(self.help.to_owned());
        collected.set_field_type(match self.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
        });
        collected.set_metric(rows.metrics);
        Some(collected)
    }
}

impl Rows {
    /// One row; `labels` are the values for [`Family::labels`], in their order.
    pub(super) fn add(&mut self, labels: &[&str], value: f64) {
        debug_assert_eq!(labels.len(), self.family.labels.len(), "{}", self.family.name);
        let pairs = self.family.labels.iter().zip(labels).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        let mut metric = Metric::from_label(pairs.collect());
        match self.family.kind {
            Kind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.metrics.push(metric);
    }

    /// The only row of a family without labels.
    pub(super) fn one(&mut self, value: f64) {
        self.add(&[], value);
    }

    /// The only row of a family without labels. A count beyond 2^53 loses its last digits, as Prometheus's do.
    pub(super) fn count(&mut self, value: u64) {
        self.one(value as f64);
    }

    /// The same for a counter of the edge.
    pub(super) fn edge(&mut self, counter: &Counter) {
        self.count(counter.get());
    }

    /// The same for the size of a table.
    pub(super) fn size(&mut self, value: usize) {
        self.one(value as f64);
    }
}

/// A family of this kind.
pub(super) const fn gauge(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    rows: fn(&Sample, &mut Rows),
) -> Family {
    Family { name, help, kind: Kind::Gauge, labels, rows }
}

/// A family of this kind.
pub(super) const fn counter(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    rows: fn(&Sample, &mut Rows),
) -> Family {
    Family { name, help, kind: Kind::Counter, labels, rows }
}
