//! From method and path to the operation that is asked for.

use serde::{Deserialize, Serialize};

/// Operations of the API; faults, gates and the request log are kept by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Op {
    /// Stands for every operation in faults, gates and counts.
    Any,
    GetOne,
    List,
    Create,
    Update,
    Archive,
    BatchRead,
    BatchCreate,
    BatchUpdate,
    BatchUpsert,
    BatchArchive,
    Search,
    Merge,
    GdprDelete,
    PropertyList,
    PropertyGet,
    PropertyCreate,
    PropertyUpdate,
    PropertyDelete,
    PropertyBatchCreate,
    PropertyBatchRead,
    PropertyBatchArchive,
    GroupList,
    GroupGet,
    GroupCreate,
    GroupUpdate,
    GroupDelete,
    SchemaList,
    AccountDetails,
    AccountUsage,
    Token,
    WebhookSettings,
    WebhookSettingsSet,
    SubscriptionList,
    SubscriptionCreate,
    SubscriptionUpdate,
    JournalEntry,
    JournalSubscriptionList,
    JournalSubscriptionCreate,
    JournalSubscriptionDelete,
    ExportStart,
    ExportStatus,
    /// A path that is not part of the API.
    Unknown,
}

impl Op {
    /// Does a fault, gate or count for `self` concern `other`?
    pub fn covers(self, other: Op) -> bool {
        self == Op::Any || self == other
    }

    /// The scopes one of which the operation needs, for the type part of a scope.
    pub(crate) fn scopes(self, kind: &str) -> Vec<String> {
        use Op::*;
        match self {
            GetOne | List | BatchRead | Search => vec![format!("crm.objects.{kind}.read")],
            Create | Update | Archive | BatchCreate | BatchUpdate | BatchUpsert | BatchArchive | Merge | GdprDelete => {
                vec![format!("crm.objects.{kind}.write")]
            }
            PropertyList | PropertyGet | PropertyBatchRead | GroupList | GroupGet => {
                vec![format!("crm.schemas.{kind}.read"), format!("crm.objects.{kind}.read")]
            }
            PropertyCreate | PropertyUpdate | PropertyDelete | PropertyBatchCreate | PropertyBatchArchive
            | GroupCreate | GroupUpdate | GroupDelete => vec![format!("crm.schemas.{kind}.write")],
            ExportStart | ExportStatus => vec!["crm.export".to_owned()],
            SchemaList => vec!["crm.schemas.custom.read".to_owned()],
            Any | AccountDetails | AccountUsage | Token | WebhookSettings | WebhookSettingsSet | SubscriptionList
            | SubscriptionCreate | SubscriptionUpdate | Unknown => Vec::new(),
            JournalEntry => vec!["developer.webhooks_journal.read".to_owned()],
            JournalSubscriptionList => vec!["developer.webhooks_journal.subscriptions.read".to_owned()],
            JournalSubscriptionCreate | JournalSubscriptionDelete => {
                vec!["developer.webhooks_journal.subscriptions.write".to_owned()]
            }
        }
    }

    /// Has the operation its own limiter or none, instead of the 10 s window?
    pub(crate) fn is_exempt(self) -> bool {
        matches!(self, Op::Search | Op::Token) || self.is_journal()
    }

    /// Is it of the webhooks journal, which takes the app's own token?
    pub(crate) fn is_journal(self) -> bool {
        use Op::*;
        matches!(
            self,
            JournalEntry | JournalSubscriptionList | JournalSubscriptionCreate | JournalSubscriptionDelete
        )
    }
}

/// An operation and what it acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) op: Op,
    pub(crate) object_type: String,
    /// Record id, property name or group name.
    pub(crate) id: String,
}

const VERSIONS: [&str; 3] = ["2025-09", "2026-03", "2026-09"];

/// Reads method and path; `Op::Unknown` when nothing fits.
pub(crate) fn route(method: &str, path: &str) -> Route {
    let parts: Vec<String> = path.trim_matches('/').split('/').map(super::query::decode).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let found = match parts.as_slice() {
        ["crm", "v3", "objects", rest @ ..] => objects(method, rest),
        ["crm", "objects", version, rest @ ..] if VERSIONS.contains(version) => objects(method, rest),
        ["crm", "v3", "properties", rest @ ..] => properties(method, rest),
        ["crm", "properties", version, rest @ ..] if VERSIONS.contains(version) => properties(method, rest),
        ["crm-object-schemas", version, "schemas"] if known(version) && method == "GET" => to(Op::SchemaList, "", ""),
        ["crm", "v3", "exports", rest @ ..] => exports(method, rest),
        ["crm", "exports", version, rest @ ..] if VERSIONS.contains(version) => exports(method, rest),
        ["account-info", version, "details"] if known(version) && method == "GET" => to(Op::AccountDetails, "", ""),
        ["account-info", version, "api-usage", "daily", "private-apps"] if known(version) && method == "GET" => {
            to(Op::AccountUsage, "", "")
        }
        ["webhooks", version @ ("v3" | "2026-03"), app, rest @ ..]
        | ["app-webhooks", version @ ("2025-09" | "2026-09"), app, rest @ ..]
            if known(version) =>
        {
            webhooks(method, app, rest)
        }
        [
            "webhooks-journal",
            "journal" | "journal-local",
            "2026-03",
            place @ ("earliest" | "latest"),
        ] if method == "GET" => to(Op::JournalEntry, place, ""),
        [
            "webhooks-journal",
            "journal" | "journal-local",
            "2026-03",
            "offset",
            offset,
            "next",
        ] if method == "GET" => to(Op::JournalEntry, "next", offset),
        ["webhooks-journal", "subscriptions", "2026-03"] if method == "GET" => to(Op::JournalSubscriptionList, "", ""),
        ["webhooks-journal", "subscriptions", "2026-03"] if method == "POST" => {
            to(Op::JournalSubscriptionCreate, "", "")
        }
        ["webhooks-journal", "subscriptions", "2026-03", id] if method == "DELETE" => {
            to(Op::JournalSubscriptionDelete, "", id)
        }
        ["oauth", version, "token"] if known(version) && method == "POST" => to(Op::Token, "", ""),
        _ => None,
    };
    found.unwrap_or(Route {
        op: Op::Unknown,
        object_type: String::new(),
        id: String::new(),
    })
}

fn known(version: &str) -> bool {
    version == "v3" || VERSIONS.contains(&version)
}

fn to(op: Op, object_type: &str, id: &str) -> Option<Route> {
    Some(Route {
        op,
        object_type: object_type.to_owned(),
        id: id.to_owned(),
    })
}

fn objects(method: &str, parts: &[&str]) -> Option<Route> {
    let (op, object_type, id) = match (method, parts) {
        ("POST", [object_type, "batch", call]) => {
            let op = match *call {
                "read" => Op::BatchRead,
                "create" => Op::BatchCreate,
                "update" => Op::BatchUpdate,
                "upsert" => Op::BatchUpsert,
                "archive" => Op::BatchArchive,
                _ => return None,
            };
            (op, object_type, "")
        }
        ("POST", [object_type, "search"]) => (Op::Search, object_type, ""),
        ("POST", [object_type, "merge"]) => (Op::Merge, object_type, ""),
        ("POST", [object_type, "gdpr-delete"]) => (Op::GdprDelete, object_type, ""),
        ("GET", [object_type]) => (Op::List, object_type, ""),
        ("POST", [object_type]) => (Op::Create, object_type, ""),
        ("GET", [object_type, id]) => (Op::GetOne, object_type, *id),
        ("PATCH", [object_type, id]) => (Op::Update, object_type, *id),
        ("DELETE", [object_type, id]) => (Op::Archive, object_type, *id),
        _ => return None,
    };
    to(op, object_type, id)
}

fn exports(method: &str, parts: &[&str]) -> Option<Route> {
    match (method, parts) {
        ("POST", ["export", "async"]) => to(Op::ExportStart, "", ""),
        ("GET", ["export", "async", "tasks", id, "status"]) => to(Op::ExportStatus, "", id),
        _ => None,
    }
}

/// The app stands where the others have their object type.
fn webhooks(method: &str, app: &str, parts: &[&str]) -> Option<Route> {
    let (op, id) = match (method, parts) {
        ("GET", ["settings"]) => (Op::WebhookSettings, ""),
        ("PUT", ["settings"]) => (Op::WebhookSettingsSet, ""),
        ("GET", ["subscriptions"]) => (Op::SubscriptionList, ""),
        ("POST", ["subscriptions"]) => (Op::SubscriptionCreate, ""),
        ("PATCH", ["subscriptions", id]) => (Op::SubscriptionUpdate, *id),
        _ => return None,
    };
    to(op, app, id)
}

fn properties(method: &str, parts: &[&str]) -> Option<Route> {
    let (op, object_type, id) = match (method, parts) {
        ("GET", [object_type]) => (Op::PropertyList, object_type, ""),
        ("POST", [object_type]) => (Op::PropertyCreate, object_type, ""),
        ("POST", [object_type, "batch", "create"]) => (Op::PropertyBatchCreate, object_type, ""),
        ("POST", [object_type, "batch", "read"]) => (Op::PropertyBatchRead, object_type, ""),
        ("POST", [object_type, "batch", "archive"]) => (Op::PropertyBatchArchive, object_type, ""),
        ("GET", [object_type, "groups"]) => (Op::GroupList, object_type, ""),
        ("POST", [object_type, "groups"]) => (Op::GroupCreate, object_type, ""),
        ("GET", [object_type, "groups", name]) => (Op::GroupGet, object_type, *name),
        ("PATCH", [object_type, "groups", name]) => (Op::GroupUpdate, object_type, *name),
        ("DELETE", [object_type, "groups", name]) => (Op::GroupDelete, object_type, *name),
        ("GET", [object_type, name]) => (Op::PropertyGet, object_type, *name),
        ("PATCH", [object_type, name]) => (Op::PropertyUpdate, object_type, *name),
        ("DELETE", [object_type, name]) => (Op::PropertyDelete, object_type, *name),
        _ => return None,
    };
    to(op, object_type, id)
}
