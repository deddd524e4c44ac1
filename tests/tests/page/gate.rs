//! Who gets in, and what cannot be done from outside.

use anyhow::{Context as _, Result};
use hubspot_sync_tests::world::World;
use reqwest::header::{CACHE_CONTROL, COOKIE, LOCATION, ORIGIN, SET_COOKIE};
use reqwest::{Client, StatusCode};

use crate::browser::Browser;
use crate::site::{Site, TOKEN};

/// A client that follows nothing.
fn client() -> Result<Client> {
    Ok(Client::builder().redirect(reqwest::redirect::Policy::none()).build()?)
}

/// Percent-encodes a form.
fn form(pairs: &[(&str, &str)]) -> String {
    let mut url = reqwest::Url::parse("http://x/").expect("a URL");
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_token_there_is_no_page() -> Result<()> {
    let world = World::start("page_off").await?;
    let url = &world.relay().context("relay")?.admin_url;
    for path in ["/", "/login", "/conflicts", "/static/admin.css"] {
        assert_eq!(
            client()?.get(format!("{url}{path}")).send().await?.status(),
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
    assert_eq!(
        client()?.get(format!("{url}/healthz")).send().await?.status(),
        StatusCode::OK
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_is_asked_for_and_leads_where_one_wanted() -> Result<()> {
    let site = Site::start("page_login").await?;
    let browser = Browser::start().await?;
    browser
        .page
        .goto(&format!("{}/conflicts?status=closed", site.url))
        .await?;
    browser.write("input[name=name]", "Ada").await?;
    browser.write("input[name=token]", "not the token").await?;
    browser.click("button.primary").await?;
    browser.until(".flash.bad", "That is not the token").await?;
    browser.write("input[name=token]", TOKEN).await?;
    browser.click("button.primary").await?;
    browser.until("h1", "Conflicts").await?;
    assert_eq!(browser.page.current_url().await?.query(), Some("status=closed"));
    assert!(browser.text("header.top").await?.contains("Ada"));
    // The script sees no cookie.
    assert_eq!(browser.eval("document.cookie").await?, "");
    browser.click(".me button").await?;
    browser.find("input[name=token]").await?;
    browser.page.goto(&format!("{}/conflicts", site.url)).await?;
    browser.find("input[name=token]").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forms_of_others_are_refused_and_headers_are_strict() -> Result<()> {
    let site = Site::start("page_gate").await?;
    let (key, id) = site.customer("BAN-1", "Acme").await?;
    let conflict = site.conflict(&key, &id, "company_name", "Here", "There").await?;
    let (http, url) = (client()?, &site.url);

    // Without a session every screen and every form leads to the login.
    for path in [
        "/",
        "/conflicts",
        "/failures",
        "/records",
        "/mappings",
        "/activity",
        "/reconciliation",
    ] {
        let answer = http.get(format!("{url}{path}")).send().await?;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{path}");
    }
    let answer = http
        .post(format!("{url}/conflicts/{conflict}"))
        .body("winner=WARP")
        .send()
        .await?;
    assert_eq!(answer.headers()[LOCATION], "/login");

    let login = |extra: Option<&'static str>| {
        let mut request = http.post(format!("{url}/login")).body(form(&[
            ("name", "Ada"),
            ("token", TOKEN),
            ("next", "//elsewhere.example"),
        ]));
        if let Some(origin) = extra {
            request = request.header(ORIGIN, origin);
        }
        request.send()
    };
    assert_eq!(
        login(Some("http://elsewhere.example")).await?.status(),
        StatusCode::FORBIDDEN
    );
    let answer = login(None).await?;
    // Not to another site.
    assert_eq!(answer.headers()[LOCATION], "/");
    let cookie = answer.headers()[SET_COOKIE].to_str()?.to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let cookie = cookie.split(';').next().context("cookie")?.to_owned();

    let page = http
        .get(format!("{url}/conflicts"))
        .header(COOKIE, &cookie)
        .send()
        .await?;
    let policy = page.headers()["content-security-policy"].to_str()?.to_owned();
    assert!(
        policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(page.headers()[CACHE_CONTROL], "no-store");
    assert_eq!(page.headers()["x-content-type-options"], "nosniff");
    let html = page.text().await?;
    assert!(
        !html.contains("<script>") && !html.contains(" style=") && !html.contains("onclick"),
        "{html}"
    );
    let after = |name: &str| {
        let mark = format!("name=\"{name}\" value=\"");
        html.split_once(&mark)
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(value, _)| value.to_owned())
    };
    let (csrf, seen) = (after("csrf").context("csrf")?, after("seen").context("seen")?);

    let decide = |csrf: &str, origin: Option<&'static str>| {
        let mut request = http
            .post(format!("{url}/conflicts/{conflict}"))
            .header(COOKIE, &cookie)
            .body(form(&[("winner", "WARP"), ("seen", &seen), ("csrf", csrf)]));
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin);
        }
        request.send()
    };
    assert_eq!(decide("", None).await?.status(), StatusCode::FORBIDDEN);
    assert_eq!(decide(&format!("{csrf}x"), None).await?.status(), StatusCode::FORBIDDEN);
    assert_eq!(
        decide(&csrf, Some("http://elsewhere.example")).await?.status(),
        StatusCode::FORBIDDEN
    );
    assert_eq!(site.of(conflict, "status").await?.as_deref(), Some("open"));
    assert_eq!(decide(&csrf, None).await?.status(), StatusCode::SEE_OTHER);
    assert_eq!(site.of(conflict, "status").await?.as_deref(), Some("resolved"));

    // Wrong tokens run into a wall, and the right one with them.
    for _ in 0..10 {
        let answer = http
            .post(format!("{url}/login"))
            .body(form(&[("name", "x"), ("token", "wrong")]))
            .send()
            .await?;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(login(None).await?.status(), StatusCode::TOO_MANY_REQUESTS);
    Ok(())
}

/// Values and names come from customers and from anyone who can edit a HubSpot record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_tries_to_inject_script_is_text() -> Result<()> {
    const EVIL: &str = r#""><script>window.pwned = 1</script><img src=x onerror="window.pwned = 1">'</option>{{ 7 }}"#;
    let site = Site::start("page_inject").await?;
    let (key, id) = site.customer("BAN-1", "Acme").await?;
    let conflict = site
        .conflict(&key, &id, "company_name", EVIL, &format!("{EVIL} there"))
        .await?;
    site.world
        .sql
        .execute(&format!("UPDATE customers SET status = $1 WHERE id = {key}"), &[&EVIL])
        .await?;
    site.world
        .until("EXISTS (SELECT 1 FROM hubspot.failed_syncs WHERE status = 'open')")
        .await?;
    let browser = Browser::start().await?;
    site.open(&browser, "/conflicts").await?;
    let evil_query = form(&[
        ("key", EVIL),
        ("of", EVIL),
        ("kind", EVIL),
        ("q", EVIL),
        ("type", EVIL),
        ("field", EVIL),
    ]);
    for path in [
        "/conflicts".to_owned(),
        format!("/conflicts/{conflict}"),
        "/failures".to_owned(),
        format!("/record?type=customer&key={key}"),
        format!("/conflicts?{evil_query}"),
        format!("/failures?{evil_query}"),
        format!("/records?{evil_query}"),
        format!("/record?{evil_query}"),
    ] {
        browser.page.goto(&format!("{}{path}", site.url)).await?;
        assert_eq!(browser.eval("typeof window.pwned").await?, "undefined", "{path}");
        assert_eq!(
            browser
                .eval("document.querySelectorAll('main script, main img').length")
                .await?,
            0,
            "{path}"
        );
    }
    site.open(&browser, "/conflicts").await?;
    assert!(browser.text(&format!("#c{conflict}")).await?.contains(EVIL));
    // In the preview and in what comes of a decision too.
    browser.choose("#bulk select[name=winner]", "HUBSPOT").await?;
    browser.click("#bulk button[value=all]").await?;
    browser.until("h1", "Keep HubSpot").await?;
    assert_eq!(
        browser
            .eval("document.querySelectorAll('main script, main img').length")
            .await?,
        0
    );
    browser.click(".confirm button").await?;
    browser.until(".flash", "1 is resolved").await?;
    assert_eq!(browser.eval("typeof window.pwned").await?, "undefined");
    assert_eq!(
        site.world.row(&key, "company_name").await?,
        Some(format!("{EVIL} there"))
    );
    Ok(())
}
