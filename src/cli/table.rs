//! Aligned columns for people; one row per line, nothing wraps, no colours.

use std::fmt::Write;

/// Where the text of a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A heading and its alignment.
pub type Column = (&'static str, Align);

/// The table as text; every line ends with a newline, none with blanks.
pub fn table<const N: usize>(columns: &[Column; N], rows: &[[String; N]]) -> String {
    let width = |n: usize| {
        let widest = rows.iter().map(|r| r[n].chars().count()).max().unwrap_or(0);
        widest.max(columns[n].0.len())
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    line(&mut text, columns, &widths, columns.iter().map(|c| c.0));
    for row in rows {
        line(&mut text, columns, &widths, row.iter().map(String::as_str));
    }
    text
}

fn line<'a>(text: &mut String, columns: &[Column], widths: &[usize], cells: impl Iterator<Item = &'a str>) {
    let start = text.len();
    for ((cell, width), (_, align)) in cells.zip(widths).zip(columns) {
        let gap = if text.len() == start { "" } else { "  " };
        let _infallible = match align {
            Align::Left => write!(text, "{gap}{cell:<width$}"),
            Align::Right => write!(text, "{gap}{cell:>width$}"),
        };
    }
    text.truncate(start + text[start..].trim_end().len());
    text.push('\n');
}

/// `text` fit for a terminal: what came from the network cannot move the cursor, and is cut to `most` characters.
pub fn printable(text: &str, most: usize) -> String {
    let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    let mut shown: String = text.chars().map(plain).take(most).collect();
    if text.chars().nth(most).is_some() {
        shown.pop();
        shown.push('~');
    }
    shown
}

/// `3d 04:05:06`, days only when there are any.
pub fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let clock = format!("{hours:02}:{minutes:02}:{:02}", seconds % 60);
    if days == 0 { clock } else { format!("{days}d {clock}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_do_not_end_in_blanks() {
        let text = table(
            &[("NAME", Align::Left), ("PORTS", Align::Right), ("WHY", Align::Left)],
            &[["a".into(), "7".into(), String::new()], ["longer".into(), "123456".into(), "x".into()]],
        );
        assert_eq!(text, "NAME     PORTS  WHY\na            7\nlonger  123456  x\n");
    }

    #[test]
    fn the_network_cannot_drive_the_terminal() {
        assert_eq!(printable("a\x1b[2J\nb\u{202e}", 20), "a?[2J?b?");
        assert_eq!(printable("0123456789", 10), "0123456789");
        assert_eq!(printable("0123456789a", 10), "012345678~");
    }

    #[test]
    fn durations_read_as_clocks() {
        assert_eq!(duration(59), "00:00:59");
        assert_eq!(duration(3 * 86_400 + 4 * 3_600 + 5 * 60 + 6), "3d 04:05:06");
    }
}
