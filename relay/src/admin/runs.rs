//! Reconciliation: runs with their reports; asking for one, watching it, ending it.

use askama::Template;
use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};

use super::App;
use super::conflicts::more;
use super::form::Fields;
use super::session::{Flash, Signed};
use super::view::{self, Frame, Message};
use crate::db::error::DbError;
use crate::db::page::{Asked, Finding, Progress, Run};
use crate::telemetry::event;

/// Rows on a page.
const ROWS: i32 = 50;

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

impl Run {
    /// Waits or runs: it is worth watching, and can be ended.
    pub(crate) fn unfinished(&self) -> bool {
        matches!(self.status.as_str(), "waiting" | "running" | "paused")
    }
}

impl Progress {
    /// The share that is done, as a whole number.
    fn share(&self) -> i64 {
        self.percent.unwrap_or(0.0).clamp(0.0, 100.0) as i64
    }

    fn left(&self) -> Option<String> {
        self.estimated_seconds_left.map(|s| view::duration(s as f64))
    }
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
pub async fn list(State(app): State<App>, Extension(who): Extension<Signed>, RawQuery(text): RawQuery) -> Response {
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
pub async fn one(
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

/// Asks for a comparison; what was asked for is shown.
pub async fn start(
    State(app): State<App>,
    Extension(who): Extension<Signed>,
    Extension(form): Extension<Fields>,
) -> Response {
    let dry_run = form.get("how") != "settle";
    let asked = app.db.page_compare(&who.name, form.get("type"), dry_run).await;
    told(
        &app,
        &who,
        asked,
        "compare",
        "/reconciliation",
        "The comparison is asked for: a relay takes it within seconds.",
    )
}

/// Ends one.
pub async fn cancel(State(app): State<App>, Extension(who): Extension<Signed>, Path(id): Path<i64>) -> Response {
    let asked = app.db.page_cancel(&who.name, id).await;
    let back = format!("/reconciliation/{id}");
    let text = "The comparison is cancelled. What it did so far stays.";
    told(&app, &who, asked, "cancel", &back, text)
}

fn told(
    app: &App,
    who: &Signed,
    asked: Result<Asked, DbError>,
    action: &'static str,
    otherwise: &str,
    done: &str,
) -> Response {
    let asked = match asked {
        Ok(asked) => asked,
        Err(error) => return view::failed(&error),
    };
    tracing::info!(
        event = event::PAGE_ACTION,
        action,
        run = asked.run,
        "a decision was made on the admin page"
    );
    let flash = match &asked.message {
        None => Flash {
            bad: false,
            text: done.to_owned(),
            lines: Vec::new(),
            undo: None,
        },
        Some(message) => Flash {
            bad: true,
            text: format!("Nothing was changed: {message}."),
            lines: asked.hint.iter().map(|hint| format!("What to do: {hint}.")).collect(),
            undo: None,
        },
    };
    app.sessions.tell(who, flash);
    let to = asked
        .run
        .map_or_else(|| otherwise.to_owned(), |run| format!("/reconciliation/{run}"));
    Redirect::to(&to).into_response()
}
