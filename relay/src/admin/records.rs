//! Records: finding one, and its page with each field on both sides and its history.

use askama::Template;
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::App;
use super::conflicts::more;
use super::form::{Fields, query};
use super::session::Signed;
use super::view::{self, Frame, Message};
use crate::db::error::DbError;
use crate::db::page::{LogLine, Record, RecordLine};

/// Records on a page.
const ROWS: i32 = 50;
/// Lines of history on a page.
const LINES: i32 = 50;

#[derive(Template)]
#[template(path = "records.html")]
struct List {
    frame: Frame,
    of: String,
    search: String,
    rows: Vec<RecordLine>,
    next: Option<String>,
}

impl RecordLine {
    fn link(&self) -> String {
        view::record_link(&self.entity_type, &self.entity_key)
    }
}

#[derive(Template)]
#[template(path = "record.html")]
struct One {
    frame: Frame,
    r: Record,
    field: String,
    history: Vec<LogLine>,
    next: Option<String>,
}

impl One {
    /// Where the history of one field is shown.
    fn field_link(&self, field: &str) -> String {
        let pairs = [
            ("type", self.r.entity_type.as_str()),
            ("key", &self.r.entity_key),
            ("field", field),
        ];
        format!("/record?{}#history", query(&pairs))
    }
}

/// Finds records by key or HubSpot id; without either, the newest.
pub async fn list(State(app): State<App>, Extension(who): Extension<Signed>, RawQuery(text): RawQuery) -> Response {
    let fields = Fields::parse(text.unwrap_or_default().as_bytes());
    let (of, search) = (fields.get("of").to_owned(), fields.get("q").to_owned());
    let screen = async {
        let frame = Frame::new(
            &app,
            &who,
            "records",
            format!("/records?{}", query(&[("of", &of), ("q", &search)])),
        )
        .await?;
        let mut rows = app
            .db
            .page_records(&of, &search, fields.number("before"), ROWS + 1)
            .await?;
        let next = more(&mut rows, ROWS, |r| r.id);
        let next = next.map(|id| {
            format!(
                "/records?{}",
                query(&[("of", &of), ("q", &search), ("before", &id.to_string())])
            )
        });
        Ok(List {
            frame,
            of,
            search,
            rows,
            next,
        })
    };
    view::answer(screen.await)
}

/// A record's page.
pub async fn one(State(app): State<App>, Extension(who): Extension<Signed>, RawQuery(text): RawQuery) -> Response {
    let fields = Fields::parse(text.unwrap_or_default().as_bytes());
    match screen(&app, &who, &fields).await {
        Ok(Some(page)) => view::answer::<One>(Ok(page)),
        Ok(None) => view::message(StatusCode::NOT_FOUND, Message::NOTHING),
        Err(error) => view::failed(&error),
    }
}

async fn screen(app: &App, who: &Signed, fields: &Fields) -> Result<Option<One>, DbError> {
    let (of, key, field) = (
        fields.get("type"),
        fields.raw("key").unwrap_or_default(),
        fields.get("field"),
    );
    let Some(mut r) = app.db.page_record(of, key).await? else {
        return Ok(None);
    };
    // What needs a person comes first.
    r.fields
        .sort_by_key(|f| (f.conflict_id.is_none() && f.failure.is_none(), f.status == "in_sync"));
    let mut history = app
        .db
        .page_history(of, key, field, fields.number("before"), LINES + 1)
        .await?;
    let next = more(&mut history, LINES, |l| l.id);
    let address = |before: &str| {
        format!(
            "/record?{}",
            query(&[("type", of), ("key", key), ("field", field), ("before", before)])
        )
    };
    Ok(Some(One {
        frame: Frame::new(app, who, "records", address("")).await?,
        field: field.to_owned(),
        next: next.map(|id| format!("{}#history", address(&id.to_string()))),
        history,
        r,
    }))
}
