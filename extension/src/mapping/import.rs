//! `hubspot.import_mapping`: the strategy's JSON document, checked against the table, stored, and switched on.
//!
//! Importing again is an online change: only what differs is touched, and a newly mapped field is queued for its first
//! sync.

use super::table::Table;
use super::{enable, first_sync};
use crate::error::invalid;
use crate::{sensitive, spi};
use hubspot_sync_core::mapping::{Direction, FieldMapping, Frequency, MappingFault, Strategy, nearest, parse_mapping};
use hubspot_sync_core::transform::Transform;
use hubspot_sync_core::value::ValueKind;
use pgrx::pg_sys;
use serde_json::{Value as Json, json};

/// Names HubSpot uses for one object type, in its API, its events and its type ids.
const OBJECTS: [(&str, [&str; 2]); 6] = [
    ("companies", ["company", "0-2"]),
    ("contacts", ["contact", "0-1"]),
    ("deals", ["deal", "0-3"]),
    ("tickets", ["ticket", "0-5"]),
    ("products", ["product", "0-7"]),
    ("line_items", ["line_item", "0-8"]),
];

const OPTIONS: [&str; 12] = [
    "brake",
    "capture_replicated",
    "freshness_target_seconds",
    "key_columns",
    "match",
    "on_create",
    "on_local_delete",
    "on_hubspot_delete",
    "updated_at_column",
    "policies",
    "enabled",
    "sensitive",
];

/// The options, checked.
struct Options {
    key_columns: Vec<String>,
    match_field: Option<String>,
    match_property: Option<String>,
    on_create: String,
    on_local_delete: String,
    on_hubspot_delete: String,
    updated_at_column: Option<String>,
    enabled: bool,
}

pub fn import(
    caller: pg_sys::Oid,
    entity_type: &str,
    table_oid: pg_sys::Oid,
    object: &str,
    mapping: &Json,
    options: &Json,
) -> String {
    check_name(entity_type);
    let object = object_name(object);
    let table = Table::describe(table_oid, caller);
    let known = known(entity_type);
    if known.as_ref().is_some_and(|(oid, _)| *oid != table_oid) {
        invalid(
            format!("{entity_type} maps another table already"),
            "import under another entity type; a mapping stays with its table, for its links and states belong to it",
        );
    }
    let mut faults = Vec::new();
    let fields = match parse_mapping(mapping) {
        Ok(fields) => fields,
        Err(found) => {
            faults.extend(found);
            Vec::new()
        }
    };
    let mut rows: Vec<Json> = fields
        .iter()
        .filter_map(|f| field_row(f, &table, &mut faults))
        .collect();
    let options_checked = check_options(options, &fields, &table, &mut faults);
    set_policies(caller, &options["policies"], &fields, &mut rows, &mut faults);
    set_sensitive(&options["sensitive"], &options_checked, &mut rows, &mut faults);
    if !faults.is_empty() {
        let list: Vec<String> = faults.iter().map(|f| format!("{}: {}", f.field, f.problem)).collect();
        let mends: Vec<String> = faults.iter().map(|f| format!("{}: {}", f.field, f.mend)).collect();
        invalid(
            format!("the mapping of {entity_type} cannot be imported: {}", list.join("; ")),
            &mends.join("; "),
        );
    }
    let switched = sensitive::switch::prepare(entity_type, table_oid, &rows);
    let stored = store(
        entity_type,
        table_oid,
        &object,
        mapping,
        options,
        &options_checked,
        &rows,
    );
    crate::ddl::follow::follow(table_oid, false);
    switched.carry_out();
    let mut added: Vec<String> = stored["added"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|f| f.as_str().map(str::to_owned))
        .collect();
    added.extend(switched.off.iter().map(|(_, field)| field.clone()));
    let existed = stored["existed"] == true;
    if !options_checked.enabled && known.is_some_and(|(_, enabled)| enabled) {
        return format!(
            "{} fields of {entity_type} mapped; {}",
            rows.len(),
            enable::disable(entity_type, caller)
        );
    }
    if options_checked.enabled {
        let queued = if existed && stored["enabled"] == true {
            enable::refresh_plans(table_oid);
            if added.is_empty() {
                0
            } else {
                first_sync::queue(entity_type, &added)
            }
        } else {
            return format!(
                "{} fields of {entity_type} mapped; {}",
                rows.len(),
                enable::enable(entity_type, caller)
            );
        };
        return format!(
            "{} fields of {entity_type} mapped; {queued} rows queued for the first sync of new fields",
            rows.len()
        );
    }
    format!(
        "{} fields of {entity_type} mapped; call hubspot.enable('{entity_type}') to start",
        rows.len()
    )
}

fn check_name(entity_type: &str) {
    let mut bytes = entity_type.bytes();
    let valid = bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && entity_type.len() <= 63;
    if !valid {
        invalid(
            "entity_type is not a name".into(),
            "use a lower-case letter, then at most 62 lower-case letters, digits and underscores",
        );
    }
}

/// The table a mapping of that name has, unless it was dropped, and whether it is enabled.
fn known(entity_type: &str) -> Option<(pg_sys::Oid, bool)> {
    let found = spi::call(
        "SELECT json_build_array(source_table::oid::bigint, enabled)::text FROM hubspot.object_mapping m JOIN pg_class c ON c.oid = m.source_table WHERE entity_type = $1::json->>'e'",
        &json!({"e": entity_type}),
    );
    Some((
        pg_sys::Oid::from(u32::try_from(found[0].as_u64()?).ok()?),
        found[1].as_bool()?,
    ))
}

fn object_name(object: &str) -> String {
    for (name, others) in OBJECTS {
        if name == object || others.contains(&object) {
            return name.to_owned();
        }
    }
    let custom = object
        .strip_prefix("2-")
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    if !custom {
        invalid(
            format!("hubspot_object \"{object}\" is not an object type"),
            "use companies, contacts, deals, tickets, products, line_items, or a custom object's type id such as 2-123",
        );
    }
    object.to_owned()
}

fn fault(faults: &mut Vec<MappingFault>, field: &str, problem: String, mend: impl Into<String>) {
    faults.push(MappingFault {
        field: field.to_owned(),
        problem,
        mend: mend.into(),
    });
}

pub(crate) fn field_row(field: &FieldMapping, table: &Table, faults: &mut Vec<MappingFault>) -> Option<Json> {
    let Some(column) = table.column(&field.column) else {
        fault(
            faults,
            &field.field,
            format!("{} has no column \"{}\"", table.name, field.column),
            table.suggestion(&field.column),
        );
        return None;
    };
    let kind = match (&field.path, column.is_json()) {
        (Some(_), true) => ValueKind::Text,
        (Some(_), false) => {
            fault(
                faults,
                &field.field,
                format!(
                    "warp_field_path needs a jsonb column, \"{}\" is {}",
                    column.name, column.type_name
                ),
                "leave warp_field_path out, or name a jsonb column",
            );
            return None;
        }
        (None, _) => match column.kind() {
            Some(kind) if !column.is_json() => kind,
            _ => {
                fault(
                    faults,
                    &field.field,
                    format!(
                        "column \"{}\" of type {} cannot be mapped whole",
                        column.name, column.type_name
                    ),
                    "for json use warp_field_path; otherwise map a text, number, boolean, date, timestamp, enum, uuid or text[] column",
                );
                return None;
            }
        },
    };
    if column.generated && field.direction.receives() {
        fault(
            faults,
            &field.field,
            format!("column \"{}\" is generated and cannot be written", column.name),
            "use WARP_TO_HUBSPOT",
        );
    }
    if let Some(name) = &field.transform {
        match Transform::by_name(name) {
            Some(t) if t.kind() != kind => fault(
                faults,
                &field.field,
                format!(
                    "transform {name} needs a {} column, \"{}\" is {}",
                    t.kind().name(),
                    column.name,
                    column.type_name
                ),
                "change the column or the transform",
            ),
            Some(_) => {}
            None if registered(name) => {}
            None => {
                let known: Vec<&str> = Transform::ALL.iter().map(|t| t.name()).collect();
                let near =
                    nearest(name, known.iter().copied()).map_or_else(String::new, |n| format!("did you mean {n}? "));
                fault(
                    faults,
                    &field.field,
                    format!("there is no transform \"{name}\""),
                    format!(
                        "{near}built in are {}; hubspot.register_transform adds one",
                        known.join(", ")
                    ),
                );
            }
        }
    }
    Some(json!({
        "field": field.field, "hubspot_property": field.hubspot_property, "column_name": field.column,
        "path": field.path.as_ref().map(|p| p.keys()), "sync_direction": field.direction,
        "conflict_resolution": field.strategy,
        "update_frequency": if field.frequency == Frequency::Batch { "batch" } else { "real-time" },
        "enum_values": field.enum_values, "transform": field.transform, "kind": kind, "description": field.description,
    }))
}

/// `{"policies": {"<field>": "<schema>.<function>"}}`: functions that decide a field's MANUAL conflicts.
fn set_policies(
    caller: pg_sys::Oid,
    given: &Json,
    fields: &[FieldMapping],
    rows: &mut [Json],
    faults: &mut Vec<MappingFault>,
) {
    for (name, function) in given.as_object().into_iter().flatten() {
        let manual = fields
            .iter()
            .any(|f| &f.field == name && f.strategy == Some(Strategy::Manual));
        let signature = format!(
            "{}(text, timestamptz, text, timestamptz, text)",
            function.as_str().unwrap_or("")
        );
        let found = spi::call(
            r#"SELECT json_build_array(p.oid::regprocedure::text, pg_get_userbyid(p.proowner))::text FROM pg_proc p WHERE p.oid = to_regprocedure($1::json->>'f') AND p.prokind = 'f' AND pg_has_role(($1::json->>'role')::oid, p.proowner, 'MEMBER')
               AND p.proargnames[6:7] = ARRAY['winner', 'value'] AND p.proallargtypes[6:7] = ARRAY['text', 'text']::regtype[]::oid[]"#,
            &json!({"f": signature, "role": caller.to_u32().to_string()}),
        );
        match (manual, found.is_null()) {
            (false, _) => fault(
                faults,
                name,
                "has a policy function but is no mapped field with conflict_resolution MANUAL".into(),
                "use conflict_resolution MANUAL, or leave the policy out",
            ),
            (true, true) => fault(
                faults,
                name,
                format!("there is no policy function {signature} with OUT winner text, OUT value text that you own"),
                "name it with its schema; it gets warp_value, warp_changed_at, hubspot_value, hubspot_changed_at, base_value",
            ),
            (true, false) => rows.iter_mut().filter(|r| r["field"] == *name).for_each(|r| {
                r["policy"] = found[0].clone();
                r["policy_role"] = found[1].clone();
            }),
        }
    }
}

/// `{"sensitive": ["<field>", …]}`; the name of a complex field means all its parts.
fn set_sensitive(given: &Json, options: &Options, rows: &mut [Json], faults: &mut Vec<MappingFault>) {
    let names: Vec<&str> = given
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .collect();
    if !given.is_null() && given.as_array().is_none_or(|list| list.len() != names.len()) {
        fault(
            faults,
            "options",
            "sensitive is not a list of field names".into(),
            "use {\"sensitive\": [\"<a mapped field>\"]}",
        );
    }
    let mut unused = names.clone();
    for row in rows {
        let field = row["field"].as_str().unwrap_or_default().to_owned();
        let named = |name: &&str| field == *name || field.strip_prefix(*name).is_some_and(|rest| rest.starts_with('.'));
        row["sensitive"] = json!(names.iter().any(named));
        unused.retain(|name| !named(name));
        if row["sensitive"] == false {
            continue;
        }
        let column = row["column_name"].as_str().unwrap_or_default();
        let refusal = if options.match_field.as_deref() == Some(&field) {
            Some(("identifies the record in HubSpot", "match by another field"))
        } else if options.key_columns.iter().any(|key| key == column) {
            Some((
                "is part of the row's key, by which records are named everywhere",
                "name another column in key_columns",
            ))
        } else if !row["policy"].is_null() {
            Some((
                "has a policy function, which would be given its values",
                "leave its conflicts to a person, or to another strategy",
            ))
        } else {
            None
        };
        if let Some((why, mend)) = refusal {
            fault(faults, &field, format!("cannot be sensitive: it {why}"), mend);
        }
    }
    for name in unused {
        fault(
            faults,
            "options",
            format!("sensitive names \"{name}\", which is no mapped field"),
            "use a field's name, or that of a complex field for all its parts",
        );
    }
}

fn registered(name: &str) -> bool {
    spi::call_text(
        "SELECT 'yes' FROM hubspot.transform WHERE name = $1::json->>'n'",
        &json!({"n": name}),
    )
    .is_some()
}

fn check_options(options: &Json, fields: &[FieldMapping], table: &Table, faults: &mut Vec<MappingFault>) -> Options {
    let empty = serde_json::Map::new();
    let given = match options {
        Json::Object(given) => given,
        _ => {
            fault(
                faults,
                "options",
                "is not a JSON object".into(),
                "pass an object such as {\"match\": …}",
            );
            &empty
        }
    };
    for key in given.keys().filter(|k| !OPTIONS.contains(&k.as_str())) {
        let mend = match nearest(key, OPTIONS) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("known options are {}", OPTIONS.join(", ")),
        };
        fault(faults, "options", format!("unknown option \"{key}\""), mend);
    }
    let mut one_of = |key: &str, allowed: &[&str]| -> String {
        match given.get(key) {
            None => allowed[0].to_owned(),
            Some(Json::String(s)) if allowed.contains(&s.as_str()) => s.clone(),
            Some(_) => {
                fault(
                    faults,
                    "options",
                    format!("{key} is not one of {}", allowed.join(", ")),
                    format!("leave it out for {}", allowed[0]),
                );
                allowed[0].to_owned()
            }
        }
    };
    let on_create = one_of("on_create", &["create", "ignore"]);
    let on_local_delete = one_of("on_local_delete", &["keep", "archive"]);
    let on_hubspot_delete = one_of("on_hubspot_delete", &["keep", "delete", "recreate"]);
    let key_columns: Vec<String> = match given.get("key_columns") {
        None => table.primary_key.clone(),
        Some(list) => list
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|c| c.as_str().map(str::to_owned))
            .collect(),
    };
    if key_columns.is_empty() {
        fault(
            faults,
            "options",
            format!("{} has no primary key and key_columns names none", table.name),
            "add a primary key, or name the columns that identify a row: {\"key_columns\": [\"…\"]}",
        );
    }
    let updated_at_column = given.get("updated_at_column").and_then(Json::as_str).map(str::to_owned);
    for column in key_columns.iter().chain(&updated_at_column) {
        if table.column(column).is_none() {
            fault(
                faults,
                "options",
                format!("{} has no column \"{column}\"", table.name),
                table.suggestion(column),
            );
        }
    }
    let enabled = match given.get("enabled") {
        None => true,
        Some(Json::Bool(b)) => *b,
        Some(_) => {
            fault(
                faults,
                "options",
                "enabled is neither true nor false".into(),
                "leave it out for true",
            );
            true
        }
    };
    if given.get("capture_replicated").is_some_and(|v| !v.is_boolean()) {
        fault(
            faults,
            "options",
            "capture_replicated is neither true nor false".into(),
            "leave it out for false",
        );
    }
    if let Some(target) = given.get("freshness_target_seconds")
        && !target.as_i64().is_some_and(|s| (1..=31_536_000).contains(&s))
    {
        fault(
            faults,
            "options",
            "freshness_target_seconds is not a whole number of seconds from 1 to 31536000".into(),
            "use a number such as 60, or leave it out for no target",
        );
    }
    check_brake(given.get("brake"), faults);
    let (match_field, match_property) = match_option(given.get("match"), fields, table, faults);
    Options {
        key_columns,
        match_field,
        match_property,
        on_create,
        on_local_delete,
        on_hubspot_delete,
        updated_at_column,
        enabled,
    }
}

fn check_brake(given: Option<&Json>, faults: &mut Vec<MappingFault>) {
    let Some(given) = given else { return };
    let mend =
        "use {\"brake\": {\"records\": 1000, \"percent\": 20, \"window_seconds\": 600}}: records, percent, or both";
    let keys = given
        .as_object()
        .map(|brake| brake.keys().map(String::as_str).collect::<Vec<_>>());
    let known = |key: &&str| ["records", "percent", "window_seconds"].contains(key);
    let limited = keys
        .as_ref()
        .is_some_and(|keys| keys.contains(&"records") || keys.contains(&"percent"));
    if !limited || !keys.is_some_and(|keys| keys.iter().all(known)) {
        fault(
            faults,
            "options",
            "brake is not an object with records, percent and window_seconds alone".into(),
            mend,
        );
        return;
    }
    let fits = |key: &str, test: &dyn Fn(&Json) -> bool| given.get(key).is_none_or(test);
    if !fits("records", &|v| v.as_i64().is_some_and(|n| n >= 1)) {
        fault(
            faults,
            "options",
            "brake.records is not a whole number from 1 on".into(),
            mend,
        );
    }
    if !fits("percent", &|v| v.as_f64().is_some_and(|p| p > 0.0 && p <= 100.0)) {
        fault(
            faults,
            "options",
            "brake.percent is not a number above 0 and up to 100".into(),
            mend,
        );
    }
    if !fits("window_seconds", &|v| {
        v.as_i64().is_some_and(|s| (1..=86_400).contains(&s))
    }) {
        fault(
            faults,
            "options",
            "brake.window_seconds is not a whole number from 1 to 86400".into(),
            mend,
        );
    }
}

/// The field that finds and creates records. Left out, it is the first sent field whose column has a unique index.
fn match_option(
    given: Option<&Json>,
    fields: &[FieldMapping],
    table: &Table,
    faults: &mut Vec<MappingFault>,
) -> (Option<String>, Option<String>) {
    let Some(given) = given else {
        let found = fields
            .iter()
            .filter(|f| f.direction == Direction::WarpToHubspot && f.path.is_none())
            .find(|f| table.unique_columns.contains(&f.column));
        return (
            found.map(|f| f.field.clone()),
            found.map(|f| f.hubspot_property.clone()),
        );
    };
    let name = given["field"].as_str();
    let Some(field) = name.and_then(|name| fields.iter().find(|f| f.field == name)) else {
        fault(
            faults,
            "options",
            "match names no mapped field".into(),
            "use {\"match\": {\"field\": \"<a mapped field>\", \"property\": \"<its unique HubSpot property>\"}}",
        );
        return (None, None);
    };
    let property = given["property"].as_str().unwrap_or(&field.hubspot_property);
    if property != field.hubspot_property {
        fault(
            faults,
            "options",
            format!("match property {property} is not the property of field {}", field.field),
            format!("use {}", field.hubspot_property),
        );
    }
    (Some(field.field.clone()), Some(field.hubspot_property.clone()))
}

const STORE: &str = r#"
WITH d AS (SELECT $1::jsonb AS j),
before AS (SELECT m.id, m.enabled FROM hubspot.object_mapping m, d WHERE m.entity_type = j->>'entity_type'),
stored AS (
  INSERT INTO hubspot.object_mapping AS m (entity_type, source_table, hubspot_object, key_columns, match_field, match_property,
    on_create, on_local_delete, on_hubspot_delete, updated_at_column, mapping, options)
  SELECT j->>'entity_type', (j->>'table')::oid::regclass, j->>'object', ARRAY(SELECT jsonb_array_elements_text(j->'key_columns')),
    j->>'match_field', j->>'match_property', j->>'on_create', j->>'on_local_delete', j->>'on_hubspot_delete',
    j->>'updated_at_column', j->'mapping', j->'options' FROM d
  ON CONFLICT (entity_type) DO UPDATE SET source_table = excluded.source_table, hubspot_object = excluded.hubspot_object,
    key_columns = excluded.key_columns, match_field = excluded.match_field, match_property = excluded.match_property,
    on_create = excluded.on_create, on_local_delete = excluded.on_local_delete, on_hubspot_delete = excluded.on_hubspot_delete,
    updated_at_column = excluded.updated_at_column, mapping = excluded.mapping, options = excluded.options,
    imported_at = now(), imported_by = session_user
  RETURNING m.id),
rows AS (SELECT s.id AS mapping_id, v.* FROM stored s, d, jsonb_to_recordset(j->'fields') AS v (field text, hubspot_property text,
  column_name text, path text[], sync_direction hubspot.sync_direction, conflict_resolution hubspot.conflict_resolution,
  update_frequency text, enum_values text[], transform text, kind text, description text, policy text, policy_role text, sensitive boolean)),
added AS (SELECT r.field FROM rows r WHERE NOT EXISTS (SELECT 1 FROM hubspot.field_mapping f
  WHERE f.mapping_id = r.mapping_id AND f.field = r.field AND f.active)),
fields AS (
  INSERT INTO hubspot.field_mapping AS f (mapping_id, field, hubspot_property, column_name, path, sync_direction,
    conflict_resolution, update_frequency, enum_values, transform, kind, description, policy, policy_role, sensitive)
  SELECT mapping_id, field, hubspot_property, column_name, path, sync_direction, conflict_resolution, update_frequency, enum_values,
    transform, kind, description, policy, policy_role, sensitive FROM rows
  ON CONFLICT (mapping_id, field) DO UPDATE SET hubspot_property = excluded.hubspot_property, column_name = excluded.column_name,
    path = excluded.path, sync_direction = excluded.sync_direction, conflict_resolution = excluded.conflict_resolution,
    update_frequency = excluded.update_frequency, enum_values = excluded.enum_values, transform = excluded.transform,
    kind = excluded.kind, description = excluded.description, policy = excluded.policy, policy_role = excluded.policy_role, sensitive = excluded.sensitive, active = true
  WHERE (f.hubspot_property, f.column_name, f.path, f.sync_direction, f.conflict_resolution, f.update_frequency, f.enum_values,
         f.transform, f.kind, f.description, f.policy, f.policy_role, f.sensitive, f.active)
    IS DISTINCT FROM (excluded.hubspot_property, excluded.column_name, excluded.path, excluded.sync_direction,
         excluded.conflict_resolution, excluded.update_frequency, excluded.enum_values, excluded.transform, excluded.kind,
         excluded.description, excluded.policy, excluded.policy_role, excluded.sensitive, true)
  RETURNING 1),
gone AS (UPDATE hubspot.field_mapping f SET active = false FROM stored s
  WHERE f.mapping_id = s.id AND f.active AND NOT EXISTS (SELECT 1 FROM rows r WHERE r.field = f.field) RETURNING 1)
SELECT json_build_object('existed', EXISTS (SELECT 1 FROM before), 'enabled', (SELECT enabled FROM before),
  'added', (SELECT json_agg(field) FROM added), 'touched', (SELECT count(*) FROM fields) + (SELECT count(*) FROM gone))::text"#;

fn store(
    entity_type: &str,
    table: pg_sys::Oid,
    object: &str,
    mapping: &Json,
    options: &Json,
    checked: &Options,
    fields: &[Json],
) -> Json {
    spi::call(
        STORE,
        &json!({
            "entity_type": entity_type, "table": table.to_u32().to_string(), "object": object, "mapping": mapping, "options": options,
            "key_columns": checked.key_columns, "match_field": checked.match_field, "match_property": checked.match_property,
            "on_create": checked.on_create, "on_local_delete": checked.on_local_delete,
            "on_hubspot_delete": checked.on_hubspot_delete, "updated_at_column": checked.updated_at_column, "fields": fields,
        }),
    )
}
