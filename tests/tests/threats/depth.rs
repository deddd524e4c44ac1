//! Documents that are nested deeper than any parser's stack.

use super::refused;
use anyhow::{Context as _, Result};
use hubspot_sync_tests::world::World;
use tokio_postgres::error::SqlState;

/// An SQL expression: a document of `n` arrays in each other around `"x"`.
fn nested(n: usize) -> String {
    format!("(repeat('[', {n}) || '\"x\"' || repeat(']', {n}))")
}

/// The application stores what it likes in a jsonb column, mapped or not: its statement never fails for us, and the fields
/// beside it are synced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deep_documents_stop_neither_the_application_nor_other_fields() -> Result<()> {
    let mut world = World::without_relay("deep_rows", |_| ()).await?;
    world.start_relay("").await?;
    let (key, id) = world.linked("BAN-1", "Acme").await?;
    for (n, depth) in [100, 200, 3000].into_iter().enumerate() {
        let deep = nested(depth);
        let name = format!("Acme {n}");
        for (column, document) in [
            // Beside what is mapped, and in the place of a value that is.
            (
                "contact",
                format!("jsonb_build_object('beside', {deep}::jsonb, 'email', 'a{n}@example.com')"),
            ),
            ("address", format!("jsonb_build_object('city', {deep}::jsonb)")),
            ("external_ids", format!("{deep}::jsonb")),
        ] {
            world
                .update(&key, &format!("company_name = '{name}', {column} = {document}"))
                .await
                .with_context(|| format!("{column} at depth {depth}"))?;
        }
        world.settle().await.with_context(|| format!("depth {depth}"))?;
        assert_eq!(
            world.hubspot(&id, "name").as_deref(),
            Some(name.as_str()),
            "depth {depth}"
        );
    }
    Ok(())
}

/// Documents that are handed in are refused while they are read, before anything is done with them; the session goes on. Reading
/// is the framework's, hence its SQLSTATE.
#[tokio::test]
async fn deep_documents_are_refused_before_anything_is_done_with_them() -> Result<()> {
    let world = World::without_relay("deep_calls", |_| ()).await?;
    for depth in [130, 3000] {
        let deep = nested(depth);
        for call in [
            format!(
                "hubspot.import_mapping('deep', 'customers', 'companies', jsonb_build_object('name', {deep}::jsonb))"
            ),
            format!(
                "hubspot.import_mapping('deep', 'customers', 'companies', '{{}}', jsonb_build_object('policies', {deep}::jsonb))"
            ),
            format!("hubspot.relay_receive({deep}::jsonb)"),
            format!("hubspot.relay_decide('x', {deep}::jsonb)"),
            format!("hubspot.relay_complete('x', {deep}::jsonb)"),
        ] {
            let what = format!("SELECT {call}");
            let said = refused(&world.sql, &what, &SqlState::INTERNAL_ERROR)
                .await
                .with_context(|| format!("depth {depth}"))?;
            assert!(said.contains("recursion limit"), "{said}");
        }
    }
    assert_eq!(world.count("FROM hubspot.object_mapping").await?, 1);
    Ok(())
}
