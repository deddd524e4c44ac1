//! The strategy's own document, and one test per rule.

use serde_json::{Value, json};

use super::*;

const STRATEGY: &str = include_str!("../../../../tests/fixtures/strategy_customer_mapping.json");

fn faults(json: Value) -> Vec<String> {
    match parse_mapping(&json) {
        Ok(fields) => panic!("accepted: {fields:?}"),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

/// A sound entry with some keys replaced; null removes one.
fn entry(changes: Value) -> Value {
    let mut entry = json!({
        "hubspot_property": "name", "warp_field": "c",
        "sync_direction": "BIDIRECTIONAL", "conflict_resolution": "LATEST_WINS",
    });
    for (key, value) in changes.as_object().unwrap() {
        entry[key] = value.clone();
    }
    entry
}

fn one(changes: Value) -> Result<Vec<FieldMapping>, Vec<MappingFault>> {
    parse_mapping(&json!({"f": entry(changes)}))
}

#[track_caller]
fn refused(changes: Value, parts: &[&str]) {
    let found = faults(json!({"f": entry(changes)}));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with('f'), "{found:?}");
    for part in parts {
        assert!(found[0].contains(part), "{part:?} not in {found:?}");
    }
}

#[test]
fn the_strategy_parses_verbatim() {
    let fields = parse_mapping(&serde_json::from_str(STRATEGY).unwrap()).unwrap();
    assert_eq!(fields.len(), 17);
    let by_name = |name: &str| fields.iter().find(|field| field.field == name).unwrap();
    let property = |name: &str| by_name(name).hubspot_property.as_str();
    assert_eq!(property("address.street"), "address");
    assert_eq!(property("address.zip"), "zip");
    assert_eq!(
        by_name("address.street").path.as_ref().unwrap().to_string(),
        "address->>'line1'"
    );
    assert_eq!(by_name("address.city").strategy, Some(Strategy::LatestWins));
    assert_eq!(
        by_name("credit_limit").transform.as_deref(),
        Some("hubspot_value_in_cents_to_dollars")
    );
    assert_eq!(by_name("status").enum_values.as_ref().map(Vec::len), Some(4));
    assert_eq!(by_name("contact_email").column, "contact");
    assert_eq!(by_name("hubspot_company_id").strategy, None);
    assert_eq!(fields[0].field, "ban");
    assert!(fields.iter().all(|field| field.frequency == Frequency::RealTime));
}

#[test]
fn labels_are_the_strategys_words() {
    for label in Direction::LABELS {
        let direction: Direction = label.parse().unwrap();
        assert_eq!(direction.to_string(), *label);
        assert_eq!(serde_json::to_value(direction).unwrap(), json!(label));
    }
    for label in Strategy::LABELS {
        let strategy: Strategy = label.parse().unwrap();
        assert_eq!(serde_json::to_value(strategy).unwrap(), json!(label));
    }
    for label in Frequency::LABELS {
        let frequency: Frequency = label.parse().unwrap();
        assert_eq!(serde_json::to_value(frequency).unwrap(), json!(label));
    }
    assert!("warp_wins".parse::<Strategy>().is_err());
}

#[test]
fn unknown_keys_get_the_nearest_name() {
    refused(
        json!({"sync_directon": "NONE"}),
        &["unknown key \"sync_directon\"", "did you mean sync_direction?"],
    );
    refused(json!({"colour": 1}), &["unknown key", "hubspot_property"]);
    refused(
        json!({"is_complex": true, "sub_mappings": {"city": {"path": "c->>'x'", "hubspot_propety": "y"}}}),
        &["f.city: ", "did you mean hubspot_property?"],
    );
}

#[test]
fn required_keys_and_their_types() {
    refused(json!({"hubspot_property": null}), &["hubspot_property is missing"]);
    refused(json!({"warp_field": ""}), &["warp_field is empty"]);
    refused(
        json!({"sync_direction": null}),
        &["sync_direction is missing", "WARP_TO_HUBSPOT"],
    );
    refused(
        json!({"conflict_resolution": null}),
        &["conflict_resolution is missing", "MANUAL"],
    );
    refused(json!({"warp_field": 5}), &["warp_field is not a string"]);
    refused(json!({"enum_values": "A"}), &["enum_values"]);
    refused(json!({"is_complex": "yes"}), &["is_complex"]);
    refused(
        json!({"sync_direction": "bidirectional"}),
        &["did you mean BIDIRECTIONAL?"],
    );
    refused(json!({"update_frequency": "15m"}), &["use one of real-time, batch"]);
    assert_eq!(
        one(json!({"update_frequency": "batch"})).unwrap()[0].frequency,
        Frequency::Batch
    );
    assert_eq!(one(json!({"transform": null})).unwrap()[0].transform, None);
}

#[test]
fn one_way_fields_let_their_own_side_win() {
    let both = |direction: &str, strategy: &str| json!({"sync_direction": direction, "conflict_resolution": strategy});
    for (direction, good, bad) in [
        ("WARP_TO_HUBSPOT", "WARP_WINS", "HUBSPOT_WINS"),
        ("HUBSPOT_TO_WARP", "HUBSPOT_WINS", "WARP_WINS"),
    ] {
        assert!(one(both(direction, good)).is_ok());
        assert!(one(both(direction, "LATEST_WINS")).is_ok());
        refused(both(direction, bad), &["does not fit", good]);
        refused(both(direction, "MANUAL"), &["does not fit", "BIDIRECTIONAL"]);
    }
    assert!(one(json!({"sync_direction": "NONE", "conflict_resolution": null})).is_ok());
}

#[test]
fn paths_stay_in_their_column() {
    refused(json!({"warp_field_path": "d->>'x'"}), &["\"d\"", "warp_field is \"c\""]);
    refused(json!({"warp_field_path": "c->'x'"}), &["at character 7", "->>"]);
    refused(
        json!({"is_complex": true, "sub_mappings": {"city": "d->>'x'"}}),
        &["f.city: ", "\"d\""],
    );
}

#[test]
fn complex_fields_need_parts_and_parts_a_complex_field() {
    refused(json!({"is_complex": true}), &["is_complex without sub_mappings"]);
    refused(
        json!({"is_complex": true, "sub_mappings": {}}),
        &["is_complex without sub_mappings"],
    );
    refused(
        json!({"sub_mappings": {"city": "c->>'x'"}}),
        &["sub_mappings without is_complex"],
    );
    refused(
        json!({"is_complex": true, "warp_field_path": "c->>'y'", "sub_mappings": {"city": "c->>'x'"}}),
        &["warp_field_path"],
    );
    refused(
        json!({"is_complex": true, "sub_mappings": {"a.b": "c->>'x'"}}),
        &["dot"],
    );
    let parts = json!({"street": {"path": "c->>'s'", "hubspot_property": "address2"}, "city": "c->>'c'"});
    let fields = one(json!({"is_complex": true, "sub_mappings": parts})).unwrap();
    let seen: Vec<_> = fields
        .iter()
        .map(|f| (f.field.as_str(), f.hubspot_property.as_str()))
        .collect();
    assert_eq!(seen, [("f.street", "address2"), ("f.city", "city")]);
}

#[test]
fn the_object_id_is_tracked_only() {
    refused(json!({"hubspot_property": "hs_object_id"}), &["hs_object_id", "NONE"]);
    let part = json!({"id": {"path": "c->>'x'", "hubspot_property": "hs_object_id"}});
    refused(json!({"is_complex": true, "sub_mappings": part}), &["hs_object_id"]);
    assert!(one(json!({"hubspot_property": "hs_object_id", "sync_direction": "NONE"})).is_ok());
}

#[test]
fn no_two_fields_write_the_same_place() {
    let pair =
        |a: Value, b: Value| parse_mapping(&json!({"a": entry(a), "b": entry(b)})).map_err(|faults| faults.len());
    assert_eq!(pair(json!({}), json!({})), Err(2));
    assert_eq!(pair(json!({}), json!({"warp_field": "d"})), Err(1));
    assert_eq!(pair(json!({}), json!({"hubspot_property": "p"})), Err(1));
    assert_eq!(
        pair(
            json!({}),
            json!({"hubspot_property": "p", "warp_field_path": "c->>'x'"})
        ),
        Err(1)
    );
    assert!(pair(json!({}), json!({"sync_direction": "NONE"})).is_ok());
    let out = json!({"hubspot_property": "p", "sync_direction": "WARP_TO_HUBSPOT", "conflict_resolution": "WARP_WINS"});
    assert!(pair(json!({}), out).is_ok());
    let paths = (
        json!({"warp_field_path": "c->>'x'"}),
        json!({"hubspot_property": "p", "warp_field_path": "c->>'y'"}),
    );
    assert!(pair(paths.0, paths.1).is_ok());
}

#[test]
fn all_faults_are_reported_at_once() {
    let found = faults(json!({"a": 1, "b": {"colour": 1}, "c.d": {}}));
    assert_eq!(found.len(), 6, "{found:?}");
    assert_eq!(faults(json!([])).len(), 1);
    assert_eq!(faults(json!({})).len(), 1);
}
