//! Batch operations on records.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::clock::iso;
use super::errors::ApiError;
use super::objects::non_unique;
use super::query::{ApiRequest, Reply, inputs, properties, required, string, strings};
use super::record::View;
use super::route::Op;
use super::store::{Changes, Claims, Core};

type Answer = Result<Reply, ApiError>;

/// Most inputs of one call.
pub(crate) const MAX_INPUTS: usize = 100;
/// Most inputs of one read with history.
pub(crate) const MAX_HISTORY_INPUTS: usize = 50;

/// One row of a write.
#[derive(Debug)]
struct Row {
    trace_id: Option<String>,
    id: Option<String>,
    id_property: Option<String>,
    wanted: Changes,
}

/// What a checked row will do.
#[derive(Debug)]
enum Plan {
    Create(Changes),
    Update(u64, Changes),
    /// No such record.
    Unknown,
}

impl Core {
    pub(crate) fn batch_read(&mut self, type_id: &str, request: &ApiRequest) -> Answer {
        let body = request.json()?;
        let inputs = inputs(&body, MAX_INPUTS)?;
        let view = View {
            properties: strings(&body, "properties")?,
            history: strings(&body, "propertiesWithHistory")?,
            ..self.view()
        };
        if !view.history.is_empty() && inputs.len() > MAX_HISTORY_INPUTS {
            let message = format!(
                "The maximum number of objects supported in a batch read with property histories is \
                 {MAX_HISTORY_INPUTS}"
            );
            return Err(ApiError::validation(message));
        }
        let id_property = string(&body, "idProperty")?.filter(|name| name != "hs_object_id");
        let object_type = self.schemas.get(type_id)?;
        if let Some(property) = id_property.as_deref().filter(|name| !object_type.identifies(name)) {
            return Err(non_unique("read", type_id, property));
        }
        let ids: Vec<String> = inputs
            .iter()
            .map(|input| required(input, "id"))
            .collect::<Result<_, _>>()?;
        check_duplicates(&ids)?;
        let archived = request.archived();
        let mut results = Vec::new();
        let mut seen = HashSet::new();
        let mut missing: Vec<String> = Vec::new();
        for id in &ids {
            let record = match &id_property {
                Some(property) => self.by_unique(type_id, property, id),
                None => self.follow(type_id, id),
            };
            match record.filter(|record| record.archived_at.is_some() == archived) {
                Some(record) if seen.insert(record.id) => {
                    results.push(view.render(object_type, &self.behaviour, record));
                }
                Some(_) => {}
                None => missing.push(id.clone()),
            }
        }
        let mut errors = Vec::new();
        if !missing.is_empty() {
            errors.push(could_not_get(&object_type.singular, missing).batch_entry());
        }
        self.shuffle(&mut results);
        Ok(self.envelope(200, results, errors, false))
    }

    /// Batch create, update and upsert.
    pub(crate) fn batch_write(&mut self, type_id: &str, op: Op, request: &ApiRequest) -> Answer {
        let rows = self.rows(type_id, op, request)?;
        let partial = has_unique_traces(&rows) && (op != Op::BatchUpdate || self.behaviour.update_trace_ids);
        let mut claims = Claims::new();
        let mut plans = Vec::with_capacity(rows.len());
        let mut errors = Vec::new();
        let mut missing = Vec::new();
        for row in &rows {
            match self.plan(type_id, op, row, &mut claims) {
                Ok(Plan::Unknown) => {
                    missing.extend(row.id.clone());
                    plans.push(Plan::Unknown);
                }
                Ok(plan) => plans.push(plan),
                Err(error) if partial => {
                    let trace_id = row.trace_id.clone().unwrap_or_default();
                    errors.push(error.with_context("objectWriteTraceId", [trace_id]).batch_entry());
                    plans.push(Plan::Unknown);
                }
                Err(error) => return Err(error),
            }
        }
        let at = self.clock.tick();
        let mut results = Vec::new();
        for (row, plan) in rows.iter().zip(&plans) {
            let (id, changes, new) = match plan {
                Plan::Unknown => continue,
                Plan::Create(changes) => (self.create(type_id, changes, &request.source, at), changes, true),
                Plan::Update(id, changes) => {
                    self.write(type_id, *id, changes, &request.source, at);
                    (*id, changes, false)
                }
            };
            let mut result = self.written(type_id, id, changes)?;
            if op == Op::BatchUpsert {
                result["new"] = json!(new);
            }
            if let Some(trace_id) = row.trace_id.as_ref().filter(|_| self.behaviour.echo_trace_id) {
                result["objectWriteTraceId"] = json!(trace_id);
            }
            results.push(result);
        }
        let some_missing = !missing.is_empty();
        if some_missing && self.behaviour.report_unknown_ids {
            let singular = self.schemas.get(type_id)?.singular.clone();
            errors.push(could_not_get(&singular, missing).batch_entry());
        }
        self.shuffle(&mut results);
        let status = if op == Op::BatchCreate { 201 } else { 200 };
        Ok(self.envelope(status, results, errors, some_missing))
    }

    pub(crate) fn batch_archive(&mut self, type_id: &str, request: &ApiRequest) -> Answer {
        let inputs = inputs(&request.json()?, MAX_INPUTS)?;
        let ids: Vec<String> = inputs
            .iter()
            .map(|input| required(input, "id"))
            .collect::<Result<_, _>>()?;
        check_duplicates(&ids)?;
        let at = self.clock.tick();
        for id in ids.iter().filter_map(|id| id.parse().ok()) {
            self.archive(type_id, id, &request.source, at);
        }
        Ok(Reply::empty())
    }

    /// Reads the rows; everything refused here fails the whole batch.
    fn rows(&self, type_id: &str, op: Op, request: &ApiRequest) -> Result<Vec<Row>, ApiError> {
        let mut rows = Vec::new();
        for input in inputs(&request.json()?, MAX_INPUTS)? {
            let row = Row {
                trace_id: string(&input, "objectWriteTraceId")?,
                id: string(&input, "id")?,
                id_property: string(&input, "idProperty")?,
                wanted: properties(&input)?,
            };
            if op != Op::BatchCreate && row.id.is_none() {
                return Err(ApiError::bad_json("some required fields were not set: [id]"));
            }
            rows.push(row);
        }
        if op == Op::BatchCreate {
            return Ok(rows);
        }
        let object_type = self.schemas.get(type_id)?;
        for row in &rows {
            match row.id_property.as_deref() {
                None if op == Op::BatchUpsert => return Err(ApiError::validation("idProperty is required to upsert")),
                Some("hs_object_id") if op == Op::BatchUpdate => {}
                Some(property) if !object_type.identifies(property) => {
                    return Err(non_unique("update", type_id, property));
                }
                _ => {}
            }
        }
        let keys: Vec<String> = rows.iter().filter_map(|row| row.id.clone()).collect();
        check_duplicates(&keys)?;
        Ok(rows)
    }

    fn plan(&self, type_id: &str, op: Op, row: &Row, claims: &mut Claims) -> Result<Plan, ApiError> {
        let id = row.id.as_deref().unwrap_or_default();
        let by_property = row.id_property.as_deref().filter(|name| *name != "hs_object_id");
        let record = match (op, by_property) {
            (Op::BatchCreate, _) => None,
            (_, Some(property)) => self.by_unique(type_id, property, id),
            (_, None) => self.exact(type_id, id),
        };
        if let Some(record) = record {
            let changes = self.check_values(type_id, Some(record), &row.wanted)?;
            self.check_unique(type_id, Some(record.id), &changes, claims)?;
            return Ok(Plan::Update(record.id, changes));
        }
        if op == Op::BatchUpdate {
            return Ok(Plan::Unknown);
        }
        let mut wanted = row.wanted.clone();
        if let Some(property) = by_property.filter(|_| op == Op::BatchUpsert) {
            wanted.retain(|(name, _)| name != property);
            wanted.push((property.to_owned(), id.to_owned()));
        }
        let changes = self.check_values(type_id, None, &wanted)?;
        self.check_required(type_id, &changes)?;
        self.check_unique(type_id, None, &changes, claims)?;
        Ok(Plan::Create(changes))
    }

    /// The frame of a batch response: 207 as soon as anything went wrong.
    fn envelope(&self, status: u16, results: Vec<Value>, errors: Vec<Value>, incomplete: bool) -> Reply {
        let now = iso(self.clock.now());
        let mut body = json!({"status": "COMPLETE", "results": results, "requestedAt": now, "startedAt": now,
            "completedAt": now, "links": {}});
        if errors.is_empty() && !incomplete {
            return Reply::json(status, body);
        }
        body["numErrors"] = json!(errors.len());
        body["errors"] = json!(errors);
        Reply::json(207, body)
    }
}

fn could_not_get(singular: &str, ids: Vec<String>) -> ApiError {
    let message = format!(
        "Could not get some {} objects, they may be deleted or not exist. Check that ids are valid.",
        singular.to_uppercase()
    );
    ApiError::not_found(message).with_context("ids", ids)
}

fn has_unique_traces(rows: &[Row]) -> bool {
    let traces: HashSet<&String> = rows.iter().filter_map(|row| row.trace_id.as_ref()).collect();
    !rows.is_empty() && traces.len() == rows.len()
}

/// Refuses a batch that names a record twice.
fn check_duplicates(ids: &[String]) -> Result<(), ApiError> {
    let mut seen = HashSet::new();
    let twice: Vec<String> = ids.iter().filter(|id| !seen.insert(*id)).cloned().collect();
    if twice.is_empty() {
        return Ok(());
    }
    let message = format!(
        "Duplicate IDs found in batch input: [{}]. IDs must be unique",
        twice.join(", ")
    );
    Err(ApiError::validation(message).with_context("ids", twice))
}
