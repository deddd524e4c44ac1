//! Rows between memory and SQL as PostgreSQL holds them, for statements that carry many: in as an array of a table's rows,
//! out as tuples. As JSON documents they would cost several times as much, for every row's keys are read and looked up again.

use super::{fault, plans};
use core::ffi::{CStr, c_char};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CString;

/// Rows of one statement, at most.
const CHUNK_ROWS: usize = 5_000;
/// Bytes of one statement's rows, about: its array must stay far below a gigabyte.
const CHUNK_BYTES: usize = 16 * 1024 * 1024;
/// PostgreSQL counts from 2000-01-01.
const EPOCH_DIFFERENCE_US: i64 = 946_684_800_000_000;

/// One column's value.
#[derive(Clone, Copy)]
pub enum Cell<'a> {
    /// SQL NULL, of any type.
    Null,
    /// `boolean`.
    Bool(bool),
    /// `int`.
    Int(i32),
    /// `bigint`.
    Long(i64),
    /// `"char"`.
    Char(u8),
    /// `text`.
    Text(&'a str),
    /// `timestamptz`; unit: microseconds since 1970.
    Instant(i64),
}

impl<'a> Cell<'a> {
    /// A `text` or NULL.
    pub fn text(text: Option<&'a str>) -> Cell<'a> {
        text.map_or(Cell::Null, Cell::Text)
    }

    /// A `bigint` or NULL.
    pub fn long(number: Option<i64>) -> Cell<'a> {
        number.map_or(Cell::Null, Cell::Long)
    }

    /// The column type that it fits.
    fn type_oid(self) -> Option<pg_sys::Oid> {
        match self {
            Cell::Null => None,
            Cell::Bool(_) => Some(pg_sys::BOOLOID),
            Cell::Int(_) => Some(pg_sys::INT4OID),
            Cell::Long(_) => Some(pg_sys::INT8OID),
            Cell::Char(_) => Some(pg_sys::CHAROID),
            Cell::Text(_) => Some(pg_sys::TEXTOID),
            Cell::Instant(_) => Some(pg_sys::TIMESTAMPTZOID),
        }
    }

    fn datum(self) -> Option<pg_sys::Datum> {
        match self {
            Cell::Null => None,
            Cell::Bool(value) => value.into_datum(),
            Cell::Int(value) => value.into_datum(),
            Cell::Long(value) => value.into_datum(),
            Cell::Char(value) => (value as i8).into_datum(),
            Cell::Text(value) => value.into_datum(),
            Cell::Instant(us) => us.saturating_sub(EPOCH_DIFFERENCE_US).into_datum(),
        }
    }
}

/// Runs `sql`, whose only parameter is an array of rows of `hubspot.<table>`, with all `rows`, in as many calls as their
/// size needs. `columns` names the cells; the other columns are NULL. No row: nothing is run.
pub fn write<'a, const N: usize>(
    sql: &str,
    table: &CStr,
    columns: &[&CStr; N],
    rows: impl Iterator<Item = [Cell<'a>; N]>,
) {
    let mut rows = rows.peekable();
    while rows.peek().is_some() {
        Spi::connect_mut(|_| {
            // SAFETY: inside SPI, whose memory holds the array until the statement is done.
            unsafe {
                let array = chunk(table, columns, &mut rows);
                execute(sql, &[array]);
            }
        });
    }
}

/// The next rows as an array, with the array's type.
///
/// # Safety
/// Only inside a transaction.
unsafe fn chunk<'a, const N: usize>(
    table: &CStr,
    columns: &[&CStr; N],
    rows: &mut impl Iterator<Item = [Cell<'a>; N]>,
) -> (pg_sys::Datum, pg_sys::Oid) {
    // SAFETY: the descriptor is that of an open, locked table; values are of its columns' types, which is checked; arrays
    // have as many elements as it has columns. An error ends the transaction, which closes the table.
    unsafe {
        let relid = pg_sys::get_relname_relid(table.as_ptr(), pg_sys::get_namespace_oid(c"hubspot".as_ptr(), false));
        let relation = pg_sys::table_open(relid, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        let descriptor = (*relation).rd_att;
        let width = usize::try_from((*descriptor).natts).unwrap_or(0);
        let places: [(usize, pg_sys::Oid); N] = columns.map(|name| match crate::capture::column(descriptor, name) {
            Some(place) => place,
            None => fault(&format!("no column {name:?} in {table:?}")),
        });
        let (mut values, mut nulls) = (vec![pg_sys::Datum::from(0); width], vec![true; width]);
        let (mut tuples, mut bytes) = (Vec::new(), 0);
        while tuples.len() < CHUNK_ROWS && bytes < CHUNK_BYTES {
            let Some(row) = rows.next() else { break };
            for (cell, (at, type_oid)) in row.into_iter().zip(places) {
                if cell.type_oid().is_some_and(|oid| oid != type_oid) {
                    fault::<()>(&format!("a value of another type than column {at} of {table:?}"));
                }
                let datum = cell.datum();
                nulls[at] = datum.is_none();
                values[at] = datum.unwrap_or(pg_sys::Datum::from(0));
            }
            let tuple = pg_sys::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            bytes += (*tuple).t_len as usize;
            tuples.push(pg_sys::heap_copy_tuple_as_datum(tuple, descriptor));
            pg_sys::heap_freetuple(tuple);
        }
        let row_type = (*(*relation).rd_rel).reltype;
        let array = pg_sys::construct_array(
            tuples.as_mut_ptr(),
            tuples.len() as i32,
            row_type,
            -1,
            false,
            b'd' as c_char,
        );
        pg_sys::table_close(relation, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        (pg_sys::Datum::from(array), pg_sys::get_array_type(row_type))
    }
}

/// Runs `sql`, whose only parameter is a `bigint[]`, and hands each row to `read`.
pub fn read_for(sql: &str, ids: &[i64], mut read: impl FnMut(&mut Row)) {
    Spi::connect_mut(|_| {
        // SAFETY: inside SPI.
        unsafe {
            execute(sql, &[bigints(ids)]);
            each(&mut read);
        }
    });
}

/// Runs `sql`, whose parameters are two `bigint[]`, and hands each row to `read`.
pub fn read_for_both(sql: &str, ids: &[i64], more: &[i64], mut read: impl FnMut(&mut Row)) {
    Spi::connect_mut(|_| {
        // SAFETY: inside SPI.
        unsafe {
            execute(sql, &[bigints(ids), bigints(more)]);
            each(&mut read);
        }
    });
}

/// An array of numbers, with its type.
///
/// # Safety
/// Only inside a transaction.
unsafe fn bigints(ids: &[i64]) -> (pg_sys::Datum, pg_sys::Oid) {
    let mut ids: Vec<pg_sys::Datum> = ids.iter().map(|&id| pg_sys::Datum::from(id)).collect();
    // SAFETY: the elements are eight bytes by value.
    let array = unsafe {
        pg_sys::construct_array(
            ids.as_mut_ptr(),
            ids.len() as i32,
            pg_sys::INT8OID,
            8,
            true,
            b'd' as c_char,
        )
    };
    (pg_sys::Datum::from(array), pg_sys::INT8ARRAYOID)
}

/// Runs `sql`, whose only parameter is a text, and hands each row to `read`.
pub fn read_with(sql: &str, text: &str, mut read: impl FnMut(&mut Row)) {
    Spi::connect_mut(|_| {
        let text = text.into_datum().unwrap_or(pg_sys::Datum::from(0));
        // SAFETY: inside SPI; the parameter is a text.
        unsafe {
            execute(sql, &[(text, pg_sys::TEXTOID)]);
            each(&mut read);
        }
    });
}

/// Runs a statement; what it gives is in `SPI_tuptable`.
///
/// As another role it is about users' tables: it is planned each time, for what they hold now, and their triggers get their
/// own session's settings.
///
/// # Safety
/// Only inside SPI; the datums must be of their types.
unsafe fn execute(sql: &str, parameters: &[(pg_sys::Datum, pg_sys::Oid)]) {
    let mut values: Vec<pg_sys::Datum> = parameters.iter().map(|p| p.0).collect();
    let mut types: Vec<pg_sys::Oid> = parameters.iter().map(|p| p.1).collect();
    // SAFETY: inside SPI; as many values as types, none of them NULL.
    let status = unsafe {
        pg_sys::SPI_tuptable = core::ptr::null_mut();
        if super::is_other_role() {
            let Ok(sql) = CString::new(sql) else {
                return fault(&"a statement holds a zero byte");
            };
            pg_sys::SPI_execute_with_args(
                sql.as_ptr(),
                types.len() as i32,
                types.as_mut_ptr(),
                values.as_mut_ptr(),
                core::ptr::null(),
                false,
                0,
            )
        } else {
            let settings = plans::ByIndex::begin();
            let plan = plans::plan(sql, &types);
            let status = pg_sys::SPI_execute_plan(plan, values.as_mut_ptr(), core::ptr::null(), false, 0);
            settings.end();
            status
        }
    };
    if status < 0 {
        fault::<()>(&format!("SPI status {status}"));
    }
}

/// Runs `sql`, whose only parameter is a text, for its effect.
pub fn run_with(sql: &str, text: &str) {
    read_with(sql, text, |_| ());
}

/// Hands each row of `SPI_tuptable` to `read`.
///
/// # Safety
/// Only inside SPI, right after a statement; `read` must not run another one.
unsafe fn each(read: &mut impl FnMut(&mut Row)) {
    // SAFETY: the table has `numvals` tuples of its descriptor, and stays until SPI is left.
    unsafe {
        let Some(table) = pg_sys::SPI_tuptable.as_ref() else {
            return;
        };
        let width = usize::try_from((*table.tupdesc).natts).unwrap_or(0);
        let types: Vec<pg_sys::Oid> = (1..=width)
            .map(|at| pg_sys::SPI_gettypeid(table.tupdesc, at as i32))
            .collect();
        let (mut values, mut nulls) = (vec![pg_sys::Datum::from(0); width], vec![true; width]);
        for at in 0..table.numvals as usize {
            let tuple = *table.vals.add(at);
            pg_sys::heap_deform_tuple(tuple, table.tupdesc, values.as_mut_ptr(), nulls.as_mut_ptr());
            read(&mut Row {
                values: &values,
                nulls: &nulls,
                types: &types,
                at: 0,
            });
        }
    }
}

/// One row that a statement gave, read column by column.
pub struct Row<'a> {
    values: &'a [pg_sys::Datum],
    nulls: &'a [bool],
    types: &'a [pg_sys::Oid],
    at: usize,
}

impl Row<'_> {
    /// The next column; none for NULL. The column must be of `T`'s very type.
    pub fn next<T: FromDatum + IntoDatum>(&mut self) -> Option<T> {
        let at = self.at;
        self.at += 1;
        if self.types.get(at) != Some(&T::type_oid()) {
            return fault(&format!("column {at} is not of the type that is read"));
        }
        // SAFETY: the datum is of this type, and is there until the row was handed over.
        unsafe { T::from_datum(self.values[at], self.nulls[at]) }
    }

    /// The next column, or the type's zero for NULL.
    pub fn or_zero<T: FromDatum + IntoDatum + Default>(&mut self) -> T {
        self.next().unwrap_or_default()
    }
}
