//! Search: filters, one sort, pages and the 10,000 cap.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::errors::ApiError;
use super::query::{ApiRequest, Reply, required, string, strings};
use super::record::{Stored, View};
use super::schema::ObjectType;
use super::store::Core;

const MAX_BODY: usize = 3_000;
const MAX_TOTAL: usize = 10_000;

/// One condition.
#[derive(Debug)]
struct Filter {
    property: String,
    operator: String,
    value: String,
    high: String,
    values: Vec<String>,
}

impl Core {
    pub(crate) fn search(&mut self, type_id: &str, request: &ApiRequest) -> Result<Reply, ApiError> {
        if request.body.len() > MAX_BODY {
            return Err(ApiError::validation(format!(
                "The request body is longer than {MAX_BODY} characters"
            )));
        }
        let body = request.json()?;
        let object_type = self.schemas.get(type_id)?;
        let groups = groups(&body, object_type)?;
        let limit = whole(&body, "limit")?.unwrap_or(10);
        let after = whole(&body, "after")?.unwrap_or(0);
        if limit > 200 {
            return Err(ApiError::validation(format!(
                "limit must be at most 200, it was {limit}"
            )));
        }
        if after + limit > MAX_TOTAL {
            return Err(ApiError::validation(format!(
                "Paging past {MAX_TOTAL} results is not supported"
            )));
        }
        let lag = i64::try_from(self.behaviour.search_lag_ms).unwrap_or(0);
        let at = (lag > 0).then(|| self.clock.now() - lag);
        let mut found: Vec<&Stored> = self
            .records
            .get(type_id)
            .into_iter()
            .flat_map(|records| records.values())
            .filter(|record| visible(record, at))
            .filter(|record| groups.is_empty() || groups.iter().any(|group| all(group, object_type, record, at)))
            .collect();
        sort(&body, object_type, &mut found, at)?;
        let total = found.len();
        let view = View {
            properties: strings(&body, "properties")?,
            at,
            ..self.view()
        };
        let page = found.iter().skip(after).take(limit);
        let results: Vec<Value> = page
            .map(|record| view.render(object_type, &self.behaviour, record))
            .collect();
        let mut reply = json!({"total": total, "results": results});
        if after + limit < total {
            reply["paging"] = json!({"next": {"after": (after + limit).to_string()}});
        }
        Ok(Reply::json(200, reply))
    }
}

fn visible(record: &Stored, at: Option<i64>) -> bool {
    record.archived_at.is_none() && at.is_none_or(|at| record.created_at <= at)
}

fn whole(body: &Value, key: &str) -> Result<Option<usize>, ApiError> {
    let refuse = || ApiError::bad_json(format!("{key} must be a whole number"));
    match body.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => text.parse().map(Some).map_err(|_| refuse()),
        Some(other) => {
            let number = other.as_u64().and_then(|number| usize::try_from(number).ok());
            number.map(Some).ok_or_else(refuse)
        }
    }
}

fn groups(body: &Value, object_type: &ObjectType) -> Result<Vec<Vec<Filter>>, ApiError> {
    let none = Vec::new();
    let groups = body.get("filterGroups").and_then(Value::as_array).unwrap_or(&none);
    let mut result = Vec::new();
    for group in groups {
        let filters = group.get("filters").and_then(Value::as_array);
        let filters = filters.ok_or_else(|| ApiError::bad_json("some required fields were not set: [filters]"))?;
        result.push(
            filters
                .iter()
                .map(|it| filter(it, object_type))
                .collect::<Result<Vec<_>, _>>()?,
        );
    }
    let total: usize = result.iter().map(Vec::len).sum();
    if result.len() > 5 || total > 18 || result.iter().any(|group| group.len() > 6) {
        let message = "At most 5 filterGroups with 6 filters each and 18 filters in all are supported";
        return Err(ApiError::validation(message));
    }
    Ok(result)
}

fn filter(body: &Value, object_type: &ObjectType) -> Result<Filter, ApiError> {
    let result = Filter {
        property: required(body, "propertyName")?,
        operator: required(body, "operator")?,
        value: string(body, "value")?.unwrap_or_default(),
        high: string(body, "highValue")?.unwrap_or_default(),
        values: strings(body, "values")?,
    };
    if object_type.property(&result.property).is_none() {
        let message = format!(
            "There was a problem with the request: property {} does not exist",
            result.property
        );
        return Err(ApiError::validation(message));
    }
    const OPERATORS: [&str; 13] = [
        "LT",
        "LTE",
        "GT",
        "GTE",
        "EQ",
        "NEQ",
        "BETWEEN",
        "IN",
        "NOT_IN",
        "HAS_PROPERTY",
        "NOT_HAS_PROPERTY",
        "CONTAINS_TOKEN",
        "NOT_CONTAINS_TOKEN",
    ];
    if !OPERATORS.contains(&result.operator.as_str()) {
        return Err(ApiError::bad_json(format!("{} is not an operator", result.operator)));
    }
    let list = matches!(result.operator.as_str(), "IN" | "NOT_IN");
    let bare = matches!(result.operator.as_str(), "HAS_PROPERTY" | "NOT_HAS_PROPERTY");
    if (list && result.values.is_empty()) || (!list && !bare && result.value.is_empty()) {
        let message = format!("operator {} needs a value", result.operator);
        return Err(ApiError::validation(message));
    }
    Ok(result)
}

fn all(filters: &[Filter], object_type: &ObjectType, record: &Stored, at: Option<i64>) -> bool {
    filters
        .iter()
        .all(|filter| holds(filter, object_type, &record.read(object_type, &filter.property, at)))
}

fn holds(filter: &Filter, object_type: &ObjectType, value: &str) -> bool {
    let kind = object_type
        .property(&filter.property)
        .map_or("string", |it| it.kind.as_str());
    let order = |other: &str| compare(kind, value, other);
    let present = !value.is_empty();
    let one_of = || filter.values.iter().any(|other| order(other) == Ordering::Equal);
    let token = || {
        let wanted = filter.value.to_lowercase();
        let wanted = wanted.trim_matches('*');
        value
            .to_lowercase()
            .split(|c: char| !c.is_alphanumeric())
            .any(|word| word == wanted)
            || (filter.value.contains('*') && value.to_lowercase().contains(wanted))
    };
    match filter.operator.as_str() {
        "HAS_PROPERTY" => present,
        "NOT_HAS_PROPERTY" => !present,
        "EQ" => present && order(&filter.value) == Ordering::Equal,
        "NEQ" => order(&filter.value) != Ordering::Equal,
        "LT" => present && order(&filter.value) == Ordering::Less,
        "LTE" => present && order(&filter.value) != Ordering::Greater,
        "GT" => present && order(&filter.value) == Ordering::Greater,
        "GTE" => present && order(&filter.value) != Ordering::Less,
        "BETWEEN" => present && order(&filter.value) != Ordering::Less && order(&filter.high) != Ordering::Greater,
        "IN" => present && one_of(),
        "NOT_IN" => !one_of(),
        "CONTAINS_TOKEN" => token(),
        "NOT_CONTAINS_TOKEN" => !token(),
        _ => false,
    }
}

/// Compares two values by the property's type.
fn compare(kind: &str, left: &str, right: &str) -> Ordering {
    let pair = match kind {
        "number" => left.parse::<f64>().ok().zip(right.parse::<f64>().ok()),
        _ => None,
    };
    if let Some((left, right)) = pair {
        return left.partial_cmp(&right).unwrap_or(Ordering::Equal);
    }
    match kind {
        "date" | "datetime" => instant(left).cmp(&instant(right)),
        "enumeration" => left.cmp(right),
        _ => left.to_lowercase().cmp(&right.to_lowercase()),
    }
}

/// Milliseconds of a date, a datetime or a number.
fn instant(text: &str) -> Option<i64> {
    if let Ok(ms) = text.parse() {
        return Some(ms);
    }
    let full = if text.len() == 10 {
        format!("{text}T00:00:00Z")
    } else {
        text.to_owned()
    };
    full.parse::<jiff::Timestamp>()
        .ok()
        .map(|instant| instant.as_millisecond())
}

fn sort(body: &Value, object_type: &ObjectType, found: &mut [&Stored], at: Option<i64>) -> Result<(), ApiError> {
    let rules = body
        .get("sorts")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let (property, descending) = match rules {
        [] => return Ok(()),
        [Value::String(name)] => (name.trim_start_matches('-').to_owned(), name.starts_with('-')),
        [rule] => (
            required(rule, "propertyName")?,
            string(rule, "direction")?.as_deref() == Some("DESCENDING"),
        ),
        _ => return Err(ApiError::validation("Only one sort is supported")),
    };
    let kind = object_type.property(&property).map(|it| it.kind.clone());
    let kind = kind.ok_or_else(|| ApiError::validation(format!("Cannot sort by unknown property {property}")))?;
    found.sort_by(|left, right| {
        let (left, right) = (
            left.read(object_type, &property, at),
            right.read(object_type, &property, at),
        );
        let order = compare(&kind, &left, &right);
        if descending { order.reverse() } else { order }
    });
    Ok(())
}
