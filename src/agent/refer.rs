//! REFER inside a dialog and the one NOTIFY that tells its end (RFC 3515), as both ends write and read them.

use std::net::SocketAddr;

use crate::sip::{Message, Name};

/// Body of the NOTIFY (RFC 3515 §2.4.5): the call that was asked for is there.
pub const DONE: &[u8] = b"SIP/2.0 200 OK\r\n";

/// Header line of a REFER that asks for a call to `addr` (RFC 3515 §2.1).
pub fn asking(addr: SocketAddr) -> String {
    format!("Refer-To: <sip:referred@{addr}>\r\n")
}

/// Header lines of the NOTIFY of the REFER with this CSeq number: the first and the last of its subscription
/// (RFC 3515 §2.4.4, §2.4.7). Its number tells it from another REFER of the dialog (§2.4.6).
pub fn telling(cseq: u32) -> String {
    format!(
        "Event: refer;id={cseq}\r\nSubscription-State: terminated;reason=noresource\r\n\
         Content-Type: message/sipfrag\r\n"
    )
}

/// CSeq number of the REFER whose end `notify` tells. `None`: it does not tell one as [`telling`] and [`DONE`] do.
pub fn told(notify: &Message<'_>) -> Option<u32> {
    let value = |name: &[u8]| notify.headers().find(|header| header.name_text == name).map(|header| header.value);
    let ended = value(b"Subscription-State") == Some(b"terminated;reason=noresource");
    let fragment = notify.header(Name::ContentType).is_some_and(|header| header.value == b"message/sipfrag");
    let id = value(b"Event")?.strip_prefix(b"refer;id=")?;
    let cseq = std::str::from_utf8(id).ok()?.parse().ok()?;
    (ended && fragment && notify.body() == DONE).then_some(cseq)
}
