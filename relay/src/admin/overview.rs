//! The overview: how the queue, latency, conflicts and failures went over time, the day's calls, the relays.

use askama::Template;
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use jiff::Timestamp;

use super::App;
use super::chart::{Chart, Form, chart};
use super::form::Fields;
use super::session::Signed;
use super::view::{self, Frame};
use crate::db::error::DbError;
use crate::db::page::{Overview, Point, Quota};

/// Points of a chart.
const POINTS: usize = 96;

#[derive(Template)]
#[template(path = "overview.html")]
struct Screen {
    frame: Frame,
    data: Overview,
    charts: Vec<Chart>,
    hours: i32,
}

impl Screen {
    /// Share of the day's calls, in per cent.
    fn used(&self, quota: &Quota) -> i64 {
        let limit = quota.calls_per_day.unwrap_or(0).max(1);
        (quota.used * 100 / limit).clamp(0, 100)
    }

    fn forecast_is_too_high(&self, quota: &Quota) -> bool {
        matches!((quota.forecast, quota.calls_per_day), (Some(f), Some(limit)) if f > limit)
    }

    fn oldest(&self) -> String {
        let status = &self.data.status;
        let oldest = status.oldest_waiting_seconds.filter(|_| status.queue_depth > 0);
        oldest.map_or_else(
            || "nothing waits".to_owned(),
            |s| format!("oldest {}", view::duration(s as f64)),
        )
    }
}

/// The overview of the last hours: 1, 24 or 168.
pub async fn show(State(app): State<App>, Extension(who): Extension<Signed>, RawQuery(text): RawQuery) -> Response {
    let fields = Fields::parse(text.unwrap_or_default().as_bytes());
    let hours = match fields.number("hours") {
        Some(1) => 1,
        Some(168) => 168,
        _ => 24,
    };
    view::answer(screen(&app, &who, hours).await)
}

async fn screen(app: &App, who: &Signed, hours: i32) -> Result<Screen, DbError> {
    let frame = Frame::new(app, who, "overview", format!("/?hours={hours}")).await?;
    let data = app.db.page_overview(hours, POINTS as i32).await?;
    let charts = charts(&data.history, hours);
    Ok(Screen {
        frame,
        data,
        charts,
        hours,
    })
}

fn charts(history: &[Point], hours: i32) -> Vec<Chart> {
    let span = i64::from(hours) * 3600;
    let width = (span / POINTS as i64).max(60);
    let slots = usize::try_from(span / width).unwrap_or(POINTS);
    let end = Timestamp::now().as_second().div_euclid(width);
    let places = |value: fn(&Point) -> Option<f64>| {
        let mut out = vec![None; slots];
        for point in history {
            let Some(at) = point.at.as_deref().and_then(|at| at.parse::<Timestamp>().ok()) else {
                continue;
            };
            let back = usize::try_from(end - at.as_second().div_euclid(width)).unwrap_or(usize::MAX);
            if back < slots {
                out[slots - 1 - back] = value(point);
            }
        }
        out
    };
    let whole = |value: f64| view::number(value.round() as i64);
    vec![
        chart(
            "Waiting changes",
            Form::Line,
            "queue",
            &places(|p| p.queue_depth),
            whole,
        ),
        chart(
            "Latency, 95 of 100 within",
            Form::Line,
            "latency",
            &places(|p| p.latency_p95_seconds),
            view::duration,
        ),
        chart("Delivered", Form::Bars, "delivered", &places(|p| p.delivered), whole),
        chart(
            "Conflicts found",
            Form::Bars,
            "conflicts",
            &places(|p| p.conflicts),
            whole,
        ),
        chart("Failures", Form::Bars, "failures", &places(|p| p.failures), whole),
    ]
}
