//! Cutting records into batches, and running batches side by side.

use std::collections::HashSet;
use std::future::Future;

use tokio::task::JoinSet;

use super::BATCHES;
use crate::telemetry::event;

/// HubSpot's limit for a batch call.
pub(super) const BATCH: usize = 100;
/// HubSpot's limit for a batch read with history.
pub(crate) const HISTORY_BATCH: usize = 50;

/// Batches of at most `size`, none with the same id twice: HubSpot refuses such a batch as a whole.
pub(super) fn pages<T>(items: Vec<T>, size: usize, id: impl Fn(&T) -> String) -> Vec<Vec<T>> {
    let mut pages: Vec<(HashSet<String>, Vec<T>)> = Vec::new();
    // Pages before this one are full: without it, many items would mean many looks at full pages.
    let mut first_open = 0;
    for item in items {
        let name = id(&item);
        let open = pages
            .iter()
            .skip(first_open)
            .position(|(names, page)| page.len() < size && !names.contains(&name));
        match open.and_then(|offset| pages.get_mut(first_open + offset)) {
            Some((names, page)) => {
                names.insert(name);
                page.push(item);
            }
            None => pages.push((HashSet::from([name]), vec![item])),
        }
        while pages.get(first_open).is_some_and(|(_, page)| page.len() >= size) {
            first_open += 1;
        }
    }
    pages.into_iter().map(|(_, page)| page).collect()
}

/// Two halves of a batch, the first the larger.
pub(super) fn halves<T>(mut page: Vec<T>) -> (Vec<T>, Vec<T>) {
    let second = page.split_off(page.len().div_ceil(2));
    (page, second)
}

/// Runs the jobs, at most [`BATCHES`] at a time, and returns what they return, in any order.
pub(super) async fn side_by_side<F>(jobs: Vec<F>) -> Vec<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let mut waiting = jobs.into_iter();
    let mut running = JoinSet::new();
    let mut done = Vec::new();
    for job in waiting.by_ref().take(BATCHES) {
        running.spawn(job);
    }
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok(output) => done.push(output),
            // The leases of its records expire.
            Err(error) => tracing::error!(event = event::TASK_FAILED, task = "batch", %error, "a batch ended early"),
        }
        if let Some(job) = waiting.next() {
            running.spawn(job);
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_page_is_too_long_or_holds_an_id_twice() {
        let items: Vec<u32> = (0..250).chain(0..30).chain([7, 7, 7]).collect();
        let cut = pages(items.clone(), 100, u32::to_string);
        assert_eq!(cut.iter().map(Vec::len).sum::<usize>(), items.len());
        for page in &cut {
            assert!(page.len() <= 100);
            assert_eq!(page.iter().collect::<HashSet<_>>().len(), page.len());
        }
    }

    #[test]
    fn halves_reach_one() {
        assert_eq!(halves(vec![1, 2, 3]), (vec![1, 2], vec![3]));
        assert_eq!(halves(vec![1, 2]), (vec![1], vec![2]));
    }
}
