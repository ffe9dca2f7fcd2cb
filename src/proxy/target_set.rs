//! §16.5: the target set of a new call is a resource group, chosen by the service that the Request-URI asks for; the
//! members are the Farm's to choose.

use crate::sip::Message;

/// The service type that a Request-URI asks for, in the model's words (RFC 4240, RFC 5552); `None`: any group will do.
pub fn service(request: &Message<'_>) -> Option<&'static str> {
    let user = request.uri()?.user?;
    let name = user.split(|b| matches!(b, b'=' | b';' | b':')).next()?;
    SERVICES.iter().find(|(word, _)| name.eq_ignore_ascii_case(word)).map(|(_, service)| *service)
}

/// A service type as another node names it.
pub fn known_service(name: &[u8]) -> Option<&'static str> {
    SERVICES.iter().map(|(_, service)| *service).find(|service| service.as_bytes() == name)
}

const SERVICES: [(&[u8], &str); 7] = [
    (b"dialog", "voicexml"),
    (b"voicexml", "voicexml"),
    (b"annc", "announcement"),
    (b"conf", "conference"),
    (b"msml", "msml"),
    (b"record", "recordingclient"),
    (b"cpd", "cpd"),
];
