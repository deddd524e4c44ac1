//! `hubspot-relay conflicts`: what waits for a person, and a person's decision, without the page.

use std::fmt::{self, Display, Formatter};

use crate::config::Config;
use crate::db::error::DbError;
use crate::db::page::{Conflict, Decided, Filter, Page};
use crate::db::pool::Db;
use crate::error::RelayError;

/// What was asked for on the command line.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Only of this type.
    pub entity_type: Option<String>,
    /// Only of this field.
    pub field: Option<String>,
    /// Most to list.
    pub limit: i32,
    /// Decide this one, instead of listing.
    pub resolve: Option<(i64, Decision)>,
}

/// Which value both sides are to have.
#[derive(Debug, Clone)]
pub enum Decision {
    /// The row's.
    Warp,
    /// HubSpot's.
    Hubspot,
    /// A third one; an empty text is an empty value.
    Value(String),
}

/// What came of it.
#[derive(Debug)]
pub enum Answer {
    /// The newest open conflicts.
    List(Page<Conflict>),
    /// A decision.
    Decided(Decided),
}

/// Lists or decides.
///
/// # Errors
/// A database that does not answer or refuses, a conflict that does not exist.
pub async fn run(config: &Config, wanted: Wanted) -> Result<Answer, RelayError> {
    let db = Db::new(&config.database)?;
    let Some((id, decision)) = wanted.resolve else {
        let mut filter = Filter::new();
        filter.insert("status".to_owned(), "open".into());
        for (name, value) in [("entity_type", wanted.entity_type), ("field", wanted.field)] {
            filter.insert(name.to_owned(), value.unwrap_or_default().into());
        }
        let page = db.page_conflicts(&filter, None, wanted.limit).await.map_err(refused)?;
        return Ok(Answer::List(page));
    };
    let Some(conflict) = db.page_conflict(id).await.map_err(refused)? else {
        return Err(RelayError::Command {
            problem: format!("there is no conflict {id}: hubspot-relay conflicts lists those that are open"),
        });
    };
    let (winner, value) = match decision {
        Decision::Warp => ("WARP", None),
        Decision::Hubspot => ("HUBSPOT", None),
        Decision::Value(value) => ("VALUE", Some(value).filter(|value| !value.is_empty())),
    };
    let chosen = [format!("{id}:{}", conflict.fingerprint)];
    let decided = db.page_resolve(&person(), &chosen, winner, value.as_deref()).await;
    Ok(Answer::Decided(decided.map_err(refused)?))
}

fn refused(error: DbError) -> RelayError {
    RelayError::Command {
        problem: error.to_string(),
    }
}

/// Who sits at the terminal, as far as it says.
fn person() -> String {
    ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_else(|| "command line".to_owned())
}

impl Answer {
    /// Nothing was refused.
    pub fn ok(&self) -> bool {
        match self {
            Self::List(_) => true,
            Self::Decided(decided) => decided.refused.is_empty(),
        }
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        match self {
            Self::List(page) => serde_json::json!({"total": page.total, "rows": page.rows}),
            Self::Decided(decided) => serde_json::json!({"done": decided.done, "refused": decided.refused}),
        }
    }
}

impl Display for Answer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(page) => list(page, f),
            Self::Decided(decided) => {
                for refusal in &decided.refused {
                    write!(f, "conflict {} was left as it is: {}", refusal.id, refusal.message)?;
                    if let Some(hint) = &refusal.hint {
                        write!(f, "; {hint}")?;
                    }
                }
                for id in &decided.done {
                    write!(f, "conflict {id} is resolved")?;
                }
                Ok(())
            }
        }
    }
}

fn list(page: &Page<Conflict>, f: &mut Formatter<'_>) -> fmt::Result {
    if page.rows.is_empty() {
        return write!(f, "no conflict waits for a person");
    }
    for conflict in &page.rows {
        let Conflict {
            id,
            entity_type,
            entity_key,
            field,
            strategy,
            ..
        } = conflict;
        writeln!(f, "{id}  {entity_type} {}  {field}  {strategy}", printable(entity_key))?;
        for (side, value, at, by) in [
            (
                "WARP",
                &conflict.warp_value,
                &conflict.warp_changed_at,
                &conflict.warp_changed_by,
            ),
            (
                "HubSpot",
                &conflict.hubspot_value,
                &conflict.hubspot_changed_at,
                &conflict.hubspot_changed_by,
            ),
            ("agreed", &conflict.base_value, &None, &None),
        ] {
            let value = value.as_deref().map_or_else(|| "(empty)".to_owned(), printable);
            write!(f, "    {side:<8} {value}")?;
            for part in [at, by].into_iter().flatten() {
                write!(f, "  {}", printable(part))?;
            }
            writeln!(f)?;
        }
    }
    let shown = page.rows.len() as i64;
    if page.total > shown {
        write!(f, "{shown} of {}; --limit shows more", page.total)
    } else {
        write!(f, "{shown} in all")
    }
}

/// On one line, and without what a terminal would take for a command.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() {
                c.escape_default().to_string()
            } else {
                c.to_string()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_command_the_terminal() {
        assert_eq!(printable("Zürich\u{1b}[2J\n"), "Zürich\\u{1b}[2J\\n");
    }

    #[test]
    fn a_refusal_says_why_and_what_to_do() {
        let decided: Decided = serde_json::from_value(serde_json::json!({
            "done": [], "refused": [{"id": 17, "message": "its values have changed", "hint": "look again"}], "log_id": null}))
        .unwrap();
        let answer = Answer::Decided(decided);
        assert!(!answer.ok());
        assert_eq!(
            answer.to_string(),
            "conflict 17 was left as it is: its values have changed; look again"
        );
    }
}
