//! The functions PostgreSQL calls, and their declarations in SQL.

use core::ffi::CStr;

use pgrx::pg_sys;

use super::{catalog, insert, row};

pgrx::extension_sql!(
    r#"
CREATE FUNCTION hubspot.capture_change() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'hubspot_capture_change';
COMMENT ON FUNCTION hubspot.capture_change() IS
'Captures changes of mapped fields into hubspot.capture. Its one argument is the id of the mapping in hubspot.object_mapping; on a table that is not part of that mapping it does nothing.';

CREATE FUNCTION hubspot.append_change(mapping_id int, op "char", entity_key text, changes json, captured_at timestamptz, db_user oid,
  application_name text) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'hubspot_append_change';
REVOKE ALL ON FUNCTION hubspot.append_change(int, "char", text, json, timestamptz, oid, text) FROM PUBLIC;
COMMENT ON FUNCTION hubspot.append_change(int, "char", text, json, timestamptz, oid, text) IS
'Private: appends a row to hubspot.capture as the trigger does. An INSERT would not keep the order of changes, for it may use freed space.';

CREATE FUNCTION hubspot.invalidate_plans(source_table oid) RETURNS void
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'hubspot_invalidate_plans';
REVOKE ALL ON FUNCTION hubspot.invalidate_plans(oid) FROM PUBLIC;
COMMENT ON FUNCTION hubspot.invalidate_plans(oid) IS
'Makes every session resolve its capture plans again once this transaction has committed. Called with the mapped table after any change of a mapping.';
"#,
    name = "capture_functions"
);

/// Announces the calling convention of [`hubspot_append_change`].
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_hubspot_append_change() -> &'static pg_sys::Pg_finfo_record {
    &FINFO
}

/// `hubspot.append_change(…)`.
///
/// # Safety
/// Called by PostgreSQL; declared with seven arguments of the types of `hubspot.capture`'s columns.
#[unsafe(no_mangle)]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn hubspot_append_change(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: `args` holds the seven arguments.
    unsafe {
        let arguments = core::slice::from_raw_parts((&raw const (*fcinfo).args).cast::<pg_sys::NullableDatum>(), 7);
        let [mapping_id, op, key, changes, captured_at, user, application] = arguments else {
            return pg_sys::Datum::from(0);
        };
        if [mapping_id, op, captured_at, user]
            .iter()
            .any(|argument| argument.isnull)
        {
            pgrx::ereport!(
                ERROR,
                pgrx::PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION,
                "hubspot.append_change: mapping_id, op, captured_at and db_user must not be null"
            );
        }
        let none = pg_sys::NullableDatum {
            value: pg_sys::Datum::from(0),
            isnull: true,
        };
        let zero = pg_sys::NullableDatum { isnull: false, ..none };
        let columns = [
            &zero,
            captured_at,
            mapping_id,
            user,
            op,
            key,
            &none,
            changes,
            application,
        ];
        let (mut values, mut nulls) = (columns.map(|c| c.value), columns.map(|c| c.isnull));
        insert::append_datums(&mut values, &mut nulls);
        pg_sys::Datum::from(0)
    }
}

/// Version 1 of the calling convention.
static FINFO: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };

/// Announces the calling convention of [`hubspot_capture_change`].
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_hubspot_capture_change() -> &'static pg_sys::Pg_finfo_record {
    &FINFO
}

/// Announces the calling convention of [`hubspot_invalidate_plans`].
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_hubspot_invalidate_plans() -> &'static pg_sys::Pg_finfo_record {
    &FINFO
}

/// `hubspot.capture_change()`.
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn hubspot_capture_change(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: a call by the trigger manager carries a TriggerData whose members are valid for the call.
    unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
            pgrx::ereport!(
                ERROR,
                pgrx::PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                "hubspot.capture_change() can only be called as a trigger"
            );
        }
        let trigger = context.cast::<pg_sys::TriggerData>();
        if (*trigger).tg_event & (pg_sys::TRIGGER_EVENT_BEFORE | pg_sys::TRIGGER_EVENT_INSTEAD) != 0 {
            pgrx::ereport!(
                ERROR,
                pgrx::PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                "hubspot.capture_change() must be an AFTER trigger"
            );
        }
        let Some(mapping_id) = mapping_id((*trigger).tg_trigger) else {
            pgrx::ereport!(
                ERROR,
                pgrx::PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                "hubspot.capture_change() takes one argument, the id of a mapping"
            );
        };
        row::capture(&*trigger, mapping_id);
        // The result of an AFTER trigger is not looked at.
        pg_sys::Datum::from(0)
    }
}

/// The trigger's argument.
///
/// # Safety
/// `trigger` must be valid.
unsafe fn mapping_id(trigger: *mut pg_sys::Trigger) -> Option<i32> {
    // SAFETY: `tgargs` holds `tgnargs` NUL-terminated strings.
    unsafe {
        if (*trigger).tgnargs != 1 {
            return None;
        }
        let text = CStr::from_ptr(*(*trigger).tgargs).to_bytes();
        if text.is_empty() {
            return None;
        }
        text.iter().try_fold(0i32, |id, &byte| {
            let digit = byte.is_ascii_digit().then(|| i32::from(byte - b'0'))?;
            id.checked_mul(10)?.checked_add(digit)
        })
    }
}

/// `hubspot.invalidate_plans(source_table)`.
///
/// # Safety
/// Called by PostgreSQL; declared STRICT with one oid.
#[unsafe(no_mangle)]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn hubspot_invalidate_plans(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: one argument that is not NULL; a relation without a pg_class row is skipped, for it would be an error.
    unsafe {
        let argument = (&raw const (*fcinfo).args).cast::<pg_sys::NullableDatum>();
        let source = pg_sys::Oid::from((*argument).value.value() as u32);
        for relid in [source, catalog::table(c"object_mapping")] {
            if relid != pg_sys::InvalidOid && !pg_sys::get_rel_name(relid).is_null() {
                pg_sys::CacheInvalidateRelcacheByRelid(relid);
            }
        }
        pg_sys::Datum::from(0)
    }
}
