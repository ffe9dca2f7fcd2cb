//! Configuration texts: every refusal points into the text and says why; what is accepted can be planned against.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tandem::config::{Settings, differences, plan};

static EXAMPLE: LazyLock<Settings> =
    LazyLock::new(|| Settings::parse(include_str!("../../deploy/tandem.toml")).expect("the example is sound").0);

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // A text may end without a line end, and an error may point behind the last octet.
    let lines = text.matches('\n').count() + 1;
    match Settings::parse(text) {
        Ok((settings, warnings)) => {
            assert!(warnings.iter().all(|w| w.place.line <= lines && !w.cause.is_empty()));
            assert!(!settings.groups.is_empty() && !settings.listeners.is_empty());
            assert!(settings.groups.iter().all(|g| (400..=699).contains(&g.noresource_response_code)));
            let _ = plan(&EXAMPLE, &settings);
            let same = plan(&settings, &settings).expect("a reload of the same text is accepted");
            assert!(same.changes.is_empty(), "a reload of the same text changes nothing");
            assert!(differences(&settings.shared_lines(), &settings.shared_lines()).is_empty(), "one key, one line");
            let cluster = &settings.cluster;
            assert!(!cluster.is_pair() || cluster.own().is_some() && cluster.peer().is_some());
            assert!(settings.roles(1, 1).check().is_ok());
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "a refusal has a reason");
            assert!(errors.is_sorted(), "in the order of the text");
            for error in &errors {
                assert!(error.place.line <= lines && !error.cause.is_empty());
                assert!(error.to_string().len() < 4_000, "a message for people");
            }
        }
    }
});
