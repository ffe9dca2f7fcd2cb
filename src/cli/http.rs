//! The command line's way to the admin listener: one request per connection, bounded in time and size.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(2);
/// How long the listener may be silent; it gives up on its node before.
const SILENCE: Duration = Duration::from_secs(8);
/// Octets of an answer.
const ANSWER: u64 = 16 << 20;

/// A status and the body that came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// As sent.
    pub body: String,
}

/// Sends one request to `admin` (`host:port`).
///
/// # Errors
///
/// Why there is no answer: nothing listens there, it does not speak HTTP, or it fell silent.
pub fn ask(admin: &str, method: &str, path: &str) -> Result<Answer, String> {
    let mut stream = connect(admin)?;
    stream.set_read_timeout(Some(SILENCE)).and_then(|()| stream.set_write_timeout(Some(SILENCE))).map_err(text)?;
    // HTTP/1.0: the answer is not chunked and ends with the connection.
    let request = format!("{method} {path} HTTP/1.0\r\nHost: {admin}\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(text)?;
    let mut octets = Vec::new();
    stream.take(ANSWER).read_to_end(&mut octets).map_err(text)?;
    parse(&octets).ok_or_else(|| "what answers there does not speak HTTP".to_owned())
}

fn connect(admin: &str) -> Result<TcpStream, String> {
    let mut last = "the name has no address".to_owned();
    for address in admin.to_socket_addrs().map_err(text)? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(e) => last = text(e),
        }
    }
    Err(last)
}

fn parse(octets: &[u8]) -> Option<Answer> {
    let answer = std::str::from_utf8(octets).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_status_and_body() {
        let answer = parse(b"HTTP/1.0 422 Unprocessable Entity\r\nx: y\r\n\r\n{}\r\n\r\n").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (422, "{}\r\n\r\n"));
        assert_eq!(parse(b"SIP/2.0 200 OK\r\n\r\n"), None);
        assert_eq!(parse(b"HTTP/1.1 20"), None);
    }

    #[test]
    fn nobody_there_is_an_error_not_a_panic() {
        // Bound and dropped: the port is free again, and nothing listens on it.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(ask(&free.to_string(), "GET", "/").is_err());
        assert!(ask("no port here", "GET", "/").is_err());
    }
}
