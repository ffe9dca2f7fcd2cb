//! The report for machines that run tests: JUnit XML, a case for each phase and one for the limit.

use std::fmt::Write;

use super::report::Report;

/// The report as one `testsuite`.
pub fn junit(report: &Report) -> String {
    let cases: Vec<(&str, Option<String>, String)> = report
        .phases
        .iter()
        .map(|row| (row.phase, row.fault(report.dry_run), row.reasons.join("\n")))
        .chain([("capacity", report.capacity_fault(), String::new())])
        .collect();
    let failures = cases.iter().filter(|(_, fault, _)| fault.is_some()).count();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuite name=\"tandem drill {}\" tests=\"{}\" failures=\"{failures}\" errors=\"0\">\n  <properties>\n",
        report.mode,
        cases.len()
    );
    for (name, value) in properties(report) {
        let _infallible = writeln!(xml, "    <property name=\"{name}\" value=\"{}\"/>", escaped(&value));
    }
    xml.push_str("  </properties>\n");
    for (name, fault, detail) in cases {
        let head = format!("  <testcase classname=\"tandem.drill.{}\" name=\"{name}\"", report.mode);
        let _infallible = match fault {
            None => writeln!(xml, "{head}/>"),
            Some(said) => writeln!(
                xml,
                "{head}>\n    <failure message=\"{}\">{}</failure>\n  </testcase>",
                escaped(&said),
                escaped(&detail)
            ),
        };
    }
    xml.push_str("</testsuite>\n");
    xml
}

fn properties(report: &Report) -> [(&'static str, String); 8] {
    let known = |value: Option<String>| value.unwrap_or_else(|| String::from("unknown"));
    [
        ("node", report.node.clone()),
        ("dry_run", report.dry_run.to_string()),
        ("takeover_ms", known(report.takeover_ms.map(|ms| format!("{ms:.1}")))),
        ("late_replies", report.late_replies.to_string()),
        ("retransmissions", report.retransmissions.to_string()),
        ("most_calls", report.most_calls.to_string()),
        ("overshoot", report.overshoot.to_string()),
        ("divergence", known(report.divergence.map(|calls| calls.to_string()))),
    ]
}

/// Text as it may stand in an attribute or an element (XML 1.0 §2.2, §2.4).
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\n' => safe.push('\n'),
            c if c.is_control() => safe.push('?'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::drill::report::tests::report;

    #[test]
    fn a_case_for_each_phase_and_a_failure_where_calls_were_lost() {
        let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuite name="tandem drill kill" tests="4" failures="1" errors="0">
  <properties>
    <property name="node" value="192.0.2.11:9090"/>
    <property name="dry_run" value="false"/>
    <property name="takeover_ms" value="43.2"/>
    <property name="late_replies" value="3"/>
    <property name="retransmissions" value="12"/>
    <property name="most_calls" value="15"/>
    <property name="overshoot" value="0"/>
    <property name="divergence" value="0"/>
  </properties>
  <testcase classname="tandem.drill.kill" name="trying"/>
  <testcase classname="tandem.drill.kill" name="ringing">
    <failure message="2 of 5 calls lost, 0 expected">7-caller@192.0.2.1: &lt;Unanswered&gt; &amp; &quot;gone&quot;</failure>
  </testcase>
  <testcase classname="tandem.drill.kill" name="answered"/>
  <testcase classname="tandem.drill.kill" name="capacity"/>
</testsuite>
"#;
        assert_eq!(junit(&report()), expected);
    }

    #[test]
    fn a_limit_that_was_exceeded_fails_its_case() {
        let mut over = report();
        (over.most_calls, over.overshoot) = (17, 2);
        let xml = junit(&over);
        assert!(xml.contains("failures=\"2\"") && xml.contains("17 calls at the media server"), "{xml}");
    }
}
