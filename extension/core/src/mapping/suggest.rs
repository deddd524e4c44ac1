//! "Did you mean": the nearest of the names that would have been right.

/// The candidate most like `word`, ignoring case, when one is near enough to be a slip: at most a third of its letters,
/// and at least two, may differ. The first of equally near ones wins.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded: Vec<char> = word.to_lowercase().chars().collect();
    let allowed = (folded.len() / 3).max(2);
    candidates
        .into_iter()
        .map(|candidate| (distance(&folded, &candidate.to_lowercase()), candidate))
        .filter(|&(distance, candidate)| distance <= allowed && distance < candidate.chars().count())
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, one row at a time.
fn distance(a: &[char], b: &str) -> usize {
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (i, b) in b.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &a) in a.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[a.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let keys = ["hubspot_property", "warp_field", "warp_field_path", "sync_direction"];
        assert_eq!(nearest("sync_directon", keys), Some("sync_direction"));
        assert_eq!(nearest("warp_feild", keys), Some("warp_field"));
        assert_eq!(nearest("SYNC_DIRECTION", keys), Some("sync_direction"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("x", ["a"]), None);
    }
}
