//! What DDL on mapped tables does to mappings. The event triggers (`sql/schema/55_ddl.sql`) find out which mapped tables a
//! statement touched and call [`follow::follow`] for each, in a subtransaction: whatever goes wrong, the user's statement
//! goes on. `hubspot.enable` calls it too, so that mappings come true again where event triggers are not allowed.
//!
//! | statement | the mapping |
//! | --- | --- |
//! | column renamed | follows, in the exported document too |
//! | table renamed, moved to another schema | needs nothing: it is known by its oid |
//! | column retyped | follows when the new type fits; else the field is disabled with a reason |
//! | column dropped | its field is disabled with a reason, the others go on |
//! | key column or table dropped | is disabled with a reason |
//! | partition or child attached, detached, created | its triggers are made or dropped |
//! | values rewritten without triggers | the rows are compared with what is recorded, later |
//!
//! No lock but those of the mapping's own rows is taken here: the user's statement holds its table, and the relay's calls
//! wait for tables while they hold their lock.

mod document;
pub mod follow;
pub mod triggers;

use pgrx::prelude::*;

#[pg_extern(name = "follow_table", volatile, parallel_unsafe, security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn follow_table(source_table: pg_sys::Oid) {
    follow::follow(source_table, false);
    triggers::drop_leftovers(source_table);
}
