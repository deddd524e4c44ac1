//! What the demo prints: short lines, small tables, and a tick or a cross for each check.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// The terminal, and how many checks held on it.
#[derive(Debug)]
pub(super) struct Screen {
    colour: bool,
    passed: usize,
    failed: usize,
}

impl Screen {
    /// Standard output; in colour when it is a terminal and `NO_COLOR` is not set.
    pub(super) fn new() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Screen {
            colour: std::io::stdout().is_terminal() && !plain,
            passed: 0,
            failed: 0,
        }
    }

    /// Checks that did not hold.
    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    /// A reader that went away (`| head`) is no reason to leave things running.
    fn line(&self, text: &str) {
        let _ = writeln!(std::io::stdout().lock(), "{}", text.trim_end());
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// An empty line.
    pub(super) fn blank(&self) {
        self.line("");
    }

    /// The demo's own heading.
    pub(super) fn title(&self, text: &str) {
        self.line(&self.paint("1", text));
        self.line(&self.paint("1", &"=".repeat(text.chars().count())));
        self.blank();
    }

    /// A step's heading.
    pub(super) fn heading(&self, text: &str) {
        self.blank();
        self.line(&self.paint("1", text));
        self.line(&self.paint("1", &"-".repeat(text.chars().count())));
    }

    /// A sentence.
    pub(super) fn say(&self, text: &str) {
        self.line(text);
    }

    /// What somebody does, and where; further lines are indented.
    pub(super) fn act(&self, side: &str, text: &str) {
        let mut side = format!("{side:<10} >");
        for line in text.lines() {
            self.line(&format!("  {} {line}", self.paint("36", &side)));
            side = format!("{:<14}", "");
        }
    }

    /// A table with a head line and an empty line on either side.
    pub(super) fn table(&self, head: &[&str], rows: &[Vec<String>]) {
        let wide = |text: &str| text.chars().count();
        let mut widths: Vec<usize> = head.iter().map(|cell| wide(cell)).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(wide(cell));
            }
        }
        let join = |cells: &[String]| -> String {
            let cells: Vec<String> = cells
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell}{}", " ".repeat(width.saturating_sub(wide(cell)))))
                .collect();
            format!("  {}", cells.join(" | "))
        };
        let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
        self.blank();
        self.line(&join(&head));
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        self.line(&format!("  {}", rule.join("-+-")));
        for row in rows {
            self.line(&join(row));
        }
        self.blank();
    }

    /// A check with its outcome.
    pub(super) fn check(&mut self, ok: bool, what: &str) {
        if ok {
            self.passed += 1;
            self.line(&format!("  {} {what}", self.paint("32", "✓")));
        } else {
            self.failed += 1;
            self.line(&format!("  {} {what}", self.paint("31", "✗")));
        }
    }

    /// Checks that a value is the expected one, and says what it is otherwise.
    pub(super) fn equal(&mut self, what: &str, found: Option<impl Display>, expected: &str) {
        let found = found.map(|value| value.to_string());
        if found.as_deref() == Some(expected) {
            self.check(true, &format!("{what}: {expected}"));
        } else {
            let found = found.unwrap_or_else(|| "(empty)".to_owned());
            self.check(false, &format!("{what}: expected {expected}, found {found}"));
        }
    }

    /// The story could not go on. The first line is for everybody, the others for whoever looks into it.
    pub(super) fn broken(&mut self, error: &str) {
        let (first, more) = error.split_once('\n').unwrap_or((error, ""));
        self.check(false, &format!("the demo could not go on: {first}"));
        if !more.is_empty() {
            eprintln!("\n{more}");
        }
    }

    /// The last line.
    pub(super) fn verdict(&self, ok: bool, took: Duration) {
        let (passed, all) = (self.passed, self.passed + self.failed);
        let text = format!(
            "{passed} of {all} checks held. The demo took {:.0} s.",
            took.as_secs_f64()
        );
        self.line(&self.paint(if ok { "1;32" } else { "1;31" }, &text));
    }
}

/// A number with commas.
pub(super) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
