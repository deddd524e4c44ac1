//! Declaring mappings: import, export, enable, disable; and finding what changed while nothing was captured.

mod enable;
mod first_sync;
pub mod import;
pub mod look;
pub mod scan;
pub mod table;
mod transform;

pub use enable::{refresh_plans, source_exists};

use crate::spi;
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
RETURNS text LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn import_mapping(
    entity_type: &str,
    source_table: pg_sys::Oid,
    hubspot_object: &str,
    mapping: JsonB,
    options: JsonB,
) -> String {
    spi::as_extension(|caller| {
        import::import(
            caller,
            entity_type,
            source_table,
            hubspot_object,
            &mapping.0,
            &options.0,
        )
    })
}

#[pg_extern(sql = r#"
CREATE FUNCTION hubspot.enable(entity_type text)
RETURNS text LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn enable(entity_type: &str) -> String {
    spi::as_extension(|caller| enable::enable(entity_type, caller))
}

#[pg_extern(sql = r#"
CREATE FUNCTION hubspot.disable(entity_type text)
RETURNS text LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn disable(entity_type: &str) -> String {
    spi::as_extension(|caller| enable::disable(entity_type, caller))
}

#[pg_extern(sql = r#"
CREATE FUNCTION hubspot.register_transform(name text, to_warp regprocedure, to_hubspot regprocedure)
RETURNS text LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn register_transform(name: &str, to_warp: pg_sys::Oid, to_hubspot: pg_sys::Oid) -> String {
    spi::as_extension(|caller| transform::register(caller, name, to_warp, to_hubspot))
}
