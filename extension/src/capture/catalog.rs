//! Reads the extension's own mapping tables with plain scans.

use core::ffi::CStr;

use pgrx::pg_sys;

/// The extension's schema.
const SCHEMA: &CStr = c"hubspot";

/// What capture needs of a row of `hubspot.object_mapping`.
pub(super) struct ObjectMapping {
    pub(super) source_table: pg_sys::Oid,
    pub(super) key_columns: Vec<Vec<u8>>,
    pub(super) enabled: bool,
}

/// What capture needs of a row of `hubspot.field_mapping`.
pub(super) struct FieldMapping {
    pub(super) name: Vec<u8>,
    pub(super) column: Vec<u8>,
    pub(super) path: Option<Vec<Vec<u8>>>,
    /// Its id and kind, where hashes stand for its values.
    pub(super) sensitive: Option<(i32, Vec<u8>)>,
}

/// A relation of the extension by name; `InvalidOid` when it is not there.
///
/// # Safety
/// Only inside a transaction.
pub(super) unsafe fn table(name: &CStr) -> pg_sys::Oid {
    // SAFETY: catalogue look-ups.
    unsafe {
        let schema = pg_sys::get_namespace_oid(SCHEMA.as_ptr(), true);
        if schema == pg_sys::InvalidOid {
            return pg_sys::InvalidOid;
        }
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    }
}

/// One mapping.
///
/// # Safety
/// Only inside a transaction; `relid` must be `hubspot.object_mapping` or `InvalidOid`.
pub(super) unsafe fn object_mapping(relid: pg_sys::Oid, mapping_id: i32) -> Option<ObjectMapping> {
    let names = [c"id", c"source_table", c"key_columns", c"enabled"];
    let mut found = None;
    let read = |row: [Option<pg_sys::Datum>; 4]| {
        let [Some(id), Some(source), Some(keys), enabled] = row else {
            return;
        };
        if id.value() as i32 == mapping_id {
            found = Some(ObjectMapping {
                source_table: pg_sys::Oid::from(source.value() as u32),
                // SAFETY: the column is text[].
                key_columns: unsafe { texts(keys) },
                enabled: enabled.is_some_and(|enabled| enabled.value() as u8 != 0),
            });
        }
    };
    // SAFETY: the caller's promise.
    unsafe { scan(relid, names, read) };
    found
}

/// The fields of a mapping that are captured: the active ones, whatever their direction, except NONE.
///
/// # Safety
/// Only inside a transaction; `relid` must be `hubspot.field_mapping` or `InvalidOid`.
pub(super) unsafe fn fields(relid: pg_sys::Oid, mapping_id: i32) -> Vec<FieldMapping> {
    let names = [
        c"mapping_id",
        c"field",
        c"column_name",
        c"path",
        c"sync_direction",
        c"active",
        c"id",
        c"kind",
        c"sensitive",
    ];
    let mut fields = Vec::new();
    let read = |row: [Option<pg_sys::Datum>; 9]| {
        let [
            Some(id),
            Some(name),
            Some(column),
            path,
            Some(direction),
            Some(active),
            Some(field),
            Some(kind),
            sensitive,
        ] = row
        else {
            return;
        };
        if id.value() as i32 != mapping_id || active.value() as u8 == 0 {
            return;
        }
        // SAFETY: the columns are text, text, text[] and an enum.
        unsafe {
            let label = pg_sys::OidOutputFunctionCall(pg_sys::Oid::from(pg_sys::F_ENUM_OUT), direction);
            if CStr::from_ptr(label) != c"NONE" {
                fields.push(FieldMapping {
                    name: text(name),
                    column: text(column),
                    path: path.map(|path| texts(path)),
                    sensitive: sensitive
                        .is_some_and(|sensitive| sensitive.value() as u8 != 0)
                        .then(|| (field.value() as i32, text(kind))),
                });
            }
        }
    };
    // SAFETY: the caller's promise.
    unsafe { scan(relid, names, read) };
    fields
}

/// How many bytes of captured changes may wait; none: no limit.
///
/// # Safety
/// Only inside a transaction.
pub(super) unsafe fn capture_limit() -> Option<i64> {
    let mut limit = None;
    // SAFETY: the caller's promise; the column is a bigint.
    unsafe {
        scan(table(c"binding"), [c"capture_limit"], |[bytes]| {
            limit = bytes.map(|bytes| bytes.value() as i64);
        });
    }
    limit
}

/// The key of the hashes that stand for sensitive values; none when there is none.
///
/// # Safety
/// Only inside a transaction.
pub(super) unsafe fn sensitive_key() -> Option<crate::sensitive::Key> {
    let mut found = None;
    // SAFETY: the caller's promise; the column is text.
    unsafe {
        scan(table(c"sensitive_key"), [c"key"], |[key]| {
            found = key.and_then(|key| crate::sensitive::Key::parse(&String::from_utf8_lossy(&text(key))));
        });
    }
    found
}

/// Hands the named columns of every visible row to `read`. A column that does not exist reads as NULL.
///
/// # Safety
/// Only inside a transaction; `relid` must be a table or `InvalidOid`.
unsafe fn scan<const N: usize>(
    relid: pg_sys::Oid,
    names: [&CStr; N],
    mut read: impl FnMut([Option<pg_sys::Datum>; N]),
) {
    if relid == pg_sys::InvalidOid {
        return;
    }
    // SAFETY: the usual sequence of opening, scanning and closing a table; an error ends the transaction, which cleans
    // up what was left open.
    unsafe {
        let relation = pg_sys::table_open(relid, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        let descriptor = (*relation).rd_att;
        let count = usize::try_from((*descriptor).natts).unwrap_or(0);
        let positions = names.map(|name| column_position(descriptor, name));
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let scan = pg_sys::systable_beginscan(relation, pg_sys::InvalidOid, false, snapshot, 0, core::ptr::null_mut());
        let mut values = vec![pg_sys::Datum::from(0); count];
        let mut nulls = vec![true; count];
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            pg_sys::heap_deform_tuple(tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            read(positions.map(|at| at.filter(|&at| !nulls[at]).map(|at| values[at])));
        }
        pg_sys::systable_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
    }
}

/// One column's attribute.
///
/// # Safety
/// `descriptor` must be valid and `at` less than its number of columns.
pub(super) unsafe fn attribute(descriptor: pg_sys::TupleDesc, at: usize) -> pg_sys::Form_pg_attribute {
    #[cfg(feature = "pg18")]
    // SAFETY: the caller's promise.
    unsafe {
        pg_sys::TupleDescAttr(descriptor, at as i32)
    }
    #[cfg(not(feature = "pg18"))]
    // SAFETY: the caller's promise; the attributes follow the descriptor's head.
    unsafe {
        (&raw mut (*descriptor).attrs)
            .cast::<pg_sys::FormData_pg_attribute>()
            .add(at)
    }
}

/// Zero-based position of a live column by name.
///
/// # Safety
/// `descriptor` must be valid.
pub(super) unsafe fn column_position(descriptor: pg_sys::TupleDesc, name: &CStr) -> Option<usize> {
    // SAFETY: the caller's promise.
    unsafe {
        let count = usize::try_from((*descriptor).natts).unwrap_or(0);
        (0..count).find(|&at| {
            let attribute = &*attribute(descriptor, at);
            !attribute.attisdropped && CStr::from_ptr(attribute.attname.data.as_ptr()) == name
        })
    }
}

/// Zero-based position and type of a live column by name.
///
/// # Safety
/// `descriptor` must be valid.
pub unsafe fn column(descriptor: pg_sys::TupleDesc, name: &CStr) -> Option<(usize, pg_sys::Oid)> {
    // SAFETY: the caller's promise; the position is one of its columns.
    unsafe { column_position(descriptor, name).map(|at| (at, (*attribute(descriptor, at)).atttypid)) }
}

/// The bytes of a text datum.
///
/// # Safety
/// `datum` must be a text.
unsafe fn text(datum: pg_sys::Datum) -> Vec<u8> {
    let mut out = super::text::Text::new();
    // SAFETY: the caller's promise.
    unsafe { super::datum_text::push_varlena(&mut out, datum) };
    out.to_vec()
}

/// The elements of a `text[]` datum, without NULLs.
///
/// # Safety
/// `datum` must be a text[].
unsafe fn texts(datum: pg_sys::Datum) -> Vec<Vec<u8>> {
    let mut elements: *mut pg_sys::Datum = core::ptr::null_mut();
    let mut nulls: *mut bool = core::ptr::null_mut();
    let mut count = 0;
    // SAFETY: `text` is a varlena aligned as an int; the results are arrays of `count` elements.
    unsafe {
        let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast();
        pg_sys::deconstruct_array(
            array,
            pg_sys::TEXTOID,
            -1,
            false,
            b'i' as core::ffi::c_char,
            &mut elements,
            &mut nulls,
            &mut count,
        );
        let count = usize::try_from(count).unwrap_or(0);
        (0..count)
            .filter(|&at| !*nulls.add(at))
            .map(|at| text(*elements.add(at)))
            .collect()
    }
}

/// Builds a `text[]` datum in `context`.
///
/// # Safety
/// `context` must be valid.
pub(super) unsafe fn text_array(elements: &[Vec<u8>], context: pg_sys::MemoryContext) -> pg_sys::Datum {
    // SAFETY: texts are copied into the array, which is built in `context`.
    unsafe {
        let old = pg_sys::MemoryContextSwitchTo(context);
        let mut datums: Vec<pg_sys::Datum> = elements
            .iter()
            .map(|element| {
                let text = pg_sys::cstring_to_text_with_len(element.as_ptr().cast(), element.len() as i32);
                pg_sys::Datum::from(text)
            })
            .collect();
        let array = pg_sys::construct_array(
            datums.as_mut_ptr(),
            datums.len() as i32,
            pg_sys::TEXTOID,
            -1,
            false,
            b'i' as core::ffi::c_char,
        );
        pg_sys::MemoryContextSwitchTo(old);
        pg_sys::Datum::from(array)
    }
}
