//! The fenced blocks of the documentation, for the tests that run them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Line of its opening fence.
    pub line: usize,
    /// First word after the fence: `sh`, `sql`, …
    pub language: String,
    /// The rest: a reason in `(not run: …)`, or when it is to be run.
    pub note: String,
    /// The text, without the fence's indentation.
    pub text: String,
}

impl Block {
    /// Why it is not run.
    pub fn skipped(&self) -> Option<&str> {
        self.note.strip_prefix("(not run: ")?.strip_suffix(')')
    }

    /// When somebody who reads the README on a new machine follows it: the word `newcomer`, and perhaps what comes before.
    pub fn newcomer(&self) -> Option<&str> {
        let when = self.note.strip_prefix("newcomer")?;
        Some(when.strip_prefix(": ").unwrap_or(when))
    }
}

/// The blocks of a file below the repository's root.
///
/// # Errors
/// When the file cannot be read.
pub fn blocks(file: &str) -> Result<Vec<Block>> {
    let text = std::fs::read_to_string(repository().join(file)).with_context(|| file.to_owned())?;
    Ok(parse(&text))
}

/// The blocks of a Markdown text.
pub fn parse(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut open: Option<usize> = None;
    for (number, line) in text.lines().enumerate() {
        let bare = line.trim_start();
        let indent = line.len() - bare.len();
        match (open, bare.strip_prefix("```")) {
            (None, Some(info)) => {
                let (language, note) = info.split_once(' ').unwrap_or((info, ""));
                found.push(Block {
                    line: number + 1,
                    language: language.to_owned(),
                    note: note.to_owned(),
                    text: String::new(),
                });
                open = Some(indent);
            }
            (Some(_), Some(_)) => open = None,
            (Some(indent), None) => {
                if let Some(block) = found.last_mut() {
                    block
                        .text
                        .push_str(line.get(indent.min(line.len() - bare.len())..).unwrap_or(bare));
                    block.text.push('\n');
                }
            }
            (None, None) => {}
        }
    }
    found
}

/// The statements of a block of SQL: cut at semicolons that end a line (or stand before a comment), outside of dollar quotes.
pub fn statements(sql: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut statement = String::new();
    let mut quoted = false;
    for line in sql.lines() {
        statement.push_str(line);
        statement.push('\n');
        quoted ^= line.matches("$$").count() % 2 == 1;
        let code = line.split("--").next().unwrap_or(line).trim_end();
        if !quoted && code.ends_with(';') {
            found.push(std::mem::take(&mut statement).trim().to_owned());
        }
    }
    if !statement.trim().is_empty() {
        found.push(statement.trim().to_owned());
    }
    found
}
