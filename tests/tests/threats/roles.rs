//! What relay, viewer and admin could want beyond their part. Their exact rights are in `privileges.rs`.

use super::{refused, session};
use anyhow::Result;
use hubspot_sync_tests::world::World;
use tokio_postgres::error::SqlState;

/// A stolen relay password is worth the relay's functions: no table, no mapping, no portal; and no decision, when the
/// page's functions were left out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relays_role_cannot_reach_beyond_its_functions() -> Result<()> {
    let world = World::without_relay("role_relay", |_| ()).await?;
    world
        .sql
        .batch_execute("CREATE ROLE t_relay LOGIN; SELECT hubspot.grant_relay('t_relay', page => false)")
        .await?;
    let relay = session(&world, "t_relay").await?;
    for statement in [
        "SELECT hubspot.arm(2)",
        "SELECT hubspot.page_conflicts('{}', NULL, 1)",
        "SELECT hubspot.page_resolve('x', '{}', 'WARP', NULL, NULL)",
        "SELECT hubspot.enable('customer')",
        "SELECT hubspot.disable('customer')",
        "SELECT hubspot.export_mapping('customer')",
        "SELECT hubspot.follow_table('customers'::regclass)",
        "SELECT hubspot.register_transform('x', 'upper(text)', 'upper(text)')",
        "SELECT hubspot.relay_write_ids()",
        "SELECT hubspot.relay_look_again()",
        "SELECT hubspot.invalidate_plans('customers'::regclass)",
        "INSERT INTO hubspot.capture VALUES (1)",
        "UPDATE hubspot.binding SET portal_id = 2",
        "SELECT nextval('hubspot.claim_token_seq')",
        "COPY hubspot.sync_state TO STDOUT",
        "TRUNCATE hubspot.sync_log",
        "SELECT * FROM customers",
    ] {
        refused(&relay, statement, &SqlState::INSUFFICIENT_PRIVILEGE).await?;
    }
    // Malformed arguments change nothing and say nothing of values.
    let said = refused(
        &relay,
        "SELECT hubspot.relay_decide('x', '[{\"claim\": {\"secret\": \"s3cr3t\"}}]')",
        &SqlState::INVALID_PARAMETER_VALUE,
    )
    .await?;
    assert!(!said.contains("s3cr3t"), "{said}");
    Ok(())
}

/// A viewer cannot use what it reads to write, nor learn through a leaky function what views hide.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_can_neither_write_nor_reach_private_tables() -> Result<()> {
    let world = World::without_relay("role_viewer", |_| ()).await?;
    world
        .sql
        .batch_execute("CREATE ROLE t_viewer LOGIN; SELECT hubspot.grant_viewer('t_viewer'); CREATE SCHEMA t_viewer AUTHORIZATION t_viewer")
        .await?;
    let viewer = session(&world, "t_viewer").await?;
    for statement in [
        "SELECT * FROM hubspot.binding",
        "SELECT * FROM hubspot.sync_state",
        "SELECT * FROM hubspot.transform",
        "DELETE FROM hubspot.conflicts",
        "UPDATE hubspot.failed_syncs SET status = 'retried'",
        "SELECT hubspot.relay_receive('[]')",
        "SELECT hubspot.sample_figures()",
        "CREATE TRIGGER t AFTER INSERT ON hubspot.sync_log FOR EACH ROW EXECUTE FUNCTION hubspot.capture_change('1')",
        "CREATE TABLE t_viewer.pull (id int REFERENCES hubspot.object_mapping)",
    ] {
        refused(&viewer, statement, &SqlState::INSUFFICIENT_PRIVILEGE).await?;
    }
    Ok(())
}
