//! The counts at the end.

use std::collections::BTreeMap;

use anyhow::Result;

use super::screen::{Screen, thousands};
use crate::simulator::{Op, RequestLog};
use crate::world::World;

/// Prints and checks the totals.
pub(super) async fn show(world: &World, screen: &mut Screen) -> Result<()> {
    screen.heading("What it took");
    let requests = world.sim.requests();
    let busiest = world.sim.max_in_window(10_000);
    let limit = world.sim.config().rate_limit as usize;
    let mut lines: Vec<Vec<String>> = vec![line("API requests", requests.len())];
    lines.extend(by_kind(&requests));
    lines.push(vec![
        "most requests in any 10 seconds".to_owned(),
        format!("{busiest} (HubSpot's limit: {limit})"),
    ]);
    let too_many = requests.iter().filter(|request| request.status == 429).count();
    lines.push(line("requests refused for their rate", too_many));
    lines.push(count(world, "records linked", "hubspot.link WHERE status = 'linked'").await?);
    lines.push(count(world, "values captured from rows", "hubspot.ledger").await?);
    lines.extend(
        groups(
            world,
            "  ",
            "SELECT CASE ending WHEN 'lost_conflict' THEN 'lost a conflict' ELSE ending END, count(*)
             FROM hubspot.ledger GROUP BY 1 ORDER BY 2 DESC",
        )
        .await?,
    );
    lines.push(count(world, "conflicts", "hubspot.conflicts").await?);
    lines.extend(
        groups(
            world,
            "  ",
            "SELECT strategy::text || ': ' || coalesce(winner || ' won', 'open'), count(*)
             FROM hubspot.conflicts GROUP BY 1 ORDER BY 1",
        )
        .await?,
    );
    lines.push(count(world, "webhook events received", "hubspot.webhook_events").await?);
    lines.extend(
        groups(
            world,
            "  ",
            "SELECT CASE WHEN event->>'changeSource' = 'CRM_UI' THEN 'edits of people in HubSpot'
                         WHEN event->>'subscriptionType' LIKE '%.propertyChange' THEN 'echoes of our own writes'
                         ELSE 'companies made by us' END, count(*)
             FROM hubspot.webhook_events GROUP BY 1 ORDER BY 2 DESC",
        )
        .await?,
    );
    lines.push(line("webhook calls from HubSpot", world.sim.deliveries().len()));
    screen.table(&["what", "how many"], &lines);

    screen.check(busiest <= limit && too_many == 0, "HubSpot's rate limit was kept");
    screen.check(
        requests.iter().all(|request| request.status < 400),
        "HubSpot refused no request",
    );
    let open = world
        .text(
            "SELECT concat_ws(', ', queue_depth, conflicts_open, failed_open, webhook_events_pending) FROM hubspot.status()",
        )
        .await?;
    screen.equal(
        "waiting changes, open conflicts, open failures, waiting events",
        open,
        "0, 0, 0, 0",
    );
    let lost = "SELECT count(*)::text FROM hubspot.ledger WHERE ending IN ('waiting', 'unaccounted')";
    screen.equal("edits without an outcome", world.text(lost).await?, "0");
    Ok(())
}

fn line(what: &str, number: usize) -> Vec<String> {
    vec![what.to_owned(), thousands(number)]
}

/// Requests and the records in them, the most frequent first.
fn by_kind(requests: &[RequestLog]) -> Vec<Vec<String>> {
    let mut kinds: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for request in requests {
        let kind = kinds.entry(name(request.op)).or_default();
        kind.0 += 1;
        kind.1 += request.inputs;
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, (calls, _))| std::cmp::Reverse(*calls));
    kinds
        .into_iter()
        .map(|(kind, (calls, records))| {
            let records = match records {
                0 => String::new(),
                _ => format!(" ({} records)", thousands(records)),
            };
            vec![format!("  {kind}"), format!("{}{records}", thousands(calls))]
        })
        .collect()
}

fn name(op: Op) -> &'static str {
    match op {
        Op::BatchRead => "batch read",
        Op::BatchUpsert => "batch upsert",
        Op::BatchCreate => "batch create",
        Op::BatchUpdate => "batch update",
        Op::PropertyList | Op::PropertyGet | Op::PropertyBatchRead => "property definitions",
        Op::AccountDetails | Op::AccountUsage => "account",
        Op::Search => "search",
        Op::Token => "token",
        _ => "other",
    }
}

/// A count of a table's rows.
async fn count(world: &World, what: &str, table: &str) -> Result<Vec<String>> {
    let row = world
        .sql
        .query_one(&format!("SELECT count(*) FROM {table}"), &[])
        .await?;
    Ok(line(what, usize::try_from(row.get::<_, i64>(0))?))
}

/// Counts by a text.
async fn groups(world: &World, indent: &str, sql: &str) -> Result<Vec<Vec<String>>> {
    let mut lines = Vec::new();
    for row in world.sql.query(sql, &[]).await? {
        let what = format!("{indent}{}", row.get::<_, String>(0));
        lines.push(line(&what, usize::try_from(row.get::<_, i64>(1))?));
    }
    Ok(lines)
}
