//! The live view of the demo: a picture that redraws itself on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use crate::base::Time;
use crate::cli::terminal::say;

/// Between two pictures on a terminal.
const PICTURE: Duration = Duration::from_millis(250);
/// Between two plain lines.
const LINE: Duration = Duration::from_secs(1);

/// Standard output.
pub struct Screen {
    terminal: bool,
    /// Lines of the picture that stands there now.
    drawn: usize,
    next: Time,
}

impl Screen {
    /// Nothing drawn yet.
    pub fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), drawn: 0, next: Time::ZERO }
    }

    /// Whether it is time for a new view.
    pub fn due(&mut self, now: Time) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now + if self.terminal { PICTURE } else { LINE };
        }
        due
    }

    /// Shows the new state: `picture` on a terminal, else `line`.
    pub fn show(&mut self, line: &str, picture: &str) {
        match self.terminal {
            true => {
                self.wipe();
                say(picture);
                self.drawn = picture.matches('\n').count();
            }
            false => say(&format!("{line}\n")),
        }
    }

    /// One line that stays.
    pub fn note(&mut self, line: &str) {
        self.wipe();
        say(&format!("{line}\n"));
    }

    fn wipe(&mut self) {
        if self.drawn > 0 {
            say(&format!("\x1b[{}A\x1b[J", self.drawn));
            self.drawn = 0;
        }
    }
}
