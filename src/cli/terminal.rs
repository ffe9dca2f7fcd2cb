//! What all commands share: exit codes and the two ways to the reader.

use std::io::Write;

/// Done.
pub const SUCCESS: u8 = 0;
/// It failed; for the demo, a call was lost.
pub const FAILURE: u8 = 1;
/// The command line or the configuration is wrong.
pub const CONFIG: u8 = 2;
/// No node answers.
pub const UNREACHABLE: u8 = 3;
/// The node is still at it; `tandem status` says what comes of it.
pub const UNDER_WAY: u8 = 4;

/// Prints to standard output as it is; a reader that went away (`| head`) is no failure.
pub fn say(text: &str) {
    let _reader_went_away = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Prints one line to standard error.
pub fn complain(line: &str) {
    let _reader_went_away = writeln!(std::io::stderr().lock(), "{line}");
}
