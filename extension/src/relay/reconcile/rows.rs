//! The rows' side: what changed in the table without being captured.

use super::run::{Finding, Position, Run};
use crate::catalog::Mapping;
use crate::mapping::look;
use crate::mapping::scan::{self, Scan};
use crate::relay::{absorb_all, one_at_a_time};
use crate::{convert, sensitive};
use hubspot_sync_core::mapping::Direction;
use serde_json::Value as Json;
use std::rc::Rc;

/// Who the log names for changes that are captured here.
const APPLICATION: &str = "found by reconciliation";

/// Compares a page of rows with what is recorded of them.
pub fn page(run: &mut Run, mapping: &Rc<Mapping>, after: Json) {
    let incremental = run.kind == "incremental";
    if incremental && mapping.updated_at_column.is_none() {
        run.position = changed();
        return;
    }
    // A row and its record are of one moment only while nobody else works on records.
    one_at_a_time();
    absorb_all();
    let fields = scan::captured_fields(mapping);
    let mut scan = Scan::after(mapping, &fields, after);
    if incremental {
        scan.since_us = Some(run.window_from_us);
    }
    let rows = scan.page();
    run.rows_read += rows.len() as i64;
    let changes = look::differences(mapping, &fields, &rows);
    take(run, mapping, &changes);
    run.position = if scan.finished && incremental {
        changed()
    } else if scan.finished {
        Position::Gone { after: 0 }
    } else {
        Position::Rows { after: scan.last }
    };
}

fn changed() -> Position {
    Position::Changed {
        after: "0".into(),
        more: true,
        history: Vec::new(),
    }
}

/// Looks for records whose rows are gone.
pub fn gone(run: &mut Run, mapping: &Rc<Mapping>, after: i64) {
    one_at_a_time();
    absorb_all();
    let (changes, next) = look::vanished_after(mapping, after);
    take(run, mapping, &changes);
    run.position = match next {
        Some(after) => Position::Gone { after },
        None => Position::Linked {
            after: 0,
            upto: 0,
            history: Vec::new(),
            export: None,
        },
    };
}

fn take(run: &mut Run, mapping: &Mapping, changes: &[Json]) {
    for change in changes {
        report(run, mapping, change);
    }
    if !run.dry_run {
        scan::store(mapping.id, changes, APPLICATION);
    }
}

fn report(run: &mut Run, mapping: &Mapping, change: &Json) {
    let record = Finding {
        entity_key: change["key"].as_str().map(str::to_owned),
        kind: "found_only_by_reconciling",
        action: "captured",
        ..Finding::default()
    };
    if change["op"] != "U" {
        return run.find(record);
    }
    for (name, pair) in change["changes"].as_object().into_iter().flatten() {
        let Some(field) = mapping.field(name) else { continue };
        let finding = Finding {
            field: Some(name.clone()),
            // Under no record: what is shown of it says nothing of another run's findings.
            warp_value: sensitive::shown(field, 0, convert::from_warp(field, pair[1].as_str()).as_deref()),
            ..record.clone()
        };
        match field.sync_direction {
            // The comparison with HubSpot says more about it, once it is captured.
            Direction::HubspotToWarp if !run.dry_run => {}
            Direction::HubspotToWarp => run.find(Finding {
                kind: "one_way_drift",
                action: "row_updated",
                ..finding
            }),
            _ => run.find(finding),
        }
    }
}
