//! `durable list`, `show` and `history`.

use std::collections::BTreeMap;

use serde_json::json;

use crate::engine::{Args, Asked, Entry, InstanceRecord, Status as State};
use crate::machine::{Data, format};
use crate::store;

use super::arguments::{List, One, Status};
use super::problem::Problem;
use super::run::{read_history, record, records, unknown};
use super::table::{short, table, time, took};
use super::{export, print};

/// Whether an instance is in a status.
pub fn is_in(record: &InstanceRecord, status: Status) -> bool {
    matches!(
        (&record.status, status),
        (State::Running, Status::Running)
            | (State::Completed(_), Status::Completed)
            | (State::Failed(_), Status::Failed)
    )
}

/// Lists instances, the oldest first.
pub fn list(list: List) -> Result<u8, Problem> {
    let store = store::open(&list.store.store)?;
    let mut found = records(&store)?;
    found.retain(|record| list.status.is_none_or(|status| is_in(record, status)));
    found.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    if list.json {
        for record in &found {
            print(&format!("{}\n", export::instance(record)))?;
        }
    } else {
        let row = |record: &InstanceRecord| {
            vec![
                record.id.clone(),
                record.status.word().to_string(),
                time(record.created),
                record.ended.map_or_else(|| "-".to_string(), |ended| took(ended - record.created)),
                record.file.clone(),
            ]
        };
        let rows: Vec<Vec<String>> = found.iter().map(row).collect();
        print(&table(&["ID", "STATUS", "BEGAN", "TOOK", "FILE"], &rows))?;
    }
    store.close()?;
    Ok(0)
}

/// Shows one instance.
pub fn show(one: One) -> Result<u8, Problem> {
    let store = store::open(&one.store.store)?;
    let record = record(&store, &one.id)?.ok_or_else(|| unknown(&one.id))?;
    let history = read_history(&store, &record)?;
    store.close()?;
    let steps = rows(&history.entries);
    let open: Vec<&Row> = steps.iter().filter(|row| row.open && record.status == State::Running).collect();
    if one.json {
        let mut shown = export::instance(&record);
        shown["steps"] = json!(steps.len());
        shown["waits_for"] = open.iter().map(|row| json!(row.what)).collect();
        return print(&format!("{shown}\n")).map(|()| 0);
    }
    let mut lines = vec![
        ("id", record.id.clone()),
        ("status", record.status.word().to_string()),
        ("file", record.file.clone()),
        ("program", record.program.to_string()),
        ("args", shown_data(&record.args).trim_start_matches('[').trim_end_matches(']').to_string()),
        ("began", time(record.created)),
    ];
    if let Some(ended) = record.ended {
        lines.push(("ended", format!("{} (after {})", time(ended), took(ended - record.created))));
    }
    lines.push(("steps", steps.len().to_string()));
    match &record.status {
        State::Running => lines.extend(open.iter().map(|row| ("waits for", row.what.clone()))),
        State::Completed(value) => lines.push(("result", shown_data(value))),
        State::Failed(error) => lines.push(("error", error.title())),
    }
    let text: String =
        lines.iter().map(|(name, value)| format!("{name:<10} {}\n", short(value, 300))).collect();
    print(&text)?;
    Ok(0)
}

fn shown_data(data: &Data) -> String {
    format::write(&data.decode(), 1_000).0
}

/// Shows a history as a table, or its entries as JSON.
pub fn history(one: One) -> Result<u8, Problem> {
    let store = store::open(&one.store.store)?;
    let record = record(&store, &one.id)?.ok_or_else(|| unknown(&one.id))?;
    let history = read_history(&store, &record)?;
    store.close()?;
    if one.json {
        let lines: String =
            history.entries.iter().map(|entry| format!("{}\n", export::entry(entry))).collect();
        print(&lines)?;
        return Ok(0);
    }
    let cells = rows(&history.entries).into_iter().map(|row| {
        vec![
            row.number.to_string(),
            time(row.time),
            row.kind.to_string(),
            row.took.unwrap_or_else(|| "-".into()),
            row.what,
        ]
    });
    print(&table(&["NO", "TIME", "KIND", "TOOK", "WHAT"], &cells.collect::<Vec<_>>()))?;
    Ok(0)
}

/// A request with what became of it.
struct Row {
    number: u64,
    time: i64,
    kind: &'static str,
    what: String,
    took: Option<String>,
    open: bool,
}

fn rows(entries: &[Entry]) -> Vec<Row> {
    let mut rows: BTreeMap<u64, Row> = BTreeMap::new();
    for entry in entries {
        match entry {
            Entry::Requested { seq, what, args, time, .. } => {
                let row = Row {
                    number: *seq,
                    time: *time,
                    kind: what.kind(),
                    what: called(what, args),
                    took: None,
                    open: true,
                };
                rows.insert(*seq, row);
            }
            Entry::Answered { seq, result, time } => {
                if let Some(row) = rows.get_mut(seq) {
                    row.took = Some(took(time - row.time));
                    row.open = false;
                    let result = match result {
                        Ok(value) => short(&shown_data(value), 60),
                        Err(error) => format!("error {}", short(&error.title(), 60)),
                    };
                    if result != "null" {
                        row.what = format!("{} → {result}", row.what);
                    }
                }
            }
            Entry::Retried { seq, error, .. } => {
                if let Some(row) = rows.get_mut(seq) {
                    row.what = format!("{} → error {}, tried again", row.what, short(&error.title(), 40));
                }
            }
            Entry::Cancelled { seq, time } => {
                if let Some(row) = rows.get_mut(seq) {
                    row.took = Some(took(time - row.time));
                    row.open = false;
                    row.what = format!("{}, cancelled", row.what);
                }
            }
            Entry::Ended { .. } => {}
        }
    }
    rows.into_values().collect()
}

fn called(what: &Asked, args: &Args) -> String {
    format!("{}({})", what.shown(), short(&args.describe(), 60))
}
