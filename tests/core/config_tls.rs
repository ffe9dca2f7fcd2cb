//! `[tls]`: what is read, what is refused and why, what it needs of the rest, what a reload may change.

use std::path::PathBuf;

use tandem::base::Transport;
use tandem::config::{ClientCertificate, Settings, plan};

/// TLS without a fault and without a warning; `[tls]` has three lines.
const TLS: &str = r#"[tls]
certificate = "/etc/tandem/tls.pem"
key = "/etc/tandem/tls.key"
trusted-ca = "/etc/tandem/ca.pem"

[proxy]
sip.transport = ["udp:192.0.2.1:5060", "tls:192.0.2.1:5061"]

[[resource-group]]
name = "MCP_LRG"
[[resource-group.resource]]
aor = "sip:mcp1.example.com;transport=tls"
port-capacity = 10
"#;

fn parse(text: &str) -> (Settings, Vec<String>) {
    match Settings::parse(text) {
        Ok((settings, warnings)) => (settings, warnings.iter().map(ToString::to_string).collect()),
        Err(errors) => panic!("not sound: {errors:#?}"),
    }
}

/// One error, and exactly that.
#[track_caller]
fn one(text: &str, error: &str) {
    let errors: Vec<String> = Settings::parse(text).err().into_iter().flatten().map(|e| e.to_string()).collect();
    assert_eq!(errors, [error], "in:\n{text}");
}

/// `TLS` with `lines` at the end of its section, from line 5.
fn with(lines: &str) -> String {
    TLS.replacen("\n\n", &format!("\n{lines}\n\n"), 1)
}

#[test]
fn what_is_written_is_read() {
    let (settings, warnings) = parse(TLS);
    assert_eq!(warnings, Vec::<String>::new());
    let tls = settings.tls.clone().unwrap();
    assert_eq!(tls.certificate, PathBuf::from("/etc/tandem/tls.pem"));
    assert_eq!(tls.key, PathBuf::from("/etc/tandem/tls.key"));
    assert_eq!(tls.trusted_ca, Some(PathBuf::from("/etc/tandem/ca.pem")));
    assert_eq!((tls.client_certificate, tls.peer_names.len()), (ClientCertificate::None, 0));
    let listener = settings.listeners[1];
    assert_eq!((listener.transport, listener.to_string().as_str()), (Transport::Tls, "tls:192.0.2.1:5061"));
    let resource = &settings.groups[0].resources[0];
    assert_eq!((resource.transport, resource.port), (Transport::Tls, 5061), "RFC 3261 §19.1.2");
    assert_eq!(resource.canonical, "sip:mcp1.example.com:5061;transport=tls");
    let more = with("client-certificate = \"require\"\npeer-names = [\"sip:PBX.example.com\", \"[2001:db8::7]\"]");
    let tls = parse(&more).0.tls.unwrap();
    assert_eq!(tls.client_certificate, ClientCertificate::Require);
    assert_eq!(tls.peer_names, ["pbx.example.com", "2001:db8::7"]);
}

#[test]
fn what_is_missing_is_named_with_its_cure() {
    one(
        &TLS.replace("key = \"/etc/tandem/tls.key\"\n", ""),
        "1:1: `key` is missing in [tls]; write the path of a PEM file: the private key of `certificate`",
    );
    one(&TLS.replace("key =", "private-key ="), "3:1: unknown key `private-key` in [tls]; did you mean `key`?");
    let section = TLS.split("[proxy]").next().unwrap();
    one(
        &TLS.replace(section, "").replace("sip:mcp1.example.com;transport=tls", "sip:198.51.100.7"),
        "2:40: listener tls:192.0.2.1:5061 needs a certificate, and there is no section [tls]; add [tls] with \
         `certificate` and `key`",
    );
    one(
        &TLS.replace("trusted-ca = \"/etc/tandem/ca.pem\"\n", ""),
        "11:7: nobody is trusted to vouch for sip:mcp1.example.com;transport=tls: `trusted-ca` is missing; add it to \
         [tls]: a PEM file with the certificates of the CAs that sign your servers'",
    );
    let open = TLS.replace("trusted-ca = \"/etc/tandem/ca.pem\"", "client-certificate = \"request\"");
    one(
        &open.replace("sip:mcp1.example.com;transport=tls", "sip:198.51.100.7"),
        "4:22: `client-certificate` in [tls] needs to know who may sign them: `trusted-ca` is missing; add \
         `trusted-ca`, a PEM file with the certificates of the CAs",
    );
}

#[test]
fn words_and_names_that_say_nothing_are_refused() {
    one(
        &with("client-certificate = \"yes\""),
        "5:22: `client-certificate` in [tls] cannot be \"yes\"; one of \"none\", \"request\", \"require\"",
    );
    one(
        &with("peer-names = [\"*.example.com\"]"),
        "5:15: `peer-names` in [tls] has the entry \"*.example.com\", which is no name of a domain or host; write it in \
         full, without wildcards: \"sip.example.com\" or an IP address",
    );
    one(&with("peer-names = \"a\""), "5:14: `peer-names` in [tls] must be a list, not text; put it in square brackets");
    one(&TLS.replace("\"/etc/tandem/tls.key\"", "\"\""), "3:7: `key` in [tls] is not a path");
}

#[test]
fn tls_is_bound_as_tcp_is() {
    one(
        &TLS.replace("\"udp:192.0.2.1:5060\"", "\"tcp:0.0.0.0:5061\""),
        "7:38: listeners tcp:0.0.0.0:5061 and tls:192.0.2.1:5061 cannot both be bound: one includes the other; keep one \
         of them",
    );
    one(
        &TLS.replace("tls:192.0.2.1:5061", "tls:192.0.2.1:0"),
        "7:40: listener tls:192.0.2.1:0 has port 0, which nobody could be told; write the port, usually 5061",
    );
    one(
        &TLS.replace(", \"tls:192.0.2.1:5061\"", ""),
        "12:7: sip:mcp1.example.com;transport=tls cannot be reached: no listener speaks tls; add one to `sip.transport` \
         in [proxy]",
    );
}

#[test]
fn a_section_that_serves_nobody_is_told() {
    let idle =
        TLS.replace(", \"tls:192.0.2.1:5061\"", "").replace("sip:mcp1.example.com;transport=tls", "sip:198.51.100.7");
    let (_, warnings) = parse(&idle);
    assert!(warnings.iter().any(|w| w.contains("[tls] has no effect without a TLS listener")), "{warnings:?}");
}

#[test]
fn a_reload_may_change_all_of_it() {
    let next = with("client-certificate = \"require\"\npeer-names = [\"pbx.example.com\"]");
    let next = next.replace("/etc/tandem/tls.pem", "/etc/tandem/new.pem");
    let plan = plan(&parse(TLS).0, &parse(&next).0).unwrap();
    let told: Vec<String> = plan.changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "`certificate` from /etc/tandem/tls.pem to /etc/tandem/new.pem",
            "`client-certificate` from none to require",
            "`peer-names` from any to pbx.example.com",
        ]
    );
}
