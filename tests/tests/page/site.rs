//! A world whose relay serves the admin page, as a role that has no rights but `hubspot.grant_relay`'s.

use anyhow::{Context as _, Result};
use hubspot_relay::Config;
use hubspot_sync_tests::cluster;
use hubspot_sync_tests::world::World;
use serde_json::json;

use crate::browser::Browser;

/// The token of the tests' relays.
pub const TOKEN: &str = "a token of the tests, long enough";

/// A database, a portal, and a relay with the page.
pub struct Site {
    /// All of it.
    pub world: World,
    /// Where the page is.
    pub url: String,
    /// The relay's role.
    pub role: String,
}

impl Site {
    /// Starts all; `company_name` and `legal_name` are left to people.
    pub async fn start(name: &str) -> Result<Self> {
        let mut world = World::without_relay(name, |m| {
            for field in ["company_name", "legal_name"] {
                m[field]["conflict_resolution"] = json!("MANUAL");
            }
        })
        .await?;
        let role = format!("{name}_relay");
        world
            .sql
            .batch_execute(&format!(
                "CREATE ROLE {role} LOGIN; SELECT hubspot.grant_relay('{role}')"
            ))
            .await?;
        let database = world.url.rsplit('/').next().context("database")?.to_owned();
        let url = cluster::shared().url(&role, &database);
        let settings = world
            .config_toml(&url, "")
            .replace("[admin]\n", &format!("[admin]\ntoken = \"{TOKEN}\"\n"));
        let relay = World::run_config(Config::from_toml(&settings).context("settings")?).await?;
        let url = relay.admin_url.clone();
        world.adopt_relay(relay);
        Ok(Self { world, url, role })
    }

    /// A customer both sides know.
    pub async fn customer(&self, ban: &str, name: &str) -> Result<(String, String)> {
        self.world.linked(ban, name).await
    }

    /// Both sides change a field at once, and a person has to decide; gives the conflict's id.
    pub async fn conflict(&self, key: &str, id: &str, field: &str, here: &str, there: &str) -> Result<i64> {
        let property = match field {
            "company_name" => "name",
            "legal_name" => "warp_legal_name",
            _ => anyhow::bail!("{field} is not left to people"),
        };
        self.world.sim.hold_webhooks();
        self.world.person_sets(id, property, there)?;
        self.world
            .sql
            .execute(&format!("UPDATE customers SET {field} = $1 WHERE id = {key}"), &[&here])
            .await?;
        self.world.sim.release_webhooks();
        let open = format!("hubspot.conflicts WHERE status = 'open' AND entity_key = '{key}' AND field = '{field}'");
        self.world.until(&format!("EXISTS (SELECT 1 FROM {open})")).await?;
        let conflict = self.world.text(&format!("SELECT id::text FROM {open}")).await?;
        Ok(conflict.context("conflict")?.parse()?)
    }

    /// Opens a screen as somebody who is logged in.
    pub async fn open(&self, browser: &Browser, path: &str) -> Result<()> {
        browser.page.goto(&format!("{}{path}", self.url)).await?;
        if browser.count("input[name=token]").await? > 0 {
            browser.write("input[name=name]", "Ada").await?;
            browser.write("input[name=token]", TOKEN).await?;
            browser.click("button.primary").await?;
            browser.find("header.top").await?;
        }
        Ok(())
    }

    /// A column of a conflict.
    pub async fn of(&self, conflict: i64, column: &str) -> Result<Option<String>> {
        let sql = format!("SELECT {column}::text FROM hubspot.conflicts WHERE id = {conflict}");
        self.world.text(&sql).await
    }
}
