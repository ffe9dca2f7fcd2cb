//! What a system call says, as a `Result`.
#![forbid(unsafe_code)]

use std::io;

use libc::c_int;

/// Below zero is an error, which errno names.
pub(super) fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Errors of `accept` that concern one connection; the next one may well be accepted.
pub fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ECONNABORTED | libc::ECONNRESET | libc::EINTR | libc::EPROTO | libc::ENETDOWN | libc::EHOSTUNREACH)
    )
}
