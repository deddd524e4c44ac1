//! Values on their way between HubSpot's form and the row's: canonical form, transform, allowed values.

use crate::catalog::Field;
use crate::{sensitive, spi};
use hubspot_sync_core::transform::Transform;
use hubspot_sync_core::value::{self, Value};
use serde_json::json;

/// Why a value cannot be brought over. The text names the field's rule, never the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

/// HubSpot's text as the row's canonical value.
pub fn from_hubspot(field: &Field, text: Option<&str>) -> Result<Value, Refused> {
    let canonical = value::from_hubspot(field.kind, text).map_err(|e| Refused(e.to_string()))?;
    let value = match field.transform.as_deref() {
        Some(name) if !canonical.is_null() => transform(name, &canonical, true)?,
        _ => canonical,
    };
    allowed(field, &value)?;
    Ok(sensitive::hide(field, value))
}

/// The row's text (as capture or a read of the row gives it) as canonical value. Text that has no canonical form is kept
/// as it is, so that the edit is on record; [`to_hubspot`] refuses it.
pub fn from_warp(field: &Field, text: Option<&str>) -> Value {
    if let (true, Some(text)) = (field.sensitive, text) {
        return sensitive::captured(field, text);
    }
    value::from_warp(field.kind, text).unwrap_or_else(|_| text.map_or(Value::NULL, Value::text))
}

/// The row's canonical value as HubSpot's text.
pub fn to_hubspot(field: &Field, value: &Value) -> Result<String, Refused> {
    let value = &known(field, value)?;
    allowed(field, value)?;
    let sent = match field.transform.as_deref() {
        Some(name) if !value.is_null() => transform(name, value, false)?,
        _ => value.clone(),
    };
    value::to_hubspot(field.kind, &sent).map_err(|e| Refused(e.to_string()))
}

/// Text for the row's column.
pub fn to_warp(field: &Field, value: &Value) -> Result<Option<String>, Refused> {
    Ok(value::to_warp(field.kind, &known(field, value)?))
}

fn known(field: &Field, value: &Value) -> Result<Value, Refused> {
    sensitive::clear(field, value).ok_or_else(|| Refused("the value of the sensitive field is not known here".into()))
}

fn allowed(field: &Field, value: &Value) -> Result<(), Refused> {
    match (&field.enum_values, value.as_deref()) {
        (Some(list), Some(text)) if !list.iter().any(|v| v == text) => Err(Refused(format!(
            "the value is not one of enum_values ({}) of field {}",
            list.join(", "),
            field.field
        ))),
        _ => Ok(()),
    }
}

fn transform(name: &str, value: &Value, to_warp: bool) -> Result<Value, Refused> {
    if let Some(built_in) = Transform::by_name(name) {
        let changed = if to_warp {
            built_in.to_warp(value)
        } else {
            built_in.to_hubspot(value)
        };
        return changed.map_err(|e| Refused(e.to_string()));
    }
    registered(name, value, to_warp)
}

/// A transform registered in SQL runs as the function's owner, and its failure fails this field alone.
fn registered(name: &str, value: &Value, to_warp: bool) -> Result<Value, Refused> {
    let side = if to_warp { "to_warp" } else { "to_hubspot" };
    let found = spi::call(
        r#"SELECT json_build_object('call', pg_catalog.format('%I.%I', n.nspname, p.proname), 'owner', p.proowner::bigint)::text
           FROM hubspot.transform t
           JOIN pg_catalog.pg_proc p ON p.oid = pg_catalog.to_regprocedure(CASE $1::json->>'side' WHEN 'to_warp' THEN t.to_warp ELSE t.to_hubspot END)
             AND pg_catalog.pg_get_userbyid(p.proowner) = CASE $1::json->>'side' WHEN 'to_warp' THEN t.to_warp_role ELSE t.to_hubspot_role END
           JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
           WHERE t.name = $1::json->>'name'"#,
        &json!({"name": name, "side": side}),
    );
    let (Some(call), Some(owner)) = (found["call"].as_str(), found["owner"].as_u64()) else {
        return Err(Refused(format!(
            "the transform {name} is not registered, or its function is gone or somebody else's; call hubspot.register_transform"
        )));
    };
    let sql = format!("SELECT {call}($1::json->>'v')::text");
    let arg = json!({"v": value.as_deref()});
    let owner = pgrx::pg_sys::Oid::from(owner as u32);
    let result = spi::subtransaction(std::panic::AssertUnwindSafe(|| {
        spi::as_role(owner, || spi::call_text(&sql, &arg))
    }));
    match result {
        Ok(text) => Ok(text.map_or(Value::NULL, Value::text)),
        Err(_) => Err(Refused(format!("the transform {name} failed on the value"))),
    }
}
