//! Who is logged in. In memory: a restart of the relay logs everybody out, and another relay knows nobody.
//!
//! A session ends after 30 minutes without a request and 12 hours after its login. Only a digest of its secret is kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Without a request for this long a session ends.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// It ends this long after its login in any case.
pub const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// More are not kept: the one that was used longest ago goes.
const MOST: usize = 500;
/// Wrong tokens in [`WINDOW`] after which nobody may try for the rest of it.
const TRIES: usize = 10;
/// See [`TRIES`].
const WINDOW: Duration = Duration::from_secs(60);

/// A message for the next page.
#[derive(Debug, Clone)]
pub struct Flash {
    /// Something was not done.
    pub bad: bool,
    /// What.
    pub text: String,
    /// More of it.
    pub lines: Vec<String>,
    /// An entry of the page's log that can be undone.
    pub undo: Option<i64>,
}

/// Who makes a request.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The name given at login.
    pub name: String,
    /// What each form must carry.
    pub csrf: String,
    key: [u8; 32],
}

struct Session {
    name: String,
    csrf: String,
    begun: Instant,
    used: Instant,
    flash: Option<Flash>,
}

/// All sessions. Clones share them.
#[derive(Clone, Default)]
pub struct Sessions {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    sessions: HashMap<[u8; 32], Session>,
    failures: Vec<Instant>,
}

impl Sessions {
    /// Begins a session; gives the secret for the cookie.
    pub fn begin(&self, name: &str, now: Instant) -> String {
        let secret = random();
        let mut inner = self.lock();
        inner.sessions.retain(|_, session| session.lives(now));
        if inner.sessions.len() >= MOST
            && let Some(oldest) = inner.sessions.iter().min_by_key(|(_, s)| s.used).map(|(k, _)| *k)
        {
            inner.sessions.remove(&oldest);
        }
        let session = Session {
            name: name.to_owned(),
            csrf: random(),
            begun: now,
            used: now,
            flash: None,
        };
        inner.sessions.insert(digest(&secret), session);
        secret
    }

    /// The session of a cookie's secret, if it lives; it counts as used.
    pub fn find(&self, secret: &str, now: Instant) -> Option<Signed> {
        let key = digest(secret);
        let mut inner = self.lock();
        let session = inner.sessions.get_mut(&key)?;
        if !session.lives(now) {
            inner.sessions.remove(&key);
            return None;
        }
        session.used = now;
        Some(Signed {
            name: session.name.clone(),
            csrf: session.csrf.clone(),
            key,
        })
    }

    /// Ends a session.
    pub fn end(&self, who: &Signed) {
        self.lock().sessions.remove(&who.key);
    }

    /// Leaves a message for the next page.
    pub fn tell(&self, who: &Signed, flash: Flash) {
        if let Some(session) = self.lock().sessions.get_mut(&who.key) {
            session.flash = Some(flash);
        }
    }

    /// Takes that message.
    pub fn told(&self, who: &Signed) -> Option<Flash> {
        self.lock().sessions.get_mut(&who.key)?.flash.take()
    }

    /// Whether a token may be tried now.
    pub fn may_try(&self, now: Instant) -> bool {
        let mut inner = self.lock();
        inner.failures.retain(|at| now.duration_since(*at) < WINDOW);
        inner.failures.len() < TRIES
    }

    /// A wrong token was given.
    pub fn failed(&self, now: Instant) {
        self.lock().failures.push(now);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn lives(&self, now: Instant) -> bool {
        now.duration_since(self.used) < IDLE && now.duration_since(self.begun) < LONGEST
    }
}

fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

fn random() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_when_idle_and_after_the_longest() {
        let (sessions, begin) = (Sessions::default(), Instant::now());
        let secret = sessions.begin("ada", begin);
        assert!(sessions.find("another", begin).is_none());
        let mut now = begin;
        while now.duration_since(begin) + Duration::from_secs(1700) < LONGEST {
            now += Duration::from_secs(1700);
            assert_eq!(sessions.find(&secret, now).map(|s| s.name).as_deref(), Some("ada"));
        }
        assert!(sessions.find(&secret, begin + LONGEST).is_none());
        let secret = sessions.begin("ada", begin);
        assert!(sessions.find(&secret, begin + IDLE).is_none());
    }

    #[test]
    fn a_message_is_told_once_and_an_end_is_an_end() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let secret = sessions.begin("ada", now);
        let who = sessions.find(&secret, now).unwrap();
        let flash = Flash {
            bad: false,
            text: "done".into(),
            lines: vec![],
            undo: None,
        };
        sessions.tell(&who, flash);
        assert_eq!(sessions.told(&who).map(|f| f.text).as_deref(), Some("done"));
        assert!(sessions.told(&who).is_none());
        sessions.end(&who);
        assert!(sessions.find(&secret, now).is_none());
    }

    #[test]
    fn wrong_tokens_stop_further_tries_for_a_while() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        for _ in 0..TRIES {
            assert!(sessions.may_try(now));
            sessions.failed(now);
        }
        assert!(!sessions.may_try(now));
        assert!(sessions.may_try(now + WINDOW));
    }
}
