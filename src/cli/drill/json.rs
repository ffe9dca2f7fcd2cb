//! The report for programs.

use super::report::Report;

/// The report as one JSON object: the fields of [`Report`], and `passed`.
pub fn json(report: &Report) -> String {
    let mut value = serde_json::json!(report);
    value["passed"] = serde_json::Value::Bool(!report.is_bad());
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::drill::report::tests::report;

    #[test]
    fn programs_find_every_number() {
        let value: serde_json::Value = serde_json::from_str(&json(&report())).unwrap();
        assert_eq!((&value["mode"], &value["passed"]), (&"kill".into(), &false.into()));
        assert_eq!((&value["takeover_ms"], &value["divergence"]), (&43.25.into(), &0.into()));
        let ringing = &value["phases"][1];
        assert_eq!((&ringing["phase"], &ringing["calls"], &ringing["lost"]), (&"ringing".into(), &5.into(), &2.into()));
        assert_eq!(value["own_calls_at_risk"]["answered"], 70);
        let mut unknown = report();
        (unknown.takeover_ms, unknown.limit) = (None, None);
        let value: serde_json::Value = serde_json::from_str(&json(&unknown)).unwrap();
        assert!(value["takeover_ms"].is_null() && value["limit"].is_null());
    }
}
