//! The admin page: server-rendered screens on the private listener, for people with the token.
//!
//! Nothing is decided here: each screen is one function of the extension, and each click another, which takes the person's
//! name for the record. Without `admin.token` there is no page: `/` answers 404.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `guard` | login, sessions' cookies, CSRF, headers |
//! | `session` | who is logged in |
//! | `form`, `view`, `chart` | reading forms, showing values and times, drawing |
//! | `overview`, `conflicts`, `failures`, `records`, `runs`, `reports` | the screens |

mod chart;
mod conflicts;
mod failures;
mod form;
mod guard;
mod overview;
mod records;
mod reports;
mod runs;
mod session;
mod view;

use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use secrecy::{ExposeSecret, SecretString};

use crate::config::Config;
use crate::db::pool::Db;
use crate::error::RelayError;
use session::Sessions;

const CSS: &str = include_str!("assets/admin.css");
const JS: &str = include_str!("assets/admin.js");

/// What the screens need. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    db: Db,
    sessions: Sessions,
    token: Token,
}

/// What people log in with; another one after a rotation.
#[derive(Clone)]
pub(crate) struct Token(Arc<RwLock<SecretString>>);

impl Token {
    /// As the settings have it; none where there is no page.
    pub(crate) fn new(config: &Config) -> Option<Self> {
        let token = config.admin.token.clone()?;
        Some(Self(Arc::new(RwLock::new(token))))
    }

    /// Takes a rotated token; says whether it is another one. Who is logged in stays so until the session ends.
    pub(crate) fn replace(&self, token: SecretString) -> bool {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let changed = !crate::secrets::same(&known, &token);
        *known = token;
        changed
    }

    /// Whether this is the token.
    fn is(&self, given: &str) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        guard::same(given, known.expose_secret())
    }
}

/// The page's routes; none when no token is configured.
///
/// # Errors
/// When the settings make no pool.
pub(crate) fn router(config: &Config, token: Option<&Token>) -> Result<Router, RelayError> {
    let Some(token) = token else {
        tracing::info!(
            event = crate::telemetry::event::PAGE_OFF,
            "no admin page: neither admin.token nor admin.token_file is set; / answers 404"
        );
        return Ok(Router::new());
    };
    if !config.admin.listen.ip().is_loopback() {
        tracing::warn!(
            event = crate::telemetry::event::PAGE_EXPOSED,
            address = %config.admin.listen,
            "the admin page listens beyond loopback in plain HTTP: put a TLS proxy before it"
        );
    }
    let app = App {
        db: Db::for_pages(&config.database)?,
        sessions: Sessions::default(),
        token: token.clone(),
    };
    let screens = Router::new()
        .route("/", get(overview::show))
        .route("/conflicts", get(conflicts::list))
        .route("/conflicts/preview", post(conflicts::preview))
        .route("/conflicts/apply", post(conflicts::apply))
        .route("/conflicts/undo", post(conflicts::undo))
        .route("/conflicts/{id}", get(conflicts::one).post(conflicts::resolve))
        .route("/failures", get(failures::list))
        .route("/failures/preview", post(failures::preview))
        .route("/failures/retry", post(failures::retry))
        .route("/records", get(records::list))
        .route("/record", get(records::one))
        .route("/mappings", get(reports::mappings))
        .route("/reconciliation", get(runs::list).post(runs::start))
        .route("/reconciliation/{id}", get(runs::one))
        .route("/reconciliation/{id}/cancel", post(runs::cancel))
        .route("/activity", get(reports::activity))
        .route("/logout", post(guard::logout))
        .layer(middleware::from_fn_with_state(app.clone(), guard::signed_in));
    let open = Router::new()
        .route("/login", get(guard::login_form).post(guard::login))
        .route(
            "/static/admin.css",
            get(|| async { asset("text/css; charset=utf-8", CSS) }),
        )
        .route(
            "/static/admin.js",
            get(|| async { asset("text/javascript; charset=utf-8", JS) }),
        );
    Ok(screens
        .merge(open)
        .layer(middleware::from_fn(guard::headers))
        .with_state(app))
}

/// Part of the assets' addresses: a browser keeps them until they change.
pub(crate) fn asset_version() -> String {
    use sha2::{Digest, Sha256};
    static VERSION: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    VERSION
        .get_or_init(|| {
            let digest = Sha256::new().chain_update(CSS).chain_update(JS).finalize();
            digest[..6].iter().map(|byte| format!("{byte:02x}")).collect()
        })
        .clone()
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    (StatusCode::OK, headers, text).into_response()
}
