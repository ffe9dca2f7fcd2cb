//! SIP as a far end sees it: a plain reader, written without the one under test.

use std::fmt;

/// A received message.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The octets.
    pub raw: Vec<u8>,
    /// First line.
    pub start: String,
    /// Names in lower case and long form, values unfolded, in order.
    headers: Vec<(String, String)>,
    /// What follows the empty line.
    pub body: Vec<u8>,
}

impl Message {
    /// `None` if there is no empty line or a line has no colon.
    pub fn read(raw: &[u8]) -> Option<Message> {
        let end = raw.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(raw.get(..end)?).replace("\r\n ", " ").replace("\r\n\t", " ");
        let mut lines = head.split("\r\n");
        let start = lines.next()?.to_owned();
        let headers = lines.map(header).collect::<Option<Vec<_>>>()?;
        Some(Message { raw: raw.to_vec(), start, headers, body: raw.get(end + 4..)?.to_vec() })
    }

    /// All header fields in order: name in lower case and long form, value unfolded.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Status code of a response.
    pub fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// Method of a request, or the one that a response answers.
    pub fn method(&self) -> &str {
        if self.status().is_some() { self.cseq().1 } else { self.start.split(' ').next().unwrap_or("") }
    }

    /// Whether it is a request of this method.
    pub fn asks(&self, method: &str) -> bool {
        self.status().is_none() && self.method() == method
    }

    /// Whether it is this answer to this method.
    pub fn answers(&self, status: u16, method: &str) -> bool {
        self.status() == Some(status) && self.method() == method
    }

    /// Request-URI.
    pub fn uri(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or("")
    }

    /// All values of a header, one per comma-separated element for Via, Route and Record-Route.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let name = name.to_ascii_lowercase();
        let fields = self.headers.iter().filter(|(n, _)| *n == name).map(|(_, v)| v.as_str());
        if matches!(name.as_str(), "via" | "route" | "record-route") {
            fields.flat_map(elements).collect()
        } else {
            fields.collect()
        }
    }

    /// The value of a header that must be there once.
    #[track_caller]
    pub fn one(&self, name: &str) -> &str {
        let values = self.all(name);
        let [value] = values.as_slice() else { panic!("{} x {name} in {self:?}", values.len()) };
        value
    }

    /// The topmost Via value.
    pub fn top_via(&self) -> &str {
        self.all("via").first().copied().unwrap_or("")
    }

    /// Sequence number and method.
    pub fn cseq(&self) -> (u32, &str) {
        let value = self.all("cseq").first().copied().unwrap_or("");
        let (number, method) = value.split_once(' ').unwrap_or(("", ""));
        (number.trim().parse().unwrap_or(0), method.trim())
    }

    /// Call-ID, empty if there is none.
    pub fn call_id(&self) -> &str {
        self.all("call-id").first().copied().unwrap_or("")
    }

    /// A header parameter, e.g. `parameter("to", "tag")`; of the first value.
    pub fn parameter(&self, header: &str, name: &str) -> Option<&str> {
        let value = self.all(header).first().copied()?;
        let after = value.rsplit_once('>').map_or(value, |(_, after)| after);
        parameter(after, name)
    }

    /// Branch of the topmost Via.
    pub fn branch(&self) -> &str {
        parameter(self.top_via(), "branch").unwrap_or("")
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.raw))
    }
}

/// The parameter `name` of a value like `host;name=x;other`.
pub fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    value.split(';').skip(1).find_map(|p| {
        let (key, value) = p.split_once('=').unwrap_or((p, ""));
        key.trim().eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// `host:port` of a Via value.
pub fn sent_by(via: &str) -> &str {
    let after = via.trim().split_once(' ').map_or("", |(_, rest)| rest);
    after.split(';').next().unwrap_or("").trim()
}

fn header(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let name = name.trim().to_ascii_lowercase();
    let name = match name.as_str() {
        "v" => "via",
        "f" => "from",
        "t" => "to",
        "i" => "call-id",
        "m" => "contact",
        "l" => "content-length",
        "c" => "content-type",
        other => other,
    };
    Some((name.to_owned(), value.trim().to_owned()))
}

/// Splits at commas outside quotes and angle brackets.
fn elements(value: &str) -> Vec<&str> {
    let (mut parts, mut from, mut quoted, mut angled) = (Vec::new(), 0, false, false);
    for (at, octet) in value.bytes().enumerate() {
        match octet {
            b'"' => quoted = !quoted,
            b'<' if !quoted => angled = true,
            b'>' if !quoted => angled = false,
            b',' if !quoted && !angled => {
                parts.push(value[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(value[from..].trim());
    parts
}
