//! What the relay, the network and HubSpot do in a world.

use crate::world::{Claim, Seen, Stage, Who, World};
use hubspot_sync_core::field::{Decision, Intake, Observation, Read, Source, Winner};
use hubspot_sync_core::value::Value;
use rand::Rng;
use rand::seq::SliceRandom;

impl World {
    pub fn relay(&mut self) {
        let Some(Claim { generation, stage }) = self.claim.take() else {
            if !self.contacted {
                self.claim = Some(Claim {
                    generation: 0,
                    stage: Stage::Fetch(Read::History),
                });
            } else if self.f.needs_delivery() {
                let fresh = self.set.cached && self.rng.random_bool(0.5);
                let read = self.f.read_needed(&self.policy, fresh);
                self.claim = Some(Claim {
                    generation: self.f.generation,
                    stage: Stage::Fetch(read),
                });
            }
            return;
        };
        self.now += 1;
        if self.rng.random_bool(0.07) {
            // Dies; the lease runs out. A request may have been on its way.
            match stage {
                Stage::Send(value) => {
                    self.losses += 1;
                    if self.rng.random_bool(0.3) {
                        self.net.push(value);
                    }
                }
                // Only the answer tells that HubSpot gave a value another form, or held it already: the history does
                // not, so it has to be sent again.
                Stage::Complete { .. } if self.set.forms || self.set.few_values => self.losses += 1,
                _ => {}
            }
            return;
        }
        let next = match stage {
            Stage::Fetch(read) => Some(Stage::Decide(match read {
                Read::Nothing => Seen::Nothing,
                Read::Value => Seen::Value(self.newest().value.clone(), self.newest().at),
                Read::History => {
                    let mut all = self.history.clone();
                    all.shuffle(&mut self.rng);
                    Seen::History(all)
                }
            })),
            Stage::Decide(Seen::History(all)) if !self.contacted => {
                self.contacted = true;
                let newest = all.iter().max_by_key(|v| v.at).expect("a first version").clone();
                self.event("first contact", |f, p, out| {
                    f.first_contact(p, &newest.value, newest.at, out)
                });
                None
            }
            Stage::Decide(seen) => {
                let decision = self.event("decide", |f, p, out| {
                    let seen = match &seen {
                        Seen::Nothing => Observation::Nothing,
                        Seen::Value(value, at) => Observation::Value(value, *at),
                        Seen::History(all) => Observation::History(all),
                    };
                    f.decide(p, generation, &seen, out)
                });
                match decision {
                    Decision::Settled => None,
                    Decision::Read(read) => Some(Stage::Fetch(read)),
                    Decision::Send(value) => {
                        self.sends += 1;
                        assert_eq!(value, self.row, "what is sent is the row's value");
                        assert!(self.set.direction.sends(), "this direction never sends");
                        Some(Stage::Send(value))
                    }
                }
            }
            Stage::Send(value) => self.send(value, generation),
            Stage::Complete { value, returned, at } => {
                self.event("complete", |f, p, out| {
                    f.complete(p, &value, &returned, at, generation, out)
                });
                None
            }
        };
        self.claim = next.map(|stage| Claim { generation, stage });
    }

    pub fn send(&mut self, value: Value, generation: i64) -> Option<Stage> {
        let r: f64 = self.rng.random();
        if r < 0.1 {
            // Lost; half of these land later.
            self.losses += 1;
            if self.rng.random_bool(0.5) {
                self.net.push(value);
            }
            return None;
        }
        if self.set.refusals && r > 0.7 {
            if r > 0.8 {
                self.event("refuse", |f, _, out| f.refuse(generation, out));
            } else {
                self.event("not sent", |f, _, out| f.forget_in_flight(out));
            }
            self.losses += 1;
            return None;
        }
        let version = self.hubspot_set(&value, Source::Own);
        if r < 0.25 {
            // Landed, and nobody knows.
            self.losses += 1;
            return None;
        }
        Some(Stage::Complete {
            value,
            returned: version.value,
            at: version.at,
        })
    }

    pub fn webhook(&mut self) {
        if self.hooks.is_empty() || !self.contacted {
            return;
        }
        let i = self.rng.random_range(0..self.hooks.len());
        self.now += 1;
        let v = self.hooks[i].clone();
        let intake = self.event("hook", |f, p, out| f.inbound(p, &v.value, v.at, v.source, out));
        if intake == Intake::Taken {
            self.hooks.swap_remove(i);
        } else {
            assert!(self.f.in_flight.is_some(), "nothing waits but for an outcome");
        }
    }

    pub fn land_late(&mut self) {
        if !self.net.is_empty() {
            self.now += 1;
            self.late += 1;
            let value = self.net.remove(0);
            self.hubspot_set(&value, Source::Own);
        }
    }

    /// Nightly, with nothing in flight: the record and its history.
    pub fn reconcile(&mut self) {
        let history = self.history.clone();
        self.event("reconcile", |f, p, out| f.reconcile(p, &history, out));
    }

    pub fn settle(&mut self) {
        for _ in 0..5000 {
            if self.hooks.is_empty()
                && self.claim.is_none()
                && self.contacted
                && !self.f.needs_delivery()
                && !self.f.parked
            {
                return;
            }
            if self.f.parked && self.claim.is_none() && self.rng.random_bool(0.3) {
                self.event("retry", |f, _, _| f.retry());
                self.reasons += 1;
            }
            if self.rng.random_bool(0.5) {
                self.relay()
            } else {
                self.webhook()
            }
        }
        panic!("never settles: {:?}", self.f);
    }

    pub fn random_steps(&mut self) {
        for _ in 0..self.rng.random_range(5..60) {
            let k: f64 = self.rng.random();
            match k {
                _ if k < 0.15 => self.edit(Who::Row),
                _ if k < 0.3 => self.edit(Who::Hubspot),
                _ if k < 0.7 => self.relay(),
                _ => self.webhook(),
            }
            if self.rng.random_bool(0.1) {
                self.land_late();
            }
            if self.f.held.is_some() && self.rng.random_bool(0.05) {
                self.resolve();
            }
            if self.f.parked && self.rng.random_bool(0.1) {
                self.event("retry", |f, _, _| f.retry());
                self.reasons += 1;
            }
        }
    }

    pub fn calm_down(&mut self) {
        while !self.net.is_empty() {
            self.land_late();
        }
        self.settle();
        if self.set.drop > 0.0 {
            self.reconcile();
            self.settle();
        }
    }

    /// A person decides the open conflict; gives the value chosen.
    pub fn resolve(&mut self) -> Value {
        self.now += 1;
        let held = self.f.held.clone().expect("an open conflict");
        let third = Value::text(format!("p{}", self.now));
        let (winner, chosen) = match self.rng.random_range(0..3) {
            0 => (Winner::Warp, self.row.clone()),
            1 => (Winner::Hubspot, held.hubspot_value),
            _ => (Winner::Value, third.clone()),
        };
        let t = self.now;
        assert!(self.event("resolve", |f, _, out| f.resolve(winner, &third, t, out)));
        self.lost_conflicts += 1;
        self.reasons += 1;
        chosen
    }
}
