//! HubSpot's changes on their way into rows: a page of a hundred in one call, beside one call a value.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::{Value as Json, json};

use super::figures::{Table, with_spread};
use super::fixture::{Fixture, explain};
use super::stats::{median, paired};
use super::{Bench, thousands};

/// Values of a page, each of another record.
const PAGE: usize = 100;
/// Records in the database.
const RECORDS: u64 = 20_000;
/// Pages of a round and way.
const PAGES: usize = 5;

/// Links every row, with the state of each of its fields: both sides agree.
const LINK: &str = r#"
TRUNCATE hubspot.capture, hubspot.queue, hubspot.link CASCADE;
INSERT INTO hubspot.link (mapping_id, entity_key, hubspot_id, status, contacted, id_written)
  SELECT (SELECT min(id) FROM hubspot.object_mapping), id::text, (9000000000 + id)::text, 'linked', true, true FROM customers_ours ORDER BY id;
INSERT INTO hubspot.sync_state
  SELECT s.* FROM hubspot.link l JOIN customers_ours c ON c.id = l.entity_key::bigint
  JOIN hubspot.field_mapping f ON f.mapping_id = l.mapping_id AND f.sync_direction <> 'NONE'
  CROSS JOIN LATERAL (SELECT CASE f.field WHEN 'company_name' THEN c.company_name ELSE f.field END AS v) AS v
  CROSS JOIN LATERAL jsonb_populate_record(NULL::hubspot.sync_state, '{"edited_at": 1700000000000000, "origin": "w", "generation": 1,
    "dirty": false, "agreed": true, "seen_at": 0, "own_at": 0, "flying": false, "given_up": false, "held": false, "parked": false,
    "formed": false, "hubspot_read_at": 1700000000000000, "synced_at": 1700000000000000}'::jsonb
    || jsonb_build_object('link_id', l.id, 'field_id', f.id, 'row_value', v.v, 'base_value', v.v, 'hubspot_value', v.v)) AS s;
VACUUM ANALYZE;
CHECKPOINT"#;

/// The section `apply`.
///
/// # Errors
///
/// When a run fails or an event is not applied.
pub async fn run(bench: &mut Bench) -> Result<()> {
    println!("== apply: {PAGE} changes from HubSpot, each of another record, stored and then written into the rows");
    let fixture = Fixture::build(&bench.server, "apply", RECORDS, &["ours"]).await?;
    for statement in LINK.split(';') {
        // VACUUM cannot be one of several.
        fixture.run(statement).await?;
    }
    let (mut receive, mut apply) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let mut number = 0;
    for round in 0..=bench.settings.rounds {
        // One call a value, and a page a call: which comes first changes from round to round.
        for turn in 0..2 {
            let paged = (turn + round as usize) % 2;
            let (mut receiving, mut applying) = (0.0, 0.0);
            for _ in 0..PAGES {
                let events: Vec<Json> = (0..PAGE).map(|_| event(&mut number)).collect();
                let begun = Instant::now();
                for call in events.chunks(if paged == 1 { PAGE } else { 1 }) {
                    store(&fixture, call).await?;
                }
                receiving += begun.elapsed().as_secs_f64();
                let begun = Instant::now();
                let (calls, each) = if paged == 1 { (1, PAGE) } else { (PAGE, 1) };
                for _ in 0..calls {
                    take(&fixture, each).await?;
                }
                applying += begun.elapsed().as_secs_f64();
            }
            if round > 0 {
                let values = (PAGE * PAGES) as f64;
                receive[paged].push(values / receiving);
                apply[paged].push(values / applying);
            }
        }
        bench.progress(&format!("round {round} of {}", bench.settings.rounds));
    }
    let written = "SELECT count(*) FROM customers_ours WHERE company_name LIKE 'HubSpot %'";
    let written = fixture.number(written).await?;
    ensure!(
        u64::try_from(written)? == number.min(RECORDS),
        "{written} of {number} values are in the rows"
    );
    let mut table = Table::new(&["step", "values per second, one a call", "a page a call", "×"]);
    for (step, rates) in [("receive", &receive), ("apply", &apply)] {
        let ratio = paired(&rates[1], &rates[0]);
        let rate = |at: usize| median(&rates[at]).map_or_else(String::new, thousands);
        table.row(vec![step.to_owned(), rate(0), rate(1), with_spread(&ratio, 1)]);
        bench.figures.set(format!("{step}_batch_vs_single"), median(&ratio));
        bench
            .figures
            .set(format!("{step}_values_per_second"), median(&rates[1]));
    }
    println!("{table}");
    Ok(())
}

/// A change of the next record's name.
fn event(number: &mut u64) -> Json {
    *number += 1;
    json!({
        "eventId": *number, "subscriptionId": 1, "portalId": 1_234_567, "appId": 99, "attemptNumber": 0,
        "subscriptionType": "company.propertyChange", "objectId": 9_000_000_000_u64 + 1 + (*number - 1) % RECORDS,
        "propertyName": "name", "propertyValue": format!("HubSpot {number}"),
        "occurredAt": 1_800_000_000_000_u64 + *number, "changeSource": "CRM_UI", "sourceId": "userId:1",
    })
}

async fn store(fixture: &Fixture, events: &[Json]) -> Result<()> {
    let row = fixture
        .sql
        .query_one("SELECT hubspot.relay_receive($1)", &[&json!(events)])
        .await
        .map_err(explain)?;
    let stored: i64 = row.get(0);
    ensure!(
        stored as usize == events.len(),
        "{stored} of {} events were stored",
        events.len()
    );
    Ok(())
}

async fn take(fixture: &Fixture, events: usize) -> Result<()> {
    let row = fixture
        .sql
        .query_one("SELECT hubspot.relay_apply($1)", &[&(events as i32)])
        .await
        .map_err(explain)?;
    let answer: Json = row.get(0);
    ensure!(
        answer["applied"] == json!(events),
        "{events} events were offered: {answer}"
    );
    Ok(())
}
