//! The relay's admin page in a real browser, with a real database and the simulated portal.

mod browser;
mod decide;
mod gate;
mod look;
mod many;
mod site;
