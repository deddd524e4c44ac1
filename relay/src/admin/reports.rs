//! Screens to read: mappings with what is wrong with them, reconciliation runs, and who did what on this page.

use askama::Template;
use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::App;
use super::conflicts::more;
use super::form::Fields;
use super::session::Signed;
use super::view::{self, Frame, Message};
use crate::db::error::DbError;
use crate::db::page::{Action, Finding, MappedField, MappingLine, Mappings, Run};

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
#[template(path = "runs.html")]
struct Runs {
    frame: Frame,
    rows: Vec<Run>,
    next: Option<i64>,
}

#[derive(Template)]
#[template(path = "run.html")]
struct OneRun {
    frame: Frame,
    run: Run,
    next: Option<i64>,
}

impl Finding {
    /// Where the record's page is; none when there is no row.
    fn link(&self) -> Option<String> {
        self.entity_key
            .as_ref()
            .map(|key| view::record_link(&self.entity_type, key))
    }
}

/// Reconciliation runs.
pub async fn runs(State(app): State<App>, Extension(who): Extension<Signed>, RawQuery(text): RawQuery) -> Response {
    let fields = Fields::parse(text.unwrap_or_default().as_bytes());
    let screen = async {
        let frame = Frame::new(&app, &who, "reconciliation", "/reconciliation".to_owned()).await?;
        let mut rows = app.db.page_runs(fields.number("before"), ROWS + 1).await?;
        let next = more(&mut rows, ROWS, |r| r.id);
        Ok(Runs { frame, rows, next })
    };
    view::answer(screen.await)
}

/// One run with its report and findings.
pub async fn run(
    State(app): State<App>,
    Extension(who): Extension<Signed>,
    Path(id): Path<i64>,
    RawQuery(text): RawQuery,
) -> Response {
    let fields = Fields::parse(text.unwrap_or_default().as_bytes());
    let screen: Result<Option<OneRun>, DbError> = async {
        let Some(mut run) = app.db.page_run(id, fields.number("after"), ROWS + 1).await? else {
            return Ok(None);
        };
        let next = more(&mut run.found, ROWS, |f| f.id);
        let frame = Frame::new(&app, &who, "reconciliation", format!("/reconciliation/{id}")).await?;
        Ok(Some(OneRun { frame, run, next }))
    }
    .await;
    match screen {
        Ok(Some(page)) => view::answer::<OneRun>(Ok(page)),
        Ok(None) => view::message(StatusCode::NOT_FOUND, Message::NOTHING),
        Err(error) => view::failed(&error),
    }
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
