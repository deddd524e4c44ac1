//! Failures: what HubSpot or the table said, the value, and trying again.

use askama::Template;
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Redirect, Response};

use super::App;
use super::conflicts::{Narrowed, log, more, summary};
use super::form::{Fields, local};
use super::session::{Flash, Signed};
use super::view::{self, Frame};
use crate::db::page::{Failure, Page};

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

/// Tries one, those selected, or all that match again.
pub async fn retry(
    State(app): State<App>,
    Extension(who): Extension<Signed>,
    Extension(form): Extension<Fields>,
) -> Response {
    let back = local(form.get("back"), "/failures");
    let result = async {
        let ids = match (form.number("one"), form.get("scope")) {
            (Some(one), _) => vec![one],
            (None, "all") => app.db.page_failure_ids(&filter(&Narrowed::read(&form)), BULK).await?,
            (None, _) => form.all("id").iter().filter_map(|id| id.parse().ok()).collect(),
        };
        app.db.page_retry(&who.name, &ids).await
    };
    match result.await {
        Ok(decided) => {
            log("retry", &decided);
            let flash = if decided.done.is_empty() && decided.refused.is_empty() {
                Flash {
                    bad: true,
                    text: "Nothing was selected: tick failures, or take all that match.".to_owned(),
                    lines: Vec::new(),
                    undo: None,
                }
            } else {
                let mut flash = summary(
                    &decided,
                    "tried again",
                    "one that fails again comes back within moments",
                );
                flash.undo = None;
                flash
            };
            app.sessions.tell(&who, flash);
            Redirect::to(back).into_response()
        }
        Err(error) => view::failed(&error),
    }
}
