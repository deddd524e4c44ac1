//! scratch
mod check;
mod search;
mod steps;
mod world;
mod worlds;
use hubspot_sync_core::field::rules::{self, Rule};
use hubspot_sync_core::mapping::{Direction, Strategy};
use world::*;

fn dirs() -> Vec<(Direction, Strategy)> {
    let mut v: Vec<_> = worlds::STRATEGIES
        .iter()
        .map(|s| (Direction::Bidirectional, *s))
        .collect();
    v.push((Direction::WarpToHubspot, Strategy::WarpWins));
    v.push((Direction::HubspotToWarp, Strategy::HubspotWins));
    v.push((Direction::None, Strategy::HubspotWins));
    v
}

#[test]
fn sizes() {
    for (d, s) in dirs() {
        for (name, set) in worlds::small(d, s) {
            let r = search::search(&set, 3_000_000);
            println!(
                "{d:?} {s:?} {name} {} states {} rests depth {} {:?}",
                r.states, r.rests, r.depth, r.time
            );
            if let Some(f) = r.found {
                println!("  {}", f.what);
                for s in f.steps {
                    println!("     {s:?}");
                }
            }
        }
    }
}

#[test]
#[ignore]
fn matrix() {
    for (rule, _) in Rule::ALL {
        println!("RULE {rule:?}");
        rules::without(Some(rule));
        for (d, s) in dirs() {
            for (name, set) in worlds::small(d, s) {
                let set = Setting {
                    without: Some(rule),
                    ..set
                };
                let r = std::panic::catch_unwind(|| search::search(&set, 200_000));
                match r {
                    Ok(r) => {
                        if let Some(f) = r.found {
                            println!(
                                "   {d:?} {s:?} {name}: {} steps, {} states: {}",
                                f.steps.len() - 1,
                                r.states,
                                f.what
                            );
                            break;
                        }
                    }
                    Err(_) => println!("   {d:?} {s:?} {name}: panic"),
                }
            }
        }
    }
    rules::without(None);
}
