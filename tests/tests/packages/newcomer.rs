//! Somebody who reads the README's start and nothing else, on a new machine: what stands there is done, block by block.

use anyhow::{Context as _, Result, ensure};
use fantoccini::Locator;
use hubspot_sync_tests::documents::{Block, blocks, repository};
use hubspot_sync_tests::simulator::{SimConfig, Simulator};

use crate::browser::Browser;
use crate::root::{Root, Service};

/// The README's blocks for newcomers, in order.
struct Reader<'a> {
    left: std::collections::VecDeque<Block>,
    root: &'a Root,
    sim: &'a Simulator,
}

impl Reader<'_> {
    /// Does what comes next, up to a block that is for later than `now`.
    fn follow(&mut self, now: &str) -> Result<String> {
        let mut said = String::new();
        while let Some(block) = self.left.front() {
            if block.newcomer() != Some(now) {
                break;
            }
            said.push_str(&self.act(block).with_context(|| format!("README.md:{}", block.line))?);
            self.left.pop_front();
        }
        Ok(said)
    }

    fn act(&self, block: &Block) -> Result<String> {
        let text = self.root.adapted(block, self.sim);
        match block.language.as_str() {
            "sh" => self.root.run(&text),
            // As the text above them says: in psql, as PostgreSQL's administrator, in the same folder.
            "psql" | "sql" => self.root.run(&format!(
                "runuser -u postgres -- psql app -X -v ON_ERROR_STOP=1 <<'END'\n{text}\nEND"
            )),
            // Files: the first line of each names it.
            "json" => self.write(&self.root.place().join("customer.json"), &text),
            "toml" => {
                let name = text
                    .lines()
                    .next()
                    .and_then(|l| l.strip_prefix("# /"))
                    .context("the file's name")?;
                self.write(&self.root.dir.join(name), &text)
            }
            other => anyhow::bail!("nobody can follow a block of {other}"),
        }
    }

    fn write(&self, path: &std::path::Path, text: &str) -> Result<String> {
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
        Ok(String::new())
    }
}

/// The words that the README's sentence about the page has in bold: what is clicked, in order.
fn clicks() -> Result<Vec<String>> {
    let readme = std::fs::read_to_string(repository().join("README.md"))?;
    let (_, sentence) = readme.split_once("On the page:").context("On the page:")?;
    let sentence = sentence.split("\n\n").next().unwrap_or_default();
    let bold: Vec<String> = sentence.split("**").skip(1).step_by(2).map(str::to_owned).collect();
    ensure!(
        sentence.contains("http://127.0.0.1:8081/") && sentence.contains("/etc/hubspot-relay/admin_token"),
        "{sentence}"
    );
    Ok(bold)
}

/// Both sides change the phone number at once.
fn conflict(root: &Root, sim: &Simulator, id: &str, here: &str, there: &str) -> Result<()> {
    sim.hold_webhooks();
    sim.ui_set("companies", id, "phone", there)
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    root.psql(&format!(
        "UPDATE customers SET contact = jsonb_build_object('phone', '{here}') WHERE id = 42"
    ))?;
    root.until("EXISTS (SELECT 1 FROM hubspot.conflicts WHERE status = 'open')")?;
    sim.release_webhooks();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes root and packages that were built before: make test-packages"]
async fn a_newcomer_follows_the_readme_from_an_empty_machine_to_decided_conflicts() -> Result<()> {
    let sim = Simulator::start(SimConfig::warp()).await?;
    let root = Root::make(&sim)?;
    let mut reader = Reader {
        left: blocks("README.md")?
            .into_iter()
            .filter(|b| b.newcomer().is_some())
            .collect(),
        root: &root,
        sim: &sim,
    };
    ensure!(
        reader.left.len() >= 7,
        "only {} blocks for newcomers",
        reader.left.len()
    );

    let said = reader.follow("install")?;
    ensure!(said.contains("Setting up hubspot-relay"), "{said}");
    root.start_server()?;
    // Mapping, settings, and the check that comes before the start.
    let said = reader.follow("")?;
    ensure!(
        said.contains("ok    token") && !said.contains("FAULT"),
        "the check is not content: {said}"
    );

    // The first sync.
    sim.set_webhook_url(Some(&root.webhook_url()));
    let service = Service::start(&root)?;
    root.until("(SELECT count(*) = 3 AND bool_and(status = 'in_sync') FROM hubspot.field_state)")?;
    let said = reader.follow("after the first sync")?;
    ensure!(said.contains("in_sync") && said.contains("Acme"), "{said}");
    let id = root.psql("SELECT hubspot_id FROM hubspot.link")?;
    let held = |property: &str| {
        sim.get("companies", &id)
            .and_then(|r| r.value(property).map(str::to_owned))
    };
    assert_eq!(held("name").as_deref(), Some("Acme"));
    sim.flush().await;

    // A conflict, decided on the page as the README says.
    conflict(&root, &sim, &id, "+41 44 222 22 22", "+41 44 111 11 11")?;
    let clicks = clicks()?;
    let browser = Browser::start().await?;
    browser
        .page
        .goto(&format!("http://127.0.0.1:{}/", root.admin_port))
        .await?;
    browser.write("input[name=name]", "Ada").await?;
    let token = root.run("cat /etc/hubspot-relay/admin_token")?;
    browser.write("input[name=token]", token.trim()).await?;
    browser.click("button.primary").await?;
    browser.find("header.top").await?;
    ensure!(clicks.len() == 2, "{clicks:?}");
    let wait = || browser.page.wait().at_most(std::time::Duration::from_secs(30));
    let link = format!("//header//a[starts-with(normalize-space(), '{}')]", clicks[0]);
    wait().for_element(Locator::XPath(&link)).await?.click().await?;
    let button = format!("//button[normalize-space() = '{}']", clicks[1]);
    wait().for_element(Locator::XPath(&button)).await?.click().await?;
    browser.until(".flash", "HubSpot's value is kept").await?;
    root.until("(SELECT contact->>'phone' FROM customers WHERE id = 42) = '+41 44 111 11 11' AND NOT EXISTS (SELECT 1 FROM hubspot.outbox)")?;
    drop(browser);
    sim.flush().await;

    // Another one, in SQL.
    conflict(&root, &sim, &id, "+41 44 444 44 44", "+41 44 333 33 33")?;
    let said = reader.follow("after the conflict")?;
    ensure!(said.contains("+41 44 444 44 44") && said.contains("resolved"), "{said}");
    root.until("NOT EXISTS (SELECT 1 FROM hubspot.conflicts WHERE status = 'open') AND NOT EXISTS (SELECT 1 FROM hubspot.outbox)")?;
    assert_eq!(held("phone").as_deref(), Some("+41 44 444 44 44"));

    ensure!(reader.left.is_empty(), "blocks that nobody followed: {:?}", reader.left);
    assert_eq!(service.stop()?, Some(0));
    Ok(())
}
