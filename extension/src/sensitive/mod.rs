//! Sensitive fields: their values stay out of every table of the extension.
//!
//! The field's machine compares values and tests them for null, nothing else. So for a sensitive field it is given *tokens*
//! instead: `hidden:` and a keyed hash of the canonical value, the same for the same value. States, captured changes and
//! what is in flight hold tokens. The value itself is known only inside a call, from what was just read of the row or of
//! HubSpot ([`hide`] remembers it, [`clear`] gives it back), and goes from there into the row or to the relay. People are
//! shown [`shown`], another hash, which tells equal values of one record apart from different ones and says nothing about
//! other records.
//!
//! Two values must outlive a call: HubSpot's side of an open conflict, which is gone from HubSpot once something was sent
//! over it, and that of an event that was stored and not applied yet. They are locked with the same key, and erased when the
//! conflict is settled or the event applied.

mod held;
mod key;
pub mod switch;

pub use held::{recall, store as store_held};
pub use key::Key;

use crate::catalog::Field;
use crate::spi;
use core::cell::RefCell;
use core::mem::ManuallyDrop;
use hubspot_sync_core::value::{self, Value, ValueKind};
use serde_json::{Value as Json, json};
use std::collections::HashMap;

/// What every stand-in begins with.
const HIDDEN: &str = "hidden:";
/// Hexadecimal digits of a token.
const TOKEN: usize = 32;
/// Hexadecimal digits of what people are shown.
const SHOWN: usize = 12;

/// What a call knows. Without a destructor: nothing runs when the backend exits.
#[derive(Default)]
struct Call {
    key: Option<Key>,
    /// Canonical values by token.
    clear: HashMap<String, String>,
}

thread_local! {
    static CALL: ManuallyDrop<RefCell<Call>> = ManuallyDrop::new(RefCell::new(Call::default()));
}

/// Forgets what an earlier call knew.
pub fn begin() {
    CALL.with(|call| {
        if let Ok(mut call) = call.try_borrow_mut() {
            *call = Call::default();
        }
    });
}

/// The key. It is there before the first field is sensitive, and comes along with a dump.
pub fn key() -> Key {
    let known = CALL.with(|call| call.try_borrow().ok().and_then(|call| call.key.clone()));
    if let Some(key) = known {
        return key;
    }
    let digits = spi::call_text(
        "SELECT key FROM hubspot.sensitive_key WHERE $1::text IS NOT NULL",
        &json!({}),
    );
    let Some(key) = digits.as_deref().and_then(Key::parse) else {
        crate::error::raise(
            pgrx::PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
            "hubspot.sensitive_key is empty: the values of sensitive fields cannot be compared".into(),
            "restore the table from a dump, or import the mapping without the option sensitive and then with it",
        );
    };
    CALL.with(|call| {
        if let Ok(mut call) = call.try_borrow_mut() {
            call.key = Some(key.clone());
        }
    });
    key
}

/// The token of a canonical value.
fn token(key: &Key, field_id: i32, canonical: &str) -> String {
    format!("{HIDDEN}{}", key.short(&format!("value {field_id}"), canonical, TOKEN))
}

fn is_stand_in(text: &str, digits: usize) -> bool {
    text.strip_prefix(HIDDEN)
        .is_some_and(|hex| hex.len() == digits && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The token of a row's text, for the trigger, which has no call.
pub fn token_of_text(key: &Key, field_id: i32, kind: ValueKind, text: &str) -> Option<String> {
    match value::from_warp(kind, Some(text)) {
        Ok(canonical) => canonical.as_deref().map(|canonical| token(key, field_id, canonical)),
        // What has no canonical form is kept as it is, and so hashed as it is.
        Err(_) => Some(token(key, field_id, text)),
    }
}

/// A canonical value as the machine gets it, remembered for [`clear`]; that of a field that is not sensitive is given back.
pub fn hide(field: &Field, value: Value) -> Value {
    let (true, Some(canonical)) = (field.sensitive, value.as_deref()) else {
        return value;
    };
    let token = token(&key(), field.id, canonical);
    CALL.with(|call| {
        if let Ok(mut call) = call.try_borrow_mut() {
            call.clear.insert(token.clone(), canonical.to_owned());
        }
    });
    Value::text(token)
}

/// The value a token stands for; none when nothing that was read in this call had it.
pub fn clear(field: &Field, value: &Value) -> Option<Value> {
    let (true, Some(token)) = (field.sensitive, value.as_deref()) else {
        return Some(value.clone());
    };
    CALL.with(|call| Some(Value::text(call.try_borrow().ok()?.clear.get(token)?.clone())))
}

/// The text of a row's sensitive field as captured changes hold it. `remember`: [`clear`] will be asked for it.
pub fn row_text(field: &Field, text: Option<String>, remember: bool) -> Option<String> {
    let text = text?;
    if !remember {
        return token_of_text(&key(), field.id, field.kind, &text);
    }
    let canonical = value::from_warp(field.kind, Some(&text)).unwrap_or_else(|_| Value::text(text));
    hide(field, canonical).as_deref().map(str::to_owned)
}

/// A captured text of a sensitive field: a token, but for what was captured before the field was one.
pub fn captured(field: &Field, text: &str) -> Value {
    if is_stand_in(text, TOKEN) {
        return Value::text(text);
    }
    let canonical = value::from_warp(field.kind, Some(text)).unwrap_or_else(|_| Value::text(text));
    hide(field, canonical)
}

/// What people are shown of a value or a token; what belongs to a field that is not sensitive is given back.
pub fn shown(field: &Field, link_id: i64, text: Option<&str>) -> Option<String> {
    let text = text?;
    if !field.sensitive || is_stand_in(text, SHOWN) {
        return Some(text.to_owned());
    }
    let token = match is_stand_in(text, TOKEN) {
        true => text.to_owned(),
        // HubSpot's own form, where it has one here; else whatever it is.
        false => match crate::convert::from_hubspot(field, Some(text)) {
            Ok(value) => value.as_deref()?.to_owned(),
            Err(_) => token(&key(), field.id, text),
        },
    };
    Some(format!(
        "{HIDDEN}{}",
        key().short(&format!("shown {link_id}"), &token, SHOWN)
    ))
}

/// Puts what people are shown in the place of these members of a document.
pub fn mask(field: &Field, link_id: i64, document: &mut Json, members: &[&str]) {
    if !field.sensitive {
        return;
    }
    for member in members {
        if let Some(text) = document.get(*member).and_then(Json::as_str) {
            document[*member] = json!(shown(field, link_id, Some(text)));
        }
    }
}
