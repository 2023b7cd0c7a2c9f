//! `durable list`, `show` and `history`.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value as Json, json};

use crate::api::Queries;
use crate::archive::{forms, redact_history};
use crate::engine::query::{InstanceFilter, OutputPage, PrintedLine};
use crate::engine::{
    Args, Checkpoint, Entry, GRACE, History, InstanceRecord, Lifecycle, Line, RecordedRequest,
    Status as State,
};
use crate::machine::{Data, format};
use crate::render::short;

use super::access::{Access, history as read_history, unknown};
use super::arguments::{self, Filter, List, One, Status as Wanted};
use super::pending::{Due, pending};
use super::problem::{Problem, note};
use super::table::{instant, table, time, took};
use super::wanted::Condition;
use super::{USAGE, print};

/// The note about a trimmed history.
const NOT_KEPT: &str = "what was before its last checkpoint is not kept";

/// Returns the filter that the arguments of a command describe.
pub fn filter(wanted: &Filter) -> Result<InstanceFilter, Problem> {
    let now = crate::host::now();
    let at = |text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => instant(text, now).map(Some).ok_or_else(|| {
            Problem::new(USAGE, format!("`{text}` is not a time"))
                .hint("write it like 2026-03-01T12:00:00Z, or like 2h for so long ago")
        }),
    };
    let lifecycle = |status: &Wanted| match status {
        Wanted::Running => Lifecycle::Running,
        Wanted::Suspended => Lifecycle::Suspended,
        Wanted::Scheduled => Lifecycle::Scheduled,
        Wanted::Completed => Lifecycle::Completed,
        Wanted::Failed => Lifecycle::Failed,
        Wanted::Terminated => Lifecycle::Terminated,
    };
    Ok(InstanceFilter {
        prefix: wanted.prefix.clone().unwrap_or_default(),
        from: String::new(),
        lifecycles: wanted.status.iter().map(lifecycle).collect(),
        function: wanted.function.clone(),
        created_from: at(&wanted.after)?,
        created_before: at(&wanted.before)?,
        ended_from: at(&wanted.ended_after)?,
        ended_before: at(&wanted.ended_before)?,
        roots: wanted.roots,
    })
}

/// Hands the wanted instances to `visit` in the order of their ids, beginning with `from`. `visit`
/// returns false to stop.
pub fn each(
    store: &dyn Queries,
    wanted: &Filter,
    from: Option<&str>,
    visit: &mut dyn FnMut(InstanceRecord) -> Result<bool, Problem>,
) -> Result<(), Problem> {
    let filter = InstanceFilter { from: from.unwrap_or_default().to_string(), ..filter(wanted)? };
    let mut condition = wanted.condition.as_deref().map(Condition::new).transpose()?;
    let mut result = Ok(true);
    store.each_instances(&filter, &mut |page, _| {
        for record in page {
            let fits = match &mut condition {
                Some(condition) => condition.wants(&record),
                None => Ok(true),
            };
            result = fits.and_then(|fits| if fits { visit(record) } else { Ok(true) });
            if !matches!(result, Ok(true)) {
                return false;
            }
        }
        true
    })?;
    result?;
    if let Some(condition) = condition {
        condition.end();
    }
    Ok(())
}

/// Lists instances: the oldest first if they fit one page, otherwise page by page in the order of
/// their ids.
pub fn list(list: List) -> Result<u8, Problem> {
    let store = Access::open(&list.store.store)?;
    if let Some(id) = &list.tree {
        let tree = descending(store.tree(id)?.ok_or_else(|| unknown(id))?, id);
        store.close()?;
        return print_tree(&tree, list.json).map(|()| 0);
    }
    let mut listed = Listed { page: Vec::new(), printed: 0, as_json: list.json };
    let limit = list.limit.unwrap_or(u64::MAX);
    let mut next = None;
    each(&store, &list.filter, list.from.as_deref(), &mut |record| {
        if listed.printed + listed.page.len() as u64 == limit {
            next = Some(record.id);
            return Ok(false);
        }
        listed.add(record)?;
        Ok(true)
    })?;
    store.close()?;
    listed.end()?;
    if let Some(next) = next {
        note(&format!("there are more; go on with: --from {next}"));
    }
    Ok(0)
}

/// The number of instances that are printed together.
const PRINTED: usize = 1_000;

/// A list that is printed in pages.
struct Listed {
    page: Vec<InstanceRecord>,
    printed: u64,
    as_json: bool,
}

impl Listed {
    fn add(&mut self, record: InstanceRecord) -> Result<(), Problem> {
        if self.page.len() == PRINTED {
            self.print()?;
        }
        self.page.push(record);
        Ok(())
    }

    fn print(&mut self) -> Result<(), Problem> {
        let page = std::mem::take(&mut self.page);
        match self.as_json {
            true => print(&json_lines(&page))?,
            false => print_page(&page, self.printed == 0)?,
        }
        self.printed += page.len() as u64;
        Ok(())
    }

    /// Prints the last page. A list of one page has the oldest instance first.
    fn end(mut self) -> Result<(), Problem> {
        if self.printed == 0 {
            self.page.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        }
        self.print()
    }
}

fn json_lines<'a>(records: impl IntoIterator<Item = &'a InstanceRecord>) -> String {
    records.into_iter().map(|record| format!("{}\n", forms::instance(record))).collect()
}

const HEADINGS: [&str; 6] = ["ID", "STATUS", "BEGAN", "TOOK", "RUNS", "FILE"];

/// Returns the cells of an instance in a list.
fn cells(record: &InstanceRecord) -> Vec<String> {
    vec![
        record.id.clone(),
        record.status.word().to_string(),
        time(record.created),
        record.ended.map_or_else(|| "-".to_string(), |ended| took(ended - record.created)),
        record.function.clone(),
        record.file.clone(),
    ]
}

fn print_page(page: &[InstanceRecord], is_first: bool) -> Result<(), Problem> {
    let text = table(&HEADINGS, &page.iter().map(cells).collect::<Vec<_>>());
    let without_head = || text.split_once('\n').map_or("", |(_, rows)| rows);
    print(if is_first { &text } else { without_head() })
}

/// Returns the instances of a tree with their depths. Each comes before those that it called or
/// started, and of these the oldest comes first.
fn descending(mut tree: Vec<InstanceRecord>, root: &str) -> Vec<(usize, InstanceRecord)> {
    tree.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
    let mut owned: HashMap<String, Vec<InstanceRecord>> = HashMap::new();
    let mut rows = Vec::new();
    let mut next = Vec::new();
    for record in tree {
        match &record.owner {
            _ if record.id == root => next.push((0, record)),
            Some(owner) => owned.entry(owner.id.clone()).or_default().push(record),
            None => {}
        }
    }
    while let Some((depth, record)) = next.pop() {
        let below = owned.remove(&record.id).into_iter().flatten();
        next.extend(below.map(|record| (depth + 1, record)));
        rows.push((depth, record));
    }
    rows
}

fn print_tree(tree: &[(usize, InstanceRecord)], as_json: bool) -> Result<(), Problem> {
    if as_json {
        return print(&json_lines(tree.iter().map(|(_, record)| record)));
    }
    let row = |(depth, record): &(usize, InstanceRecord)| {
        let mut cells = cells(record);
        cells[0].insert_str(0, &"  ".repeat(*depth));
        cells
    };
    print(&table(&HEADINGS, &tree.iter().map(row).collect::<Vec<_>>()))
}

/// Shows one instance.
pub fn show(one: One) -> Result<u8, Problem> {
    let store = Access::open(&one.store.store)?;
    let (record, history) = read_history(&store, &one.id)?;
    let due = pending(&store, &record, &history);
    store.close()?;
    let steps = rows(&history, &due);
    let open: Vec<&Row> = steps.iter().filter(|row| row.open && !record.status.is_ended()).collect();
    if one.json {
        let mut shown = forms::instance(&record);
        if let Some(what) = history.entries.iter().rev().find(|entry| is_cancellation(entry)) {
            shown["cancelling"] = forms::entry(what);
            due.get(&GRACE).into_iter().flatten().for_each(|due| due.add_to(&mut shown["cancelling"]));
        }
        shown["steps"] = json!(steps.len());
        shown["waits_for"] = open.iter().map(|row| json!(row.what)).collect();
        shown["pending"] = open.iter().map(|row| row.json(&due)).collect();
        return print(&format!("{shown}\n")).map(|()| 0);
    }
    let mut lines = vec![
        ("id", record.id.clone()),
        ("status", record.status.word().to_string()),
        ("runs", record.function.clone()),
        ("file", record.file.clone()),
        ("program", record.program.to_string()),
        ("args", shown_data(&record.args).trim_start_matches('[').trim_end_matches(']').to_string()),
        (if record.status.begins().is_some() { "started" } else { "began" }, time(record.created)),
    ];
    if let Some(due) = record.status.begins() {
        lines.push(("begins", time(due)));
    }
    if let Some(ended) = record.ended {
        lines.push(("ended", format!("{} (after {})", time(ended), took(ended - record.created))));
    }
    lines.extend(record.permissions.describe().into_iter().map(|rules| ("permissions", rules)));
    if let Some(parent) = record.parent.as_ref().map(|parent| &parent.id) {
        lines.push(("parent", parent.clone()));
    }
    if record.execution > 0 {
        lines.push((
            "execution",
            format!("{}, after {} times as new", record.execution + 1, record.execution),
        ));
    }
    if let Some(custom) = &record.custom {
        lines.push(("says", shown_data(custom)));
    }
    for entry in &history.entries {
        if let Entry::Cancelling { what, time: at } = entry {
            let until = due.get(&GRACE).into_iter().flatten().map(|due| format!(", {}", due.shown()));
            lines.push(("cancelled", format!("{}: {what}{}", time(*at), until.collect::<String>())));
        }
    }
    for entry in &history.entries {
        if let Entry::Upgraded { from, time: at } = entry {
            lines.push(("upgraded", format!("{}, from {from}", time(*at))));
        }
    }
    lines.push(("steps", steps.len().to_string()));
    match &record.status {
        State::Terminated(why) => lines.push(("why", shown_data(why))),
        State::Running | State::Suspended | State::Scheduled { .. } => {
            lines.extend(open.iter().map(|row| ("waits for", row.with_due())))
        }
        State::Completed(value) => lines.push(("result", shown_data(value))),
        State::Failed(error) => lines.push(("error", error.title())),
    }
    let text: String =
        lines.iter().map(|(name, value)| format!("{name:<10} {}\n", short(value, 300))).collect();
    print(&text)?;
    Ok(0)
}

fn is_cancellation(entry: &Entry) -> bool {
    matches!(entry, Entry::Cancelling { .. })
}

fn shown_data(data: &Data) -> String {
    format::write(&data.decode(), 1_000).0
}

/// Shows a history as a table, or its entries as JSON.
pub fn history(one: arguments::History) -> Result<u8, Problem> {
    let store = Access::open(&one.store.store)?;
    if one.output {
        let output = store.output(&one.id)?.ok_or_else(|| unknown(&one.id))?;
        store.close()?;
        return print_output(&output, one.json).map(|()| 0);
    }
    let (record, mut history) = read_history(&store, &one.id)?;
    let due = pending(&store, &record, &history);
    store.close()?;
    if history.after.is_some() {
        note(NOT_KEPT);
    }
    if one.redact {
        redact_history(&record.id, &mut history, !one.json);
    }
    if one.json {
        let line = |entry: &Entry| {
            let mut line = forms::entry(entry);
            if let Entry::Requested { seq, .. } = entry {
                due.get(seq).into_iter().flatten().for_each(|due| due.add_to(&mut line));
            }
            format!("{line}\n")
        };
        print(&history.entries.iter().map(line).collect::<String>())?;
        return Ok(0);
    }
    print(&table_of(rows(&history, &due)))?;
    Ok(0)
}

/// Prints the output of an instance, as it was: logged lines go to standard error.
fn print_output(output: &OutputPage, as_json: bool) -> Result<(), Problem> {
    if output.is_trimmed {
        note(NOT_KEPT);
    }
    let mut out = String::new();
    for printed in &output.lines.items {
        if as_json {
            out.push_str(&format!("{}\n", forms::printed(printed)));
            continue;
        }
        match &printed.line {
            PrintedLine::Short(Line::Print(text)) => out.push_str(&format!("{text}\n")),
            PrintedLine::Short(Line::Log { level, text }) => {
                print(&std::mem::take(&mut out))?;
                note(&format!("{level}: {text}"));
            }
            PrintedLine::Long { bytes, .. } => {
                print(&std::mem::take(&mut out))?;
                note(&format!(
                    "#{} is a line of {bytes} bytes, which the history does not keep; `durable replay {}` makes it again",
                    printed.seq, output.record.id
                ));
            }
        }
    }
    print(&out)
}

/// Returns a history as a table of requests with their results.
pub fn timeline(history: &History) -> String {
    table_of(rows(history, &BTreeMap::new()))
}

fn table_of(rows: Vec<Row>) -> String {
    let cells = rows.into_iter().map(|row| {
        let what = row.with_due();
        vec![
            row.number.to_string(),
            time(row.time),
            row.kind.to_string(),
            row.took.unwrap_or_else(|| "-".into()),
            what,
        ]
    });
    table(&["NO", "TIME", "KIND", "TOOK", "WHAT"], &cells.collect::<Vec<_>>())
}

/// A request with its result.
struct Row {
    number: u64,
    time: i64,
    kind: &'static str,
    what: String,
    took: Option<String>,
    open: bool,
    /// The times that the request waits for, as text for people.
    due: Vec<String>,
}

impl Row {
    /// Returns the description with the times, such as `sleep(5s), wakes 2026-03-01 12:00:05`.
    fn with_due(&self) -> String {
        std::iter::once(self.what.as_str())
            .chain(self.due.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Returns an open request as JSON, with the times that it waits for.
    fn json(&self, due: &BTreeMap<u64, Vec<Due>>) -> Json {
        let mut json = json!({"seq": self.number, "what": self.what});
        due.get(&self.number).into_iter().flatten().for_each(|due| due.add_to(&mut json));
        json
    }
}

fn rows(history: &History, due: &BTreeMap<u64, Vec<Due>>) -> Vec<Row> {
    let mut rows: BTreeMap<u64, Row> = BTreeMap::new();
    let before = history.after.as_ref().map(Checkpoint::open_entries).unwrap_or_default();
    for entry in before.iter().chain(&history.entries) {
        match entry {
            Entry::Requested { seq, what, args, time, .. } => {
                let row = Row {
                    number: *seq,
                    time: *time,
                    kind: what.kind(),
                    what: called(what, args),
                    took: None,
                    open: true,
                    due: Vec::new(),
                };
                rows.insert(*seq, row);
            }
            Entry::Answered { seq, result, time, .. } => {
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
            Entry::Renewed { seq, time } => {
                if let Some(row) = rows.get_mut(seq) {
                    row.time = *time;
                    row.what = format!("{}, asked again", row.what);
                }
            }
            Entry::Ended { .. }
            | Entry::Terminated { .. }
            | Entry::Cancelling { .. }
            | Entry::Rewound { .. }
            | Entry::Upgraded { .. }
            | Entry::Begun { .. } => {}
        }
    }
    for (seq, row) in rows.iter_mut().filter(|(_, row)| row.open) {
        row.due = due.get(seq).into_iter().flatten().map(Due::shown).collect();
    }
    rows.into_values().collect()
}

fn called(what: &RecordedRequest, args: &Args) -> String {
    format!("{}({})", what.shown(), short(&args.describe(), 60))
}
