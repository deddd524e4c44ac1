//! A first load's pages, read from one of HubSpot's exports instead of 100 records a call.
//!
//! The file is kept without a name, so that it is gone with the process, and read record by record through an index of its
//! ids. It is trusted only after as many of its records as fit in one call were read from the API as well and found the same:
//! HubSpot may write a value in another form there. Whatever is in the way of an export, the load goes on with batch calls.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{LEASE, POLL, WAIT};
use crate::db::contract::{Claim, End, Observation};
use crate::db::reconcile::{Done, ExportRequest, ExportTold, Page};
use crate::deliver::{Context, read, round};
use crate::hubspot::client::CallError;
use crate::telemetry::event;

/// Longest wait between two looks at an export that is being made.
const LOOK: Duration = Duration::from_secs(25);
/// An export that takes longer is given up.
const PATIENCE_MS: i64 = 6 * 60 * 60 * 1000;
/// Records compared with the API's before a file is trusted: one call.
const SAMPLE: usize = 100;
/// Names of the column that holds a record's id.
const ID: [&str; 2] = ["hs_object_id", "Record ID"];

/// The export a relay has on its disk.
#[derive(Debug)]
pub(super) struct Held {
    task: String,
    records: Records,
    trusted: bool,
}

/// Prepares an export: asks for it, or looks how far it is and fetches it. No export in the answer: there will be none.
pub(super) async fn prepare(
    context: &Context,
    request: &ExportRequest,
    held: &mut Option<Held>,
    done: &mut Done,
) -> Result<(), Duration> {
    let Some(task) = &request.task else {
        if context.export_from == 0 || request.expected < context.export_from {
            return Ok(());
        }
        let asked_ms = now_ms();
        let deadline = Instant::now() + LEASE - context.client.timeout();
        match context
            .client
            .export(&request.object_type, &request.properties, deadline)
            .await
        {
            Ok(task) => done.export = Some(told(task, asked_ms, false)),
            Err(CallError::NotSent { wait }) => return Err(wait.clamp(POLL, LEASE)),
            Err(CallError::Failed(failure)) => {
                given_up(failure.class.kind(), "see that the app has the scope crm.export");
            }
        }
        done.calls += 1;
        return Ok(());
    };
    let age = Duration::from_millis(u64::try_from(now_ms() - request.asked_ms).unwrap_or(0));
    tokio::select! {
        () = context.stop.cancelled() => return Err(POLL),
        () = tokio::time::sleep((age / 2).clamp(POLL / 2, LOOK)) => {}
    }
    match fetch(context, task, held, done).await? {
        Fetched::Ready => done.export = Some(told(task.clone(), request.asked_ms, true)),
        Fetched::NotYet if now_ms() - request.asked_ms < PATIENCE_MS => {
            done.export = Some(told(task.clone(), request.asked_ms, false));
        }
        Fetched::NotYet => given_up("late", "HubSpot did not finish it"),
        Fetched::Lost => {}
    }
    Ok(())
}

/// Reads a page's claims from the export; false: it does not serve, and they are to be read by calls.
pub(super) async fn observe(
    context: &Arc<Context>,
    page: &Page,
    request: &ExportRequest,
    held: &mut Option<Held>,
    done: &mut Done,
) -> Result<bool, Duration> {
    let task = request.task.as_deref().unwrap_or_default();
    if !matches!(fetch(context, task, held, done).await?, Fetched::Ready) {
        return Ok(false);
    }
    let Some(held) = held.as_mut() else { return Ok(false) };
    let (mut seen, mut absent) = (Vec::new(), Vec::new());
    for claim in &page.claims {
        match held.records.find(claim) {
            Ok(Some(properties)) => seen.push((claim, properties)),
            // Made since, deleted, or merged into another: HubSpot is asked.
            Ok(None) => absent.push(claim.clone()),
            Err(()) => {
                given_up("unreadable", "its file cannot be read");
                return Ok(false);
            }
        }
    }
    if !held.trusted && !seen.is_empty() {
        let sample: Vec<Claim> = seen.iter().take(SAMPLE).map(|(claim, _)| (*claim).clone()).collect();
        match compare(&called(context, sample, done).await?, &seen, request.asked_ms, context) {
            Compared::Same => held.trusted = true,
            // Each of them has changed since: the next page's are compared.
            Compared::Nothing => {}
            Compared::Differing(property) => {
                tracing::warn!(
                    event = event::RECONCILIATION,
                    property,
                    "an export holds a property in another form than the API: records are read by batch calls"
                );
                return Ok(false);
            }
        }
    }
    done.observations = seen
        .into_iter()
        .map(|(claim, properties)| observation(claim, properties, request.asked_ms))
        .collect();
    let more = called(context, absent, done).await?;
    done.observations.extend(more);
    done.exported = true;
    Ok(true)
}

fn observation(claim: &Claim, properties: Map<String, Value>, asked_ms: i64) -> Observation {
    Observation {
        claim: claim.claim.clone(),
        token: claim.token,
        found: Some(true),
        hubspot_id: claim.hubspot_id.clone(),
        read_at_ms: asked_ms,
        updated_at_ms: None,
        history: false,
        properties,
        versions: None,
    }
}

/// Reads claims by batch calls.
async fn called(context: &Arc<Context>, claims: Vec<Claim>, done: &mut Done) -> Result<Vec<Observation>, Duration> {
    if claims.is_empty() {
        return Ok(Vec::new());
    }
    done.calls += u32::try_from(claims.len().div_ceil(SAMPLE)).unwrap_or(u32::MAX);
    let send_by = Instant::now() + LEASE - context.client.timeout();
    let (observations, failed) = read::all(context, claims, round::Lease { send_by }).await;
    match failed.iter().any(|outcome| !matches!(outcome.end, End::Refused { .. })) {
        true => Err(WAIT),
        false => Ok(observations),
    }
}

/// What a comparison of the file with the API showed.
enum Compared {
    Same,
    /// No record was unchanged since the export was asked for, so none could be compared.
    Nothing,
    /// A property of which the file holds something else.
    Differing(String),
}

/// Compares the file with the API, by the records that did not change since the export was asked for.
fn compare(
    called: &[Observation],
    seen: &[(&Claim, Map<String, Value>)],
    asked_ms: i64,
    context: &Context,
) -> Compared {
    let clock = context.client.clock();
    // Before this instant of HubSpot's, the file shows everything.
    let before = asked_ms + clock.map_or(0, |clock| clock.offset_ms - clock.uncertainty_ms);
    let filed: HashMap<&str, &Map<String, Value>> = seen
        .iter()
        .map(|(claim, properties)| (claim.claim.as_str(), properties))
        .collect();
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut result = Compared::Nothing;
    for observation in called {
        let settled = observation.found == Some(true) && observation.updated_at_ms.is_some_and(|at| at < before);
        let Some(properties) = filed.get(observation.claim.as_str()).filter(|_| settled) else {
            continue;
        };
        let mut pairs = observation.properties.iter();
        if let Some((name, _)) = pairs.find(|(name, value)| text(Some(value)) != text(properties.get(*name))) {
            return Compared::Differing(name.clone());
        }
        result = Compared::Same;
    }
    result
}

enum Fetched {
    Ready,
    NotYet,
    Lost,
}

/// Sees that the export's file is at hand.
async fn fetch(context: &Context, task: &str, held: &mut Option<Held>, done: &mut Done) -> Result<Fetched, Duration> {
    if held.as_ref().is_some_and(|held| held.task == task) {
        return Ok(Fetched::Ready);
    }
    let deadline = Instant::now() + LEASE / 2;
    let status = match context.client.export_status(task, deadline).await {
        Ok(status) => status,
        Err(CallError::NotSent { wait }) => return Err(wait.clamp(POLL, LEASE)),
        Err(CallError::Failed(failure)) => {
            given_up(failure.class.kind(), "HubSpot does not say how far it is");
            return Ok(Fetched::Lost);
        }
    };
    done.calls += 1;
    match status.status.as_str() {
        "COMPLETE" if status.errors == 0 => {}
        "PENDING" | "PROCESSING" => return Ok(Fetched::NotYet),
        _ => {
            given_up("not complete", "HubSpot ended it without a whole file");
            return Ok(Fetched::Lost);
        }
    }
    let Ok(mut file) = tempfile::tempfile() else {
        given_up("no file", "see the folder for temporary files");
        return Ok(Fetched::Lost);
    };
    if let Err(failure) = context.client.export_file(&status, &mut file).await {
        given_up(failure.class.kind(), "its file did not arrive");
        return Ok(Fetched::Lost);
    }
    let Some(records) = Records::of(file) else {
        given_up("unreadable", "its file is no CSV with a column of ids");
        return Ok(Fetched::Lost);
    };
    *held = Some(Held {
        task: task.to_owned(),
        records,
        trusted: false,
    });
    Ok(Fetched::Ready)
}

fn told(task: String, asked_ms: i64, ready: bool) -> ExportTold {
    ExportTold { task, asked_ms, ready }
}

fn given_up(kind: &str, why: &str) {
    tracing::warn!(
        event = event::RECONCILIATION,
        kind,
        why,
        "no export of HubSpot's: records are read by batch calls"
    );
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// A CSV file of records, and where each begins.
#[derive(Debug)]
struct Records {
    file: File,
    columns: HashMap<String, usize>,
    begins: HashMap<u64, u64>,
}

impl Records {
    /// Reads the file once; none when it is not such a file.
    fn of(mut file: File) -> Option<Self> {
        file.rewind().ok()?;
        let mut reader = csv::Reader::from_reader(BufReader::new(&file));
        let header = reader.headers().ok()?.clone();
        let columns: HashMap<String, usize> = header
            .iter()
            .enumerate()
            .map(|(at, name)| (name.trim_start_matches('\u{feff}').to_owned(), at))
            .collect();
        let id = *ID.iter().find_map(|name| columns.get(*name))?;
        let (mut begins, mut record) = (HashMap::new(), csv::StringRecord::new());
        loop {
            let begin = reader.position().byte();
            if !reader.read_record(&mut record).ok()? {
                break;
            }
            begins.insert(record.get(id)?.parse().ok()?, begin);
        }
        drop(reader);
        Some(Self { file, columns, begins })
    }

    /// The claim's properties, null where they are empty; none when the record or a property is not in the file.
    fn find(&mut self, claim: &Claim) -> Result<Option<Map<String, Value>>, ()> {
        let id = claim.hubspot_id.as_deref().and_then(|id| id.parse::<u64>().ok());
        let Some(begin) = id.and_then(|id| self.begins.get(&id)) else {
            return Ok(None);
        };
        self.file.seek(SeekFrom::Start(*begin)).map_err(drop)?;
        let source = BufReader::with_capacity(4096, Read::by_ref(&mut self.file));
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(source);
        let mut record = csv::StringRecord::new();
        if !reader.read_record(&mut record).map_err(drop)? {
            return Err(());
        }
        let value = |name: &String| {
            let text = record.get(*self.columns.get(name)?)?;
            let value = if text.is_empty() {
                Value::Null
            } else {
                Value::from(text)
            };
            Some((name.clone(), value))
        };
        Ok(claim.properties.iter().map(value).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::io::Write;

    fn claim(id: &str) -> Claim {
        serde_json::from_value(
            json!({"claim": "1", "token": 0, "object_type": "companies", "operation": "sync",
            "hubspot_id": id, "read": "values", "properties": ["name", "phone"]}),
        )
        .unwrap()
    }

    #[test]
    fn a_file_gives_its_records_in_any_order() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(
            "\u{feff}Record ID,name,phone\r\n7,\"Müller, \"\"Ltd\"\"\nBerlin\",\r\n12,Acme,+49 30\r\n".as_bytes(),
        )
        .unwrap();
        let mut records = Records::of(file).unwrap();
        assert_eq!(
            records.find(&claim("12")),
            Ok(json!({"name": "Acme", "phone": "+49 30"}).as_object().cloned())
        );
        assert_eq!(
            records.find(&claim("7")),
            Ok(json!({"name": "Müller, \"Ltd\"\nBerlin", "phone": null})
                .as_object()
                .cloned())
        );
        assert_eq!(records.find(&claim("13")), Ok(None));
    }

    #[test]
    fn what_is_no_list_of_records_is_refused() {
        for text in ["", "name\nAcme\n", "hs_object_id\nseven\n", "PK\u{3}\u{4}zip"] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            assert!(Records::of(file).is_none(), "{text:?}");
        }
    }
}
