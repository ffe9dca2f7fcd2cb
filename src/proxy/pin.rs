//! What an INVITE shows that binds it to the media server of other calls.

use crate::balance::{PinBy, Shows};
use crate::base::PinKey;
use crate::sip::{Message, Name};
use crate::token::Keys;

/// An INVITE, for the Farm to ask.
pub(super) struct Shown<'a> {
    pub request: &'a Message<'a>,
    pub keys: &'a Keys,
}

impl Shows for Shown<'_> {
    fn key(&self, group: &str, by: &PinBy) -> Option<PinKey> {
        let shown = match by {
            PinBy::Header(name) => self.header(name.as_bytes()),
            PinBy::UriParameter(name) => self.request.uri()?.param(name.as_bytes()),
        };
        // What is empty does not tell one call from another.
        shown.filter(|shown| !shown.is_empty()).map(|shown| self.keys.pin_key(group, shown))
    }
}

impl Shown<'_> {
    /// The value of the first field of that name, as written; any case, long or compact (RFC 3261 §7.3.1, §7.3.3).
    fn header(&self, name: &[u8]) -> Option<&[u8]> {
        match Name::of(name) {
            Name::Other => self.request.headers().find(|h| h.name_text.eq_ignore_ascii_case(name)).map(|h| h.value),
            name => self.request.header(name).map(|h| h.value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::Index;

    fn key(by: PinBy, lines: &str) -> Option<PinKey> {
        let text = format!(
            "INVITE sip:conf=7@192.0.2.1;Conf=room%201;flag SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n{lines}\r\n"
        );
        let mut index = Index::new();
        index.parse(text.as_bytes()).unwrap();
        let keys = Keys::new("c", &[b"s"]).unwrap();
        Shown { request: &index.message(text.as_bytes()), keys: &keys }.key("MCP", &by)
    }

    fn header(name: &str, lines: &str) -> Option<PinKey> {
        key(PinBy::Header(name.into()), lines)
    }

    fn parameter(name: &str) -> Option<PinKey> {
        key(PinBy::UriParameter(name.into()), "")
    }

    #[test]
    fn a_key_is_the_value_as_it_stands_and_none_where_there_is_no_value() {
        let room = header("X-Room", "X-Room: 17\r\n");
        assert!(room.is_some());
        assert_eq!(header("x-room", "X-ROOM:  17 \r\nX-Room: 18\r\n"), room, "the first one, any case of the name");
        assert_ne!(header("X-Room", "X-Room: 18\r\n"), room);
        assert_eq!(header("X-Room", "X-Room:\r\n"), None);
        assert_eq!(header("X-Room", ""), None);
        assert_eq!(header("Session-Expires", "x: 90\r\n"), header("x", "Session-Expires: 90\r\n"), "compact");
        assert!(parameter("conf").is_some() && parameter("conf") != parameter("other"));
        assert_eq!((parameter("flag"), parameter("other")), (None, None));
    }

    #[test]
    fn groups_do_not_share_keys_and_secrets_do_not_change_them() {
        let keys = |secrets: &[&[u8]]| Keys::new("c", secrets).unwrap();
        let one = keys(&[b"one"]).pin_key("MCP", b"17");
        assert_eq!(keys(&[b"two", b"one"]).pin_key("MCP", b"17"), one);
        assert_ne!(keys(&[b"one"]).pin_key("other", b"17"), one);
    }
}
