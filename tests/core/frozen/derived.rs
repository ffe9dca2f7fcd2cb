//! What every node works out for itself and has to find alike: ids and hashes that stand in records and beats, and what
//! messages bring back to whichever node they reach. A node of another version that finds them otherwise knows no call
//! of its peer, however well it reads.

use tandem::balance::resource_id;
use tandem::base::{Bucket, CallKey, LegId, NodeId, ResourceId};
use tandem::proxy::route_token::{RouteToken, Side};
use tandem::replica::digest::Digests;
use tandem::replica::handshake::cluster_hash;
use tandem::replica::record::Class;
use tandem::sip::Index;
use tandem::token::Keys;
use tandem::transaction::branch::{self, Attempt, Bound, Recognised};

use super::{VERSION, hex};

const LEG: LegId = LegId(0x3132_3334_3536_3738);
const RESOURCE: ResourceId = ResourceId(0x4142_4344_4546_4748);
const IDENTITY: &str = "192.0.2.10:5060";

const ROUTE: [(Side, &str); 2] = [
    (Side::Caller, "MpIxMjM0NTY3OEFC!0RFRkdIB0sOSRWuVx!cGokX"),
    (Side::Resource, "M5IxMjM0NTY3OEFC!0RFRkdIB5BXiU1VVbug6rCH"),
];
const ATTEMPT: &str = "z9hG4bKEZIAAgAAAAcB!UJDREVGR0gBAgMEiA8~O6xiiMMdaOue";
const PURE: &str = "z9hG4bKIZJMYnzeSj0NmcRHFVs";

/// The key id is 0x92, as the beats and hellos of the corpus say.
fn keys() -> Keys {
    Keys::new("tandem", &[b"a secret of the tests"]).unwrap()
}

fn response(branch: &str, cseq: &str) -> String {
    format!(
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {IDENTITY};branch={branch}\r\n\
         Via: SIP/2.0/UDP 192.0.2.99:5062;branch=z9hG4bKup\r\nFrom: <sip:a@example.net>;tag=f1\r\n\
         To: <sip:b@example.net>;tag=t1\r\nCall-ID: a@b\r\nCSeq: {cseq}\r\nContent-Length: 0\r\n\r\n"
    )
}

fn recognised(branch: &str, cseq: &str) -> Option<Recognised> {
    let text = response(branch, cseq);
    let mut index = Index::new();
    index.parse(text.as_bytes()).unwrap();
    branch::recognise(&keys(), IDENTITY, &index.message(text.as_bytes()))
}

#[test]
fn ids_and_hashes_are_found_as_they_were_frozen() {
    let keys = keys();
    assert_eq!(keys.id(), 0x92);
    assert_eq!(hex(&cluster_hash("tandem")), "be99f424ccd6490b5ac8176f2f86a9ca");
    assert_eq!(keys.call_key(b"a@b"), CallKey(0x563b_4074_1d2a_b427));
    assert_eq!(keys.id64(&[b"a@b", b"f1", b"z9hG4bKup", &[0]]), 0x3e41_72cf_8aaf_43e9);
    assert_eq!(resource_id("sip:198.51.100.21:5070"), ResourceId(0x7e71_2cca_a371_7b91));
}

#[test]
fn digests_are_found_as_they_were_frozen() {
    for shards in [1, 16, 64] {
        let mut digests = Digests::new(shards);
        digests.toggle(NodeId(2), Class::Leg, Bucket(0xabc), LEG.0, VERSION);
        assert_eq!(digests.of(NodeId(2), Bucket(0xabc)), 0x5d4c_519a_3e3a_611c);
    }
}

#[test]
fn route_tokens_are_written_and_read_as_they_were_frozen() {
    let keys = keys();
    for (side, frozen) in ROUTE {
        let token = RouteToken { side, leg: LEG, resource: RESOURCE, key: keys.id() };
        let mut text = Vec::new();
        token.seal(&keys, b"a@b", IDENTITY, &mut text);
        assert_eq!(str::from_utf8(&text), Ok(frozen));
        assert_eq!(RouteToken::open(&keys, b"a@b", IDENTITY, frozen.as_bytes()), Some(token));
    }
}

#[test]
fn branches_are_written_and_read_as_they_were_frozen() {
    let keys = keys();
    let fields = Attempt { node: 2, epoch: 7, index: 1, resource: RESOURCE, spiral: 0x0102_0304 };
    let bound = Bound { branch: b"z9hG4bKup", sent_by: b"192.0.2.99:5062", call_id: b"a@b", cseq: 3 };
    let attempt = branch::attempt(&keys, &fields, &bound);
    assert_eq!(str::from_utf8(attempt.as_bytes()), Ok(ATTEMPT));
    assert_eq!(recognised(ATTEMPT, "3 INVITE"), Some(Recognised::Attempt(fields)));

    let bye = "BYE sip:b@example.net SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.99:5062;branch=z9hG4bKup\r\n\
               Max-Forwards: 70\r\nFrom: <sip:a@example.net>;tag=f1\r\nTo: <sip:b@example.net>;tag=t1\r\n\
               Call-ID: a@b\r\nCSeq: 4 BYE\r\nContent-Length: 0\r\n\r\n";
    let mut index = Index::new();
    index.parse(bye.as_bytes()).unwrap();
    let pure = branch::pure(&keys, keys.id(), IDENTITY, &index.message(bye.as_bytes()));
    assert_eq!(str::from_utf8(pure.as_bytes()), Ok(PURE));
    assert_eq!(recognised(PURE, "4 BYE"), Some(Recognised::Pure));
}

#[cfg(feature = "runtime")]
#[test]
fn a_beat_names_its_cluster_as_it_was_frozen() {
    let text = "[cluster]\nname = \"tandem\"\n[[resource-group]]\nname = \"MCP\"";
    let (settings, _) = tandem::config::Settings::parse(text).unwrap();
    assert_eq!(settings.roles(1, 2).cluster, 0x0b49_d6cc_24f4_99be);
}
