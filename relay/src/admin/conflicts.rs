//! Conflicts: a list to work through, one by one or in bulk with a preview, and undo.

use askama::Template;
use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};

use super::App;
use super::form::{Fields, local, query};
use super::session::{Flash, Signed};
use super::view::{self, Frame, Message};
use crate::db::error::DbError;
use crate::db::page::{Conflict, Decided, Filter, Page, Preview};
use crate::telemetry::event;

/// Conflicts on a page.
const ROWS: i32 = 25;
/// Conflicts that one decision in bulk takes.
const BULK: i32 = 1000;
/// Reasons that are shown after a decision in bulk.
const REASONS: usize = 10;

/// What the list is narrowed down to.
pub(super) struct Narrowed {
    pub status: String,
    pub entity_type: String,
    pub field: String,
    pub strategy: String,
    pub kind: String,
    pub entity_key: String,
}

impl Narrowed {
    pub(super) fn read(fields: &Fields) -> Self {
        let get = |name: &str| fields.get(name).to_owned();
        let status = match fields.get("status") {
            status @ ("closed" | "all") => status.to_owned(),
            _ => "open".to_owned(),
        };
        // A field is chosen together with its type, as `type.field`.
        let (entity_type, field) = match fields.get("of").split_once('.') {
            Some((of, field)) => (of.to_owned(), field.to_owned()),
            None => (get("of"), String::new()),
        };
        Self {
            status,
            entity_type,
            field,
            strategy: get("strategy"),
            kind: get("kind"),
            entity_key: get("key"),
        }
    }

    pub(super) fn filter(&self) -> Filter {
        [
            ("status", &self.status),
            ("entity_type", &self.entity_type),
            ("field", &self.field),
            ("strategy", &self.strategy),
            ("kind", &self.kind),
            ("entity_key", &self.entity_key),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.as_str().into()))
        .collect()
    }

    /// The type, with the field if there is one.
    pub(super) fn of(&self) -> String {
        if self.field.is_empty() {
            self.entity_type.clone()
        } else {
            format!("{}.{}", self.entity_type, self.field)
        }
    }

    /// As a query, from an id on.
    pub(super) fn query(&self, before: Option<i64>) -> String {
        let before = before.map(|id| id.to_string()).unwrap_or_default();
        query(&[
            ("status", &self.status),
            ("of", &self.of()),
            ("strategy", &self.strategy),
            ("kind", &self.kind),
            ("key", &self.entity_key),
            ("before", &before),
        ])
    }

    pub(super) fn is_narrow(&self) -> bool {
        !(self.entity_type.is_empty() && self.strategy.is_empty() && self.kind.is_empty() && self.entity_key.is_empty())
    }
}

#[derive(Template)]
#[template(path = "conflicts.html")]
struct List {
    frame: Frame,
    by: Narrowed,
    page: Page<Conflict>,
    /// The id the next page begins below.
    next: Option<i64>,
    first_page: bool,
}

#[derive(Template)]
#[template(path = "conflict.html")]
struct One {
    frame: Frame,
    c: Conflict,
}

#[derive(Template)]
#[template(path = "preview.html")]
struct Bulk {
    frame: Frame,
    preview: Preview,
    winner: &'static str,
    back: String,
}

/// The list.
pub async fn list(State(app): State<App>, Extension(who): Extension<Signed>, RawQuery(text): RawQuery) -> Response {
    let fields = Fields::parse(text.unwrap_or_default().as_bytes());
    let by = Narrowed::read(&fields);
    let before = fields.number("before");
    let screen = async {
        let frame = Frame::new(&app, &who, "conflicts", format!("/conflicts?{}", by.query(before))).await?;
        let mut page = app.db.page_conflicts(&by.filter(), before, ROWS + 1).await?;
        let next = more(&mut page.rows, ROWS, |c| c.id);
        Ok(List {
            frame,
            by,
            page,
            next,
            first_page: before.is_none(),
        })
    };
    view::answer(screen.await)
}

/// Takes away the row beyond the page; gives the id the next page begins below, if there is one.
pub(super) fn more<T>(rows: &mut Vec<T>, most: i32, id: fn(&T) -> i64) -> Option<i64> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let beyond = rows.len() > most;
    rows.truncate(most);
    rows.last().filter(|_| beyond).map(id)
}

/// One conflict.
pub async fn one(State(app): State<App>, Extension(who): Extension<Signed>, Path(id): Path<i64>) -> Response {
    match app.db.page_conflict(id).await {
        Ok(Some(c)) => {
            let frame = Frame::new(&app, &who, "conflicts", format!("/conflicts/{id}")).await;
            view::answer(frame.map(|frame| One { frame, c }))
        }
        Ok(None) => view::message(StatusCode::NOT_FOUND, Message::NOTHING),
        Err(error) => view::failed(&error),
    }
}

/// Decides one conflict.
pub async fn resolve(
    State(app): State<App>,
    Extension(who): Extension<Signed>,
    Extension(form): Extension<Fields>,
    Path(id): Path<i64>,
) -> Response {
    let back = local(form.get("back"), "/conflicts");
    let winner = form.get("winner");
    // An empty box means an empty value, which is NULL on this side and an empty text at HubSpot.
    let value = match winner {
        "VALUE" => form.raw("value").filter(|value| !value.is_empty()),
        _ => None,
    };
    let chosen = [format!("{id}:{}", form.get("seen"))];
    match app.db.page_resolve(&who.name, &chosen, winner, value).await {
        Ok(decided) => {
            log("resolve", &decided);
            let flash = match decided.refused.first() {
                Some(refusal) => Flash {
                    bad: true,
                    text: format!("Conflict {id} was left as it is: {}.", refusal.message),
                    lines: refusal.hint.iter().map(|hint| format!("What to do: {hint}.")).collect(),
                    undo: None,
                },
                None => Flash {
                    bad: false,
                    text: format!("Conflict {id} is resolved: {}.", said(winner)),
                    lines: Vec::new(),
                    undo: decided.log_id,
                },
            };
            app.sessions.tell(&who, flash);
            Redirect::to(back).into_response()
        }
        Err(error) => view::failed(&error),
    }
}

fn said(winner: &str) -> &'static str {
    match winner {
        "WARP" => "WARP's value is kept and goes to HubSpot",
        "HUBSPOT" => "HubSpot's value is kept and is in the row",
        _ => "the value you gave is in the row and goes to HubSpot",
    }
}

/// Shows what a decision in bulk would do.
pub async fn preview(
    State(app): State<App>,
    Extension(who): Extension<Signed>,
    Extension(form): Extension<Fields>,
) -> Response {
    let back = local(form.get("back"), "/conflicts").to_owned();
    let winner = match form.get("winner") {
        "WARP" => "WARP",
        "HUBSPOT" => "HUBSPOT",
        _ => return refuse(&app, &who, &back, "Choose which side to keep, then preview again."),
    };
    let all = form.get("scope") == "all";
    let ids: Vec<i64> = form.all("id").iter().filter_map(|id| id.parse().ok()).collect();
    if ids.is_empty() && !all {
        return refuse(
            &app,
            &who,
            &back,
            "Nothing was selected: tick conflicts, or take all that match.",
        );
    }
    let by = Narrowed::read(&form);
    let ids = (!all).then_some(ids.as_slice());
    let screen: Result<Bulk, DbError> = async {
        let preview = app.db.page_preview(&by.filter(), ids, BULK).await?;
        let frame = Frame::new(&app, &who, "conflicts", back.clone()).await?;
        Ok(Bulk {
            frame,
            preview,
            winner,
            back: back.clone(),
        })
    }
    .await;
    match screen {
        Ok(bulk) if bulk.preview.chosen.is_empty() => refuse(
            &app,
            &who,
            &back,
            "None of these conflicts is open any more: nothing was changed.",
        ),
        screen => view::answer(screen),
    }
}

/// Says why nothing was done, where one came from.
pub(super) fn refuse(app: &App, who: &Signed, back: &str, text: &str) -> Response {
    let flash = Flash {
        bad: true,
        text: text.to_owned(),
        lines: Vec::new(),
        undo: None,
    };
    app.sessions.tell(who, flash);
    Redirect::to(back).into_response()
}

/// Decides in bulk exactly what was previewed.
pub async fn apply(
    State(app): State<App>,
    Extension(who): Extension<Signed>,
    Extension(form): Extension<Fields>,
) -> Response {
    let back = local(form.get("back"), "/conflicts");
    let winner = form.get("winner");
    let mut chosen = form.all("chosen");
    chosen.retain(|one| one.split_once(':').is_some_and(|(id, _)| id.parse::<i64>().is_ok()));
    chosen.truncate(BULK as usize);
    if !matches!(winner, "WARP" | "HUBSPOT") || chosen.is_empty() {
        return refuse(&app, &who, back, "Nothing was chosen: preview again.");
    }
    match app.db.page_resolve(&who.name, &chosen, winner, None).await {
        Ok(decided) => {
            log("resolve", &decided);
            let flash = summary(&decided, "resolved", said(winner));
            app.sessions.tell(&who, flash);
            Redirect::to(back).into_response()
        }
        Err(error) => view::failed(&error),
    }
}

/// Opens again what a person resolved: one conflict, or all of a decision in bulk.
pub async fn undo(
    State(app): State<App>,
    Extension(who): Extension<Signed>,
    Extension(form): Extension<Fields>,
) -> Response {
    let back = local(form.get("back"), "/conflicts");
    let ids = match (form.number("log"), form.number("id")) {
        (Some(log), _) => match app.db.page_subjects(log).await {
            Ok(ids) => ids.unwrap_or_default(),
            Err(error) => return view::failed(&error),
        },
        (None, Some(id)) => vec![id],
        (None, None) => Vec::new(),
    };
    if ids.is_empty() {
        return view::message(StatusCode::NOT_FOUND, Message::NOTHING);
    }
    match app.db.page_undo(&who.name, &ids).await {
        Ok(decided) => {
            log("undo", &decided);
            let mut flash = summary(&decided, "open again", "their values are as they were");
            flash.undo = None;
            app.sessions.tell(&who, flash);
            Redirect::to(back).into_response()
        }
        Err(error) => view::failed(&error),
    }
}

/// What came of a decision about several.
pub(super) fn summary(decided: &Decided, verb: &str, how: &str) -> Flash {
    let (done, left) = (decided.done.len() as i64, decided.refused.len() as i64);
    let mut text = match done {
        0 => "Nothing was changed.".to_owned(),
        1 => format!("1 is {verb}: {how}."),
        n => format!("{} are {verb}: {how}.", view::number(n)),
    };
    if left > 0 {
        text.push_str(&format!(" {} left as they are:", view::number(left)));
    }
    let mut lines: Vec<String> = decided
        .refused
        .iter()
        .take(REASONS)
        .map(|r| format!("{}: {}", r.id, r.message))
        .collect();
    if decided.refused.len() > REASONS {
        lines.push(format!("and {} more", decided.refused.len() - REASONS));
    }
    Flash {
        bad: left > 0,
        text,
        lines,
        undo: decided.log_id.filter(|_| done > 0),
    }
}

pub(super) fn log(action: &'static str, decided: &Decided) {
    tracing::info!(
        event = event::PAGE_ACTION,
        action,
        done = decided.done.len(),
        refused = decided.refused.len(),
        page_log = decided.log_id,
        "a decision was made on the admin page"
    );
}
