//! What to capture of one table for one mapping: resolved once per backend, kept until something changes.
//!
//! A plan belongs to a relation (a partition has its own: column numbers may differ) and a mapping. It is dropped when
//! PostgreSQL invalidates the relation's cache entry (ALTER TABLE), that of a mapping table, or everything; the mapping
//! functions cause the former two with `hubspot.invalidate_plans`. The callback only marks; the next call rebuilds.
//!
//! Plans are read with plain scans, not with SQL: no privilege of the invoking user, no row security, no search_path
//! and no user-defined code is involved, and the snapshot is the latest one whatever the isolation level.
//!
//! What is not there any more (a column dropped or renamed, a path on a column that is no JSON) is left out and noted
//! in the server's log; it never fails the user's statement.

use core::cell::{Cell, RefCell};
use core::ffi::CStr;
use std::rc::Rc;

use hubspot_sync_core::value::ValueKind;
use pgrx::pg_sys;
use smallvec::{SmallVec, smallvec};

use super::catalog;
use super::datum_text::TextForm;
use super::text::Text;
use super::tuple::{Layout, Stored, stored_len};
use super::{ffi, insert, json_out};
use crate::sensitive;

/// What to capture of one relation for one mapping.
pub(super) struct Plan {
    relid: pg_sys::Oid,
    mapping_id: i32,
    valid: Cell<bool>,
    /// False: no such mapping, or disabled, or its key cannot be read here. Nothing is captured.
    pub(super) active: bool,
    /// The relation's columns up to the last one that is needed. With the two that follow, all that is read of an update that
    /// changes nothing mapped: they lie in the plan itself.
    pub(super) layouts: SmallVec<[Layout; 24]>,
    /// Where the columns of the key are in `layouts`.
    pub(super) key_places: SmallVec<[u16; 4]>,
    /// Where the mapped columns are.
    pub(super) places: SmallVec<[u16; 24]>,
    /// What tuples older than a column have there.
    pub(super) missing: Vec<Stored>,
    /// The key, in the mapping's order.
    pub(super) keys: Vec<Key>,
    /// Mapped columns, each once.
    pub(super) columns: Vec<Column>,
    /// Owns what `columns` and `missing` point to.
    context: pg_sys::MemoryContext,
}

/// One column of the key.
pub(super) struct Key {
    /// Position in `layouts`.
    pub(super) at: usize,
    pub(super) form: TextForm,
}

/// One mapped column with its fields.
pub(super) struct Column {
    /// Position in `layouts`.
    pub(super) at: usize,
    pub(super) form: TextForm,
    /// The function that reads a path of this column; only json and jsonb have one.
    pub(super) extract: Option<Extract>,
    /// A jsonb, which can be read as it is stored.
    pub(super) binary: bool,
    /// Some field has a path.
    pub(super) has_path: bool,
    pub(super) fields: SmallVec<[Field; 1]>,
}

/// `json_extract_path_text` or its jsonb sister.
pub(super) type Extract = unsafe fn(pg_sys::FunctionCallInfo) -> pg_sys::Datum;

/// One field of a mapped column.
pub(super) struct Field {
    pub(super) name: Vec<u8>,
    /// The name as a JSON string.
    pub(super) quoted_name: Vec<u8>,
    /// A `text[]` datum in the plan's context; the whole column when there is none.
    pub(super) path: Option<pg_sys::Datum>,
    /// The same path; empty when there is none.
    pub(super) keys: Vec<Vec<u8>>,
    /// Hashes stand for its values.
    pub(super) seal: Option<Box<Seal>>,
}

/// What it takes to hash a sensitive field's values.
pub(super) struct Seal {
    key: Option<sensitive::Key>,
    field_id: i32,
    kind: ValueKind,
}

impl Seal {
    /// What is captured instead of a text. Without a key, which only damage could take away, it is a word that equals no value.
    pub(super) fn token(&self, text: &[u8]) -> Option<Vec<u8>> {
        let Some(key) = &self.key else {
            return Some(b"hidden".to_vec());
        };
        let text = String::from_utf8_lossy(text);
        sensitive::token_of_text(key, self.field_id, self.kind, &text).map(String::into_bytes)
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: the context was made for this plan and nothing else points into it.
        unsafe { pg_sys::MemoryContextDelete(self.context) };
    }
}

/// Per-backend cache without a destructor: nothing runs when the backend exits.
struct Cache {
    plans: RefCell<Vec<Rc<Plan>>>,
    registered: Cell<bool>,
    /// The relation whose plan is being built, and whether it was invalidated meanwhile.
    loading: Cell<pg_sys::Oid>,
    loading_stale: Cell<bool>,
    /// The mapping tables, once known.
    mapping_tables: Cell<[pg_sys::Oid; 2]>,
}

thread_local! {
    static CACHE: core::mem::ManuallyDrop<Cache> = const {
        core::mem::ManuallyDrop::new(Cache {
            plans: RefCell::new(Vec::new()),
            registered: Cell::new(false),
            loading: Cell::new(pg_sys::InvalidOid),
            loading_stale: Cell::new(false),
            mapping_tables: Cell::new([pg_sys::InvalidOid; 2]),
        })
    };
}

/// The plan for a relation and a mapping, from the cache where it is still valid.
///
/// # Safety
/// `relation` must be open and locked, as in a trigger call.
pub(super) unsafe fn get(relation: pg_sys::Relation, mapping_id: i32) -> Rc<Plan> {
    // SAFETY: the relation is open.
    let relid = unsafe { (*relation).rd_id };
    CACHE.with(|cache| {
        if let Ok(plans) = cache.plans.try_borrow() {
            let hit = plans
                .iter()
                .find(|p| p.relid == relid && p.mapping_id == mapping_id && p.valid.get());
            if let Some(plan) = hit {
                return Rc::clone(plan);
            }
        }
        // SAFETY: the caller's promise; no borrow of the cache is held.
        unsafe { rebuild(cache, relation, relid, mapping_id) }
    })
}

/// Registers the callback for invalidations, once per backend.
pub(super) fn register_invalidation() {
    if !CACHE.with(|cache| cache.registered.replace(true)) {
        // SAFETY: the callback is a function of this library, which is never unloaded.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(on_invalidation), pg_sys::Datum::from(0)) };
    }
}

/// Builds a plan and puts it into the cache in place of its stale predecessors.
///
/// # Safety
/// As for [`get`].
unsafe fn rebuild(cache: &Cache, relation: pg_sys::Relation, relid: pg_sys::Oid, mapping_id: i32) -> Rc<Plan> {
    register_invalidation();
    cache.loading.set(relid);
    cache.loading_stale.set(false);
    // SAFETY: the caller's promise.
    let plan = Rc::new(unsafe { load(cache, relation, relid, mapping_id) });
    cache.loading.set(pg_sys::InvalidOid);
    plan.valid.set(!cache.loading_stale.get());
    let stale: Vec<Rc<Plan>> = cache.plans.try_borrow_mut().map_or_else(
        |_| Vec::new(),
        |mut plans| {
            let (kept, stale) = plans.drain(..).partition(|p| p.valid.get());
            *plans = kept;
            plans.push(Rc::clone(&plan));
            stale
        },
    );
    // Freed only now: nothing of the cache is borrowed while PostgreSQL runs.
    drop(stale);
    plan
}

/// Relation cache invalidation: marks plans, and does nothing else.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn on_invalidation(_arg: pg_sys::Datum, relid: pg_sys::Oid) {
    insert::invalidate(relid);
    CACHE.with(|cache| {
        let everything = relid == pg_sys::InvalidOid || cache.mapping_tables.get().contains(&relid);
        if everything || cache.loading.get() == relid {
            cache.loading_stale.set(true);
        }
        if let Ok(plans) = cache.plans.try_borrow() {
            for plan in plans.iter().filter(|plan| everything || plan.relid == relid) {
                plan.valid.set(false);
            }
        }
    });
}

/// Reads the mapping and resolves it against the relation.
///
/// # Safety
/// As for [`get`].
unsafe fn load(cache: &Cache, relation: pg_sys::Relation, relid: pg_sys::Oid, mapping_id: i32) -> Plan {
    // SAFETY: catalogue look-ups and reads of open relations inside a transaction. Whatever is allocated outside the
    // plan's context goes with the trigger call's memory.
    unsafe {
        let context = pg_sys::AllocSetContextCreateInternal(
            pg_sys::TopMemoryContext,
            c"hubspot_sync capture plan".as_ptr(),
            0,
            1024,
            8192,
        );
        let mut plan = Plan {
            relid,
            mapping_id,
            valid: Cell::new(false),
            active: false,
            layouts: SmallVec::new(),
            key_places: SmallVec::new(),
            places: SmallVec::new(),
            missing: Vec::new(),
            keys: Vec::new(),
            columns: Vec::new(),
            context,
        };
        let tables = [catalog::table(c"object_mapping"), catalog::table(c"field_mapping")];
        cache.mapping_tables.set(tables);
        let Some(mapping) = catalog::object_mapping(tables[0], mapping_id) else {
            return plan;
        };
        if !mapping.enabled || !belongs_to(relid, mapping.source_table) {
            return plan;
        }
        for name in &mapping.key_columns {
            let Some(attribute) = find_column(relation, name) else {
                note_missing(relation, mapping_id, name, "key column is missing: nothing is captured");
                return plan;
            };
            let form = TextForm::of((*attribute).atttypid, context);
            plan.keys.push(Key {
                at: position(attribute),
                form,
            });
        }
        let mut key = None;
        for field in catalog::fields(tables[1], mapping_id) {
            let Some(attribute) = find_column(relation, &field.column) else {
                note_missing(
                    relation,
                    mapping_id,
                    &field.column,
                    "mapped column is missing: its field is left out",
                );
                continue;
            };
            let extract: Option<Extract> = match pg_sys::getBaseType((*attribute).atttypid) {
                pg_sys::JSONBOID => Some(pg_sys::jsonb_extract_path_text),
                pg_sys::JSONOID => Some(pg_sys::json_extract_path_text),
                _ => None,
            };
            let path = match &field.path {
                Some(_) if extract.is_none() => {
                    note_missing(
                        relation,
                        mapping_id,
                        &field.column,
                        "column is no JSON: its path is left out",
                    );
                    continue;
                }
                Some(path) => Some(catalog::text_array(path, context)),
                None => None,
            };
            let mut quoted_name = Text::new();
            json_out::push_string(&mut quoted_name, &field.name);
            let seal = field.sensitive.map(|(field_id, kind)| {
                Box::new(Seal {
                    key: key.get_or_insert_with(|| catalog::sensitive_key()).clone(),
                    field_id,
                    kind: serde_json::from_value(String::from_utf8_lossy(&kind).into()).unwrap_or(ValueKind::Text),
                })
            });
            let field = Field {
                name: field.name,
                quoted_name: quoted_name.to_vec(),
                path,
                keys: field.path.unwrap_or_default(),
                seal,
            };
            let has_path = path.is_some();
            let at = position(attribute);
            if let Some(column) = plan.columns.iter_mut().find(|column| column.at == at) {
                column.fields.push(field);
                column.has_path |= has_path;
            } else {
                let form = TextForm::of((*attribute).atttypid, context);
                plan.columns.push(Column {
                    at,
                    form,
                    extract,
                    binary: pg_sys::getBaseType((*attribute).atttypid) == pg_sys::JSONBOID,
                    has_path,
                    fields: smallvec![field],
                });
            }
        }
        let last = plan
            .keys
            .iter()
            .map(|k| k.at)
            .chain(plan.columns.iter().map(|c| c.at))
            .max();
        let needed = last.map_or(0, |last| last + 1);
        (plan.layouts, plan.missing) = (0..needed).map(|at| layout(relation, at, context)).unzip();
        plan.key_places = plan.keys.iter().map(|key| key.at as u16).collect();
        plan.places = plan.columns.iter().map(|column| column.at as u16).collect();
        plan.active = !plan.keys.is_empty();
        plan
    }
}

/// Is the relation the mapped table, or a partition or child of it? Anybody may put the trigger on a table of his own.
///
/// # Safety
/// Only inside a transaction.
unsafe fn belongs_to(relid: pg_sys::Oid, source: pg_sys::Oid) -> bool {
    if relid == source {
        return true;
    }
    // SAFETY: catalogue look-ups, which answer "no type" for a relation that is gone.
    unsafe {
        let (child, parent) = (pg_sys::get_rel_type_id(relid), pg_sys::get_rel_type_id(source));
        child != pg_sys::InvalidOid && parent != pg_sys::InvalidOid && ffi::type_inherits(child, parent)
    }
}

/// The relation's column of that name, unless its value is not stored.
///
/// # Safety
/// The relation must be open.
unsafe fn find_column(relation: pg_sys::Relation, name: &[u8]) -> Option<pg_sys::Form_pg_attribute> {
    // SAFETY: the attributes of an open relation.
    unsafe {
        let descriptor = (*relation).rd_att;
        let count = usize::try_from((*descriptor).natts).unwrap_or(0);
        (0..count)
            .map(|at| catalog::attribute(descriptor, at))
            .find(|&attribute| {
                let attribute = &*attribute;
                // 'v': a generated column that is computed when it is read.
                !attribute.attisdropped
                    && attribute.attgenerated != b'v' as core::ffi::c_char
                    && CStr::from_ptr(attribute.attname.data.as_ptr()).to_bytes() == name
            })
    }
}

/// Zero-based position of a column.
///
/// # Safety
/// `attribute` must be valid.
unsafe fn position(attribute: pg_sys::Form_pg_attribute) -> usize {
    // SAFETY: the caller's promise.
    usize::try_from(unsafe { (*attribute).attnum } - 1).unwrap_or(0)
}

/// A column's layout, with the value that rows older than the column have.
///
/// # Safety
/// The relation must be open and have that column; `context` must outlive the plan's use.
unsafe fn layout(relation: pg_sys::Relation, at: usize, context: pg_sys::MemoryContext) -> (Layout, Stored) {
    // SAFETY: an attribute of an open relation; the missing value is copied into the plan's context.
    unsafe {
        let descriptor = (*relation).rd_att;
        let attribute = &*catalog::attribute(descriptor, at);
        let align = match attribute.attalign as u8 {
            b'c' => 1,
            b's' => align_of::<i16>(),
            b'i' => align_of::<i32>(),
            _ => align_of::<f64>(),
        } as u8;
        let mut missing = Stored::NULL;
        if attribute.atthasmissing {
            let mut is_null = true;
            let value = pg_sys::getmissingattr(descriptor, i32::from(attribute.attnum), &mut is_null);
            if !is_null {
                let native = value.value().to_ne_bytes();
                let (source, len) = if attribute.attbyval {
                    let len = usize::try_from(attribute.attlen).unwrap_or(0).min(native.len());
                    let start = if cfg!(target_endian = "big") {
                        native.len() - len
                    } else {
                        0
                    };
                    (native.as_ptr().add(start), len)
                } else {
                    let source = value.cast_mut_ptr::<u8>().cast_const();
                    (source, stored_len(source, attribute.attlen))
                };
                let copy = pg_sys::MemoryContextAlloc(context, len.max(1)).cast::<u8>();
                core::ptr::copy_nonoverlapping(source, copy, len);
                missing = Stored::new(copy, len);
            }
        }
        let layout = Layout {
            len: attribute.attlen,
            align,
            by_value: attribute.attbyval,
        };
        (layout, missing)
    }
}

/// Notes in the server's log what a plan had to leave out.
///
/// # Safety
/// The relation must be open.
unsafe fn note_missing(relation: pg_sys::Relation, mapping_id: i32, column: &[u8], what: &str) {
    // SAFETY: the name of an open relation.
    let table = unsafe { CStr::from_ptr((*(*relation).rd_rel).relname.data.as_ptr()) }.to_string_lossy();
    let column = String::from_utf8_lossy(column);
    pgrx::log!("hubspot_sync: mapping {mapping_id}, table \"{table}\", column \"{column}\": {what}");
}
