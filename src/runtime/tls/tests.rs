//! Two sides without sockets: who is believed, and what becomes of handshakes.

use bytes::BytesMut;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, date_time_ymd};

use super::files::FileCause;
use super::testing::{Authority, Folder, Issued};
use super::{Broken, ClientSide, Clients, Files, Handshake, Material, Name, ServerSide, Session, Which};

/// Carries octets to and fro until neither side has more. Which side broke, if one did, and why.
fn carry(client: &mut Session, server: &mut Session) -> Result<(), (&'static str, Broken)> {
    let mut nothing = BytesMut::new();
    while client.wants_write() || server.wants_write() {
        let mut octets = Vec::new();
        client.write(&mut octets).unwrap();
        let verdict = server.take(&octets, &mut nothing);
        octets.clear();
        server.write(&mut octets).unwrap();
        // The alert of the one that broke reaches the other.
        let answer = client.take(&octets, &mut nothing);
        verdict.map_err(|b| ("server", b))?;
        answer.map_err(|b| ("client", b))?;
    }
    Ok(())
}

fn names(names: &[&str]) -> Vec<Name> {
    names.iter().map(|name| Name::parse(name).unwrap()).collect()
}

/// What a client that wants `wanted` thinks of a server that presents `shown`, and the server of the client.
fn shake(ca: &Authority, shown: &Issued, wanted: &str) -> Result<(), (&'static str, Handshake)> {
    let (server, client) = (Folder::new(ca, shown), Folder::new(ca, &ca.issue(&["client.example.com"])));
    let mut server = ServerSide::new(&server.material(), &Clients::Anonymous).unwrap().session().unwrap();
    let mut client = ClientSide::new(&client.material()).session(names(&[wanted])).unwrap();
    carry(&mut client, &mut server).map_err(|(side, broken)| (side, broken.outcome))?;
    assert!(client.is_open() && server.is_open());
    Ok(())
}

#[test]
fn a_certificate_proves_whole_names_in_its_subject_alternative_names_only() {
    use Handshake::{BadCertificate, WrongName};
    let ca = Authority::founded();
    let common_name = |params: &mut CertificateParams| {
        params.distinguished_name.push(DnType::CommonName, "sip.example.com");
    };
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let early = |params: &mut CertificateParams| params.not_before = date_time_ymd(2100, 1, 1);
    let purpose = |purpose| move |params: &mut CertificateParams| params.extended_key_usages = vec![purpose];
    let sip_domain = ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 20]);
    let cases: Vec<(&str, Issued, &str, Option<Handshake>)> = vec![
        ("DNS name", ca.issue(&["sip.example.com"]), "sip.example.com", None),
        ("another case", ca.issue(&["SIP.Example.COM"]), "sip.example.com", None),
        ("CN only", ca.issue_with(&[], common_name), "sip.example.com", Some(WrongName)),
        ("CN beside another", ca.issue_with(&["a.example.com"], common_name), "sip.example.com", Some(WrongName)),
        ("wildcard", ca.issue(&["*.example.com"]), "sip.example.com", Some(WrongName)),
        ("suffix", ca.issue(&["example.com"]), "sip.example.com", Some(WrongName)),
        ("longer", ca.issue(&["sip.example.com.evil.example"]), "sip.example.com", Some(WrongName)),
        ("SIP URI", ca.issue(&["sip:example.com"]), "example.com", None),
        ("SIP URI of a user", ca.issue(&["sip:alice@example.com"]), "example.com", Some(WrongName)),
        ("SIPS URI", ca.issue(&["sips:example.com"]), "example.com", Some(WrongName)),
        ("SIP URI rules out DNS", ca.issue(&["sip:example.com", "b.example"]), "b.example", Some(WrongName)),
        ("two names, the second", ca.issue(&["a.example", "b.example"]), "b.example", None),
        ("address", ca.issue(&["192.0.2.1"]), "192.0.2.1", None),
        ("IPv6 address", ca.issue(&["2001:db8::1"]), "[2001:db8::1]", None),
        ("another address", ca.issue(&["192.0.2.2"]), "192.0.2.1", Some(WrongName)),
        ("address as SIP URI", ca.issue(&["sip:192.0.2.1"]), "192.0.2.1", None),
        ("expired", ca.issue_with(&["sip.example.com"], expired), "sip.example.com", Some(BadCertificate)),
        ("not valid yet", ca.issue_with(&["sip.example.com"], early), "sip.example.com", Some(BadCertificate)),
        (
            "for clients only",
            ca.issue_with(&["sip.example.com"], purpose(ExtendedKeyUsagePurpose::ClientAuth)),
            "sip.example.com",
            Some(BadCertificate),
        ),
        ("for SIP", ca.issue_with(&["sip.example.com"], purpose(sip_domain)), "sip.example.com", None),
        ("of another CA", Authority::founded().issue(&["sip.example.com"]), "sip.example.com", Some(BadCertificate)),
    ];
    for (what, shown, wanted, refused) in cases {
        assert_eq!(shake(&ca, &shown, wanted).err(), refused.map(|outcome| ("client", outcome)), "{what}");
    }
}

#[test]
fn a_client_shows_who_it_is_where_that_is_wanted() {
    use Handshake::{BadCertificate, NoCertificate, WrongName};
    let (ca, stranger) = (Authority::founded(), Authority::founded());
    let server = Folder::new(&ca, &ca.issue(&["sip.example.com"]));
    let own = |issued: &Issued| Folder::new(&ca, issued).material();
    let (known, other) = (own(&ca.issue(&["sip:pbx.example.com"])), own(&ca.issue(&["other.example.com"])));
    let forged = own(&stranger.issue(&["pbx.example.com"]));
    let server_only = own(&ca.issue_with(&["pbx.example.com"], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    }));
    let names = || names(&["pbx.example.com"]);
    for (clients, shown, outcome) in [
        (Clients::Known(names()), &known, None),
        (Clients::Known(Vec::new()), &other, None),
        (Clients::Known(names()), &other, Some(WrongName)),
        (Clients::Asked(names()), &other, Some(WrongName)),
        (Clients::Known(names()), &forged, Some(BadCertificate)),
        (Clients::Known(names()), &server_only, Some(BadCertificate)),
        (Clients::Anonymous, &forged, None),
    ] {
        let mut server = ServerSide::new(&server.material(), &clients).unwrap().session().unwrap();
        let mut client = ClientSide::new(shown).session(self::names(&["sip.example.com"])).unwrap();
        let ended = carry(&mut client, &mut server).map_err(|(side, broken)| (side, broken.outcome));
        assert_eq!(ended.err(), outcome.map(|o| ("server", o)), "{clients:?}");
        assert_eq!(server.is_authenticated(), outcome.is_none() && clients != Clients::Anonymous, "{clients:?}");
        assert_eq!(
            server.proves(&names()),
            matches!(&clients, Clients::Known(n) if !n.is_empty()) && outcome.is_none()
        );
    }
    // Without a certificate of its own; only the server side can tell.
    for (clients, outcome) in [(Clients::Known(names()), Some(NoCertificate)), (Clients::Asked(names()), None)] {
        let mut server = ServerSide::new(&server.material(), &clients).unwrap().session().unwrap();
        let mut client = bare(&ca);
        let ended = carry(&mut client, &mut server).map_err(|(side, broken)| (side, broken.outcome));
        assert_eq!(ended.err(), outcome.map(|o| ("server", o)), "{clients:?}");
        assert!(!server.is_authenticated());
    }
}

/// A client without a certificate.
fn bare(ca: &Authority) -> Session {
    let material = Folder::new(ca, &ca.issue(&[])).material();
    let verifier = super::verify::Verifier {
        roots: material.roots.clone(),
        algorithms: material.provider.signature_verification_algorithms,
        names: names(&["sip.example.com"]),
        mandatory: false,
    };
    let config = rustls::ClientConfig::builder_with_provider(material.provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(std::sync::Arc::new(verifier))
        .with_no_client_auth();
    let name = "sip.example.com".try_into().unwrap();
    Session::new(rustls::ClientConnection::new(config.into(), name).unwrap().into())
}

#[test]
fn octets_of_the_application_pass_whole_however_they_are_cut() {
    let ca = Authority::founded();
    let folder = Folder::new(&ca, &ca.issue(&["sip.example.com"]));
    let (server, client) = (ServerSide::new(&folder.material(), &Clients::Anonymous).unwrap(), bare(&ca));
    let (mut server, mut client) = (server.session().unwrap(), client);
    carry(&mut client, &mut server).unwrap();
    let message: Vec<u8> = (0..60_000_u32).map(|n| n as u8).collect();
    client.put(&message);
    let (mut octets, mut plain) = (Vec::new(), BytesMut::new());
    client.write(&mut octets).unwrap();
    let ends = octets.len();
    for (n, piece) in octets.chunks(777).enumerate() {
        server.take(piece, &mut plain).unwrap();
        assert!(server.inside_record() || n * 777 + piece.len() == ends || plain.len() < message.len());
    }
    assert_eq!((&plain[..], server.inside_record()), (&message[..], false));
    client.close();
    octets.clear();
    client.write(&mut octets).unwrap();
    assert!(server.take(&octets, &mut plain).unwrap().closed);
}

#[test]
fn what_is_not_tls_is_garbage_and_never_more() {
    let ca = Authority::founded();
    let folder = Folder::new(&ca, &ca.issue(&["sip.example.com"]));
    let side = ServerSide::new(&folder.material(), &Clients::Known(Vec::new())).unwrap();
    let sip = b"OPTIONS sip:a@b SIP/2.0\r\n\r\n".to_vec();
    for octets in [sip, vec![0; 6], vec![0x16, 3, 1, 0, 5, 9, 9, 9, 9, 9], vec![23, 3, 3, 0, 1, 0]] {
        let mut session = side.session().unwrap();
        let broken = session.take(&octets, &mut BytesMut::new()).unwrap_err();
        assert_eq!(broken.outcome, Handshake::Garbage, "{octets:02x?}: {broken:?}");
        assert!(session.take(&octets, &mut BytesMut::new()).is_err(), "and stays so");
    }
}

#[test]
fn new_sessions_see_new_files_and_old_ones_go_on() {
    let ca = Authority::founded();
    let folder = Folder::new(&ca, &ca.issue(&["old.example.com"]));
    let side = ServerSide::new(&folder.material(), &Clients::Anonymous).unwrap();
    let client = ClientSide::new(&folder.material());
    let connect = |name| {
        let (mut mine, mut theirs) = (client.session(names(&[name])).unwrap(), side.session().unwrap());
        carry(&mut mine, &mut theirs).map(|()| (mine, theirs)).map_err(|(_, broken)| broken.outcome)
    };
    let (mut mine, mut theirs) = connect("old.example.com").unwrap();
    folder.present(&ca.issue(&["new.example.com"]));
    side.replace(&folder.material(), &Clients::Anonymous).unwrap();
    assert_eq!(connect("old.example.com").err(), Some(Handshake::WrongName));
    connect("new.example.com").unwrap();
    mine.put(b"still here");
    let (mut octets, mut plain) = (Vec::new(), BytesMut::new());
    mine.write(&mut octets).unwrap();
    theirs.take(&octets, &mut plain).unwrap();
    assert_eq!(&plain[..], b"still here");
}

#[test]
fn files_that_cannot_be_used_are_told_with_their_cure() {
    let ca = Authority::founded();
    let folder = Folder::new(&ca, &ca.issue(&["sip.example.com"]));
    let (other, path) = (ca.issue(&["sip.example.com"]), |file: &str| folder.path(file));
    std::fs::write(path("other.key"), &other.key).unwrap();
    std::fs::write(path("empty.pem"), "").unwrap();
    std::fs::write(path("broken.pem"), "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n").unwrap();
    std::fs::write(path("rubbish.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let read = |certificate: &str, key: &str, ca: &str| {
        let [certificate, key, ca] = [certificate, key, ca].map(path);
        let files = Files { certificate: &certificate, key: &key, trusted_ca: Some(&ca) };
        Material::read(&files).map(|_| ()).map_err(|e| (e.which, e.to_string()))
    };
    assert_eq!(read("own.pem", "own.key", "ca.pem"), Ok(()));
    for (files, which, told) in [
        (("none.pem", "own.key", "ca.pem"), Which::Certificate, "No such file"),
        (("empty.pem", "own.key", "ca.pem"), Which::Certificate, "holds no certificate; put this node's"),
        (("broken.pem", "own.key", "ca.pem"), Which::Certificate, "is not PEM; convert it"),
        (("rubbish.pem", "own.key", "ca.pem"), Which::Certificate, "a certificate that cannot be read"),
        (("own.pem", "own.pem", "ca.pem"), Which::Key, "holds no private key; one with a passphrase"),
        (("own.pem", "other.key", "ca.pem"), Which::Key, "is not the private key of `certificate`"),
        (("own.pem", "own.key", "rubbish.pem"), Which::TrustedCa, "a certificate that cannot be read"),
        (("own.pem", "own.key", "own.key"), Which::TrustedCa, "holds no certificate; put the certificates of the CAs"),
    ] {
        let (found, text) = read(files.0, files.1, files.2).unwrap_err();
        assert_eq!(found, which, "{text}");
        assert!(text.contains(told), "{text}");
    }
    let missing = super::FileError { which: Which::Key, path: path("x"), cause: FileCause::NotSpoken };
    assert!(missing.to_string().contains("cargo feature tls"), "{missing}");
}

#[test]
fn what_is_doubtful_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let ca = Authority::founded();
    let folder = Folder::new(&ca, &ca.issue(&["sip.example.com"]));
    assert!(folder.material().warnings().is_empty());
    assert_eq!((folder.material().last_day().as_str(), folder.material().not_after()), ("4096-01-01", 67_090_118_400));
    std::fs::set_permissions(folder.path("own.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let told = folder.material().warnings().to_vec();
    assert!(matches!(&told[..], [(Which::Key, text)] if text.contains("everyone on this machine")), "{told:?}");
    folder.present(&ca.issue_with(&["a.example"], |params| params.not_after = date_time_ymd(2020, 2, 29)));
    let told = folder.material().warnings().to_vec();
    assert!(matches!(&told[..], [(Which::Certificate, text)] if text.contains("expired on 2020-02-29")), "{told:?}");
}
