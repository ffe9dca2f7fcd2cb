//! Arguments and commands.

/// Runs the command line; returns the exit code.
pub fn main() -> std::process::ExitCode {
    todo!()
}
