//! The families of API paths. HubSpot moved the version from the front of a path to its middle with the dated releases.

/// A family of paths, chosen by `hubspot.api_version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiVersion {
    /// `/crm/v3/objects/…`
    V3,
    /// `/crm/objects/2025-09/…` and its successors; the release stands in the middle.
    Dated(&'static str),
}

impl ApiVersion {
    /// The names `hubspot.api_version` takes.
    pub const NAMES: [&'static str; 4] = ["2026-03", "v3", "2025-09", "2026-09"];

    /// The family of that name, or none.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "v3" => Some(Self::V3),
            _ => Self::NAMES.into_iter().find(|known| *known == name).map(Self::Dated),
        }
    }

    /// Path of the records of an object type.
    pub fn objects(self, object_type: &str) -> String {
        let object_type = segment(object_type);
        match self {
            Self::V3 => format!("/crm/v3/objects/{object_type}"),
            Self::Dated(release) => format!("/crm/objects/{release}/{object_type}"),
        }
    }

    /// Path of a page of 100 records, from the id `after` on.
    pub fn listing(self, object_type: &str, after: Option<&str>, properties: &[String]) -> String {
        let mut path = format!("{}?limit=100", self.objects(object_type));
        if let Some(after) = after {
            path.push_str(&format!("&after={}", segment(after)));
        }
        if !properties.is_empty() {
            let names: Vec<String> = properties.iter().map(|name| segment(name)).collect();
            path.push_str(&format!("&properties={}", names.join(",")));
        }
        path
    }

    /// Path where exports are asked for.
    pub fn export(self) -> String {
        match self {
            Self::V3 => "/crm/v3/exports/export/async".to_owned(),
            Self::Dated(release) => format!("/crm/exports/{release}/export/async"),
        }
    }

    /// Path of how far an export is.
    pub fn export_status(self, task: &str) -> String {
        format!("{}/tasks/{}/status", self.export(), segment(task))
    }

    /// Path of the property definitions of an object type.
    pub fn properties(self, object_type: &str) -> String {
        let object_type = segment(object_type);
        match self {
            Self::V3 => format!("/crm/v3/properties/{object_type}"),
            Self::Dated(release) => format!("/crm/properties/{release}/{object_type}"),
        }
    }

    /// Path of the property groups of an object type.
    pub fn groups(self, object_type: &str) -> String {
        format!("{}/groups", self.properties(object_type))
    }

    /// Path of one property definition.
    pub fn property(self, object_type: &str, name: &str) -> String {
        format!("{}/{}", self.properties(object_type), segment(name))
    }

    /// Path of an app's webhook settings and subscriptions.
    pub fn webhooks(self, app_id: i64) -> String {
        match self {
            Self::V3 => format!("/webhooks/v3/{app_id}"),
            Self::Dated(release @ "2026-03") => format!("/webhooks/{release}/{app_id}"),
            Self::Dated(release) => format!("/app-webhooks/{release}/{app_id}"),
        }
    }

    /// Path of the token endpoint.
    pub fn token(self) -> String {
        match self {
            Self::V3 => "/oauth/v3/token".to_owned(),
            Self::Dated(release) => format!("/oauth/{release}/token"),
        }
    }

    /// Path of the account's facts.
    pub fn account_details(self) -> String {
        match self {
            Self::V3 => "/account-info/v3/details".to_owned(),
            Self::Dated(release) => format!("/account-info/{release}/details"),
        }
    }
}

/// One path segment with everything but unreserved characters escaped: names come from the database.
pub(super) fn segment(name: &str) -> String {
    name.bytes().fold(String::with_capacity(name.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families() {
        let v3 = ApiVersion::parse("v3").unwrap();
        let dated = ApiVersion::parse("2026-03").unwrap();
        assert_eq!(v3.objects("companies"), "/crm/v3/objects/companies");
        assert_eq!(dated.objects("2-17"), "/crm/objects/2026-03/2-17");
        assert_eq!(dated.properties("companies"), "/crm/properties/2026-03/companies");
        assert_eq!(
            dated.property("companies", "a b"),
            "/crm/properties/2026-03/companies/a%20b"
        );
        assert_eq!(dated.groups("companies"), "/crm/properties/2026-03/companies/groups");
        let newest = ApiVersion::parse("2026-09").unwrap();
        assert_eq!(
            [v3, dated, newest].map(|version| version.webhooks(7)),
            ["/webhooks/v3/7", "/webhooks/2026-03/7", "/app-webhooks/2026-09/7"]
        );
        assert_eq!(dated.account_details(), "/account-info/2026-03/details");
        assert_eq!(
            dated.listing("companies", Some("17"), &["a b".to_owned(), "c".to_owned()]),
            "/crm/objects/2026-03/companies?limit=100&after=17&properties=a%20b,c"
        );
        assert_eq!(v3.objects("a/b"), "/crm/v3/objects/a%2Fb");
        assert!(ApiVersion::parse("2024-01").is_none());
    }
}
