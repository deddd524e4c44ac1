//! Screens to read: mappings with what is wrong with them, and who did what on this page.

use askama::Template;
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::response::Response;

use super::App;
use super::conflicts::more;
use super::form::Fields;
use super::session::Signed;
use super::view::{self, Frame};
use crate::db::page::{Action, MappedField, MappingLine, Mappings};

/// Rows on a page.
const ROWS: i32 = 50;

#[derive(Template)]
#[template(path = "mappings.html")]
struct MappingsScreen {
    frame: Frame,
    data: Mappings,
}

impl MappingLine {
    fn keys(&self) -> String {
        self.key_columns.join(", ")
    }
}

impl MappedField {
    /// The column, with the keys inside it.
    fn column(&self) -> String {
        match &self.path {
            Some(path) => format!("{} › {}", self.column_name, path.join(" › ")),
            None => self.column_name.clone(),
        }
    }

    /// The direction as an arrow.
    fn arrow(&self) -> &'static str {
        match self.sync_direction.as_str() {
            "WARP_TO_HUBSPOT" => "→",
            "HUBSPOT_TO_WARP" => "←",
            "BIDIRECTIONAL" => "↔",
            _ => "·",
        }
    }
}

/// The mappings.
pub async fn mappings(State(app): State<App>, Extension(who): Extension<Signed>) -> Response {
    let screen = async {
        let frame = Frame::new(&app, &who, "mappings", "/mappings".to_owned()).await?;
        let data = app.db.page_mappings().await?;
        Ok(MappingsScreen { frame, data })
    };
    view::answer(screen.await)
}

#[derive(Template)]
#[template(path = "activity.html")]
struct Activity {
    frame: Frame,
    rows: Vec<Action>,
    next: Option<i64>,
}

impl Action {
    /// What was done, in words.
    fn what(&self) -> String {
        let what = match self.action.as_str() {
            "undo" => "opened again".to_owned(),
            "retry" => "tried again".to_owned(),
            "compare" => "asked for".to_owned(),
            "cancel" => "cancelled".to_owned(),
            _ => format!(
                "resolved, {}",
                match self.winner.as_deref() {
                    Some("WARP") => "WARP kept",
                    Some("HUBSPOT") => "HubSpot kept",
                    _ => "another value",
                }
            ),
        };
        let thing = match (self.action.as_str(), self.done) {
            ("retry", 1) => "failure",
            ("retry", _) => "failures",
            ("compare" | "cancel", _) => "comparison",
            (_, 1) => "conflict",
            _ => "conflicts",
        };
        format!("{} {thing} {what}", view::number(self.done))
    }

    /// The first ids.
    fn ids(&self) -> String {
        let ids: Vec<String> = self.first.iter().map(i64::to_string).collect();
        let more = if self.done > self.first.len() as i64 {
            ", …"
        } else {
            ""
        };
        format!("{}{more}", ids.join(", "))
    }
}

/// Who did what.
pub async fn activity(State(app): State<App>, Extension(who): Extension<Signed>, RawQuery(text): RawQuery) -> Response {
    let fields = Fields::parse(text.unwrap_or_default().as_bytes());
    let screen = async {
        let frame = Frame::new(&app, &who, "activity", "/activity".to_owned()).await?;
        let mut rows = app.db.page_actions(fields.number("before"), ROWS + 1).await?;
        let next = more(&mut rows, ROWS, |a| a.id);
        Ok(Activity { frame, rows, next })
    };
    view::answer(screen.await)
}
