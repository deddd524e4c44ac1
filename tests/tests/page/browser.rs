//! Headless Chromium, driven through chromedriver.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use fantoccini::elements::Element;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value as Json, json};

/// Longest wait for anything a page should show.
const PATIENCE: Duration = Duration::from_secs(20);

/// A browser of a test's own.
pub struct Browser {
    /// The page that is open.
    pub page: Client,
    driver: Child,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its children end with it: chromedriver runs in a process group of its own.
        let _ = Command::new("kill")
            .args(["--", &format!("-{}", self.driver.id())])
            .status();
        let _ = self.driver.wait();
    }
}

impl Browser {
    /// Starts driver and browser.
    pub async fn start() -> Result<Self> {
        // Of several drivers that start at once, one may find the port taken that it chose, and ends: it is started again.
        let mut tries = 0;
        let (driver, port) = loop {
            let (mut driver, port) = tokio::task::spawn_blocking(Self::driver).await??;
            tries += 1;
            match port {
                Some(port) => break (driver, port),
                None if tries < 5 => drop(driver.kill().and_then(|()| driver.wait())),
                None => bail!("chromedriver did not say on which port it listens"),
            }
        };
        let options = json!({"goog:chromeOptions": {"args": [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
            "--no-first-run", "--disable-background-networking", "--force-color-profile=srgb", "--lang=en",
        ]}});
        let Json::Object(options) = options else {
            bail!("options");
        };
        let connector = hyper_util::client::legacy::connect::HttpConnector::new();
        let page = ClientBuilder::new(connector)
            .capabilities(options)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .context("a browser: run make setup")?;
        let browser = Self { page, driver };
        browser.screen(1280, 900, false).await?;
        Ok(browser)
    }

    /// A driver and its port; none when it ended before it had one.
    fn driver() -> Result<(Child, Option<u16>)> {
        use std::os::unix::process::CommandExt as _;
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("chromedriver: run make setup")?;
        let mut lines = BufReader::new(driver.stdout.take().context("chromedriver's output")?).lines();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let port = line.split_once("started successfully on port ")?.1;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        // What it says later is read, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Ok((driver, port))
    }

    /// The first element that fits, once there is one.
    pub async fn find(&self, css: &str) -> Result<Element> {
        let wait = self.page.wait().at_most(PATIENCE).every(Duration::from_millis(30));
        match wait.for_element(Locator::Css(css)).await {
            Ok(element) => Ok(element),
            Err(error) => bail!("no {css}: {error}\n{}", self.text("body").await?),
        }
    }

    /// Clicks it.
    pub async fn click(&self, css: &str) -> Result<()> {
        self.find(css).await?.click().await.with_context(|| css.to_owned())
    }

    /// Writes into a field, in place of what is there.
    pub async fn write(&self, css: &str, text: &str) -> Result<()> {
        let field = self.find(css).await?;
        field.clear().await?;
        Ok(field.send_keys(text).await?)
    }

    /// Chooses an option of a select.
    pub async fn choose(&self, css: &str, value: &str) -> Result<()> {
        Ok(self.find(css).await?.select_by_value(value).await?)
    }

    /// The visible text.
    pub async fn text(&self, css: &str) -> Result<String> {
        Ok(self.page.find(Locator::Css(css)).await?.text().await?)
    }

    /// How many elements fit.
    pub async fn count(&self, css: &str) -> Result<usize> {
        Ok(self.page.find_all(Locator::Css(css)).await?.len())
    }

    /// Waits until an element's text has a part.
    pub async fn until(&self, css: &str, part: &str) -> Result<String> {
        let begun = Instant::now();
        loop {
            // A page may be replaced between finding an element and reading it.
            let text = self.text(css).await.unwrap_or_default();
            if text.contains(part) {
                return Ok(text);
            }
            if begun.elapsed() > PATIENCE {
                bail!("{css} does not say {part:?} but {text:?}\n{}", self.text("body").await?);
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// A script's result.
    pub async fn eval(&self, script: &str) -> Result<Json> {
        Ok(self.page.execute(&format!("return {script}"), Vec::new()).await?)
    }

    /// The size of the screen, and whether it is a phone's.
    pub async fn screen(&self, width: u32, height: u32, phone: bool) -> Result<()> {
        let scale = if phone { 2 } else { 1 };
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone});
        self.tell("Emulation.setDeviceMetricsOverride", metrics).await
    }

    /// Light or dark.
    pub async fn scheme(&self, scheme: &str) -> Result<()> {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.tell("Emulation.setEmulatedMedia", features).await
    }

    /// A picture of the whole page into the target folder.
    pub async fn picture(&self, name: &str, width: u32, phone: bool) -> Result<()> {
        self.screen(width, 800, phone).await?;
        let height = self.eval("document.documentElement.scrollHeight").await?;
        let height = u32::try_from(height.as_u64().unwrap_or(800))?.clamp(if phone { 844 } else { 700 }, 2600);
        self.screen(width, height, phone).await?;
        let png = self.page.screenshot().await?;
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/screenshots");
        std::fs::create_dir_all(&folder)?;
        Ok(std::fs::write(folder.join(format!("{name}.png")), png)?)
    }

    async fn tell(&self, cmd: &'static str, params: Json) -> Result<()> {
        self.page.issue_cmd(DevTools { cmd, params }).await?;
        Ok(())
    }
}

/// A command of the browser's developer tools, by chromedriver's own end point.
#[derive(Debug)]
struct DevTools {
    cmd: &'static str,
    params: Json,
}

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(
        &self,
        base_url: &reqwest::Url,
        session_id: Option<&str>,
    ) -> Result<reqwest::Url, <reqwest::Url as std::str::FromStr>::Err> {
        base_url.join(&format!("session/{}/goog/cdp/execute", session_id.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &reqwest::Url) -> (reqwest::Method, Option<String>) {
        let body = json!({"cmd": self.cmd, "params": self.params});
        (reqwest::Method::POST, Some(body.to_string()))
    }
}
