//! From a path's text to its parts.

use super::{JsonPath, PathError};
use crate::value::array;

const OPERATOR: &str = "->, ->>, #> or #>> after the column or key";
const TEXT_LAST: &str = "the path to end in ->> or #>>, which yield text";

/// Whether a column needs no double quotes: what PostgreSQL would not fold or refuse, in ASCII.
pub(super) fn is_plain_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_')
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

pub(super) fn parse(text: &str) -> Result<JsonPath, PathError> {
    let mut reader = Reader {
        chars: text.chars().collect(),
        at: 0,
    };
    reader.skip_blanks();
    let column = reader.column()?;
    let mut keys = Vec::new();
    let mut text_reached = false;
    loop {
        reader.skip_blanks();
        if reader.at == reader.chars.len() {
            break;
        }
        if text_reached {
            return Err(reader.fault("nothing after ->> or #>>, which yield text"));
        }
        text_reached = reader.step(&mut keys)?;
    }
    if !text_reached {
        return Err(reader.fault(if keys.is_empty() { OPERATOR } else { TEXT_LAST }));
    }
    JsonPath::new(column, keys)
}

struct Reader {
    chars: Vec<char>,
    at: usize,
}

impl Reader {
    fn fault(&self, expected: &'static str) -> PathError {
        PathError::Syntax {
            position: self.at + 1,
            expected,
        }
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(|c| c.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let start = self.at;
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    /// An identifier, folded as PostgreSQL folds it, or a quoted one as it is.
    fn column(&mut self) -> Result<String, PathError> {
        match self.peek() {
            Some('"') => {
                let start = self.at;
                let name = self.quoted('"', "a closing double quote after the column name")?;
                if name.is_empty() {
                    self.at = start;
                    return Err(self.fault("a column name between the double quotes"));
                }
                Ok(name.into_iter().map(|(_, c)| c).collect())
            }
            Some(c) if c.is_ascii_alphabetic() || c == '_' || !c.is_ascii() => {
                let name = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$') || !c.is_ascii());
                Ok(name.to_ascii_lowercase())
            }
            _ => Err(self.fault("a column name")),
        }
    }

    /// One operator and its operand; true when it yields text.
    fn step(&mut self, keys: &mut Vec<String>) -> Result<bool, PathError> {
        let (first, whole_path) = match self.peek() {
            Some('-') => ('-', false),
            Some('#') => ('#', true),
            _ => return Err(self.fault(OPERATOR)),
        };
        if self.chars.get(self.at + 1) != Some(&'>') {
            return Err(self.fault(if first == '-' { "-> or ->>" } else { "#> or #>>" }));
        }
        self.at += 2;
        let yields_text = self.peek() == Some('>');
        if yields_text {
            self.at += 1;
        }
        self.skip_blanks();
        if whole_path {
            self.path_array(keys)?;
        } else {
            keys.push(self.key()?);
        }
        Ok(yields_text)
    }

    fn key(&mut self) -> Result<String, PathError> {
        if self.peek() == Some('\'') {
            let key = self.quoted('\'', "a closing single quote after the key")?;
            return Ok(key.into_iter().map(|(_, c)| c).collect());
        }
        let start = self.at;
        let sign = self.take_while(|c| c == '-');
        let digits = self.take_while(|c| c.is_ascii_digit());
        if sign.len() > 1 || digits.is_empty() {
            self.at = start;
            return Err(self.fault("a key in single quotes or an array index"));
        }
        Ok(sign + &digits)
    }

    /// `'{b,c}'`: an array literal inside a string literal.
    fn path_array(&mut self, keys: &mut Vec<String>) -> Result<(), PathError> {
        if self.peek() != Some('\'') {
            return Err(self.fault("keys as '{a,b}' in single quotes"));
        }
        let start = self.at;
        let literal = self.quoted('\'', "a closing single quote after the keys")?;
        let end = self.at - 1;
        let chars: Vec<char> = literal.iter().map(|&(_, c)| c).collect();
        let elements = array::parse(&chars).map_err(|(at, expected)| PathError::Syntax {
            position: literal.get(at).map_or(end, |&(source, _)| source) + 1,
            expected,
        })?;
        if elements.is_empty() {
            return Err(PathError::Syntax {
                position: start + 1,
                expected: "at least one key between the braces",
            });
        }
        for element in elements {
            let null = PathError::Syntax {
                position: start + 1,
                expected: "keys that are not NULL",
            };
            keys.push(element.ok_or(null)?);
        }
        Ok(())
    }

    /// The characters between two quotes, each with where it stands; a doubled quote is one.
    fn quoted(&mut self, quote: char, unclosed: &'static str) -> Result<Vec<(usize, char)>, PathError> {
        self.at += 1;
        let mut inside = Vec::new();
        loop {
            match self.peek() {
                None => return Err(self.fault(unclosed)),
                Some('\0') => return Err(PathError::NulCharacter),
                Some(c) if c == quote => {
                    if self.chars.get(self.at + 1) != Some(&quote) {
                        self.at += 1;
                        return Ok(inside);
                    }
                    inside.push((self.at, c));
                    self.at += 2;
                }
                Some(c) => {
                    inside.push((self.at, c));
                    self.at += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_notation() {
        for (text, column, keys, printed) in [
            ("contact->>'email'", "contact", &["email"][..], "contact->>'email'"),
            ("a->'b'->>'c'", "a", &["b", "c"], "a->'b'->>'c'"),
            ("a#>>'{b,c}'", "a", &["b", "c"], "a->'b'->>'c'"),
            ("a #> '{b,0}' ->> 'c'", "a", &["b", "0", "c"], "a#>>'{b,0,c}'"),
            ("a->0->>-1", "a", &["0", "-1"], "a#>>'{0,-1}'"),
            ("Contact->>'E''x'", "contact", &["E'x"], "contact->>'E''x'"),
            ("\"We \"\"ird\"->>''", "We \"ird", &[""], "\"We \"\"ird\"->>''"),
            ("a#>>'{\"b,c\",\"\"}'", "a", &["b,c", ""], "a->'b,c'->>''"),
        ] {
            let path: JsonPath = text.parse().unwrap();
            assert_eq!(
                (
                    path.column(),
                    path.keys().iter().map(String::as_str).collect::<Vec<_>>()
                ),
                (column, keys.to_vec())
            );
            assert_eq!(path.to_string(), printed);
            assert_eq!(printed.parse(), Ok(path));
        }
    }

    #[test]
    fn faults_say_where() {
        for (text, at) in [
            ("", 1),
            ("a", 2),
            ("a->'b'", 7),
            ("a#>'{b}'", 9),
            ("a->>'b'->'c'", 8),
            ("a.b->>'c'", 2),
            ("a->>'b", 7),
            ("a->>b", 5),
            ("a->>--1", 5),
            ("a->>E'b'", 5),
            ("a#>>'{}'", 5),
            ("a#>>'{b,}'", 9),
            ("a#>>'{b'", 8),
            ("a#>>'{NULL}'", 5),
            ("a#'b'", 2),
            ("a->>'b'; drop table t", 8),
            ("\"\"->>'a'", 1),
            ("1a->>'b'", 1),
        ] {
            match text.parse::<JsonPath>() {
                Err(PathError::Syntax { position, .. }) => assert_eq!(position, at, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
