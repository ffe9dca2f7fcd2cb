//! `tandem run` and `tandem check`: from a file to a node that carries calls, or to all that is wrong with the file.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{error, info, warn};

use super::terminal::{CONFIG, FAILURE, SUCCESS, complain, say};
use crate::cluster::LEASE;
use crate::config::{self, Settings};
use crate::runtime::log::Log;
use crate::runtime::machine::Machine as _;
use crate::runtime::metrics::Edge;
use crate::runtime::secure;
use crate::runtime::service::Service;
use crate::runtime::state::secrets_of;
use crate::runtime::witness::serve::Server;
use crate::runtime::{Options, Running, prepare, start};

/// `tandem run`: until a signal ends it.
pub fn run(file: &Path) -> u8 {
    let Some(text) = read(file) else { return CONFIG };
    let read = Settings::parse(&text).and_then(|(settings, mut warnings)| {
        let found = secure::examine(&settings);
        warnings.extend(found.warnings);
        if found.errors.is_empty() { Ok((settings, warnings)) } else { Err(found.errors) }
    });
    let (settings, warnings) = match read {
        Ok(sound) => sound,
        Err(errors) => {
            errors.iter().for_each(|e| complain(&format!("{}:{e}", file.display())));
            return CONFIG;
        }
    };
    // Before the node starts: a start that fails must not have taken a call.
    let admin = match listen(&settings) {
        Ok(admin) => admin,
        Err(why) => return failed(&why),
    };
    // Before the first thread: privileges belong to threads, and only the guard of a pair keeps them.
    let ground = match prepare(&settings) {
        Ok(ground) => ground,
        Err(why) => return failed(&why.to_string()),
    };
    let edge = Arc::new(Edge::default());
    let log = match Log::start(io::stderr(), Arc::clone(&edge)).map_err(|e| format!("no thread for the log: {e}")) {
        Ok(log) => log,
        Err(why) => return failed(&why),
    };
    if let Err(why) = log.install(settings.log_level) {
        return failed(&why);
    }
    warnings.iter().for_each(|w| warn!("{}:{w}", file.display()));
    let result = start(settings.clone(), Options::default(), ground)
        .map_err(|e| e.to_string())
        .and_then(|node| serve(file, &settings, node, admin, (log.clone(), edge)));
    if let Err(why) = &result {
        error!("stopped: {why}");
    }
    log.flush();
    if result.is_ok() { SUCCESS } else { FAILURE }
}

fn listen(settings: &Settings) -> Result<TcpListener, String> {
    TcpListener::bind(settings.admin)
        .map_err(|e| format!("[admin] listen {}: {e}; is another node running on this machine?", settings.admin))
}

fn serve(
    file: &Path,
    settings: &Settings,
    node: Running,
    admin: TcpListener,
    (log, edge): (Log, Arc<Edge>),
) -> Result<(), String> {
    let listeners: Vec<String> = node.listeners.iter().map(ToString::to_string).collect();
    info!(
        version = env!("CARGO_PKG_VERSION"),
        node = settings.cluster.node.0,
        epoch = node.epoch().counter,
        sip = listeners.join(" "),
        admin = %settings.admin,
        "serving"
    );
    Service::new(node, file, settings, log, edge).run(admin).map_err(|e| format!("the service failed: {e}"))
}

fn failed(why: &str) -> u8 {
    complain(&format!("tandem: {why}"));
    FAILURE
}

/// `tandem witness`: until a signal ends it.
pub fn witness(listen: SocketAddr, files: &[PathBuf]) -> u8 {
    let mut secrets = Vec::new();
    for file in files {
        match secrets_of(file) {
            Ok(found) => secrets.extend(found),
            Err(why) => return failed(&why.to_string()),
        }
    }
    let mut server = match Server::bind(listen, &secrets) {
        Ok(server) => server,
        Err(e) => return failed(&format!("udp:{listen}: {e}; is another witness running on this machine?")),
    };
    complain(&format!("tandem witness: udp:{listen}, {} secrets; gives no lease for {LEASE:?}", secrets.len()));
    loop {
        match server.serve_one() {
            Ok(change) => change.into_iter().for_each(|change| complain(&change.to_string())),
            Err(e) => return failed(&format!("udp:{listen}: {e}")),
        }
    }
}

/// `tandem check`.
pub fn check(file: &Path) -> u8 {
    let Some(text) = read(file) else { return CONFIG };
    let checked = config::check_with(&file.display().to_string(), &text, secure::examine);
    if checked.code == 0 {
        say(&checked.report);
        return SUCCESS;
    }
    complain(checked.report.trim_end());
    CONFIG
}

fn read(file: &Path) -> Option<String> {
    fs::read_to_string(file).map_err(|e| complain(&format!("{}: {e}", file.display()))).ok()
}
