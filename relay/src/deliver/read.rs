//! Reading what HubSpot holds of the claimed records: batches of one object type, one kind and one way to identify.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::Context;
use super::batch::{BATCH, HISTORY_BATCH, halves, pages, side_by_side};
use super::outcome::{Circumstances, of_failure};
use super::round::{Lease, unsent};
use crate::db::contract::{Claim, Observation, ObservedVersion, Outcome, ReadKind};
use crate::hubspot::client::CallError;
use crate::hubspot::error::{Failure, FailureClass};
use crate::hubspot::model::{
    BatchReadRequest, BatchResponse, IdInput, Record, Version, context_strings, instant_ms, value_text,
};

/// What a batch must have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    object_type: String,
    history: bool,
    /// The unique property the ids are values of; none for record ids.
    id_property: Option<String>,
    /// Our app at HubSpot, to tell our own versions.
    app_id: Option<i64>,
}

/// One id to ask for, and the claims that wait for it (two mappings may share a record).
#[derive(Debug, Clone)]
struct Wanted {
    id: String,
    claims: Vec<Claim>,
}

/// Reads all. The second part are the claims whose read failed.
pub(crate) async fn all(context: &Arc<Context>, claims: Vec<Claim>, lease: Lease) -> (Vec<Observation>, Vec<Outcome>) {
    let mut observations = Vec::with_capacity(claims.len());
    let mut groups: BTreeMap<Group, BTreeMap<String, Vec<Claim>>> = BTreeMap::new();
    for claim in claims {
        match target(&claim, context.app_id) {
            Some((group, id)) => groups.entry(group).or_default().entry(id).or_default().push(claim),
            None => observations.push(not_asked(&claim)),
        }
    }
    let mut jobs = Vec::new();
    for (group, wanted) in groups {
        let wanted = wanted.into_iter().map(|(id, claims)| Wanted { id, claims }).collect();
        let size = if group.history { HISTORY_BATCH } else { BATCH };
        for page in pages(wanted, size, |wanted: &Wanted| wanted.id.clone()) {
            jobs.push(read_page(Arc::clone(context), group.clone(), page, lease));
        }
    }
    let mut failed = Vec::new();
    for (page, page_failed) in side_by_side(jobs).await {
        observations.extend(page);
        failed.extend(page_failed);
    }
    (observations, failed)
}

/// Which batch a claim belongs to and the id to ask for; none when nothing is to be read.
fn target(claim: &Claim, app_id: Option<i64>) -> Option<(Group, String)> {
    let history = match claim.read {
        ReadKind::None => return None,
        ReadKind::Values => false,
        ReadKind::History => true,
    };
    let (id, id_property) = match (&claim.hubspot_id, &claim.matching) {
        (Some(id), _) => (id.clone(), None),
        (None, Some(matching)) => (matching.value.clone(), Some(matching.property.clone())),
        (None, None) => return None,
    };
    Some((
        Group {
            object_type: claim.object_type.clone(),
            history,
            id_property,
            app_id,
        },
        id,
    ))
}

async fn read_page(
    context: Arc<Context>,
    group: Group,
    page: Vec<Wanted>,
    lease: Lease,
) -> (Vec<Observation>, Vec<Outcome>) {
    let (mut observations, mut failed) = (Vec::new(), Vec::new());
    let mut waiting = vec![page];
    while let Some(page) = waiting.pop() {
        let read_at_ms = jiff::Timestamp::now().as_millisecond();
        let answer = if context.stop.is_cancelled() {
            Err(CallError::NotSent {
                wait: std::time::Duration::ZERO,
            })
        } else {
            context
                .client
                .batch_read(&group.object_type, &request(&group, &page), lease.send_by)
                .await
        };
        match answer {
            Ok(response) => {
                let sorted = sort(&group, page, &response, read_at_ms);
                observations.extend(sorted.observations);
                waiting.extend(sorted.alone.into_iter().map(|wanted| vec![wanted]));
            }
            Err(CallError::NotSent { wait }) => {
                failed.extend(claims_of(&page).map(|claim| unsent(&claim.claim, claim.token, wait)));
            }
            Err(CallError::Failed(failure)) if failure.class == FailureClass::Invalid && page.len() > 1 => {
                let (first, second) = halves(page);
                waiting.extend([second, first]);
            }
            Err(CallError::Failed(failure)) => {
                let spent = context.gate.judge(&failure, &group.object_type).await;
                failed.extend(claims_of(&page).map(|claim| failed_read(&context, &failure, claim, spent)));
            }
        }
    }
    (observations, failed)
}

fn failed_read(context: &Context, failure: &Failure, claim: &Claim, spent: bool) -> Outcome {
    let at = Circumstances {
        attempt: claim.attempt,
        spent,
        write: false,
    };
    let end = of_failure(&context.retry, failure, at, rand::random());
    Outcome {
        claim: claim.claim.clone(),
        token: claim.token,
        end,
    }
}

fn claims_of(page: &[Wanted]) -> impl Iterator<Item = &Claim> {
    page.iter().flat_map(|wanted| &wanted.claims)
}

fn request(group: &Group, page: &[Wanted]) -> BatchReadRequest {
    let mut names: BTreeSet<String> = claims_of(page)
        .flat_map(|claim| claim.properties.iter().cloned())
        .collect();
    let history = if group.history {
        names.iter().cloned().collect()
    } else {
        Vec::new()
    };
    // The answer is matched by this property's value.
    names.extend(group.id_property.clone());
    BatchReadRequest {
        properties: names.into_iter().collect(),
        properties_with_history: history,
        id_property: group.id_property.clone(),
        inputs: page.iter().map(|wanted| IdInput { id: wanted.id.clone() }).collect(),
    }
}

struct Sorted {
    observations: Vec<Observation>,
    /// To be asked for one at a time, because it cannot be told which result, if any, is theirs.
    alone: Vec<Wanted>,
}

/// Finds each wanted record among the results, which come in any order.
///
/// A record that was merged away answers under the survivor's id: asked for alone, the one result is it.
fn sort(group: &Group, page: Vec<Wanted>, response: &BatchResponse, read_at_ms: i64) -> Sorted {
    let single = page.len() == 1;
    let named_missing: HashSet<String> = response
        .errors
        .iter()
        .flat_map(|error| context_strings(&error.context, "ids"))
        .collect();
    let index = Index::new(group, &response.results);
    let wanted_ids: HashSet<String> = page.iter().map(|wanted| fold(&wanted.id)).collect();
    let strangers = response
        .results
        .iter()
        .any(|record| index.name(record).is_none_or(|name| !wanted_ids.contains(&fold(&name))));
    let mut sorted = Sorted {
        observations: Vec::with_capacity(page.len()),
        alone: Vec::new(),
    };
    for wanted in page {
        let record = index
            .find(&wanted.id)
            .or(if single { response.results.first() } else { None });
        let unclear = record.is_none()
            && !single
            && !named_missing.contains(&wanted.id)
            && (group.id_property.is_none() || strangers);
        if unclear {
            sorted.alone.push(wanted);
            continue;
        }
        let observed = wanted
            .claims
            .iter()
            .map(|claim| observation(group, claim, record, read_at_ms));
        sorted.observations.extend(observed);
    }
    sorted
}

/// The results by id, or by the value of the id property.
struct Index<'a> {
    id_property: Option<&'a str>,
    exact: HashMap<String, &'a Record>,
    folded: HashMap<String, &'a Record>,
}

impl<'a> Index<'a> {
    fn new(group: &'a Group, results: &'a [Record]) -> Self {
        let mut index = Self {
            id_property: group.id_property.as_deref(),
            exact: HashMap::new(),
            folded: HashMap::new(),
        };
        for record in results {
            if let Some(name) = index.name(record) {
                index.folded.insert(fold(&name), record);
                index.exact.insert(name, record);
            }
        }
        index
    }

    fn name(&self, record: &Record) -> Option<String> {
        match self.id_property {
            None => Some(record.id.clone()),
            Some(property) => record.properties.get(property).and_then(value_text),
        }
    }

    fn find(&self, id: &str) -> Option<&'a Record> {
        self.exact.get(id).or_else(|| self.folded.get(&fold(id))).copied()
    }
}

/// HubSpot lower-cases e-mail addresses and may trim: the value returned is the same if it differs in nothing else.
pub(super) fn fold(text: &str) -> String {
    text.trim().to_lowercase()
}

fn not_asked(claim: &Claim) -> Observation {
    Observation {
        claim: claim.claim.clone(),
        token: claim.token,
        found: None,
        hubspot_id: claim.hubspot_id.clone(),
        read_at_ms: jiff::Timestamp::now().as_millisecond(),
        updated_at_ms: None,
        history: false,
        properties: Map::new(),
        versions: None,
    }
}

fn observation(group: &Group, claim: &Claim, record: Option<&Record>, read_at_ms: i64) -> Observation {
    let value = |name: &String| {
        let text = record
            .and_then(|record| record.properties.get(name))
            .and_then(value_text);
        (name.clone(), text.map_or(Value::Null, Value::String))
    };
    let versions = record.filter(|_| group.history).map(|record| {
        claim
            .properties
            .iter()
            .map(|name| (name.clone(), versions(record, name, group.app_id)))
            .collect::<BTreeMap<_, _>>()
    });
    Observation {
        claim: claim.claim.clone(),
        token: claim.token,
        found: Some(record.is_some()),
        hubspot_id: record
            .map(|record| record.id.clone())
            .or_else(|| claim.hubspot_id.clone()),
        read_at_ms,
        updated_at_ms: record
            .and_then(|record| record.updated_at.clone())
            .and_then(|at| instant_ms(&Value::String(at))),
        history: group.history && record.is_some(),
        properties: if record.is_some() {
            claim.properties.iter().map(value).collect()
        } else {
            Map::new()
        },
        versions,
    }
}

/// Whether this app set the version: HubSpot names the app's id as the source of what it writes.
fn is_own(version: &Version, app_id: i64) -> bool {
    version.source_type.as_deref() == Some("INTEGRATION")
        && version
            .source_id
            .as_deref()
            .is_some_and(|source| source == app_id.to_string())
}

fn versions(record: &Record, name: &str, app_id: Option<i64>) -> Vec<ObservedVersion> {
    let mut versions: Vec<ObservedVersion> = record
        .properties_with_history
        .get(name)
        .into_iter()
        .flatten()
        .filter_map(|version| {
            Some(ObservedVersion {
                value: value_text(&version.value),
                timestamp_ms: instant_ms(&version.timestamp)?,
                source_type: version.source_type.clone(),
                source_id: version.source_id.clone(),
                own: app_id.map(|app_id| is_own(version, app_id)),
            })
        })
        .collect();
    // Newest first as HubSpot gives them; the sort is stable, so versions of one millisecond keep HubSpot's order.
    versions.sort_by_key(|version| std::cmp::Reverse(version.timestamp_ms));
    versions
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claim(name: &str, id: Option<&str>, matching: Option<&str>) -> Claim {
        serde_json::from_value(
            json!({"claim":name,"token":1,"attempt":1,"object_type":"companies","operation":"sync",
            "hubspot_id":id,"match":matching.map(|value| json!({"property":"ban","value":value})),
            "read":"values","properties":["name","phone"]}),
        )
        .unwrap()
    }

    fn page(claims: Vec<Claim>) -> (Group, Vec<Wanted>) {
        let mut wanted = Vec::new();
        let mut group = None;
        for claim in claims {
            let (its_group, id) = target(&claim, Some(5)).unwrap();
            group = Some(its_group);
            wanted.push(Wanted {
                id,
                claims: vec![claim],
            });
        }
        (group.unwrap(), wanted)
    }

    fn answer(body: serde_json::Value) -> BatchResponse {
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn by_id_in_any_order_and_missing_ones() {
        let (group, wanted) = page(vec![claim("a", Some("1"), None), claim("b", Some("2"), None)]);
        let response = answer(json!({"results":[{"id":"2","properties":{"name":"B","phone":""}}],
            "errors":[{"category":"OBJECT_NOT_FOUND","context":{"ids":["1"]}}]}));
        let sorted = sort(&group, wanted, &response, 5);
        assert!(sorted.alone.is_empty());
        assert_eq!(sorted.observations[0].found, Some(false));
        assert_eq!(
            sorted.observations[1].properties,
            *json!({"name":"B","phone":null}).as_object().unwrap()
        );
    }

    #[test]
    fn a_merged_record_is_asked_for_alone_and_then_found() {
        let (group, wanted) = page(vec![claim("a", Some("1"), None), claim("b", Some("2"), None)]);
        let response = answer(json!({"results":[{"id":"9","properties":{}},{"id":"2","properties":{}}]}));
        let sorted = sort(&group, wanted, &response, 5);
        assert_eq!(sorted.alone.len(), 1);
        let sorted = sort(
            &group,
            sorted.alone,
            &answer(json!({"results":[{"id":"9","properties":{}}]})),
            5,
        );
        assert_eq!(sorted.observations[0].hubspot_id.as_deref(), Some("9"));
        assert_eq!(sorted.observations[0].found, Some(true));
    }

    #[test]
    fn by_match_property_whatever_its_case() {
        let (group, wanted) = page(vec![
            claim("a", None, Some("BAN-1")),
            claim("b", None, Some("BAN-2")),
            claim("c", None, Some("x")),
        ]);
        let response = answer(json!({"results":[{"id":"7","properties":{"ban":"ban-2"}},
            {"id":"6","properties":{"ban":"BAN-1","name":"A"}}]}));
        let sorted = sort(&group, wanted, &response, 5);
        let ids: Vec<_> = sorted
            .observations
            .iter()
            .map(|observation| observation.hubspot_id.as_deref())
            .collect();
        assert_eq!(ids, [Some("6"), Some("7"), None]);
        assert_eq!(sorted.observations[2].found, Some(false));
        assert!(sorted.alone.is_empty());
    }

    #[test]
    fn history_is_newest_first() {
        let mut history = claim("a", Some("1"), None);
        history.read = ReadKind::History;
        let (group, wanted) = page(vec![history]);
        let response = answer(
            json!({"results":[{"id":"1","properties":{"name":"B"},"propertiesWithHistory":{"name":[
            {"value":"A","timestamp":"2026-01-05T10:00:00.123Z","sourceType":"CRM_UI"},
            {"value":"B","timestamp":"2026-11-01T08:00:00.456Z","sourceType":"INTEGRATION","sourceId":"5"}]}}]}),
        );
        let sorted = sort(&group, wanted, &response, 5);
        let versions = sorted.observations[0].versions.as_ref().unwrap();
        assert_eq!(versions["name"][0].value.as_deref(), Some("B"));
        assert_eq!(versions["name"][0].timestamp_ms, 1_793_520_000_456);
        assert_eq!(
            (versions["name"][0].own, versions["name"][1].own),
            (Some(true), Some(false))
        );
        assert!(versions["phone"].is_empty());
    }
}
