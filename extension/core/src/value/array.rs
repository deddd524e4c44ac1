//! PostgreSQL's array literal, `{a,"b c",NULL}`: one dimension, elements as text.
//!
//! Used for `text[]` values and for the path arrays of `#>` and `#>>`.

/// Where and why a literal is not an array: the index of the character (from 0), and what was expected there.
pub(crate) type Fault = (usize, &'static str);

/// Reads a one-dimensional array literal; an unquoted `NULL` in any case is `None`.
///
/// A leading dimension (`[2:3]={a,b}`), which PostgreSQL prints for arrays that do not start at 1, is skipped.
pub(crate) fn parse(chars: &[char]) -> Result<Vec<Option<String>>, Fault> {
    let mut reader = Reader { chars, at: 0 };
    reader.skip_dimension();
    reader.skip_blanks();
    reader.expect('{', "{ to open the array")?;
    let mut elements = Vec::new();
    reader.skip_blanks();
    if reader.peek() == Some('}') {
        reader.at += 1;
    } else {
        loop {
            reader.skip_blanks();
            elements.push(reader.element()?);
            reader.skip_blanks();
            match reader.peek() {
                Some(',') => reader.at += 1,
                Some('}') => {
                    reader.at += 1;
                    break;
                }
                _ => return Err((reader.at, "a comma or } after an array element")),
            }
        }
    }
    reader.skip_blanks();
    if reader.at < chars.len() {
        Err((reader.at, "nothing after the closing }"))
    } else {
        Ok(elements)
    }
}

/// Prints elements as an array literal, each one quoted, so that no element can be mistaken for NULL or syntax.
pub(crate) fn print<'a>(elements: impl IntoIterator<Item = &'a str>) -> String {
    print_with(elements, |_| false)
}

/// Prints elements as an array literal for people: plain words and numbers without quotes.
pub(crate) fn print_short<'a>(elements: impl IntoIterator<Item = &'a str>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    print_with(elements, |e| {
        !e.is_empty() && e.chars().all(plain) && !e.eq_ignore_ascii_case("null")
    })
}

fn print_with<'a>(elements: impl IntoIterator<Item = &'a str>, is_bare: impl Fn(&str) -> bool) -> String {
    let mut out = String::from("{");
    for (i, element) in elements.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        if is_bare(element) {
            out.push_str(element);
            continue;
        }
        out.push('"');
        for c in element.chars() {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('"');
    }
    out.push('}');
    out
}

struct Reader<'a> {
    chars: &'a [char],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn expect(&mut self, wanted: char, expected: &'static str) -> Result<(), Fault> {
        if self.peek() == Some(wanted) {
            self.at += 1;
            Ok(())
        } else {
            Err((self.at, expected))
        }
    }

    fn skip_blanks(&mut self) {
        while self
            .peek()
            .is_some_and(|c| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c'))
        {
            self.at += 1;
        }
    }

    fn skip_dimension(&mut self) {
        let end = self.chars.iter().position(|&c| c == '=');
        if let (Some('['), Some(end)) = (self.peek(), end)
            && self.chars[..end]
                .iter()
                .all(|&c| c.is_ascii_digit() || matches!(c, '[' | ']' | ':' | '-' | '+'))
        {
            self.at = end + 1;
        }
    }

    fn element(&mut self) -> Result<Option<String>, Fault> {
        match self.peek() {
            Some('"') => self.quoted().map(Some),
            Some('{') => Err((self.at, "an array of one dimension")),
            _ => self.bare(),
        }
    }

    fn quoted(&mut self) -> Result<String, Fault> {
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err((self.at, "a closing double quote")),
                Some('"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some('\\') => {
                    self.at += 1;
                    text.push(self.peek().ok_or((self.at, "a character after the backslash"))?);
                }
                Some(c) => text.push(c),
            }
            self.at += 1;
        }
    }

    fn bare(&mut self) -> Result<Option<String>, Fault> {
        let start = self.at;
        let mut text = String::new();
        let mut solid = 0; // length up to the last character that trailing-blank removal must keep
        let mut escaped = false;
        while let Some(c) = self.peek() {
            match c {
                ',' | '}' => break,
                '{' | '"' => return Err((self.at, "a comma or } after an array element")),
                '\\' => {
                    self.at += 1;
                    text.push(self.peek().ok_or((self.at, "a character after the backslash"))?);
                    (solid, escaped) = (text.len(), true);
                }
                _ => {
                    text.push(c);
                    if !matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c') {
                        solid = text.len();
                    }
                }
            }
            self.at += 1;
        }
        text.truncate(solid);
        if text.is_empty() {
            return Err((start, "an array element"));
        }
        Ok(if !escaped && text.eq_ignore_ascii_case("null") {
            None
        } else {
            Some(text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Option<String>>, Fault> {
        parse(&text.chars().collect::<Vec<_>>())
    }

    #[test]
    fn reads_what_postgres_prints() {
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(read("{}"), Ok(vec![]));
        assert_eq!(
            read(r#"{a,"b c",NULL,"NULL","x\"y\\z"}"#),
            Ok(vec![some("a"), some("b c"), None, some("NULL"), some(r#"x"y\z"#)])
        );
        assert_eq!(read("[0:1]={a,b}"), Ok(vec![some("a"), some("b")]));
        assert_eq!(read(r#" { a b , "" } "#), Ok(vec![some("a b"), some("")]));
    }

    #[test]
    fn refuses_the_rest_with_a_position() {
        for (text, at) in [
            ("", 0),
            ("a", 0),
            ("{a", 2),
            ("{a,}", 3),
            ("{{a}}", 1),
            ("{a}b", 3),
            (r#"{"a}"#, 4),
            ("{a\\", 3),
        ] {
            assert_eq!(read(text).map_err(|(at, _)| at), Err(at), "{text}");
        }
    }

    #[test]
    fn prints_what_it_reads() {
        let elements = ["a", "", "NULL", r#"q"b\"#, "{,}", " x "];
        let back = read(&print(elements)).unwrap();
        let short = print_short(elements);
        assert_eq!(short, r#"{a,"","NULL","q\"b\\","{,}"," x "}"#);
        assert_eq!(read(&short).as_ref(), Ok(&back));
        assert_eq!(back, elements.map(|e| Some(e.to_owned())).to_vec());
    }
}
