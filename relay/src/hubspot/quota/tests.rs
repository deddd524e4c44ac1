use super::*;
use rand::{Rng, SeedableRng};

fn limiter(limit: u32) -> RateLimiter {
    RateLimiter::local(limit, 4, None)
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(100_000)
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_occupied_until_ten_seconds_after_the_answer() {
    let limiter = limiter(1);
    let start = Instant::now();
    let slot = limiter.acquire(Budget::General, Purpose::Live, far()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    drop(slot);
    let _second = limiter.acquire(Budget::General, Purpose::Live, far()).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(14), "{:?}", start.elapsed());
}

/// Requests arrive at a random moment between send and answer; no window of ten seconds may hold more than allowed.
#[tokio::test(start_paused = true)]
async fn no_window_at_hubspot_holds_more_than_the_limit() {
    for seed in 0..20 {
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let limiter = limiter(7);
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..60 {
            let limiter = limiter.clone();
            let (before, after) = (random.random_range(0..6_000), random.random_range(0..3_000));
            calls.spawn(async move {
                let slot = limiter.acquire(Budget::General, Purpose::Live, far()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(before)).await;
                let arrived = Instant::now();
                tokio::time::sleep(Duration::from_millis(after)).await;
                drop(slot);
                arrived
            });
        }
        let mut arrivals = calls.join_all().await;
        arrivals.sort();
        for window in arrivals.windows(8) {
            assert!(
                window[7] - window[0] > WINDOW,
                "seed {seed}: eight requests within ten seconds"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn refuses_at_once_when_no_slot_comes_in_time() {
    let limiter = limiter(1);
    drop(limiter.acquire(Budget::General, Purpose::Live, far()).await.unwrap());
    let start = Instant::now();
    assert!(
        limiter
            .acquire(Budget::General, Purpose::Live, Instant::now() + Duration::from_secs(5))
            .await
            .is_err()
    );
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(
        limiter
            .acquire(Budget::General, Purpose::Live, Instant::now() + Duration::from_secs(11))
            .await
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn waits_for_a_slot_in_flight_no_longer_than_the_deadline() {
    let limiter = limiter(1);
    let _held = limiter.acquire(Budget::General, Purpose::Live, far()).await.unwrap();
    let start = Instant::now();
    assert!(
        limiter
            .acquire(Budget::General, Purpose::Live, Instant::now() + Duration::from_secs(3))
            .await
            .is_err()
    );
    assert!(start.elapsed() <= Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn a_pause_stops_everything_and_a_longer_one_stands() {
    let limiter = limiter(10);
    limiter.pause(Duration::from_secs(30));
    limiter.pause(Duration::from_secs(1));
    let start = Instant::now();
    assert!(limiter.paused_for() > Duration::from_secs(29));
    let _slot = limiter.acquire(Budget::General, Purpose::Live, far()).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn the_daily_budget_is_kept() {
    let limiter = RateLimiter::local(100, 4, Some(3));
    for _ in 0..3 {
        drop(limiter.acquire(Budget::General, Purpose::Live, far()).await.unwrap());
    }
    assert!(
        limiter
            .acquire(
                Budget::General,
                Purpose::Live,
                Instant::now() + Duration::from_secs(3600)
            )
            .await
            .is_err()
    );
    assert!(limiter.paused_for() > Duration::from_secs(24 * 3600));
}

#[tokio::test(start_paused = true)]
async fn a_live_call_goes_before_background_calls_that_waited_longer() {
    let limiter = limiter(1);
    let held = limiter
        .acquire(Budget::General, Purpose::Backfill, far())
        .await
        .unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for purpose in [Purpose::Backfill, Purpose::Reconcile, Purpose::Live] {
        let limiter = limiter.clone();
        calls.spawn(async move {
            drop(limiter.acquire(Budget::General, purpose, far()).await.unwrap());
            purpose
        });
        tokio::task::yield_now().await;
    }
    drop(held);
    assert_eq!(calls.join_next().await.unwrap().unwrap(), Purpose::Live);
    assert_eq!(calls.join_next().await.unwrap().unwrap(), Purpose::Backfill);
    assert_eq!(calls.join_next().await.unwrap().unwrap(), Purpose::Reconcile);
}

/// A backfill that uses everything leaves a slot to a live call within a tenth of a second.
#[tokio::test(start_paused = true)]
async fn background_calls_are_spread_over_the_window() {
    let limiter = limiter(100);
    let background = {
        let limiter = limiter.clone();
        tokio::spawn(async move {
            let mut sent = 0;
            while sent < 300 {
                drop(
                    limiter
                        .acquire(Budget::General, Purpose::Backfill, far())
                        .await
                        .unwrap(),
                );
                sent += 1;
            }
        })
    };
    let start = Instant::now();
    let mut longest = Duration::ZERO;
    while !background.is_finished() {
        tokio::time::sleep(Duration::from_millis(1_570)).await;
        let asked = Instant::now();
        drop(limiter.acquire(Budget::General, Purpose::Live, far()).await.unwrap());
        longest = longest.max(asked.elapsed());
    }
    assert!(longest <= Duration::from_millis(150), "{longest:?}");
    let seconds = start.elapsed().as_secs();
    assert!((28..36).contains(&seconds), "300 calls took {seconds} s");
}

#[tokio::test(start_paused = true)]
async fn search_has_its_own_second() {
    let limiter = RateLimiter::local(1, 2, None);
    let _general = limiter.acquire(Budget::General, Purpose::Live, far()).await.unwrap();
    let start = Instant::now();
    for _ in 0..6 {
        drop(limiter.acquire(Budget::Search, Purpose::Live, far()).await.unwrap());
    }
    let took = start.elapsed();
    assert!(
        took >= Duration::from_secs(2) && took < Duration::from_secs(3),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lowered_limit_counts_what_was_sent_already() {
    let limiter = limiter(4);
    for _ in 0..4 {
        drop(limiter.acquire(Budget::General, Purpose::Live, far()).await.unwrap());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    limiter.set_limit(2);
    let start = Instant::now();
    drop(limiter.acquire(Budget::General, Purpose::Live, far()).await.unwrap());
    // Sent at 0, 1, 2 and 3: at 12 only the last two are within ten seconds.
    assert!(start.elapsed() >= Duration::from_secs(8), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn one_that_gives_up_makes_room_for_the_next() {
    let limiter = limiter(1);
    drop(limiter.acquire(Budget::General, Purpose::Live, far()).await.unwrap());
    let first = tokio::spawn({
        let limiter = limiter.clone();
        async move { limiter.acquire(Budget::General, Purpose::Live, far()).await.map(drop) }
    });
    tokio::task::yield_now().await;
    first.abort();
    let _ = first.await;
    assert!(
        limiter
            .acquire(Budget::General, Purpose::Live, Instant::now() + Duration::from_secs(11))
            .await
            .is_ok()
    );
}

fn granted(slots: u64, relays: u64) -> Grant {
    Grant {
        budgets: vec![BudgetGrant {
            budget: "general".to_owned(),
            limit: 100,
            target: 100,
            relays,
            grant: vec![(0, slots)],
            ..BudgetGrant::default()
        }],
        day: None,
    }
}

#[tokio::test(start_paused = true)]
async fn granted_slots_are_used_while_the_lease_lasts_and_given_back_when_idle() {
    let limiter = RateLimiter::shared(100, 4, None);
    assert_eq!(limiter.report(false), None);
    let soon = || Instant::now() + Duration::from_millis(500);
    assert!(limiter.acquire(Budget::General, Purpose::Live, soon()).await.is_err());
    limiter.grant(&granted(3, 1), Instant::now(), Duration::from_secs(3));
    drop(limiter.acquire(Budget::General, Purpose::Live, soon()).await.unwrap());
    let report = limiter.report(false).unwrap();
    assert_eq!((report.budgets[0].held, report.budgets[0].give.len()), (3, 0));
    assert_eq!(report.day.calls.live, 1);
    tokio::time::sleep(Duration::from_secs(4)).await;
    // The lease is over: what is held must not be used.
    assert!(limiter.acquire(Budget::General, Purpose::Live, soon()).await.is_err());
    let report = limiter.report(false).unwrap();
    assert_eq!(report.budgets[0].held, 0);
    let given: u64 = report.budgets[0].give.iter().map(|(_, slots)| slots).sum();
    assert_eq!(given, 3);
    assert!(report.budgets[0].give.iter().any(|(free_in, _)| *free_in > 5_000));
}

#[tokio::test(start_paused = true)]
async fn slots_of_an_earlier_life_are_void() {
    let limiter = RateLimiter::shared(100, 4, None);
    limiter.grant(&granted(2, 1), Instant::now(), Duration::from_secs(30));
    let slot = limiter.acquire(Budget::General, Purpose::Live, far()).await.unwrap();
    let mut reset = granted(0, 1);
    reset.budgets[0].reset = true;
    limiter.grant(&reset, Instant::now(), Duration::from_secs(30));
    drop(slot);
    assert_eq!(limiter.report(false).map(|report| report.budgets.len()), Some(0));
}

#[tokio::test(start_paused = true)]
async fn the_days_shares_are_kept() {
    let limiter = RateLimiter::shared(100, 4, Some(1000));
    let mut grant = granted(50, 1);
    grant.day = Some(DayGrant {
        limit: 1000,
        used: 0,
        ends_in_ms: 3_600_000,
        allow: Allowance {
            total: 3,
            backfill: 1,
            reconcile: 0,
        },
    });
    limiter.grant(&grant, Instant::now(), Duration::from_secs(600));
    let soon = || Instant::now() + Duration::from_secs(1);
    assert!(
        limiter
            .acquire(Budget::General, Purpose::Reconcile, soon())
            .await
            .is_err()
    );
    assert!(
        limiter
            .acquire(Budget::General, Purpose::Backfill, soon())
            .await
            .is_ok()
    );
    assert!(
        limiter
            .acquire(Budget::General, Purpose::Backfill, soon())
            .await
            .is_err()
    );
    assert!(limiter.acquire(Budget::General, Purpose::Live, soon()).await.is_ok());
    assert!(limiter.acquire(Budget::General, Purpose::Live, soon()).await.is_ok());
    assert!(limiter.acquire(Budget::General, Purpose::Live, soon()).await.is_err());
    assert!(!limiter.paused_for().is_zero());
}
