//! Who may do what: login with the token, the session's cookie, the CSRF token of each form, and the headers of each
//! answer.

use std::time::Instant;

use axum::Extension;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{RawQuery, Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::App;
use super::form::{Fields, local, query};
use super::session::{LONGEST, Signed};
use super::view::{self, Message};
use crate::telemetry::event;

const COOKIE: &str = "hubspot_relay_session";
/// A decision about a thousand conflicts is some 30 KiB.
const LARGEST_FORM: usize = 1 << 20;
/// Characters of a person's name.
const LONGEST_NAME: usize = 64;

/// Headers of every answer. Scripts and styles come from this address alone, none stands inside a page.
pub async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let all = [
        (
            "content-security-policy",
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ];
    for (name, value) in all {
        response
            .headers_mut()
            .insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
        .headers_mut()
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Lets only people with a session through; of their forms only those that this site served to them.
pub async fn signed_in(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let Some(who) = session(&app, request.headers()) else {
        // A form's fields are lost, so that its page is asked for anew.
        let back = match request.uri().path_and_query() {
            Some(path) if request.method() == Method::GET && path.as_str() != "/" => path.as_str(),
            _ => "",
        };
        let target = query(&[("next", back)]);
        return Redirect::to(&format!("/login{}{target}", if target.is_empty() { "" } else { "?" })).into_response();
    };
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let (parts, body) = request.into_parts();
        if !same_site(&parts.headers) {
            return view::message(StatusCode::FORBIDDEN, Message::NOT_OURS);
        }
        let Ok(body) = to_bytes(body, LARGEST_FORM).await else {
            return view::message(StatusCode::PAYLOAD_TOO_LARGE, Message::TOO_LARGE);
        };
        let fields = Fields::parse(&body);
        if !same(fields.get("csrf"), &who.csrf) {
            return view::message(StatusCode::FORBIDDEN, Message::NOT_OURS);
        }
        request = Request::from_parts(parts, Body::empty());
        request.extensions_mut().insert(fields);
    }
    request.extensions_mut().insert(who);
    next.run(request).await
}

/// The login form.
pub async fn login_form(State(app): State<App>, RawQuery(text): RawQuery, headers: HeaderMap) -> Response {
    let fields = Fields::parse(text.unwrap_or_default().as_bytes());
    let next = local(fields.get("next"), "/").to_owned();
    if session(&app, &headers).is_some() {
        return Redirect::to(&next).into_response();
    }
    view::login(StatusCode::OK, &next, "", None)
}

/// Name and token against a session.
pub async fn login(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    if !same_site(&headers) {
        return view::message(StatusCode::FORBIDDEN, Message::NOT_OURS);
    }
    let fields = Fields::parse(&body);
    let next = local(fields.get("next"), "/").to_owned();
    let name = fields.get("name");
    let refuse = |status, why| view::login(status, &next, name, Some(why));
    let now = Instant::now();
    if !app.sessions.may_try(now) {
        return refuse(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many wrong tokens: wait a minute, then try again.",
        );
    }
    if name.is_empty() || name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
        return refuse(
            StatusCode::BAD_REQUEST,
            "Give your name, of at most 64 characters: it stands beside what you decide.",
        );
    }
    if !app.token.is(fields.get("token")) {
        app.sessions.failed(now);
        tracing::warn!(
            event = event::PAGE_LOGIN_REFUSED,
            "a wrong token was given on the admin page"
        );
        return refuse(
            StatusCode::UNAUTHORIZED,
            "That is not the token. It is the relay's setting admin.token, or stands in the file of admin.token_file.",
        );
    }
    tracing::info!(event = event::PAGE_LOGIN, name, "somebody logged in on the admin page");
    let secret = app.sessions.begin(name, now);
    let cookie = set_cookie(&secret, LONGEST.as_secs(), is_https(&headers));
    ([(header::SET_COOKIE, cookie)], Redirect::to(&next)).into_response()
}

/// Ends the session.
pub async fn logout(State(app): State<App>, Extension(who): Extension<Signed>, headers: HeaderMap) -> Response {
    app.sessions.end(&who);
    let cookie = set_cookie("", 0, is_https(&headers));
    ([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response()
}

fn set_cookie(secret: &str, age: u64, https: bool) -> String {
    let secure = if https { "; Secure" } else { "" };
    format!("{COOKIE}={secret}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
}

/// Whether the browser spoke TLS, to a proxy that says so.
fn is_https(headers: &HeaderMap) -> bool {
    headers
        .get("x-forwarded-proto")
        .is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
}

fn session(app: &App, headers: &HeaderMap) -> Option<Signed> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE)
        .find_map(|(_, secret)| app.sessions.find(secret, Instant::now()))
}

/// Whether a form comes from our own page, as far as the browser says.
fn same_site(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let fetch = text(HeaderName::from_static("sec-fetch-site"));
    let origin = text(header::ORIGIN).filter(|origin| *origin != "null");
    let host = text(header::HOST).unwrap_or_default();
    let foreign = fetch.is_some_and(|site| !matches!(site, "same-origin" | "none"))
        || origin.is_some_and(|origin| origin.split_once("://").map(|(_, host)| host) != Some(host));
    !foreign
}

/// Constant-time, whatever the lengths.
pub(super) fn same(given: &str, expected: &str) -> bool {
    let (given, expected) = (Sha256::digest(given.as_bytes()), Sha256::digest(expected.as_bytes()));
    bool::from(given.ct_eq(&expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_of_another_site_is_refused() {
        let with = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            same_site(&headers)
        };
        assert!(with(&[
            ("host", "h:1"),
            ("origin", "http://h:1"),
            ("sec-fetch-site", "same-origin")
        ]));
        assert!(with(&[("host", "h:1")]));
        assert!(!with(&[("host", "h:1"), ("origin", "http://evil")]));
        assert!(!with(&[("host", "h:1"), ("origin", "http://h:2")]));
        assert!(!with(&[("host", "h:1"), ("sec-fetch-site", "cross-site")]));
        assert!(same("abc", "abc") && !same("", "abc") && !same("abcd", "abc"));
    }
}
