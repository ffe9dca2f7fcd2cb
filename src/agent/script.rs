//! What a caller does with one call, and what became of it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::base::Time;

/// The script of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// User part of the Request-URI, e.g. `dialog`.
    pub user: String,
    /// Parameters of the Request-URI, each with its semicolon, e.g. `;play=welcome`.
    pub params: String,
    /// More header lines of the INVITE, each with its CRLF.
    pub extra: String,
    /// From the answer to the BYE.
    pub hold: Duration,
    /// Requests inside the dialog, each so long after the one before it (the first after the answer).
    pub steps: Vec<(Duration, Step)>,
    /// CANCEL so long after the INVITE if there is no final by then; it waits for a provisional (RFC 3261 §9.1).
    pub cancel_after: Option<Duration>,
    /// The INVITE goes out again in a new transaction so long after the first one if there is no final by then, to the
    /// caller's other node if it has one: what a SIP Server does that hears nothing from its first choice.
    pub ask_again: Option<Duration>,
    /// The media server is asked to hang up so long after its answer; the caller's own BYE follows `hold` all the same.
    pub hang_up_after: Option<Duration>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            user: "dialog".to_owned(),
            params: String::new(),
            extra: String::new(),
            hold: Duration::from_secs(2),
            steps: Vec::new(),
            cancel_after: None,
            ask_again: None,
            hang_up_after: None,
        }
    }
}

/// A request inside the dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// INVITE with a new offer (RFC 3261 §14).
    ReInvite,
    /// INFO (RFC 6086).
    Info,
    /// UPDATE (RFC 3311).
    Update,
    /// OPTIONS inside the dialog.
    Options,
    /// REFER (RFC 3515), done when the NOTIFY of its end has come.
    Refer,
}

impl Step {
    /// The method.
    pub fn method(self) -> &'static str {
        match self {
            Step::ReInvite => "INVITE",
            Step::Info => "INFO",
            Step::Update => "UPDATE",
            Step::Options => "OPTIONS",
            Step::Refer => "REFER",
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Answered, held, ended by a BYE of either side.
    Completed,
    /// Ended by our CANCEL: 487, or a 2xx that crossed it and was ended at once.
    Cancelled,
    /// The INVITE got this final.
    Failed(u16),
    /// The INVITE got no final.
    Unanswered,
    /// A request inside the dialog got this final; 408 also when it got none.
    Dropped(u16),
}

/// One call, over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Number of the call at its caller, from 1.
    pub call: u64,
    /// Its Call-ID.
    pub call_id: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Who answered: the address in the Contact of the 2xx.
    pub server: Option<SocketAddr>,
    /// When the INVITE was sent.
    pub invited: Time,
    /// When the 2xx came.
    pub answered: Option<Time>,
    /// When it was over.
    pub ended: Time,
    /// Whether the media server's BYE ended it.
    pub hung_up: bool,
    /// Whether it was whole until its BYE failed.
    pub at_bye: bool,
    /// Finals of requests inside the dialog other than 2xx that did not end it.
    pub refused: Vec<u16>,
}
