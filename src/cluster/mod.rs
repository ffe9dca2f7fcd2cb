//! Who serves: roles and epochs, beats, proof and suspicion of death, planned hand-over. Knows no SIP and no sockets.
#![forbid(unsafe_code)]
