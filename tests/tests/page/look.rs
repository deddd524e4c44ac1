//! Pictures of the screens into target/screenshots, for people to look at; and that nothing runs off a phone's side.

use anyhow::Result;

use crate::browser::Browser;
use crate::site::Site;

/// Samples as a relay takes them: a day with a rush in it. So that the charts have something to show at once.
const HISTORY: &str = "
INSERT INTO hubspot.metric_history
SELECT t, jsonb_build_object('queue_depth', round(4 + 3 * sin(m / 90.0) + CASE WHEN m BETWEEN 700 AND 820 THEN (m - 700) * 0.9 ELSE 0 END),
  'oldest_waiting_seconds', 2, 'delivered', greatest(0, round(18 + 14 * sin(m / 200.0))), 'conflicts', CASE WHEN m % 97 = 0 THEN 2 WHEN m % 41 = 0 THEN 1 ELSE 0 END,
  'failures', CASE WHEN m % 211 = 0 THEN 1 ELSE 0 END, 'latency_p50_seconds', 0.4, 'latency_p95_seconds', round((1.1 + 0.4 * sin(m / 60.0) + CASE WHEN m BETWEEN 720 AND 830 THEN 5 ELSE 0 END)::numeric, 2))
FROM (SELECT date_trunc('minute', now()) - m * interval '1 minute' AS t, m FROM generate_series(1, 1439) m) s
ON CONFLICT DO NOTHING";

/// Texts that are hard to read: less than 4.5 to 1 against what is behind them (3 to 1 when large), as WCAG 2 counts.
const FAINT: &str = "(() => {
  const parts = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return { rgb: m.slice(0, 3), a: m.length > 3 ? m[3] : 1 }; };
  const light = (rgb) => { const [r, g, b] = rgb.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parts(getComputedStyle(e).backgroundColor); if (c.a > 0.99) return c.rgb; } return [255, 255, 255]; };
  const faint = [];
  for (const e of document.querySelectorAll('body *')) {
    if (!e.checkVisibility() || e.closest('svg, select, .sr, .skip')) continue;
    const text = [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.textContent.trim()).join('');
    if (!text) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(parts(style.color).rgb), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) faint.push(`${text.slice(0, 30)} (${e.className || e.tagName}): ${ratio.toFixed(2)}`);
  }
  return faint.join('; ');
})()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn screens_fit_desktop_and_phone_in_light_and_dark() -> Result<()> {
    let site = Site::start("page_look").await?;
    let w = &site.world;
    let browser = Browser::start().await?;
    // Empty states first.
    site.open(&browser, "/conflicts").await?;
    browser.picture("empty-conflicts-desktop-light", 1280, false).await?;

    let names = [
        ("Northwind Traders", "Northwind Traders Ltd", "Northwind Trading"),
        ("Contoso", "Contoso Europe GmbH", "Contoso Deutschland GmbH"),
        ("Fabrikam", "Fabrikam Inc.", "Fabrikam, Inc."),
    ];
    let mut first = String::new();
    for (n, (base, here, there)) in names.iter().enumerate() {
        let (key, id) = site.customer(&format!("BAN-10{n}"), base).await?;
        site.conflict(&key, &id, "company_name", here, there).await?;
        if first.is_empty() {
            first.clone_from(&key);
            let long = "A very long legal name that nobody would print on a letter and that still has to fit a phone, "
                .repeat(4);
            site.conflict(&key, &id, "legal_name", "Northwind Traders plc", &long)
                .await?;
        }
        w.update(&key, "status = 'BOGUS'").await?;
    }
    w.until("(SELECT count(*) = 3 FROM hubspot.failed_syncs WHERE status = 'open')")
        .await?;
    w.sql.batch_execute(HISTORY).await?;
    w.sql
        .batch_execute("SELECT hubspot.reconcile('customer', true)")
        .await?;
    w.until("EXISTS (SELECT 1 FROM hubspot.reconciliation_runs WHERE status = 'finished')")
        .await?;
    let run = w
        .text("SELECT max(id)::text FROM hubspot.reconciliation_runs")
        .await?
        .unwrap_or_default();
    let id = w
        .text("SELECT max(id)::text FROM hubspot.conflicts")
        .await?
        .unwrap_or_default();

    for (name, path) in [
        ("overview", "/".to_owned()),
        ("conflicts", "/conflicts".to_owned()),
        ("conflict", format!("/conflicts/{id}")),
        ("failures", "/failures".to_owned()),
        ("records", "/records".to_owned()),
        ("record", format!("/record?type=customer&key={first}")),
        ("mappings", "/mappings".to_owned()),
        ("reconciliation", "/reconciliation".to_owned()),
        ("activity", "/activity".to_owned()),
        ("run", format!("/reconciliation/{run}")),
    ] {
        site.open(&browser, &path).await?;
        // Not one of the messages that the database refused.
        assert_eq!(
            browser.count("header.top").await?,
            1,
            "{name}: {}",
            browser.text("body").await?
        );
        for (width, phone) in [(1280, false), (390, true)] {
            for scheme in ["light", "dark"] {
                browser.scheme(scheme).await?;
                let size = if phone { "phone" } else { "desktop" };
                browser
                    .picture(&format!("{name}-{size}-{scheme}"), width, phone)
                    .await?;
                assert_eq!(browser.eval(FAINT).await?, "", "{name}, {scheme}");
            }
            let overflow = browser
                .eval("document.documentElement.scrollWidth - window.innerWidth")
                .await?;
            assert!(
                overflow.as_i64().unwrap_or(99) <= 0,
                "{name} is {overflow} too wide at {width}"
            );
            // Each field to fill in says what it is.
            let nameless = "[...document.querySelectorAll('input:not([type=hidden]), select')].filter(e => !e.labels.length && !e.ariaLabel).length";
            assert_eq!(browser.eval(nameless).await?, 0, "{name}");
        }
    }
    browser.scheme("light").await?;
    // Faint text would have been found.
    let faded = "(document.querySelector('h1').style.color = 'rgb(220, 220, 220)')";
    browser.eval(faded).await?;
    let found = browser.eval(FAINT).await?;
    assert!(found.as_str().is_some_and(|text| text.contains("(H1)")), "{found}");
    browser.screen(1280, 900, false).await?;
    // By keyboard alone: j goes to the first conflict, Tab reaches its buttons.
    site.open(&browser, "/conflicts").await?;
    browser.find("body").await?.send_keys("j").await?;
    let inside = browser
        .eval("document.activeElement.closest('#rows > .card') !== null")
        .await?;
    assert_eq!(inside, true);
    browser.choose("#bulk select[name=winner]", "WARP").await?;
    browser.click("#bulk button[value=all]").await?;
    browser.until("h1", "Keep WARP for 4 conflicts?").await?;
    browser.picture("preview-desktop-light", 1280, false).await?;
    browser.picture("preview-phone-light", 390, true).await?;
    site.open(&browser, "/failures").await?;
    browser.click("#bulk button[value=all]").await?;
    browser.until("h1", "Retry 3 failures?").await?;
    browser.picture("retry-desktop-light", 1280, false).await?;
    browser.scheme("dark").await?;
    browser.picture("retry-phone-dark", 390, true).await?;
    browser.scheme("light").await?;
    browser.click(".me button").await?;
    browser.find("input[name=token]").await?;
    browser.picture("login-desktop-light", 1280, false).await?;
    browser.scheme("dark").await?;
    browser.picture("login-phone-dark", 390, true).await?;
    Ok(())
}
