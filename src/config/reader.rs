//! A small typed reader over the spanned table of the `toml` crate. It never stops at an error: what cannot be read
//! is noted with its place and counts as absent.

use std::cell::Cell;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::finding::{Finding, Place, Places, did_you_mean};
use super::keys::{ALL, Keys, SYNONYMS};

/// A value with its span.
pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// Reads one text and gathers what is to be said about it.
pub(super) struct Reader<'t> {
    text: &'t str,
    lines: Vec<usize>,
    /// The last octet that was placed, and its column: near ones need not count from the start of a long line.
    last: Cell<(usize, usize)>,
    pub errors: Vec<Finding>,
    /// Keys that are absent; in a text that is not TOML they may only have been overlooked.
    pub absent: Vec<Finding>,
    pub warnings: Vec<Finding>,
    pub places: Places,
}

/// One table of the text, its dotted keys laid flat.
pub(super) struct Section<'a> {
    keys: &'static Keys,
    /// Its name in full, such as `resource-group[0]`.
    pub path: String,
    /// Where its head stands, in octets.
    pub at: usize,
    entries: Vec<(&'static str, &'a Value<'a>)>,
    /// Keys that unknown ones were taken for.
    meant: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// A section that the text does not have.
    pub fn empty(keys: &'static Keys, path: &str) -> Self {
        Self { keys, path: path.into(), at: 0, entries: Vec::new(), meant: Vec::new() }
    }

    /// The value of `key`, unread.
    pub fn value(&self, key: &str) -> Option<&'a Value<'a>> {
        self.entries.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
    }

    /// `key` in full.
    pub fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }
}

impl<'t> Reader<'t> {
    pub fn new(text: &'t str) -> Self {
        let lines = std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|n| n + 1)).collect();
        let last = Cell::new((0, 1));
        Self {
            text,
            lines,
            last,
            errors: Vec::new(),
            absent: Vec::new(),
            warnings: Vec::new(),
            places: Places::default(),
        }
    }

    /// Line and column of an octet of the text.
    pub fn place(&self, at: usize) -> Place {
        let line = self.lines.partition_point(|start| *start <= at);
        let start = self.lines[line - 1];
        let (near, column) =
            Some(self.last.get()).filter(|(near, _)| (start..=at).contains(near)).unwrap_or((start, 1));
        let column = column + self.text.get(near..at).map_or(at - near, |t| t.chars().count());
        self.last.set((at, column));
        Place { line, column }
    }

    /// Notes an error at an octet of the text.
    pub fn fail(&mut self, at: usize, key: String, cause: String, suggestion: Option<String>) {
        let place = self.place(at);
        self.errors.push(Finding { place, key, cause, suggestion });
    }

    /// Notes what the TOML parser could not read. Errors on the same lines may only be consequences: they are dropped.
    pub fn broken(&mut self, errors: &[toml::de::Error]) {
        let places: Vec<Place> = errors.iter().map(|e| self.place(e.span().map_or(0, |s| s.start))).collect();
        self.errors.retain(|e| !places.iter().any(|p| p.line == e.place.line));
        for (error, place) in errors.iter().zip(places) {
            let cause = format!("not TOML: {}", error.message().trim_end_matches(", expected nothing"));
            self.errors.push(Finding { place, key: String::new(), cause, suggestion: None });
        }
    }

    /// Lays a table flat, remembers where its keys stand and notes those that are unknown.
    pub fn section<'a>(&mut self, keys: &'static Keys, path: String, table: &'a DeTable<'a>, at: usize) -> Section<'a> {
        self.places.put(path.clone(), self.place(at));
        let mut section = Section { keys, path, at, entries: Vec::new(), meant: Vec::new() };
        self.flatten(&mut section, "", table);
        section
    }

    fn flatten<'a>(&mut self, section: &mut Section<'a>, prefix: &str, table: &'a DeTable<'a>) {
        for (key, value) in table {
            let dotted = format!("{prefix}{}", key.get_ref());
            if let Some(known) = section.keys.known.iter().find(|k| **k == dotted) {
                self.places.put(section.full(known), self.place(value.span().start));
                section.entries.push((known, value));
                continue;
            }
            let inner = format!("{dotted}.");
            match value.get_ref() {
                DeValue::Table(table) if section.keys.known.iter().any(|k| k.starts_with(&inner)) => {
                    self.flatten(section, &inner, table);
                }
                _ => self.unknown(section, &dotted, key.span().start),
            }
        }
    }

    fn unknown(&mut self, section: &mut Section<'_>, key: &str, at: usize) {
        let keys = section.keys;
        let full = section.full(key);
        let head = key.split('.').next().unwrap_or(key);
        if let Some((refused, why, cure)) = keys.refused.iter().find(|(k, ..)| *k == head) {
            let cause = format!("`{refused}` in {} {why}", keys.title);
            return self.fail(at, full, cause, Some(String::from(*cure)));
        }
        let synonym = SYNONYMS.iter().find(|(w, k)| *w == key && keys.known.contains(k)).map(|(_, k)| *k);
        let elsewhere = || ALL.iter().find(|other| other.known.contains(&key));
        let suggestion = match synonym.or_else(|| did_you_mean(key, keys.known.iter().copied())) {
            Some(meant) => {
                section.meant.push(meant);
                Some(format!("did you mean `{meant}`?"))
            }
            None => elsewhere().map(|other| format!("it belongs in {}", other.title)),
        };
        self.fail(at, full, format!("unknown key `{}` in {}", shorten(key), keys.title), suggestion);
    }

    /// Notes that a key which has no default is absent, unless an unknown one was taken for it.
    pub fn missing(&mut self, section: &Section<'_>, key: &str, suggestion: &str) {
        if section.value(key).is_none() && !section.meant.contains(&key) {
            let cause = format!("`{key}` is missing in {}", section.keys.title);
            let place = self.place(section.at);
            self.absent.push(Finding { place, key: section.full(key), cause, suggestion: Some(suggestion.into()) });
        }
    }

    /// Warns of a key that is there but has no effect. `why` goes on after that.
    pub fn idle(&mut self, section: &Section<'_>, key: &str, why: &str) {
        if let Some(value) = section.value(key) {
            let cause = format!("`{key}` in {} has no effect {why}", section.keys.title);
            let place = self.place(value.span().start);
            self.warnings.push(Finding { place, key: section.full(key), cause, suggestion: None });
        }
    }

    /// Notes that a value cannot be used. `cause` goes on after the name of the key.
    pub fn refuse(&mut self, section: &Section<'_>, key: &str, at: usize, cause: &str, suggestion: Option<String>) {
        let cause = format!("`{key}` in {} {cause}", section.keys.title);
        self.fail(at, section.full(key), cause, suggestion);
    }

    fn mistyped(&mut self, section: &Section<'_>, key: &str, value: &Value<'_>, wanted: &str, hint: Option<String>) {
        let cause = format!("must be {wanted}, not {}", kind(value.get_ref()));
        self.refuse(section, key, value.span().start, &cause, hint);
    }

    /// Text.
    pub fn text<'a>(&mut self, section: &Section<'a>, key: &str) -> Option<&'a str> {
        let value = section.value(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.mistyped(section, key, value, "text", Some(String::from("put it in double quotes")));
        }
        text
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, section: &Section<'_>, key: &str) -> Option<bool> {
        let value = section.value(key)?;
        let truth = value.get_ref().as_bool();
        if truth.is_none() {
            self.mistyped(section, key, value, "true or false", None);
        }
        truth
    }

    /// A whole number within `range`.
    pub fn number(&mut self, section: &Section<'_>, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = section.value(key)?;
        let Some(written) = value.get_ref().as_integer() else {
            let unquoted = value.get_ref().as_str().filter(|t| t.parse::<u64>().is_ok());
            let hint = unquoted.map(|t| format!("write {t} without quotes"));
            self.mistyped(section, key, value, "a whole number", hint);
            return None;
        };
        let number = i128::from_str_radix(written.as_str(), written.radix()).ok().and_then(|n| u64::try_from(n).ok());
        let sound = number.filter(|n| range.contains(n));
        if sound.is_none() {
            let cause = format!("is {}; allowed is {} to {}", shorten(written.as_str()), range.start(), range.end());
            self.refuse(section, key, value.span().start, &cause, None);
        }
        sound
    }

    /// A duration within `range`: milliseconds as a number, or text with a unit.
    pub fn duration(&mut self, section: &Section<'_>, key: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        const FORMS: &str = "write milliseconds as a number, or text with a unit: \"500ms\", \"4s\", \"30min\", \"2h\"";
        let value = section.value(key)?;
        let at = value.span().start;
        let read = match value.get_ref() {
            DeValue::Integer(n) if n.radix() == 10 => n.as_str().parse().ok().map(Duration::from_millis),
            DeValue::String(text) => duration_of(text),
            _ => {
                self.mistyped(section, key, value, "a duration", Some(FORMS.into()));
                return None;
            }
        };
        let Some(duration) = read else {
            self.refuse(section, key, at, "is not a duration", Some(FORMS.into()));
            return None;
        };
        if !range.contains(&duration) {
            let cause = format!("is {duration:?}; allowed is {:?} to {:?}", range.start(), range.end());
            self.refuse(section, key, at, &cause, None);
            return None;
        }
        Some(duration)
    }

    /// One word of a list of words.
    pub fn choice<T: Copy>(&mut self, section: &Section<'_>, key: &str, words: &[(&str, T)]) -> Option<T> {
        let value = section.value(key)?;
        self.choice_at(section, key, value, words)
    }

    /// One word of a list of words, anywhere inside the value of `key`.
    pub fn choice_at<T: Copy>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        value: &Value<'_>,
        words: &[(&str, T)],
    ) -> Option<T> {
        let all = || words.iter().map(|(w, _)| format!("\"{w}\"")).collect::<Vec<_>>().join(", ");
        let Some(text) = value.get_ref().as_str() else {
            self.mistyped(section, key, value, "text", Some(format!("one of {}", all())));
            return None;
        };
        let found = words.iter().find(|(w, _)| *w == text);
        if found.is_none() {
            let suggestion = match did_you_mean(text, words.iter().map(|(w, _)| *w)) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => format!("one of {}", all()),
            };
            let cause = format!("cannot be \"{}\"", shorten(text));
            self.refuse(section, key, value.span().start, &cause, Some(suggestion));
        }
        found.map(|(_, t)| *t)
    }

    /// The values of a list.
    pub fn list<'a>(&mut self, section: &Section<'a>, key: &str) -> Option<&'a [Value<'a>]> {
        let value = section.value(key)?;
        match value.get_ref() {
            DeValue::Array(list) => Some(list),
            _ => {
                self.mistyped(section, key, value, "a list", Some(String::from("put it in square brackets")));
                None
            }
        }
    }
}

/// What a value is, with its article.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Text of the operator as it may stand in a finding: no control characters, not endless.
pub(super) fn shorten(text: &str) -> String {
    const SHOWN: usize = 64;
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}

fn duration_of(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let count: u64 = count.parse().ok()?;
    let milliseconds = match unit.trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    count.checked_mul(milliseconds).map(Duration::from_millis)
}
