//! Checks and normalises one value against its definition.

use jiff::civil::Date;

use super::clock::iso;
use super::config::Behaviour;
use super::errors::ValueProblem;
use super::schema::{ObjectType, PropertyDef};

/// Longest text value.
pub(crate) const MAX_TEXT: usize = 65_536;
const DAY_MS: i64 = 86_400_000;

/// The form in which HubSpot stores `value`, or why it refuses it. `current` is the value stored now.
pub(crate) fn accept(
    object_type: &ObjectType,
    behaviour: &Behaviour,
    name: &str,
    value: &str,
    current: &str,
) -> Result<String, ValueProblem> {
    let Some(definition) = object_type.property(name) else {
        let message = format!("Property \"{name}\" does not exist");
        return Err(ValueProblem::new(name, "PROPERTY_DOESNT_EXIST", message));
    };
    if definition.calculated {
        let message = format!("\"{name}\" is a calculated property; its value cannot be set");
        return Err(ValueProblem::new(name, "READ_ONLY_VALUE", message));
    }
    if definition.read_only {
        let message = format!("\"{name}\" is a read only property; its value cannot be set");
        return Err(ValueProblem::new(name, "READ_ONLY_VALUE", message));
    }
    if value.is_empty() {
        return Ok(String::new());
    }
    match definition.kind.as_str() {
        "number" => number(definition, behaviour, value),
        "bool" => boolean(definition, value),
        "enumeration" => enumeration(definition, behaviour, value, current),
        "date" => date(definition, value),
        "datetime" => datetime(definition, value),
        _ => text(object_type, definition, behaviour, value),
    }
}

fn text(
    object_type: &ObjectType,
    definition: &PropertyDef,
    behaviour: &Behaviour,
    value: &str,
) -> Result<String, ValueProblem> {
    let name = definition.name.as_str();
    if value.chars().count() > MAX_TEXT {
        let message = format!("Property \"{name}\" is longer than {MAX_TEXT} characters");
        return Err(ValueProblem::new(name, "PROPERTY_VALUE_TOO_LONG", message));
    }
    match (object_type.type_id.as_str(), name) {
        ("0-1", "email") => email(value),
        ("0-2", "domain") => Ok(domain(behaviour, value)),
        _ => Ok(value.to_owned()),
    }
}

fn email(value: &str) -> Result<String, ValueProblem> {
    let valid = value.split_once('@').is_some_and(|(local, host)| {
        !local.is_empty()
            && host.contains('.')
            && !host.starts_with('.')
            && !host.ends_with('.')
            && !host.contains('@')
            && !value.chars().any(char::is_whitespace)
    });
    if !valid {
        return Err(ValueProblem::new(
            "email",
            "INVALID_EMAIL",
            format!("Email address {value} is invalid"),
        ));
    }
    Ok(value.to_lowercase())
}

fn domain(behaviour: &Behaviour, value: &str) -> String {
    let mut result = if behaviour.lower_domain {
        value.to_lowercase()
    } else {
        value.to_owned()
    };
    if behaviour.strip_domain {
        let host = result.split_once("://").map_or(result.as_str(), |(_, rest)| rest);
        let host = host.strip_prefix("www.").unwrap_or(host);
        result = host.split(['/', '?', '#']).next().unwrap_or_default().to_owned();
    }
    result
}

fn number(definition: &PropertyDef, behaviour: &Behaviour, value: &str) -> Result<String, ValueProblem> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !plain(whole) || !plain(fraction) {
        let message = format!("{value} was not a valid long.");
        return Err(ValueProblem::new(&definition.name, "INVALID_LONG", message));
    }
    if !behaviour.reformat_numbers {
        return Ok(value.to_owned());
    }
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    let mut result = if whole.is_empty() {
        "0".to_owned()
    } else {
        whole.to_owned()
    };
    if !fraction.is_empty() {
        result = format!("{result}.{fraction}");
    }
    if value.starts_with('-') && result != "0" {
        result.insert(0, '-');
    }
    Ok(result)
}

fn boolean(definition: &PropertyDef, value: &str) -> Result<String, ValueProblem> {
    match value {
        "true" | "false" => Ok(value.to_owned()),
        _ => Err(invalid_option(definition, value, "[true, false]")),
    }
}

fn invalid_option(definition: &PropertyDef, value: &str, allowed: &str) -> ValueProblem {
    let message = format!("{value} was not one of the allowed options: {allowed}");
    ValueProblem::new(&definition.name, "INVALID_OPTION", message)
}

fn enumeration(
    definition: &PropertyDef,
    behaviour: &Behaviour,
    value: &str,
    current: &str,
) -> Result<String, ValueProblem> {
    let allowed: Vec<&str> = definition.options.iter().map(|option| option.value.as_str()).collect();
    let refuse = |part: &str| invalid_option(definition, part, &format!("[{}]", allowed.join(", ")));
    if !definition.is_multi() {
        return if allowed.contains(&value) {
            Ok(value.to_owned())
        } else {
            Err(refuse(value))
        };
    }
    let mut parts: Vec<&str> = Vec::new();
    if value.starts_with(';') {
        parts.extend(current.split(';').filter(|part| !part.is_empty()));
    }
    for part in value.split(';').filter(|part| !part.is_empty()) {
        if !allowed.contains(&part) {
            return Err(refuse(part));
        }
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    if behaviour.reorder_multi {
        parts.sort_by_key(|part| allowed.iter().position(|option| option == part));
    }
    Ok(parts.join(";"))
}

fn date(definition: &PropertyDef, value: &str) -> Result<String, ValueProblem> {
    let refuse = || {
        let message = format!("{value} is not a valid date: it must be YYYY-MM-DD or midnight UTC in milliseconds");
        ValueProblem::new(&definition.name, "INVALID_DATE", message)
    };
    if let Ok(ms) = value.parse::<i64>() {
        if ms % DAY_MS != 0 {
            return Err(refuse());
        }
        return Ok(iso(ms).chars().take(10).collect());
    }
    if value.len() != 10 {
        return Err(refuse());
    }
    value.parse::<Date>().map(|date| date.to_string()).map_err(|_| refuse())
}

fn datetime(definition: &PropertyDef, value: &str) -> Result<String, ValueProblem> {
    let refuse = || {
        let message = format!("{value} is not a valid datetime: it must be ISO 8601 in UTC or milliseconds");
        ValueProblem::new(&definition.name, "INVALID_DATE", message)
    };
    if let Ok(ms) = value.parse::<i64>() {
        return Ok(iso(ms));
    }
    if !value.ends_with('Z') {
        return Err(refuse());
    }
    value
        .parse::<jiff::Timestamp>()
        .map(|instant| iso(instant.as_millisecond()))
        .map_err(|_| refuse())
}
