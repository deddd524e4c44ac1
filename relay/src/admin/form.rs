//! Fields of a form or of a query, in their order; a name may come several times.

/// The fields.
#[derive(Debug, Clone, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads `a=1&b=2`. U+0000, which the database cannot hold, is left out.
    pub fn parse(text: &[u8]) -> Self {
        let clean = |part: std::borrow::Cow<'_, str>| part.replace('\0', "");
        Self(
            form_urlencoded::parse(text)
                .map(|(name, value)| (clean(name), clean(value)))
                .collect(),
        )
    }

    /// The first of that name, without white space around it; empty when there is none.
    pub fn get(&self, name: &str) -> &str {
        self.raw(name).unwrap_or_default().trim()
    }

    /// The first of that name as it is.
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// All of that name.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.0
            .iter()
            .filter(|(n, _)| n == name)
            .map(|(_, value)| value.clone())
            .collect()
    }

    /// A number.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.get(name).parse().ok()
    }
}

/// `a=1&b=2` of the pairs that are not empty.
pub fn query(pairs: &[(&str, &str)]) -> String {
    let mut text = form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        text.append_pair(name, value);
    }
    text.finish()
}

/// A path on this site to go back to; anything else leads to `otherwise`.
pub fn local<'a>(path: &'a str, otherwise: &'a str) -> &'a str {
    let good =
        path.starts_with('/') && !path.starts_with("//") && path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if good { path } else { otherwise }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_names_and_nul() {
        let fields = Fields::parse(b"id=1&id=2&v=+a%00b+");
        assert_eq!(fields.all("id"), ["1", "2"]);
        assert_eq!((fields.get("v"), fields.raw("v")), ("ab", Some(" ab ")));
        assert_eq!(fields.number("none"), None);
        assert_eq!(query(&[("a", "x y"), ("b", ""), ("c", "&")]), "a=x+y&c=%26");
    }

    #[test]
    fn only_paths_of_this_site_are_gone_back_to() {
        assert_eq!(local("/conflicts?field=a", "/"), "/conflicts?field=a");
        for path in [
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "/a\r\nb",
            "",
        ] {
            assert_eq!(local(path, "/"), "/", "{path}");
        }
    }
}
