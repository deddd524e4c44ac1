//! Exports: asked for, made after a while, and a CSV file behind a link that needs no token and soon ends.

use axum::http::header;
use axum::http::request::Parts;
use serde_json::{Value, json};

use super::Inner;
use super::errors::ApiError;
use super::query::{ApiRequest, Reply, parse_form, required};
use super::route::Op;

/// Where the files are.
pub(crate) const FILES: &str = "/export-files/";
/// How long a link lives.
const LINK_MS: i64 = 5 * 60_000;
/// Exports in any 24 hours.
const A_DAY: usize = 30;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// An export, as it was when it was asked for.
#[derive(Debug)]
pub(crate) struct Export {
    asked_at: i64,
    /// Looks until it is complete.
    looks_left: u32,
    csv: Vec<u8>,
}

fn names(body: &Value, key: &str) -> Result<Vec<String>, ApiError> {
    let list = body.get(key).and_then(Value::as_array);
    let list = list.ok_or_else(|| ApiError::bad_json(format!("some required fields were not set: [{key}]")))?;
    Ok(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

impl Inner {
    /// Runs an operation of the exports.
    pub(crate) fn exports(&self, request: &ApiRequest) -> Result<Reply, ApiError> {
        let (now, scopes) = {
            let core = self.core();
            (core.clock.now(), core.tokens.scopes.clone())
        };
        let needed = request.route.op.scopes("");
        if scopes.is_some_and(|granted| !needed.iter().any(|scope| granted.contains(scope))) {
            return Err(ApiError::missing_scopes(&needed));
        }
        match request.route.op {
            Op::ExportStart => self.export_start(request, now),
            _ => self.export_status(request, now),
        }
    }

    fn export_start(&self, request: &ApiRequest, now: i64) -> Result<Reply, ApiError> {
        let body = request.json()?;
        for key in ["exportName", "language"] {
            required(&body, key)?;
        }
        if required(&body, "exportType")? != "VIEW" || required(&body, "format")? != "CSV" {
            return Err(ApiError::validation("only the CSV file of a VIEW is simulated"));
        }
        let wanted = names(&body, "objectProperties")?;
        let internal = names(&body, "exportInternalValuesOptions")?;
        if !["NAMES", "VALUES"]
            .iter()
            .all(|option| internal.iter().any(|name| name == option))
        {
            return Err(ApiError::validation(
                "only exports with internal names and values are simulated",
            ));
        }
        let recent = super::lock(&self.exports)
            .iter()
            .filter(|it| it.asked_at > now - DAY_MS)
            .count();
        if recent >= A_DAY {
            return Err(ApiError::new(429, "RATE_LIMITS", "30 exports in 24 hours are allowed"));
        }
        let csv = self.export_csv(&required(&body, "objectType")?, &wanted)?;
        let looks_left = self.core().behaviour.export_looks;
        let mut exports = super::lock(&self.exports);
        exports.push(Export {
            asked_at: now,
            looks_left,
            csv,
        });
        Ok(Reply::json(202, json!({"id": exports.len().to_string(), "links": {}})))
    }

    fn export_csv(&self, object_type: &str, wanted: &[String]) -> Result<Vec<u8>, ApiError> {
        let core = self.core();
        // Types are named in the singular here: `COMPANY`.
        let plural = core
            .schemas
            .types
            .values()
            .find(|it| it.singular.to_uppercase() == object_type);
        let type_id = match plural {
            Some(it) => it.type_id.clone(),
            None => core.schemas.resolve(object_type)?,
        };
        let schema = core.schemas.get(&type_id)?;
        let shown: Vec<&String> = wanted
            .iter()
            .filter(|name| *name != "hs_object_id" && schema.property(name).is_some())
            .collect();
        let broken = |_| ApiError::new(500, "INTERNAL_ERROR", "the file could not be written");
        let mut csv = csv::Writer::from_writer(Vec::new());
        let header = std::iter::once("Record ID").chain(shown.iter().map(|name| name.as_str()));
        csv.write_record(header).map_err(broken)?;
        let records = core.records.get(&type_id).into_iter().flatten();
        for (id, record) in records.filter(|(_, record)| record.archived_at.is_none()) {
            let value = |name: &&String| {
                let text = record.value(name).to_owned();
                let instant = schema.property(name).is_some_and(|it| it.kind == "datetime");
                match instant && core.behaviour.export_minutes && text.len() >= 16 {
                    true => text[..16].replace('T', " "),
                    false => text,
                }
            };
            let line = std::iter::once(id.to_string()).chain(shown.iter().map(value));
            csv.write_record(line).map_err(broken)?;
        }
        csv.into_inner()
            .map_err(|_| ApiError::new(500, "INTERNAL_ERROR", "the file could not be written"))
    }

    fn export_status(&self, request: &ApiRequest, now: i64) -> Result<Reply, ApiError> {
        let mut exports = super::lock(&self.exports);
        let known = request
            .route
            .id
            .parse::<usize>()
            .ok()
            .and_then(|id| exports.get_mut(id.checked_sub(1)?));
        let export = known.ok_or_else(|| ApiError::not_found("There is no such export"))?;
        if export.looks_left > 0 {
            export.looks_left -= 1;
            let status = if export.looks_left > 0 { "PENDING" } else { "PROCESSING" };
            return Ok(Reply::json(
                200,
                json!({"status": status, "numErrors": 0, "errors": []}),
            ));
        }
        let link = format!(
            "http://{}{FILES}{}?expires={}",
            request.host,
            request.route.id,
            now + LINK_MS
        );
        Ok(Reply::json(
            200,
            json!({"status": "COMPLETE", "result": link, "numErrors": 0, "errors": []}),
        ))
    }

    /// An export's file, for whoever has its link; a token has no business there.
    pub(crate) fn export_file(&self, id: &str, parts: &Parts) -> Result<Vec<u8>, (u16, &'static str)> {
        if parts.headers.contains_key(header::AUTHORIZATION) {
            return Err((400, "only one kind of authorization is allowed"));
        }
        let now = self.core().clock.now();
        let query = parse_form(parts.uri.query().unwrap_or_default());
        let expires = query.get("expires").and_then(|text| text.parse::<i64>().ok());
        if expires.is_none_or(|at| at <= now) {
            return Err((403, "Request has expired"));
        }
        let exports = super::lock(&self.exports);
        let export = id.parse::<usize>().ok().and_then(|id| exports.get(id.checked_sub(1)?));
        export.map(|export| export.csv.clone()).ok_or((404, "no such file"))
    }
}
