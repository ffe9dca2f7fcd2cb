//! URIs, name-addrs and Via values: every part lies inside the text, and means the same when read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem::sip::name_addr::NameAddr;
use tandem::sip::uri::Uri;
use tandem::sip::via::Via;

fuzz_target!(|data: &[u8]| {
    if let Some(uri) = Uri::parse(data) {
        for part in [uri.user.unwrap_or_default(), uri.authority, uri.params, uri.headers] {
            assert!(inside(data, part));
        }
        let _ = (uri.transport(), uri.is_loose(), uri.port_or_default(), uri.param(b"maddr"));
        let again = Uri::parse(uri.text).expect("a URI stays one");
        assert_eq!((again.host, again.port, again.user), (uri.host, uri.port, uri.user));
    }
    if let Some(address) = NameAddr::parse(data) {
        for part in [address.display, address.uri, address.params] {
            assert!(inside(data, part));
        }
        let _ = (address.tag(), address.param(b"q"), address.parsed());
    }
    if let Some(via) = Via::parse(data) {
        for part in [via.transport, via.sent_by, via.branch.unwrap_or_default(), via.received.unwrap_or_default()] {
            assert!(inside(data, part));
        }
        let again = Via::parse(via.value).expect("a Via stays one");
        assert_eq!((again.host, again.port, again.branch), (via.host, via.port, via.branch));
    }
});

fn inside(whole: &[u8], part: &[u8]) -> bool {
    part.is_empty()
        || whole.as_ptr_range().contains(&part.as_ptr()) && part.as_ptr_range().end <= whole.as_ptr_range().end
}
