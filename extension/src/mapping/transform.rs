//! Registering a pair of SQL functions as a transform.

use crate::error::{forbidden, raise};
use crate::spi;
use pgrx::{PgSqlErrorCode, pg_sys};
use serde_json::{Value as Json, json};

/// The owners of these functions and whether they have the form of a transform; of a function that does not exist nothing.
const FUNCTIONS: &str = r#"
SELECT json_agg(json_build_array(p.proowner::bigint, p.pronargs = 1 AND p.proargtypes[0] = 'text'::regtype
  AND p.prorettype = 'text'::regtype AND p.prokind = 'f' AND NOT p.proretset))::text
FROM pg_proc p WHERE p.oid IN (SELECT o::oid FROM json_array_elements_text($1::json->'functions') AS o)"#;

/// Who owned the functions that the name stands for until now, as `FUNCTIONS` gives owners. A role that is gone owns nothing.
const REGISTERED: &str = r#"
SELECT json_agg(json_build_array(r.oid::bigint))::text FROM hubspot.transform t
JOIN pg_roles r ON r.rolname::text IN (t.to_warp_role, t.to_hubspot_role) WHERE t.name = $1::json->>'name'"#;

const STORE: &str = r#"
INSERT INTO hubspot.transform (name, to_warp, to_warp_role, to_hubspot, to_hubspot_role)
SELECT $1::json->>'name', w.oid::regprocedure::text, pg_get_userbyid(w.proowner), h.oid::regprocedure::text, pg_get_userbyid(h.proowner)
FROM pg_proc w, pg_proc h WHERE w.oid = ($1::json->'functions'->>0)::oid AND h.oid = ($1::json->'functions'->>1)::oid
ON CONFLICT ON CONSTRAINT transform_pkey DO UPDATE SET to_warp = excluded.to_warp, to_warp_role = excluded.to_warp_role,
  to_hubspot = excluded.to_hubspot, to_hubspot_role = excluded.to_hubspot_role"#;

/// Registers or replaces a transform; raises an error unless `caller` owns all functions involved.
pub fn register(caller: pg_sys::Oid, name: &str, to_warp: pg_sys::Oid, to_hubspot: pg_sys::Oid) -> String {
    let given = json!([to_warp.to_u32().to_string(), to_hubspot.to_u32().to_string()]);
    let found = spi::rows(FUNCTIONS, &json!({"functions": given}));
    let wanted = if to_warp == to_hubspot { 1 } else { 2 };
    if found.len() != wanted || found.iter().any(|function| function[1] != true) {
        raise(
            PgSqlErrorCode::ERRCODE_UNDEFINED_FUNCTION,
            "a transform's functions take one text and return text".into(),
            "declare them as f(text) RETURNS text",
        );
    }
    // They run as their owner: whoever registers them must be that owner, or the registration would lend its rights.
    if !all_owned(caller, &found) {
        forbidden("you may not register these functions".into(), "only their owner may");
    }
    // Who could replace somebody else's would read and forge the values of that person's fields.
    if !all_owned(caller, &spi::rows(REGISTERED, &json!({"name": name}))) {
        forbidden(
            format!("transform {name} is somebody else's"),
            "register yours under another name",
        );
    }
    spi::run(STORE, &json!({"name": name, "functions": given}));
    format!("transform {name} registered")
}

fn all_owned(caller: pg_sys::Oid, functions: &[Json]) -> bool {
    functions.iter().all(|function| {
        let owner = function[0].as_u64().and_then(|oid| u32::try_from(oid).ok());
        owner.is_some_and(|owner| spi::may_act_as(caller, pg_sys::Oid::from(owner)))
    })
}
