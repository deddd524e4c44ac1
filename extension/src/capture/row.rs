//! From one row event to one captured row.

use pgrx::pg_sys;
use smallvec::SmallVec;

use super::insert::{self, Op, Row};
use super::json_out::{self, Changes};
use super::json_path::{self, Found};
use super::moved::Moved;
use super::plan::{self, Column, Extract, Plan};
use super::text::{Columns, Text};
use super::tuple::{self, Stored};
use super::{datum_text, moved, notify, shed, suppress};

/// What a call puts together.
#[derive(Default)]
struct Scratch {
    old: Columns,
    new: Columns,
    /// Mapped columns that are stored differently in `old` and `new`.
    differing: SmallVec<[u16; 32]>,
    old_text: Text,
    new_text: Text,
    changes: Text,
    key: Text,
    old_key: Text,
}

/// Captures what a trigger event did to a mapping's record.
///
/// # Safety
/// `trigger` must be the trigger manager's, for an AFTER event.
pub(super) unsafe fn capture(trigger: &pg_sys::TriggerData, mapping_id: i32) {
    let event = trigger.tg_event & pg_sys::TRIGGER_EVENT_OPMASK;
    let for_row = trigger.tg_event & pg_sys::TRIGGER_EVENT_ROW != 0;
    if for_row == (event == pg_sys::TRIGGER_EVENT_TRUNCATE) {
        // A statement trigger other than TRUNCATE's has no row to look at.
        return;
    }
    // SAFETY: the relation is open and locked by the statement.
    let plan = unsafe { plan::get(trigger.tg_relation, mapping_id) };
    if !plan.active {
        return;
    }
    let mut scratch = Scratch::default();
    let record = Record {
        plan: &plan,
        mapping_id,
    };
    // SAFETY: row events come with their tuples: old (or only) in tg_trigtuple, new in tg_newtuple.
    unsafe {
        let inserted = (event == pg_sys::TRIGGER_EVENT_INSERT).then_some(trigger.tg_trigtuple);
        let from_partition = moved::settle(mapping_id, inserted);
        match event {
            pg_sys::TRIGGER_EVENT_UPDATE => record.update(trigger.tg_trigtuple, trigger.tg_newtuple, &mut scratch),
            pg_sys::TRIGGER_EVENT_INSERT => {
                tuple::read(trigger.tg_trigtuple, &plan.layouts, &plan.missing, &mut scratch.new);
                match from_partition {
                    Some(moved) => record.arrive(&moved, &mut scratch),
                    None => record.insert(&mut scratch),
                }
            }
            pg_sys::TRIGGER_EVENT_DELETE => {
                tuple::read(trigger.tg_trigtuple, &plan.layouts, &plan.missing, &mut scratch.old);
                if moved::is_moved(trigger.tg_trigtuple) {
                    record.leave(trigger.tg_trigtuple, &mut scratch);
                } else {
                    record.delete(&mut scratch);
                }
            }
            _ => record.append(Op::Truncate, None, None, None),
        }
    }
}

/// What a row's fields were before.
enum Before<'a> {
    /// It was not there.
    Nothing,
    /// `Scratch::old`.
    Tuple,
    /// The row was in another partition.
    Moved(&'a Moved),
}

/// The record a row belongs to.
struct Record<'a> {
    plan: &'a Plan,
    mapping_id: i32,
}

impl Record<'_> {
    /// # Safety
    /// Both tuples must be of the plan's relation.
    unsafe fn update(&self, old: pg_sys::HeapTuple, new: pg_sys::HeapTuple, scratch: &mut Scratch) {
        let plan = self.plan;
        // SAFETY: the caller's promise.
        unsafe {
            tuple::read(old, &plan.layouts, &plan.missing, &mut scratch.old);
            tuple::read(new, &plan.layouts, &plan.missing, &mut scratch.new);
            let (old, new) = (&scratch.old, &scratch.new);
            let same = |&at: &u16| old[usize::from(at)].same(new[usize::from(at)]);
            let same_key = plan.key_places.iter().all(same);
            let differing = plan.places.iter().zip(0u16..).filter(|(at, _)| !same(at));
            scratch.differing.extend(differing.map(|(_, number)| number));
            if same_key && scratch.differing.is_empty() {
                return;
            }
            let has_key = self.key(new, &mut scratch.key);
            let mut rekeyed = false;
            if !same_key {
                let had_key = self.key(old, &mut scratch.old_key);
                match (had_key, has_key) {
                    (true, true) => rekeyed = *scratch.old_key != *scratch.key,
                    (true, false) => return self.delete(scratch),
                    (false, true) => return self.insert(scratch),
                    (false, false) => {}
                }
            }
            if !has_key {
                return;
            }
            let any = self.changes(scratch, Before::Tuple);
            self.append_update(rekeyed, any, scratch);
        }
    }

    /// The row came from another partition: one change with its leaving there.
    ///
    /// # Safety
    /// `scratch.new` must hold the row.
    unsafe fn arrive(&self, moved: &Moved, scratch: &mut Scratch) {
        // SAFETY: the caller's promise.
        unsafe {
            if !self.key(&scratch.new, &mut scratch.key) {
                return self.append(Op::Delete, Some(&moved.entity_key), None, None);
            }
            scratch.old_key.clear();
            scratch.old_key.extend_from_slice(&moved.entity_key);
            let rekeyed = *scratch.old_key != *scratch.key;
            let any = self.changes(scratch, Before::Moved(moved));
            self.append_update(rekeyed, any, scratch);
        }
    }

    /// The row goes to another partition, where its insert follows.
    ///
    /// # Safety
    /// `scratch.old` must hold the row, which is `tuple`.
    unsafe fn leave(&self, tuple: pg_sys::HeapTuple, scratch: &mut Scratch) {
        // SAFETY: the caller's promise.
        unsafe {
            if !self.key(&scratch.old, &mut scratch.key) {
                return;
            }
            let mut texts = Vec::new();
            for column in &self.plan.columns {
                let value = self.value(column, scratch.old[column.at]);
                for field in &column.fields {
                    let mut text = Text::new();
                    let text = self.text(column, field, &value, &mut text).then(|| text.to_vec());
                    texts.push((field.name.clone(), text));
                }
            }
            moved::hold(self.mapping_id, scratch.key.to_vec(), texts, tuple);
        }
    }

    /// Appends an update under `scratch.key`, unless nothing is left of it: not `any` field, nor another key.
    ///
    /// # Safety
    /// Only inside a transaction that may write.
    unsafe fn append_update(&self, rekeyed: bool, any: bool, scratch: &Scratch) {
        let (key, changes) = (Some(&*scratch.key), Some(&*scratch.changes));
        // SAFETY: the caller's promise.
        unsafe {
            if rekeyed {
                self.append(Op::Rekey, key, Some(&scratch.old_key), changes);
            } else if any {
                self.append(Op::Update, key, None, changes);
            }
        }
    }

    /// # Safety
    /// `scratch.new` must hold the row.
    unsafe fn insert(&self, scratch: &mut Scratch) {
        // SAFETY: the caller's promise.
        unsafe {
            if self.key(&scratch.new, &mut scratch.key) {
                self.changes(scratch, Before::Nothing);
                self.append(Op::Insert, Some(&scratch.key), None, Some(&scratch.changes));
            }
        }
    }

    /// # Safety
    /// `scratch.old` must hold the row.
    unsafe fn delete(&self, scratch: &mut Scratch) {
        // SAFETY: the caller's promise.
        unsafe {
            if self.key(&scratch.old, &mut scratch.key) {
                self.append(Op::Delete, Some(&scratch.key), None, None);
            }
        }
    }

    /// Writes the record's key; false when a part of it is NULL.
    ///
    /// # Safety
    /// The tuple behind `columns` must still be there.
    unsafe fn key(&self, columns: &[Stored], out: &mut Text) -> bool {
        out.clear();
        let keys = &self.plan.keys;
        let text = |key: &plan::Key, out: &mut Text| {
            // SAFETY: the caller's promise.
            unsafe { key.form.append(columns[key.at], &self.plan.layouts[key.at], out) }
        };
        if let [key] = keys.as_slice() {
            return text(key, out);
        }
        let mut part = Text::new();
        for (at, key) in keys.iter().enumerate() {
            out.push(if at == 0 { b'[' } else { b',' });
            part.clear();
            if !text(key, &mut part) {
                return false;
            }
            json_out::push_string(out, &part);
        }
        out.push(b']');
        true
    }

    /// Puts the fields that differ between what was before and `scratch.new` into `scratch.changes`. False: none does.
    ///
    /// # Safety
    /// The tuples behind them must still be there.
    unsafe fn changes(&self, scratch: &mut Scratch, before: Before) -> bool {
        let Scratch {
            old,
            new,
            differing,
            old_text,
            new_text,
            changes,
            key,
            ..
        } = scratch;
        let mut changes = Changes::new(changes);
        if !matches!(before, Before::Tuple) {
            differing.clear();
            differing.extend(0..self.plan.places.len() as u16);
        }
        for &number in differing.iter() {
            let column = &self.plan.columns[usize::from(number)];
            let stored = if matches!(before, Before::Tuple) {
                old[column.at]
            } else {
                Stored::NULL
            };
            let after = new[column.at];
            if matches!(before, Before::Nothing) && after.is_null() {
                continue;
            }
            // SAFETY: the caller's promise.
            unsafe {
                let stored = self.value(column, stored);
                let after = self.value(column, after);
                for field in &column.fields {
                    old_text.clear();
                    new_text.clear();
                    let old = match &before {
                        Before::Moved(moved) => moved.text(&field.name),
                        _ => self.text(column, field, &stored, old_text).then_some(&**old_text),
                    };
                    let new = self.text(column, field, &after, new_text).then_some(&**new_text);
                    let same = |a: &[u8], b: &[u8]| match field.path {
                        Some(_) => a == b,
                        None => column.form.same_text(a, b),
                    };
                    let unchanged = match (old, new) {
                        (Some(old), Some(new)) => same(old, new),
                        (None, None) => true,
                        _ => false,
                    };
                    let expected = || suppress::any() && suppress::take(self.mapping_id, key, &field.name, new, same);
                    if !unchanged && !expected() {
                        match &field.seal {
                            None => changes.push(&field.quoted_name, old, new),
                            Some(seal) => {
                                let token = |text: Option<&[u8]>| text.and_then(|text| seal.token(text));
                                changes.push(&field.quoted_name, token(old).as_deref(), token(new).as_deref());
                            }
                        }
                    }
                }
            }
        }
        changes.finish()
    }

    /// Prepares a column's value: one with paths that cannot be read as it is stored is detoasted once for all of them.
    ///
    /// # Safety
    /// The tuple behind `stored` must still be there.
    #[inline]
    unsafe fn value(&self, column: &Column, stored: Stored) -> Value {
        // SAFETY: columns with paths are json or jsonb, both varlenas; one that is NULL is not looked at.
        let document = unsafe {
            let as_stored = || column.binary && stored.plain_varlena().is_some();
            (column.has_path && !stored.is_null() && !as_stored())
                .then(|| detoast(stored.datum(&self.plan.layouts[column.at])))
        };
        Value { stored, document }
    }

    /// Appends a field's text; false for NULL.
    ///
    /// # Safety
    /// The tuple behind `value` must still be there.
    unsafe fn text(&self, column: &Column, field: &plan::Field, value: &Value, out: &mut Text) -> bool {
        // SAFETY: the caller's promise; a path was made for this column's type.
        unsafe {
            let layout = &self.plan.layouts[column.at];
            let (Some(path), Some(extract)) = (field.path, column.extract) else {
                return column.form.append(value.stored, layout, out);
            };
            if value.stored.is_null() {
                return false;
            }
            if let (None, Some(jsonb)) = (value.document, value.stored.plain_varlena()) {
                match json_path::text(jsonb, &field.keys, out) {
                    Found::Text => return true,
                    Found::Nothing => return false,
                    Found::Other => {}
                }
            }
            let document = value.document.unwrap_or_else(|| detoast(value.stored.datum(layout)));
            text_at(extract, document, path, out)
        }
    }

    /// Appends the captured row and sees to the wake-up.
    ///
    /// # Safety
    /// Only inside a transaction that may write.
    unsafe fn append(&self, op: Op, entity_key: Option<&[u8]>, old_key: Option<&[u8]>, changes: Option<&[u8]>) {
        // A key change and a truncate are about more than one record's values: they are always captured.
        if let Some(key) = entity_key
            && !matches!(op, Op::Rekey | Op::Truncate)
            // SAFETY: the caller's promise.
            && unsafe { shed::full() && shed::mark(self.mapping_id, key) }
        {
            return notify::captured();
        }
        let row = Row {
            mapping_id: self.mapping_id,
            op,
            entity_key,
            old_key,
            changes,
        };
        // SAFETY: the caller's promise; a trigger call's memory context is reset after it.
        unsafe { insert::append(&row) };
        notify::captured();
    }
}

/// A column's value, and the document in it where paths are not read as it is stored.
struct Value {
    stored: Stored,
    document: Option<pg_sys::Datum>,
}

/// A varlena with all of its value in it.
///
/// # Safety
/// `datum` must be a varlena; memory is left to the trigger call's context.
unsafe fn detoast(datum: pg_sys::Datum) -> pg_sys::Datum {
    // SAFETY: the caller's promise.
    unsafe { pg_sys::Datum::from(pg_sys::pg_detoast_datum(datum.cast_mut_ptr())) }
}

/// Appends the text at a path of a JSON document; false where there is none or it is `null`.
///
/// # Safety
/// `extract` must be the function for the document's type, `path` a text[].
unsafe fn text_at(extract: Extract, document: pg_sys::Datum, path: pg_sys::Datum, out: &mut Text) -> bool {
    // SAFETY: the caller's promise; the result is a text.
    unsafe {
        match pgrx::direct_function_call_as_datum(extract, &[Some(document), Some(path)]) {
            Some(text) => {
                datum_text::push_varlena(out, text);
                true
            }
            None => false,
        }
    }
}
