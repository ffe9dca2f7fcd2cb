//! Where a media server lets a call wait until it is told to go on, as the caller wishes: canaries of a drill stand in a
//! state of a call for as long as somebody looks on.

use crate::sip::Message;

/// The state in which a call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// 100 sent, nothing more.
    Trying,
    /// 180 sent, no final.
    Ringing,
    /// Answered and acknowledged; the media server ends it.
    Answered,
    /// A re-INVITE has got a 100, no final.
    ReInvite,
    /// A BYE has got nothing.
    Bye,
    /// A CANCEL has got nothing, nor its INVITE a final.
    Cancel,
}

impl Hold {
    /// All of them, in the order of a call's life.
    pub const ALL: [Hold; 6] = [Hold::Trying, Hold::Ringing, Hold::Answered, Hold::ReInvite, Hold::Bye, Hold::Cancel];

    /// The Request-URI parameter that names one: a proxy keeps it.
    pub const PARAMETER: &str = "hold";

    /// As it stands in the parameter.
    pub fn name(self) -> &'static str {
        match self {
            Hold::Trying => "trying",
            Hold::Ringing => "ringing",
            Hold::Answered => "answered",
            Hold::ReInvite => "re-invite",
            Hold::Bye => "bye",
            Hold::Cancel => "cancel",
        }
    }

    /// What the caller of this INVITE wishes; `None`: nothing, or nothing that there is.
    pub fn of(invite: &Message<'_>) -> Option<Self> {
        let wish = invite.uri()?.param(Self::PARAMETER.as_bytes())?;
        Self::ALL.into_iter().find(|hold| hold.name().as_bytes() == wish)
    }
}
