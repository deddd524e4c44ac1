//! Failures: what HubSpot or the table said, the value, and trying again.

use askama::Template;
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Redirect, Response};

use super::App;
use super::conflicts::{Narrowed, log, more, refuse, summary};
use super::form::{Fields, local};
use super::session::Signed;
use super::view::{self, Frame};
use crate::db::error::DbError;
use crate::db::page::{Failure, Page, RetryPreview};

/// Failures on a page.
const ROWS: i32 = 25;
/// Failures that one click tries again.
const BULK: i32 = 1000;

#[derive(Template)]
#[template(path = "failures.html")]
struct List {
    frame: Frame,
    by: Narrowed,
    page: Page<Failure>,
    next: Option<i64>,
    first_page: bool,
    bulk: i64,
}

impl Failure {
    /// Where the record's page is.
    pub(crate) fn record_link(&self) -> String {
        view::record_link(&self.entity_type, &self.entity_key)
    }

    /// What usually mends a failure of this kind.
    pub(crate) fn mend(&self) -> &'static str {
        match self.kind.as_str() {
            "invalid" => {
                "Correct the value in the row, the property's options in HubSpot, or the mapping's enum_values. An edit of the value is tried by itself; otherwise retry."
            }
            "row" => "The table refused HubSpot's value: correct it in HubSpot, or the table's constraint, then retry.",
            "unlinked" => "Give the row the value that finds its record (the mapping's match), then retry.",
            "not_found" => "HubSpot has no such record any more: restore it there, then retry.",
            "conflict" => {
                "HubSpot holds another record with this unique value: merge the two, or correct the value, then retry."
            }
            _ => "Retries were used up while HubSpot was in trouble: retry when it answers again.",
        }
    }
}

/// The list.
pub async fn list(State(app): State<App>, Extension(who): Extension<Signed>, RawQuery(text): RawQuery) -> Response {
    let fields = Fields::parse(text.unwrap_or_default().as_bytes());
    let by = Narrowed::read(&fields);
    let before = fields.number("before");
    let screen = async {
        let frame = Frame::new(&app, &who, "failures", format!("/failures?{}", by.query(before))).await?;
        let mut page = app.db.page_failures(&filter(&by), before, ROWS + 1).await?;
        let next = more(&mut page.rows, ROWS, |f| f.id);
        Ok(List {
            frame,
            by,
            page,
            next,
            first_page: before.is_none(),
            bulk: i64::from(BULK),
        })
    };
    view::answer(screen.await)
}

/// Failures have no policy.
fn filter(by: &Narrowed) -> crate::db::page::Filter {
    let mut filter = by.filter();
    filter.remove("strategy");
    filter
}

#[derive(Template)]
#[template(path = "retry.html")]
struct Bulk {
    frame: Frame,
    preview: RetryPreview,
    back: String,
}

/// Shows what trying those selected, or all that match, again would send.
pub async fn preview(
    State(app): State<App>,
    Extension(who): Extension<Signed>,
    Extension(form): Extension<Fields>,
) -> Response {
    let back = local(form.get("back"), "/failures").to_owned();
    let all = form.get("scope") == "all";
    let ids: Vec<i64> = form.all("id").iter().filter_map(|id| id.parse().ok()).collect();
    if ids.is_empty() && !all {
        let text = "Nothing was selected: tick failures, or take all that match.";
        return refuse(&app, &who, &back, text);
    }
    let by = filter(&Narrowed::read(&form));
    let ids = (!all).then_some(ids.as_slice());
    let screen: Result<Bulk, DbError> = async {
        let preview = app.db.page_retry_preview(&by, ids, BULK).await?;
        let frame = Frame::new(&app, &who, "failures", back.clone()).await?;
        Ok(Bulk {
            frame,
            preview,
            back: back.clone(),
        })
    }
    .await;
    match screen {
        Ok(bulk) if bulk.preview.chosen.is_empty() => {
            let text = "None of these failures is open any more: there is nothing to try again.";
            refuse(&app, &who, &back, text)
        }
        screen => view::answer(screen),
    }
}

/// Tries one, or those that were previewed, again.
pub async fn retry(
    State(app): State<App>,
    Extension(who): Extension<Signed>,
    Extension(form): Extension<Fields>,
) -> Response {
    let back = local(form.get("back"), "/failures");
    let ids: Vec<i64> = match form.number("one") {
        Some(one) => vec![one],
        None => form.all("id").iter().filter_map(|id| id.parse().ok()).collect(),
    };
    match app.db.page_retry(&who.name, &ids).await {
        Ok(decided) => {
            log("retry", &decided);
            let how = "one that fails again comes back within moments";
            let mut flash = summary(&decided, "tried again", how);
            flash.undo = None;
            app.sessions.tell(&who, flash);
            Redirect::to(back).into_response()
        }
        Err(error) => view::failed(&error),
    }
}
