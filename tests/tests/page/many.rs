//! A hundred thousand conflicts.

use anyhow::Result;

use crate::browser::Browser;
use crate::site::Site;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_conflicts_are_paged_through_by_index() -> Result<()> {
    let site = Site::start("page_many").await?;
    let w = &site.world;
    w.sql
        .batch_execute(
            "INSERT INTO hubspot.conflicts (entity_type, entity_key, field, kind, warp_value, hubspot_value, strategy, status, winner, resolved_by, resolved_at)
             SELECT 'customer', n::text, CASE WHEN n % 2 = 0 THEN 'company_name' ELSE 'legal_name' END, 'BOTH_MODIFIED', 'here ' || n, 'there ' || n, 'MANUAL',
               CASE WHEN n <= 100000 THEN 'open' ELSE 'resolved' END, CASE WHEN n > 100000 THEN 'WARP' END, CASE WHEN n > 100000 THEN 'policy' END,
               CASE WHEN n > 100000 THEN now() END
             FROM generate_series(1, 150000) n;
             ANALYZE hubspot.conflicts",
        )
        .await?;
    let browser = Browser::start().await?;
    site.open(&browser, "/conflicts").await?;
    browser.until("#total", "100,000 open").await?;
    browser.until(".badge", "999+").await?;
    // Newest first, and each page goes on where the last one ended.
    let keys = "[...document.querySelectorAll('#rows .record bdi')].map(e => e.textContent).join(' ')";
    let expected = |from: i64| (0..25).map(|n| (from - n).to_string()).collect::<Vec<_>>().join(" ");
    assert_eq!(browser.eval(keys).await?, expected(100_000));
    browser.click("a[rel=next]").await?;
    browser.until("#rows", "here 99975").await?;
    assert_eq!(browser.eval(keys).await?, expected(99_975));
    // A field, a key.
    browser
        .page
        .goto(&format!("{}/conflicts?of=customer.legal_name", site.url))
        .await?;
    browser.until("#total", "50,000 open").await?;
    browser.page.goto(&format!("{}/conflicts?key=77", site.url)).await?;
    browser.until("#total", "1 open").await?;
    // One decision in bulk takes the newest thousand, and says so.
    site.open(&browser, "/conflicts").await?;
    browser.choose("#bulk select[name=winner]", "WARP").await?;
    browser.click("#bulk button[value=all]").await?;
    browser.until("h1", "Keep WARP for 1,000 conflicts?").await?;
    browser.until(".banner", "100,000 match").await?;

    // A page far down is found by its index, not by counting what comes before it.
    let plan: Vec<String> = w
        .sql
        .query(
            "EXPLAIN SELECT * FROM hubspot.conflicts x WHERE x.status = 'open' AND x.id < 5000 ORDER BY x.id DESC LIMIT 26",
            &[],
        )
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect();
    let plan = plan.join("\n");
    assert!(plan.contains("Index Scan Backward") && !plan.contains("Sort"), "{plan}");
    Ok(())
}
