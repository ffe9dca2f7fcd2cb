//! What `deploy/` gives to operators, between programs that stand in for others and only write down what they are
//! called with.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::world::World;

/// A file of `deploy/`.
pub fn deployed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

/// Programs that stand in for others. Each writes its name and its arguments as one line.
pub struct Stubs {
    /// Where they are.
    pub folder: PathBuf,
}

impl Stubs {
    /// None yet, in a folder of this name.
    pub fn new(world: &World, name: &str) -> Stubs {
        let folder = world.path(name);
        fs::create_dir_all(&folder).expect("a writable directory");
        Stubs { folder }
    }

    /// One more program, which ends as the lines `then` say.
    pub fn program(self, name: &str, then: &str) -> Stubs {
        let path = self.folder.join(name);
        let calls = self.folder.join("calls");
        let text = format!("#!/bin/sh\necho \"{name} $*\" >> {calls:?}\n{then}\n");
        fs::write(&path, text).expect("a writable directory");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("its mode");
        self
    }

    /// The search path with them before all others.
    pub fn path(&self) -> String {
        format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", self.folder.display())
    }

    /// What was called, in order, since this was last asked.
    pub fn calls(&self) -> Vec<String> {
        let calls = self.folder.join("calls");
        let text = fs::read_to_string(&calls).unwrap_or_default();
        let _none_yet = fs::remove_file(&calls);
        text.lines().map(str::to_owned).collect()
    }

    /// Runs a script of `deploy/` among them.
    pub fn run(&self, script: &str, args: &[&str], env: &[(&str, &str)]) -> Output {
        let mut command = Command::new(deployed(script));
        command.args(args).env("PATH", self.path()).envs(env.iter().copied());
        command.output().expect("a script that can be executed")
    }
}
