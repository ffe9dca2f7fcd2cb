//! What a reader of configuration text has to say, and where: findings, places, "did you mean".

use std::collections::BTreeMap;
use std::fmt;

/// Something wrong or doubtful at one place of the text. Shown as `LINE:COLUMN: CAUSE; SUGGESTION`, so that
/// `FILE:` in front of it makes a line that editors can jump to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// The key in full, such as `proxy.sip.transport[1]` (lists count from 0); empty for the text as a whole.
    pub key: String,
    /// What is wrong, in one sentence.
    pub cause: String,
    /// What to do about it.
    pub suggestion: Option<String>,
}

/// A finding that makes a configuration unusable.
pub type ConfigError = Finding;

/// A finding that an operator should know of; the configuration is sound all the same.
pub type Warning = Finding;

/// All that is to be said, sorted by whether it forbids a start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The configuration cannot be used.
    pub errors: Vec<ConfigError>,
    /// It can.
    pub warnings: Vec<Warning>,
}

impl Finding {
    /// Cause and suggestion, without the place.
    pub fn told(&self) -> impl fmt::Display {
        fmt::from_fn(|f| match &self.suggestion {
            Some(suggestion) => write!(f, "{}; {suggestion}", self.cause),
            None => f.write_str(&self.cause),
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.told())
    }
}

impl std::error::Error for Finding {}

/// A position in the text; both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Default for Place {
    fn default() -> Self {
        Self { line: 1, column: 1 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Where each key of a configuration was written. Two configurations that differ only in this are equal.
#[derive(Clone, Debug, Default)]
pub struct Places(BTreeMap<String, Place>);

impl Places {
    /// Remembers where `key` stands.
    pub(super) fn put(&mut self, key: String, place: Place) {
        self.0.insert(key, place);
    }

    /// Where `key` stands; if it was left to its default, where its section stands; else the head of the text.
    pub fn of(&self, key: &str) -> Place {
        let mut rest = key;
        loop {
            if let Some(place) = self.0.get(rest) {
                return *place;
            }
            match rest.rfind(['.', '[']) {
                Some(end) => rest = &rest[..end],
                None => return Place::default(),
            }
        }
    }
}

impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Places {}

/// The candidate that `word` most likely stands for: equal but for case and `_`, or a few typing errors away.
pub(super) fn did_you_mean<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    /// Longer words are not typing errors of ours.
    const LONGEST: usize = 64;
    let word: Vec<char> = plain(word).take(LONGEST + 1).collect();
    if word.len() > LONGEST {
        return None;
    }
    let near = |candidate: &&'c str| {
        let candidate: Vec<char> = plain(candidate).collect();
        let limit = (candidate.len().min(word.len()) / 3).max(1);
        Some(distance(&word, &candidate)).filter(|d| *d <= limit)
    };
    candidates.into_iter().filter_map(|c| near(&c).map(|d| (d, c))).min_by_key(|(d, _)| *d).map(|(_, c)| c)
}

fn plain(word: &str) -> impl Iterator<Item = char> {
    word.chars().map(|c| if c == '_' || c == ' ' { '-' } else { c.to_ascii_lowercase() })
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        rows[i][0] = i;
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_typing_errors() {
        let d = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!(d("port-capasity", "port-capacity"), 1);
        assert_eq!(d("nmae", "name"), 1);
        assert_eq!(d("", "aor"), 3);
        assert_eq!(d("level", "level"), 0);
    }

    #[test]
    fn the_nearest_candidate_wins_and_strangers_get_none() {
        let keys = ["port-capacity", "aor", "aliases", "tcp"];
        assert_eq!(did_you_mean("port-capasity", keys), Some("port-capacity"));
        assert_eq!(did_you_mean("Port_Capacity", keys), Some("port-capacity"));
        assert_eq!(did_you_mean("alias", keys), None);
        assert_eq!(did_you_mean("aliasses", keys), Some("aliases"));
        assert_eq!(did_you_mean(&"x".repeat(100_000), keys), None);
    }

    #[test]
    fn a_defaulted_key_is_placed_at_its_section() {
        let mut places = Places::default();
        places.put("proxy".into(), Place { line: 3, column: 1 });
        places.put("proxy.sip.transport".into(), Place { line: 4, column: 17 });
        assert_eq!(places.of("proxy.sip.transport[2]"), Place { line: 4, column: 17 });
        assert_eq!(places.of("proxy.sip.timer.t1"), Place { line: 3, column: 1 });
        assert_eq!(places.of("admin.listen"), Place { line: 1, column: 1 });
    }
}
