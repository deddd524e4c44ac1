//! Which versions of the extension's schema this relay works with.
//!
//! Relays are upgraded first and the extension after them: a relay works with every schema from [`OLDEST`] to its own version,
//! and refuses a newer one, whose functions it cannot know. Patch versions do not change the schema's meaning.

/// Oldest schema whose functions this relay calls: major and minor version.
const OLDEST: (u32, u32) = (0, 1);

/// Why this relay must not work with the schema of that version, and what to do; none when it may.
pub fn refusal(schema_version: Option<&str>) -> Option<String> {
    let own = env!("CARGO_PKG_VERSION");
    let Some(version) = schema_version else {
        return Some(format!(
            "the extension does not say its version, and relay {own} works with a known one only: ALTER EXTENSION hubspot_sync UPDATE"
        ));
    };
    match (parse(version), parse(own)) {
        (Some(schema), _) if schema < OLDEST => Some(format!(
            "the extension's schema {version} is older than relay {own} works with: ALTER EXTENSION hubspot_sync UPDATE"
        )),
        (Some(schema), Some(own_version)) if schema > own_version => Some(format!(
            "the extension's schema {version} is newer than relay {own}: upgrade the relay"
        )),
        (Some(_), _) => None,
        (None, _) => Some(format!(
            "the extension's schema version {version:?} is unknown to relay {own}: install a released version of both"
        )),
    }
}

/// Major and minor version.
fn parse(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_schema_is_worked_with_and_others_are_refused_with_the_mend() {
        assert_eq!(refusal(Some(env!("CARGO_PKG_VERSION"))), None);
        assert_eq!(refusal(Some("0.1.0")), None);
        assert_eq!(refusal(Some("0.1.77")), None);
        for (version, mend) in [
            (Some("99.0.0"), "upgrade the relay"),
            (Some("0.99.0"), "upgrade the relay"),
            (Some("0.0.9"), "ALTER EXTENSION hubspot_sync UPDATE"),
            (Some("next"), "install a released version"),
            (Some(""), "install a released version"),
            (None, "ALTER EXTENSION hubspot_sync UPDATE"),
        ] {
            assert!(
                refusal(version).is_some_and(|reason| reason.contains(mend)),
                "{version:?}"
            );
        }
    }
}
