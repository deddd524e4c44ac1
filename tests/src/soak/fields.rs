//! The fields that are edited, one for each way a field can be decided.

use serde_json::Value as Json;

/// How the product is told to decide a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// `BIDIRECTIONAL`, `LATEST_WINS`
    Latest,
    /// `BIDIRECTIONAL`, `WARP_WINS`
    Warp,
    /// `BIDIRECTIONAL`, `HUBSPOT_WINS`
    Hubspot,
    /// `BIDIRECTIONAL`, `MANUAL`
    Manual,
    /// `WARP_TO_HUBSPOT`
    WarpOnly,
    /// `HUBSPOT_TO_WARP`
    HubspotOnly,
}

/// A field of the mapping.
#[derive(Debug)]
pub struct Field {
    /// Its name in the mapping.
    pub name: &'static str,
    /// Its property.
    pub property: &'static str,
    /// Expression over the row that gives its canonical text.
    pub read: &'static str,
    /// Its column.
    pub column: &'static str,
    /// Its key when the column is JSON.
    pub key: Option<&'static str>,
    /// How it is decided.
    pub rule: Rule,
}

/// All of them.
pub const FIELDS: [Field; 6] = [
    Field {
        name: "company_name",
        property: "name",
        read: "company_name",
        column: "company_name",
        key: None,
        rule: Rule::Latest,
    },
    Field {
        name: "legal_name",
        property: "warp_legal_name",
        read: "legal_name",
        column: "legal_name",
        key: None,
        rule: Rule::Warp,
    },
    Field {
        name: "contact_phone",
        property: "phone",
        read: "contact->>'phone'",
        column: "contact",
        key: Some("phone"),
        rule: Rule::Hubspot,
    },
    Field {
        name: "contact_email",
        property: "domain",
        read: "contact->>'email'",
        column: "contact",
        key: Some("email"),
        rule: Rule::Manual,
    },
    Field {
        name: "current_balance",
        property: "warp_current_balance",
        read: "trim_scale(current_balance)::text",
        column: "current_balance",
        key: None,
        rule: Rule::WarpOnly,
    },
    Field {
        name: "payment_terms",
        property: "warp_payment_terms",
        read: "payment_terms",
        column: "payment_terms",
        key: None,
        rule: Rule::HubspotOnly,
    },
];

/// Makes the rows; the parameter is their number.
pub(crate) const INSERT: &str = "
INSERT INTO customers (ban, company_name, legal_name, status, contact, address, current_balance)
SELECT 'BAN-' || n, 'start ' || n, 'legal ' || n, 'ACTIVE',
  jsonb_build_object('phone', '+49 30 ' || 1000000 + n, 'email', 'start' || n || '.example'), '{}', n + 0.5
FROM generate_series(1, $1::int) AS n";

/// Gives the strategy's mapping one field of each strategy.
pub(crate) fn change_mapping(mapping: &mut Json) {
    super::strategy(mapping, "legal_name", "WARP_WINS");
    super::strategy(mapping, "contact_phone", "HUBSPOT_WINS");
    super::strategy(mapping, "contact_email", "MANUAL");
}

impl Field {
    /// May a person edit it in HubSpot? A HubSpot edit of a field that only flows there is drift, which stays until a
    /// reconciliation.
    pub fn in_hubspot(&self) -> bool {
        self.rule != Rule::WarpOnly
    }

    /// A value that nobody wrote before.
    pub(crate) fn value(&self, number: u64) -> String {
        match (self.column, self.key) {
            (_, Some("phone")) => format!("+49 40 {}", 1_000_000 + number),
            (_, Some(_)) => format!("v{number}.example"),
            ("current_balance", _) => format!("{number}.25"),
            _ => format!("value {number}"),
        }
    }
}

/// The statement that sets these fields of the row `$1` to `$2`, `$3` … and answers with what they replaced.
pub(crate) fn update(fields: &[&Field]) -> String {
    let mut sets: Vec<(&str, String)> = Vec::new();
    for (n, field) in fields.iter().enumerate() {
        let parameter = format!("${}::text", n + 2);
        let known = sets.iter_mut().find(|(column, _)| *column == field.column);
        match (field.key, known) {
            (Some(key), Some((_, expression))) => {
                *expression = format!("jsonb_set({expression}, '{{{key}}}', to_jsonb({parameter}))");
            }
            (Some(key), None) => sets.push((
                field.column,
                format!("jsonb_set(c.{}, '{{{key}}}', to_jsonb({parameter}))", field.column),
            )),
            (None, _) if field.column == "current_balance" => {
                sets.push((field.column, format!("{parameter}::numeric")))
            }
            (None, _) => sets.push((field.column, parameter)),
        }
    }
    let sets: Vec<String> = sets
        .into_iter()
        .map(|(column, value)| format!("{column} = {value}"))
        .collect();
    let reads: Vec<String> = fields
        .iter()
        .enumerate()
        .map(|(n, field)| format!("{} AS was{n}", field.read))
        .collect();
    let answers: Vec<String> = (0..fields.len()).map(|n| format!("old.was{n}")).collect();
    format!(
        "WITH old AS MATERIALIZED (SELECT id, {} FROM customers WHERE id = $1::text::bigint FOR UPDATE)
         UPDATE customers c SET {} FROM old WHERE c.id = old.id RETURNING {}",
        reads.join(", "),
        sets.join(", "),
        answers.join(", ")
    )
}
