//! Sending writes and finding out, record by record, what became of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::Context;
use super::batch::{BATCH, halves, pages, side_by_side};
use super::outcome::{Circumstances, of_failure, of_row};
use super::read::fold;
use super::round::{Attempts, Lease, unsent};
use crate::db::contract::{End, Operation, Outcome, Write};
use crate::hubspot::client::CallError;
use crate::hubspot::error::{Failure, FailureClass};
use crate::hubspot::model::{
    BatchResponse, ErrorBody, IdInput, Record, WriteInput, context_strings, instant_ms, value_text,
};
use crate::retry;

/// What a batch must have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    object_type: String,
    operation: Operation,
    id_property: Option<String>,
}

/// A write with everything its outcome depends on.
#[derive(Debug, Clone)]
struct Item {
    id: String,
    trace_id: String,
    attempt: u32,
    write: Write,
}

impl Item {
    fn end(&self, end: End) -> Outcome {
        Outcome {
            claim: self.write.claim.clone(),
            token: self.write.token,
            end,
        }
    }
}

/// Sends all; every write has exactly one outcome.
pub(super) async fn all(context: &Arc<Context>, writes: Vec<Write>, attempts: &Attempts, lease: Lease) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(writes.len());
    let mut groups: BTreeMap<Group, Vec<Item>> = BTreeMap::new();
    for write in writes {
        let id = match write.operation {
            Operation::Update | Operation::Archive => write.hubspot_id.clone(),
            Operation::Upsert => write.id_value.clone().filter(|_| write.id_property.is_some()),
        };
        let attempt = attempts.of(&write.claim);
        let Some(id) = id else {
            let message = "the write names no record".to_owned();
            let end = End::Refused {
                kind: "invalid",
                property: None,
                message,
                http_status: None,
            };
            outcomes.push(Outcome {
                claim: write.claim,
                token: write.token,
                end,
            });
            continue;
        };
        let id_property = write
            .id_property
            .clone()
            .filter(|_| write.operation == Operation::Upsert);
        let group = Group {
            object_type: write.object_type.clone(),
            operation: write.operation,
            id_property,
        };
        groups.entry(group).or_default().push(Item {
            id,
            trace_id: write.trace_id(),
            attempt,
            write,
        });
    }
    let mut jobs = Vec::new();
    for (group, items) in groups {
        for page in pages(items, BATCH, |item: &Item| item.id.clone()) {
            jobs.push(write_page(Arc::clone(context), group.clone(), page, lease));
        }
    }
    outcomes.extend(side_by_side(jobs).await.into_iter().flatten());
    outcomes
}

async fn write_page(context: Arc<Context>, group: Group, page: Vec<Item>, lease: Lease) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(page.len());
    let mut waiting = vec![page];
    while let Some(page) = waiting.pop() {
        let sent_at_ms = now_ms();
        match send(&context, &group, &page, lease).await {
            Ok(response) => {
                let times = Times {
                    sent_at_ms,
                    answered_at_ms: now_ms(),
                };
                let settled = settle(&context.retry, &group, page, response, times);
                outcomes.extend(settled.outcomes);
                waiting.extend(settled.again);
            }
            Err(CallError::NotSent { wait }) => {
                outcomes.extend(
                    page.iter()
                        .map(|item| unsent(&item.write.claim, item.write.token, wait)),
                );
            }
            Err(CallError::Failed(failure)) => {
                let again = failed(&context, &group, page, &failure, &mut outcomes).await;
                waiting.extend(again);
            }
        }
    }
    for outcome in &outcomes {
        context.metrics.write(group.operation.as_str(), outcome.end.as_str());
    }
    outcomes
}

async fn send(context: &Context, group: &Group, page: &[Item], lease: Lease) -> Result<BatchResponse, CallError> {
    if context.stop.is_cancelled() {
        return Err(CallError::NotSent { wait: Duration::ZERO });
    }
    let inputs = || {
        let input = |item: &Item| WriteInput {
            id: item.id.clone(),
            id_property: group.id_property.clone(),
            trace_id: item.trace_id.clone(),
            properties: item.write.properties.clone(),
        };
        page.iter().map(input).collect()
    };
    let (client, object_type) = (&context.client, &group.object_type);
    match group.operation {
        Operation::Update => client.batch_update(object_type, inputs(), lease.send_by).await,
        Operation::Upsert => client.batch_upsert(object_type, inputs(), lease.send_by).await,
        Operation::Archive => {
            let ids = page.iter().map(|item| IdInput { id: item.id.clone() }).collect();
            client.batch_archive(object_type, ids, lease.send_by).await
        }
    }
}

/// Handles a call that failed as a whole. Returns batches to send again, smaller than the one that failed.
async fn failed(
    context: &Context,
    group: &Group,
    page: Vec<Item>,
    failure: &Failure,
    outcomes: &mut Vec<Outcome>,
) -> Vec<Vec<Item>> {
    if failure.class.is_refusal() && page.len() > 1 {
        let (named, rest) = split_named(page, failure.body.as_deref());
        if named.is_empty() || rest.is_empty() {
            let whole = named.into_iter().map(|(item, _)| item).chain(rest).collect();
            let (first, second) = halves(whole);
            return vec![second, first];
        }
        let status = failure.status;
        outcomes.extend(
            named
                .into_iter()
                .map(|(item, error)| refused_row(&context.retry, &item, &error, status)),
        );
        return vec![rest];
    }
    let spent = context.gate.judge(failure, &group.object_type).await;
    let last_try = page.iter().any(|item| item.attempt > context.retry.max_retries);
    if spent && last_try && failure.class == FailureClass::Server && page.len() > 1 {
        // One record HubSpot chokes on must not take its neighbours along: find it.
        let (first, second) = halves(page);
        return vec![second, first];
    }
    for item in &page {
        let gone = failure.class == FailureClass::NotFound && group.operation != Operation::Upsert;
        let end = if gone {
            End::Missing {
                kind: "not_found",
                message: failure.message.clone(),
                http_status: failure.status,
            }
        } else {
            let at = Circumstances {
                attempt: item.attempt,
                spent,
                write: true,
            };
            of_failure(&context.retry, failure, at, rand::random())
        };
        outcomes.push(item.end(end));
    }
    Vec::new()
}

/// The items an error of the whole batch names, each with the part of the error that is about it, and the others.
fn split_named(page: Vec<Item>, body: Option<&ErrorBody>) -> (Vec<(Item, ErrorBody)>, Vec<Item>) {
    let mut about: HashMap<String, ErrorBody> = HashMap::new();
    if let Some(body) = body {
        for detail in &body.errors {
            for trace_id in context_strings(&detail.context, "objectWriteTraceId") {
                let own = ErrorBody {
                    message: detail.message.clone().or_else(|| body.message.clone()),
                    errors: vec![detail.clone()],
                    ..body.clone()
                };
                about.insert(trace_id, own);
            }
        }
        for trace_id in context_strings(&body.context, "objectWriteTraceId") {
            about.entry(trace_id).or_insert_with(|| body.clone());
        }
    }
    let (mut named, mut rest) = (Vec::new(), Vec::new());
    for item in page {
        match about.remove(&item.trace_id) {
            Some(error) => named.push((item, error)),
            None => rest.push(item),
        }
    }
    (named, rest)
}

fn refused_row(retry: &crate::config::Retry, item: &Item, error: &ErrorBody, status: Option<u16>) -> Outcome {
    let at = Circumstances {
        attempt: item.attempt,
        spent: true,
        write: true,
    };
    let mut end = of_row(retry, error, at, rand::random());
    if let End::Refused { http_status, .. } | End::Missing { http_status, .. } = &mut end {
        *http_status = http_status.or(status);
    }
    item.end(end)
}

#[derive(Debug, Clone, Copy)]
struct Times {
    sent_at_ms: i64,
    answered_at_ms: i64,
}

#[derive(Default)]
struct Settled {
    outcomes: Vec<Outcome>,
    /// Batches to send again because it could not be told which record an error was about.
    again: Vec<Vec<Item>>,
}

/// What became of each record of an answered batch. Results come in any order and may omit records.
fn settle(
    retry: &crate::config::Retry,
    group: &Group,
    page: Vec<Item>,
    response: BatchResponse,
    times: Times,
) -> Settled {
    let single = page.len() == 1;
    let (errors, strays) = Errors::sort(&page, response.errors);
    let results = Results::new(group, &response.results);
    let mut settled = Settled::default();
    let mut left = Vec::new();
    for item in page {
        let record = results
            .find(&item)
            .or(if single { response.results.first() } else { None });
        if let Some(error) = errors.find(&item) {
            settled.outcomes.push(refused_row(retry, &item, error, Some(207)));
        } else if let Some(record) = record {
            let end = ok(&item, Some(record), times);
            settled.outcomes.push(item.end(end));
        } else if group.operation == Operation::Archive && strays.is_empty() {
            // Archiving answers 204 without results.
            let end = ok(&item, None, times);
            settled.outcomes.push(item.end(end));
        } else {
            left.push(item);
        }
    }
    match (left.len(), strays.first()) {
        (0, _) => {}
        (1, Some(stray)) => settled
            .outcomes
            .extend(left.iter().map(|item| refused_row(retry, item, stray, Some(207)))),
        (_, Some(_)) => {
            let (first, second) = halves(left);
            settled.again.extend([second, first]);
        }
        (_, None) => settled
            .outcomes
            .extend(left.iter().map(|item| item.end(absent(retry, group, item)))),
    }
    settled
}

/// A record that is among neither results nor errors.
fn absent(retry: &crate::config::Retry, group: &Group, item: &Item) -> End {
    if group.operation != Operation::Upsert {
        let message = "HubSpot returned no result for this record".to_owned();
        return End::Missing {
            kind: "not_found",
            message,
            http_status: None,
        };
    }
    // It may have been written; the next read, by its unique property, will tell.
    let message = "HubSpot returned neither a result nor an error for this record".to_owned();
    if item.attempt > retry.max_retries {
        return End::Exhausted {
            kind: "server",
            unknown: true,
            message,
            http_status: None,
        };
    }
    let delay = retry::delay(retry, item.attempt, rand::random());
    let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    End::Retry {
        kind: "server",
        unknown: true,
        spent: true,
        delay_ms,
        message,
        http_status: None,
    }
}

fn ok(item: &Item, record: Option<&Record>, times: Times) -> End {
    // Only what was written: the value HubSpot made of it is the known remote value from now on.
    let returned = |(name, sent): (&String, &Value)| match record.and_then(|record| record.properties.get(name)) {
        Some(value) => Some((name.clone(), value_text(value).map_or(Value::Null, Value::String))),
        None if value_text(sent).is_none() => Some((name.clone(), Value::Null)),
        None => None,
    };
    End::Ok {
        hubspot_id: record
            .map(|record| record.id.clone())
            .filter(|id| !id.is_empty())
            .or_else(|| item.write.hubspot_id.clone()),
        created: record.and_then(|record| record.new).unwrap_or(false),
        updated_at_ms: record.and_then(|record| instant_ms(&Value::String(record.updated_at.clone()?))),
        sent_at_ms: times.sent_at_ms,
        answered_at_ms: times.answered_at_ms,
        properties: item.write.properties.iter().filter_map(returned).collect::<Map<_, _>>(),
    }
}

/// The results by trace id, id and value of the id property.
struct Results<'a> {
    by_trace: HashMap<&'a str, &'a Record>,
    by_id: HashMap<String, &'a Record>,
}

impl<'a> Results<'a> {
    fn new(group: &Group, results: &'a [Record]) -> Self {
        let mut by_trace = HashMap::new();
        let mut by_id = HashMap::new();
        for record in results {
            if let Some(trace_id) = &record.trace_id {
                by_trace.insert(trace_id.as_str(), record);
            }
            let id = match &group.id_property {
                None => Some(record.id.clone()),
                Some(property) => record.properties.get(property).and_then(value_text),
            };
            if let Some(id) = id {
                by_id.insert(fold(&id), record);
            }
        }
        Self { by_trace, by_id }
    }

    fn find(&self, item: &Item) -> Option<&'a Record> {
        self.by_trace
            .get(item.trace_id.as_str())
            .or_else(|| self.by_id.get(&fold(&item.id)))
            .copied()
    }
}

/// The errors by the item they are about.
struct Errors {
    by_trace: HashMap<String, ErrorBody>,
    by_id: HashMap<String, ErrorBody>,
}

impl Errors {
    /// The second part are errors that name none of the items.
    fn sort(page: &[Item], errors: Vec<ErrorBody>) -> (Self, Vec<ErrorBody>) {
        let mut sorted = Self {
            by_trace: HashMap::new(),
            by_id: HashMap::new(),
        };
        let mut strays = Vec::new();
        for error in errors {
            let mut known = false;
            for trace_id in context_strings(&error.context, "objectWriteTraceId") {
                if page.iter().any(|item| item.trace_id == trace_id) {
                    known = true;
                    sorted.by_trace.insert(trace_id, error.clone());
                }
            }
            if !known {
                for id in ["ids", "id"]
                    .iter()
                    .flat_map(|name| context_strings(&error.context, name))
                {
                    if page.iter().any(|item| item.id == id) {
                        known = true;
                        sorted.by_id.insert(id, error.clone());
                    }
                }
            }
            if !known {
                strays.push(error);
            }
        }
        (sorted, strays)
    }

    fn find(&self, item: &Item) -> Option<&ErrorBody> {
        self.by_trace.get(&item.trace_id).or_else(|| self.by_id.get(&item.id))
    }
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Retry;
    use serde_json::json;

    fn group(operation: Operation) -> Group {
        let id_property = (operation == Operation::Upsert).then(|| "ban".to_owned());
        Group {
            object_type: "companies".to_owned(),
            operation,
            id_property,
        }
    }

    fn items(operation: &str, ids: &[&str]) -> Vec<Item> {
        ids.iter()
            .map(|id| {
                let write: Write = serde_json::from_value(json!({"claim":format!("c{id}"),"token":1,
                    "object_type":"companies","operation":operation,"hubspot_id":id,"id_property":"ban",
                    "id_value":id,"properties":{"name":"A","phone":""}}))
                .unwrap();
                Item {
                    id: (*id).to_owned(),
                    trace_id: write.trace_id(),
                    attempt: 1,
                    write,
                }
            })
            .collect()
    }

    fn settled(operation: Operation, page: Vec<Item>, body: serde_json::Value) -> Settled {
        let times = Times {
            sent_at_ms: 1,
            answered_at_ms: 2,
        };
        settle(
            &Retry::default(),
            &group(operation),
            page,
            serde_json::from_value(body).unwrap(),
            times,
        )
    }

    fn end<'a>(settled: &'a Settled, claim: &str) -> &'a End {
        &settled
            .outcomes
            .iter()
            .find(|outcome| outcome.claim == claim)
            .unwrap()
            .end
    }

    #[test]
    fn results_in_any_order_errors_by_trace_id_and_a_missing_record() {
        let body = json!({"results":[
                {"id":"3","properties":{"name":"A"},"updatedAt":"2026-11-01T08:00:00.456Z"},
                {"id":"1","properties":{"name":"a","phone":null}}],
            "errors":[{"category":"VALIDATION_ERROR","message":"bad: [{\"name\":\"phone\"}]",
                "context":{"objectWriteTraceId":["c2-1"]}}]});
        let settled = settled(Operation::Update, items("update", &["1", "2", "3", "4"]), body);
        assert_eq!(settled.outcomes.len(), 4);
        let End::Ok { properties, .. } = end(&settled, "c1") else {
            panic!()
        };
        assert_eq!(*properties, *json!({"name":"a","phone":null}).as_object().unwrap());
        assert!(matches!(end(&settled, "c2"), End::Refused { property: Some(name), .. } if name == "phone"));
        let End::Ok {
            updated_at_ms,
            properties,
            ..
        } = end(&settled, "c3")
        else {
            panic!()
        };
        assert_eq!(*updated_at_ms, Some(1_793_520_000_456));
        assert_eq!(properties.get("phone"), Some(&Value::Null));
        assert!(matches!(end(&settled, "c4"), End::Missing { .. }));
    }

    #[test]
    fn upserts_are_matched_by_the_unique_property_and_never_called_missing() {
        let body = json!({"results":[{"id":"77","new":true,"properties":{"ban":"b","name":"A"}}]});
        let settled = settled(Operation::Upsert, items("upsert", &["B", "C"]), body);
        let End::Ok {
            hubspot_id, created, ..
        } = end(&settled, "cB")
        else {
            panic!()
        };
        assert_eq!((hubspot_id.as_deref(), *created), (Some("77"), true));
        assert!(matches!(end(&settled, "cC"), End::Retry { unknown: true, .. }));
    }

    #[test]
    fn an_archive_answers_with_nothing() {
        let settled = settled(Operation::Archive, items("archive", &["1", "2"]), json!({}));
        assert!(
            settled
                .outcomes
                .iter()
                .all(|outcome| matches!(outcome.end, End::Ok { .. }))
        );
    }

    #[test]
    fn an_error_about_nobody_is_narrowed_down() {
        let body = json!({"results":[{"id":"1","properties":{}}],
            "errors":[{"category":"VALIDATION_ERROR","message":"bad","context":{}}]});
        let first = settled(Operation::Update, items("update", &["1", "2", "3"]), body.clone());
        assert_eq!(first.outcomes.len(), 1);
        assert_eq!(first.again.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
        let alone = json!({"results":[],"errors":[{"category":"VALIDATION_ERROR","context":{}}]});
        assert!(matches!(
            end(&settled(Operation::Update, items("update", &["2"]), alone), "c2"),
            End::Refused { .. }
        ));
    }

    #[test]
    fn a_refused_batch_that_names_its_culprits_loses_only_them() {
        let body: ErrorBody = serde_json::from_value(json!({"category":"VALIDATION_ERROR","errors":[
            {"message":"no","context":{"objectWriteTraceId":["c2-1"],"propertyName":["name"]}}]}))
        .unwrap();
        let (named, rest) = split_named(items("update", &["1", "2", "3"]), Some(&body));
        assert_eq!((named.len(), rest.len()), (1, 2));
        let outcome = refused_row(&Retry::default(), &named[0].0, &named[0].1, Some(400));
        assert!(
            matches!(outcome.end, End::Refused { property: Some(name), http_status: Some(400), .. } if name == "name")
        );
    }
}
