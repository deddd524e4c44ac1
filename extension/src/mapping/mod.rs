//! Declaring mappings: import, export, enable, disable; and finding what changed while nothing was captured.

mod enable;
mod first_sync;
pub mod import;
pub mod look;
pub mod scan;
pub mod table;

pub use enable::{refresh_plans, source_exists};

use pgrx::JsonB;
use pgrx::prelude::*;

/// See `look`.
#[pg_extern(name = "relay_look_again", volatile, parallel_unsafe, security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn relay_look_again() -> i64 {
    look::continue_all()
}

#[pg_extern(sql = r#"
CREATE FUNCTION hubspot.import_mapping(entity_type text, source_table regclass, hubspot_object text, mapping jsonb, options jsonb DEFAULT '{}')
RETURNS text LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn import_mapping(
    entity_type: &str,
    source_table: pg_sys::Oid,
    hubspot_object: &str,
    mapping: JsonB,
    options: JsonB,
) -> String {
    import::import(entity_type, source_table, hubspot_object, &mapping.0, &options.0)
}

#[pg_extern(sql = r#"
CREATE FUNCTION hubspot.enable(entity_type text)
RETURNS text LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn enable(entity_type: &str) -> String {
    enable::enable(entity_type)
}

#[pg_extern(sql = r#"
CREATE FUNCTION hubspot.disable(entity_type text)
RETURNS text LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn disable(entity_type: &str) -> String {
    enable::disable(entity_type)
}
