//! `tandem check FILE`: what the text means, or all that is wrong with it.

use std::fmt::Write;

use super::finding::Findings;
use super::settings::Settings;
use super::sound;

/// What `tandem check` prints, and how it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Lines for people: `FILE:LINE:COLUMN: …` for each finding, then one line that sums up.
    pub report: String,
    /// Exit code: 0 if the configuration is sound (warnings or not), 1 if not.
    pub code: u8,
}

/// Checks a configuration text without touching anything. `path` is only printed.
pub fn check(path: &str, text: &str) -> Checked {
    check_with(path, text, |_| Findings::default())
}

/// The same, and then what `files` finds in the files that a sound text names.
pub fn check_with(path: &str, text: &str, files: impl FnOnce(&Settings) -> Findings) -> Checked {
    let mut report = String::new();
    let read = Settings::parse(text).and_then(|(settings, mut warnings)| {
        let Findings { errors, warnings: more } = files(&settings);
        warnings.extend(more);
        if errors.is_empty() { Ok((settings, warnings)) } else { Err(errors) }
    });
    match read {
        Ok((settings, warnings)) => {
            for warning in warnings.into_iter().chain(sound::advice(&settings)) {
                line(&mut report, format_args!("{path}:{}: warning: {}", warning.place, warning.told()));
            }
            line(&mut report, format_args!("{path}: sound: {}", summary(&settings)));
            Checked { report, code: 0 }
        }
        Err(errors) => {
            for error in &errors {
                line(&mut report, format_args!("{path}:{error}"));
            }
            let count = counted(errors.len(), "error");
            line(&mut report, format_args!("{path}: not usable: {count}"));
            Checked { report, code: 1 }
        }
    }
}

fn summary(settings: &Settings) -> String {
    let resources: Vec<_> = settings.groups.iter().flat_map(|g| &g.resources).collect();
    let ports: u64 = resources.iter().filter_map(|r| r.port_capacity).map(u64::from).sum();
    let unlimited = resources.iter().filter(|r| r.port_capacity.is_none()).count();
    let also = if unlimited > 0 { format!(" and {unlimited} without limit") } else { String::new() };
    let cluster = &settings.cluster;
    let services = cluster.service_ips_of(true).iter().chain(cluster.service_ips_of(false));
    let vips: Vec<String> = cluster.virtual_ips.iter().chain(services).map(|vip| vip.ip.to_string()).collect();
    let pair = match (cluster.own(), cluster.peer()) {
        (Some(own), Some(peer)) => {
            let (own, peer) = (own.id.0, peer.id.0);
            format!("member {own} in {} with member {peer} at {}, ", cluster.ha_mode, vips.join(" "))
        }
        _ => String::new(),
    };
    format!(
        "{pair}{}, {}, {} with {}{also}",
        counted(settings.listeners.len(), "listener"),
        counted(settings.groups.len(), "group"),
        counted(resources.len(), "resource"),
        counted(ports as usize, "port"),
    )
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn line(report: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(report, "{text}");
}
