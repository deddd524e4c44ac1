//! The PostgreSQL extension `hubspot_sync`: captures committed changes of mapped fields, decides what happens to each
//! value on either side, and writes rows. It speaks to no network; a relay carries what it decides.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`capture`] | the trigger in the application's transaction |
//! | `mapping` | declaring mappings |
//! | `ddl` | mappings follow what is done to their tables |
//! | `catalog` | mappings as the other modules use them |
//! | `book` | records in memory for the length of one call; reading and writing rows |
//! | `relay` | the relay's functions |
//! | `conflict` | what people decide |
//! | `privacy` | forgetting records |
//! | `files` | whether the server's files are a copy |
//! | `sensitive` | hashes in the place of sensitive values |
//! | `convert` | values between the two sides' forms |
//! | `spi`, `error`, `allocator` | the door to SQL, errors, and want of memory |
//!
//! SQL objects stand in `sql/schema/`, in the order of their numbers.

mod allocator;
mod book;
pub mod capture;
mod catalog;
mod conflict;
mod convert;
mod ddl;
mod error;
mod files;
mod mapping;
mod privacy;
mod relay;
mod sensitive;
mod spi;

pgrx::pg_module_magic!();

pgrx::extension_sql_file!("../../sql/schema/05_schema.sql", name = "schema", bootstrap);
pgrx::extension_sql_file!("../../sql/schema/10_types.sql", name = "types", requires = ["schema"]);
pgrx::extension_sql_file!(
    "../../sql/schema/20_mapping.sql",
    name = "mapping",
    requires = ["types"]
);
pgrx::extension_sql_file!(
    "../../sql/schema/25_capture.sql",
    name = "capture",
    requires = ["mapping"]
);
pgrx::extension_sql_file!(
    "../../sql/schema/30_records.sql",
    name = "records",
    requires = ["capture"]
);
pgrx::extension_sql_file!(
    "../../sql/schema/32_claims.sql",
    name = "claims",
    requires = ["records"]
);
pgrx::extension_sql_file!("../../sql/schema/33_shed.sql", name = "shed", requires = ["claims"]);
pgrx::extension_sql_file!(
    "../../sql/schema/35_sensitive.sql",
    name = "sensitive",
    requires = ["shed"]
);
pgrx::extension_sql_file!(
    "../../sql/schema/36_brake.sql",
    name = "brake",
    requires = ["sensitive"]
);
pgrx::extension_sql_file!("../../sql/schema/40_log.sql", name = "log", requires = ["brake"]);
pgrx::extension_sql_file!("../../sql/schema/46_quota.sql", name = "quota", requires = ["log"]);
pgrx::extension_sql_file!(
    "../../sql/schema/50_binding.sql",
    name = "binding",
    requires = ["quota", files::files]
);
pgrx::extension_sql_file!("../../sql/schema/55_ddl.sql", name = "ddl", requires = ["binding"]);
pgrx::extension_sql_file!("../../sql/schema/60_relay.sql", name = "relay", requires = ["ddl"]);
pgrx::extension_sql_file!(
    "../../sql/schema/62_give_back.sql",
    name = "give_back",
    requires = ["relay"]
);
pgrx::extension_sql_file!(
    "../../sql/schema/64_journal.sql",
    name = "journal",
    requires = ["give_back"]
);
pgrx::extension_sql_file!(
    "../../sql/schema/65_reconcile.sql",
    name = "reconcile",
    requires = ["journal"]
);
pgrx::extension_sql_file!(
    "../../sql/schema/70_views.sql",
    name = "views",
    requires = ["reconcile"]
);
pgrx::extension_sql_file!(
    "../../sql/schema/72_problems.sql",
    name = "problems",
    requires = ["views"]
);
pgrx::extension_sql_file!(
    "../../sql/schema/73_brake.sql",
    name = "release",
    requires = ["problems"]
);
pgrx::extension_sql_file!(
    "../../sql/schema/76_privacy.sql",
    name = "privacy",
    requires = ["release"]
);
pgrx::extension_sql_file!(
    "../../sql/schema/80_answers.sql",
    name = "answers",
    requires = ["privacy"]
);
pgrx::extension_sql_file!("../../sql/schema/81_plan.sql", name = "plan", requires = ["answers"]);
pgrx::extension_sql_file!("../../sql/schema/83_history.sql", name = "history", requires = ["plan"]);
// Refers to the figures over time.
pgrx::extension_sql_file!(
    "../../sql/schema/84_monitoring.sql",
    name = "monitoring",
    requires = ["history"]
);
pgrx::extension_sql_file!("../../sql/schema/85_page.sql", name = "page", requires = ["history"]);
pgrx::extension_sql_file!(
    "../../sql/schema/86_page_decisions.sql",
    name = "page_decisions",
    requires = ["page"]
);
pgrx::extension_sql_file!(
    "../../sql/schema/88_restore.sql",
    name = "restore",
    requires = ["page_decisions"]
);
pgrx::extension_sql_file!("../../sql/schema/90_grants.sql", name = "grants", finalize);
