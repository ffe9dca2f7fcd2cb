//! keepalived in a host, as `deploy/keepalived` has it.

use std::fs;
use std::os::unix::fs::symlink;

use super::lan::Host;
use super::node::binary;
use super::pair::VIP;
use super::process::Process;
use super::stubs::{Stubs, deployed};
use super::world::World;

/// Its word for the holder of an address.
pub const HOLDER: &str = concat!("MAS", "TER");

/// Starts keepalived in a host with `deploy/keepalived` as its `/etc/keepalived`, the placeholders filled in; `check`:
/// only has the configuration checked.
pub fn keepalived(world: &World, host: &Host, n: usize, check: bool) -> Process {
    let name = format!("keepalived{}", n + 1);
    let etc = world.path(&name);
    fs::create_dir_all(&etc).expect("a writable directory");
    for script in ["tandem-check", "tandem-notify"] {
        fs::copy(deployed(&format!("keepalived/{script}")), etc.join(script)).expect("the script");
    }
    let sample = fs::read_to_string(deployed("keepalived/keepalived.conf")).expect("the configuration");
    let filled = sample.replace("192.0.2.10/32", &format!("{VIP}/32"));
    let filled = filled.replace("priority 100", &format!("priority {}", 100 - n));
    for own in [format!("{VIP}/32 dev eth0"), format!("priority {}\n", 100 - n), "interface eth0\n".to_owned()] {
        assert!(filled.contains(&own), "{own} has its place: {filled}");
    }
    fs::write(etc.join("keepalived.conf"), filled).expect("a writable directory");
    let stubs = Stubs::new(world, &format!("{name}-bin")).program("logger", "");
    if !check {
        symlink(binary(), stubs.folder.join("tandem")).expect("the program by its name");
    }
    // The mounts of a host are its own.
    let mut command = host.command("sh");
    command.args(["-c", "mount --bind \"$0\" /etc/keepalived && exec keepalived \"$@\""]).arg(&etc);
    command.env("PATH", stubs.path());
    match check {
        true => command.args(["-t", "-f", "/etc/keepalived/keepalived.conf"]),
        false => {
            let pid = |kind: &str| world.path(&format!("{name}-{kind}.pid"));
            command.args(["-n", "-l", "-P", "-f", "/etc/keepalived/keepalived.conf"]);
            command.arg("-p").arg(pid("main")).arg("-r").arg(pid("vrrp"))
        }
    };
    Process::start(world, &name, &mut command)
}
