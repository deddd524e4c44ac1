//! What all screens share: the frame around them, values, times and numbers as people read them, errors.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use jiff::Timestamp;

use super::App;
use super::session::{Flash, Signed};
use crate::db::error::DbError;
use crate::db::page::{Chrome, Conflict};
use crate::telemetry::event;

/// The frame of a screen.
pub struct Frame {
    /// Which entry of the menu is shown as the current one.
    pub active: &'static str,
    /// Who looks.
    pub name: String,
    /// For forms.
    pub csrf: String,
    /// A message.
    pub flash: Option<Flash>,
    /// State and counts.
    pub chrome: Chrome,
    /// Part of the assets' addresses.
    pub version: String,
    /// This screen's own address, to come back to.
    pub here: String,
}

impl Frame {
    /// Asks for what the frame shows, and takes the message that waits.
    pub async fn new(app: &App, who: &Signed, active: &'static str, here: String) -> Result<Self, DbError> {
        let chrome = app.db.page_chrome().await?;
        Ok(Self {
            active,
            name: who.name.clone(),
            csrf: who.csrf.clone(),
            flash: app.sessions.told(who),
            chrome,
            version: super::asset_version(),
            here,
        })
    }

    /// A count in the menu, which knows up to 999.
    pub fn badge(&self, n: &i64) -> String {
        if *n >= 1000 { "999+".to_owned() } else { n.to_string() }
    }
}

/// The answer of a screen: rendered, or why not.
pub fn answer<T: Template>(result: Result<T, DbError>) -> Response {
    match result {
        Ok(template) => render(StatusCode::OK, &template),
        Err(error) => failed(&error),
    }
}

/// Renders a template.
pub fn render<T: Template>(status: StatusCode, template: &T) -> Response {
    match template.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => {
            tracing::error!(event = event::PAGE_FAILED, %error, "a screen could not be rendered");
            message(StatusCode::INTERNAL_SERVER_ERROR, Message::BROKEN)
        }
    }
}

/// The database did not answer as it should.
pub fn failed(error: &DbError) -> Response {
    tracing::warn!(event = event::DATABASE_FAILED, function = "page", %error, "a screen of the admin page failed");
    if error.is_retryable() {
        message(StatusCode::SERVICE_UNAVAILABLE, Message::NO_DATABASE)
    } else {
        message(StatusCode::INTERNAL_SERVER_ERROR, Message::WRONG_DATABASE)
    }
}

/// A whole page that says one thing.
#[derive(Clone, Copy)]
pub struct Message {
    title: &'static str,
    text: &'static str,
}

impl Message {
    /// There is no such thing.
    pub const NOTHING: Self = Self {
        title: "Not here",
        text: "There is nothing at this address. It may have been removed by retention, or the link was cut short. Start again from the overview.",
    };
    /// A form that was not served to this person.
    pub const NOT_OURS: Self = Self {
        title: "Not accepted",
        text: "This form did not come from this page, or is older than your login. Nothing was changed. Open the page again and repeat what you wanted.",
    };
    /// A form that is too large.
    pub const TOO_LARGE: Self = Self {
        title: "Too large",
        text: "The form is larger than this page takes. Nothing was changed. Shorten the value, or choose fewer rows.",
    };
    const NO_DATABASE: Self = Self {
        title: "The database does not answer",
        text: "Nothing was lost: changes wait in the database. Try again in a moment; if it stays, look at /readyz and at the relay's log for database_failed.",
    };
    const WRONG_DATABASE: Self = Self {
        title: "The database refused",
        text: "The relay's role may lack rights (SELECT hubspot.grant_relay(role) as the extension's owner gives them), or relay and extension are of different versions. The relay's log names the cause at database_failed.",
    };
    const BROKEN: Self = Self {
        title: "This page is broken",
        text: "It could not be rendered. That is a fault of the relay: its log names it at page_failed.",
    };
}

#[derive(Template)]
#[template(path = "message.html")]
struct MessagePage {
    version: String,
    message: Message,
}

/// Answers with a message.
pub fn message(status: StatusCode, message: Message) -> Response {
    let page = MessagePage {
        version: super::asset_version(),
        message,
    };
    let text = page.render().unwrap_or_else(|_| message.title.to_owned());
    (status, Html(text)).into_response()
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    version: String,
    next: &'a str,
    name: &'a str,
    problem: Option<&'a str>,
}

/// The login form.
pub fn login(status: StatusCode, next: &str, name: &str, problem: Option<&str>) -> Response {
    let page = LoginPage {
        version: super::asset_version(),
        next,
        name,
        problem,
    };
    render(status, &page)
}

/// `2026-11-24 12:43:05` in UTC; a dash for nothing.
pub fn time(at: &Option<String>) -> String {
    match at {
        None => "–".to_owned(),
        Some(text) => text
            .parse::<Timestamp>()
            .map_or_else(|_| text.clone(), |t| t.strftime("%Y-%m-%d %H:%M:%S").to_string()),
    }
}

/// `3 min ago`.
pub fn ago(at: &Option<String>) -> String {
    let Some(then) = at.as_deref().and_then(|text| text.parse::<Timestamp>().ok()) else {
        return "not known".to_owned();
    };
    let seconds = Timestamp::now().as_second() - then.as_second();
    match seconds {
        ..=-2 => "in the future".to_owned(),
        -1..=9 => "just now".to_owned(),
        10..=59 => format!("{seconds} s ago"),
        60..=5_399 => format!("{} min ago", (seconds + 30) / 60),
        5_400..=129_599 => format!("{} h ago", (seconds + 1_800) / 3_600),
        _ => format!("{} days ago", (seconds + 43_200) / 86_400),
    }
}

/// `100,000`, and `100,000+` for the count that only knows there are more.
pub fn count(n: &i64) -> String {
    if *n > 100_000 {
        return "100,000+".to_owned();
    }
    number(n)
}

/// `1,234,567`.
pub fn number(n: impl std::borrow::Borrow<i64>) -> String {
    let n = n.borrow();
    let digits = n.unsigned_abs().to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if *n < 0 { format!("-{out}") } else { out }
}

/// Seconds as people say them.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

/// Words for an enum's label: `BOTH_MODIFIED` is "Both modified".
pub fn words(label: &str) -> String {
    let lower = label.replace('_', " ").to_lowercase();
    let mut chars = lower.chars();
    let text = chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect::<String>())
        .unwrap_or_default();
    text.replace("Hubspot", "HubSpot")
        .replace("hubspot", "HubSpot")
        .replace("Warp", "WARP")
        .replace("warp", "WARP")
}

/// A text in three parts: what two texts begin with alike, what differs, what they end with alike.
pub struct Marked {
    /// The same in both.
    pub before: String,
    /// Only in this one.
    pub differs: String,
    /// The same in both.
    pub after: String,
}

/// Marks where two texts differ.
pub fn marked(this: &str, other: &str) -> Marked {
    let (a, b): (Vec<char>, Vec<char>) = (this.chars().collect(), other.chars().collect());
    let most = a.len().min(b.len());
    let mut head = (0..most).take_while(|i| a[*i] == b[*i]).count();
    let mut tail = (0..most - head)
        .take_while(|i| a[a.len() - 1 - i] == b[b.len() - 1 - i])
        .count();
    // Whole words are marked. Where nothing is alike, a mark says nothing.
    while head > 0 && a[head - 1].is_alphanumeric() {
        head -= 1;
    }
    while tail > 0 && a[a.len() - tail].is_alphanumeric() {
        tail -= 1;
    }
    if head + tail < 3 {
        (head, tail) = (a.len(), 0);
    }
    let text = |part: &[char]| part.iter().collect::<String>();
    Marked {
        before: text(&a[..head]),
        differs: text(&a[head..a.len() - tail]),
        after: text(&a[a.len() - tail..]),
    }
}

impl Conflict {
    /// The row's value, marked where it differs from HubSpot's.
    pub(crate) fn warp_marked(&self) -> Option<Marked> {
        pair(&self.warp_value, &self.hubspot_value)
    }

    /// HubSpot's value, marked where it differs from the row's.
    pub(crate) fn hubspot_marked(&self) -> Option<Marked> {
        pair(&self.hubspot_value, &self.warp_value)
    }

    /// Where the record's page is.
    pub(crate) fn record_link(&self) -> String {
        record_link(&self.entity_type, &self.entity_key)
    }
}

fn pair(this: &Option<String>, other: &Option<String>) -> Option<Marked> {
    this.as_deref()
        .map(|text| marked(text, other.as_deref().unwrap_or(text)))
}

/// Where a record's page is.
pub fn record_link(entity_type: &str, entity_key: &str) -> String {
    format!(
        "/record?{}",
        super::form::query(&[("type", entity_type), ("key", entity_key)])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_only_what_differs() {
        let m = marked("Acme Limited", "Acme Unlimited");
        assert_eq!(
            (m.before.as_str(), m.differs.as_str(), m.after.as_str()),
            ("Acme ", "Limited", "")
        );
        let m = marked("aa", "aaa");
        assert_eq!(format!("{}{}{}", m.before, m.differs, m.after), "aa");
        let m = marked("x", "y");
        assert_eq!((m.before.as_str(), m.differs.as_str()), ("x", ""));
        assert_eq!(marked("", "y").differs, "");
    }

    #[test]
    fn numbers_times_and_labels_read_well() {
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!(count(&100_001), "100,000+");
        assert_eq!(count(&100_000), "100,000");
        assert_eq!(words("BOTH_MODIFIED"), "Both modified");
        assert_eq!(words("WARP_TO_HUBSPOT"), "WARP to HubSpot");
        assert_eq!(duration(0.25), "250 ms");
        let at = Some("2026-11-24T12:43:05.123456+00:00".to_owned());
        assert_eq!(time(&at), "2026-11-24 12:43:05");
        assert_eq!(time(&None), "–");
        assert_eq!(ago(&None), "not known");
    }
}
