//! The demo: what README promises of it.

use std::process::Command;

use crate::rig::node::binary;
use crate::rig::world::World;

/// The rows of the table that begins with this heading, as words.
fn table<'a>(text: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let rows = text.lines().skip_while(|line| !line.starts_with(heading)).skip(1);
    rows.take_while(|line| !line.is_empty()).map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn the_demo_loses_no_call_in_any_phase() {
    let _alone = World::new("demo");
    let done = Command::new(binary()).args(["demo", "--seconds", "15"]).output().expect("the program");
    let [said, complaints] = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert_eq!((done.status.code(), complaints.as_str()), (Some(0), ""), "{said}");
    assert!(said.contains("lost in set-up: 0, answered: 0, in tear-down: 0\n"), "{said}");
    let servers = table(&said, "MEDIA SERVER");
    let all = servers.iter().find(|row| row[0] == "all").unwrap_or_else(|| panic!("{said}"));
    let number = |n: usize| all[n].parse::<u64>().expect("a number");
    let [offered, answered, completed, died, lost] = [1, 2, 3, 4, 5].map(number);
    assert_eq!((lost, answered, completed + died), (0, offered, offered), "{said}");
    assert!(offered > 0 && died > 0, "a media server died with calls on it: {said}");
    let takeovers: Vec<_> = table(&said, "KILLED").into_iter().filter(|row| row[0] == "node").collect();
    assert!(!takeovers.is_empty(), "{said}");
    for row in takeovers {
        // node A, node B, the first new call, the survivor's part of that.
        let [_, killed, _, survivor, served, "ms", ..] = row[..] else { panic!("no time: {row:?}\n{said}") };
        assert!(killed != survivor && served.parse::<f64>().is_ok_and(|ms| ms > 0.0), "{row:?}");
    }
}
