//! Arguments, commands and exit codes.

pub mod terminal;
pub mod http;
pub mod table;
pub mod pair;
pub mod ask;
pub mod run;
pub mod stage;
pub mod demo;
pub mod drill;
pub mod ha_mode;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed; demo, drill: a call was lost
  2  the command line or the configuration is wrong
  3  no node answers at the admin address";

/// A SIP-aware Resource Manager proxy: balances calls over media servers and loses none of them.
#[derive(Debug, Parser)]
#[command(name = "tandem", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the main job: a pair of nodes, three media servers and a caller; servers and nodes die and come back.
    Demo {
        /// About how long, at least 15.
        #[arg(long, value_name = "N", default_value_t = 30)]
        seconds: u64,
    },
    /// Run a node until SIGTERM; SIGHUP reads the configuration again.
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// The child that holds the virtual addresses; `run` starts it.
    #[command(hide = true)]
    Guard,
    /// Be the witness of pairs: says which node goes on when its nodes do not hear each other. For a third host.
    Witness {
        /// Where nodes ask (UDP).
        #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:9802")]
        listen: std::net::SocketAddr,
        /// Secrets of the pairs, as in `cluster.secret-file`, one a line; may stand several times.
        #[arg(long, value_name = "FILE", required = true)]
        secret_file: Vec<PathBuf>,
    },
    /// Check a configuration file; says every error at once.
    Check {
        /// The configuration file.
        file: PathBuf,
    },
    /// Show on one screen how a running node is.
    Status {
        #[command(flatten)]
        view: ask::View,
    },
    /// List the resources of a running node.
    Resources {
        #[command(flatten)]
        view: ask::View,
    },
    /// List calls of a running node.
    Calls {
        #[command(flatten)]
        view: ask::View,
        /// Most rows to show.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Take no new calls (503 with Retry-After); those that live go on.
    Drain {
        #[command(flatten)]
        target: ask::Target,
    },
    /// Take new calls again.
    Resume {
        #[command(flatten)]
        target: ask::Target,
    },
    /// Read the configuration again; applied whole or refused whole.
    Reload {
        #[command(flatten)]
        target: ask::Target,
    },
    /// Let the other node of the pair be active; no call notices.
    Switchover {
        #[command(flatten)]
        target: ask::Target,
    },
    /// Switch both nodes of a running pair to another ha-mode; calls go on.
    HaMode {
        #[command(subcommand)]
        command: HaMode,
    },
    /// Try out on the running pair what a failure costs: canary calls in every phase, an event, a report.
    Drill {
        #[command(flatten)]
        arguments: drill::Arguments,
    },
    /// Look at the other node of the pair: check, diff, declare-dead.
    Peer {
        #[command(subcommand)]
        command: Peer,
    },
}

#[derive(Debug, Subcommand)]
enum HaMode {
    /// Say what a switch would mean, and whether it would be refused.
    Plan {
        /// none, active-standby or active-active.
        mode: String,
        #[command(flatten)]
        view: ask::View,
    },
    /// Switch, on both nodes or on none.
    Set {
        /// none, active-standby or active-active.
        mode: String,
        #[command(flatten)]
        target: ask::Target,
    },
}

#[derive(Debug, Subcommand)]
enum Peer {
    /// Name the first thing that keeps the pair from being armed; 0 if nothing does.
    Check {
        #[command(flatten)]
        target: ask::Target,
    },
    /// List what differs between the nodes; 0 if nothing does.
    Diff {
        #[command(flatten)]
        view: ask::View,
    },
    /// Believe that a silent member is dead, so that this node may take over at once. Stop it first.
    DeclareDead {
        /// Its `cluster.mymemberid`.
        id: u16,
        #[command(flatten)]
        target: ask::Target,
    },
}

/// Runs the command line; returns the exit code.
pub fn main() -> ExitCode {
    let code = match Arguments::parse().command {
        Command::Demo { seconds } => return demo::run(Some(seconds)),
        Command::Guard => return crate::runtime::vip::guard::run(),
        Command::Run { config } => run::run(&config),
        Command::Witness { listen, secret_file } => run::witness(listen, &secret_file),
        Command::Check { file } => run::check(&file),
        Command::Status { view } => ask::status(&view),
        Command::Resources { view } => ask::resources(&view),
        Command::Calls { view, limit } => ask::calls(&view, limit),
        Command::Drain { target } => ask::order(&target, "drain"),
        Command::Resume { target } => ask::order(&target, "resume"),
        Command::Reload { target } => ask::order(&target, "reload"),
        Command::Switchover { target } => ask::order(&target, "switchover"),
        Command::Drill { arguments } => drill::run(&arguments),
        Command::HaMode { command: HaMode::Plan { mode, view } } => ha_mode::plan(&view, &mode),
        Command::HaMode { command: HaMode::Set { mode, target } } => ha_mode::set(&target, &mode),
        Command::Peer { command: Peer::Check { target } } => ask::peer_check(&target),
        Command::Peer { command: Peer::Diff { view } } => ask::peer_diff(&view),
        Command::Peer { command: Peer::DeclareDead { id, target } } => {
            ask::order(&target, &format!("peer/declare-dead?id={id}"))
        }
    };
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
