//! Both Debian packages in a clean Debian root folder: installed, started, upgraded, purged, by the pages' own text.
//!
//! They take root, and packages that were built for them: `make test-packages`, which `make test` runs as well.

#[path = "../page/browser.rs"]
#[allow(dead_code, reason = "the page's own tests use more of it")]
mod browser;
mod guide;
mod newcomer;
mod root;
