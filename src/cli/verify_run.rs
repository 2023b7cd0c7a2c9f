//! `durable verify-run`: what happened in a store, against the rules of the model.

use serde_json::json;

use crate::archive::{Finding, Traced, trace};
use crate::kv::Read;

use super::access::{self, known};
use super::arguments::VerifyRun;
use super::place;
use super::problem::{Problem, note, unreadable};
use super::verdict::{count, grouped};
use super::{STORE, print};

/// Checks what a store has, if it has the instance.
fn traced(store: &impl Read, id: Option<&str>) -> Result<Traced, Problem> {
    if let Some(id) = id {
        known(store, id)?;
    }
    trace(store, id).map_err(unreadable)
}

/// Validates the journals of one instance and its children, or of all instances.
pub fn verify_run(asked: VerifyRun) -> Result<u8, Problem> {
    let folder = &asked.store.store;
    let traced = match place::url(folder)? {
        Some(url) => traced(&place::open(&url)?.quiet_snapshot()?, asked.id.as_deref())?,
        None => {
            access::is_there(folder)?;
            let store = access::look(folder)?;
            let traced = traced(&store, asked.id.as_deref())?;
            store.close()?;
            traced
        }
    };
    let Traced { instances, entries, operations, findings, unknown } = &traced;
    if asked.json {
        let lines = findings.iter().map(|finding| {
            let Finding { rule, of, entry, what } = finding;
            json!({"rule": rule, "of": of, "entry": entry, "what": what})
        });
        let unknown = unknown.iter().map(|what| json!({"unknown": what}));
        print(&lines.chain(unknown).map(|line| format!("{line}\n")).collect::<String>())?;
    } else {
        let mut out = String::new();
        for Finding { rule, of, entry, what } in findings {
            let at = entry.map(|entry| format!(", entry {entry}")).unwrap_or_default();
            out.push_str(&format!("{of}{at}: {what} (rule {rule})\n"));
        }
        if findings.is_empty() {
            let (instances, entries) = (count(*instances as usize, "instance"), grouped(*entries));
            let operations = match operations {
                0 => String::new(),
                kept => format!(", {} kept", count(*kept as usize, "operation")),
            };
            out.push_str(&format!("all rules hold: {instances}, {entries} entries{operations}\n"));
        }
        print(&out)?;
        unknown.iter().for_each(|what| note(&format!("not known: {what}")));
    }
    if findings.is_empty() {
        return Ok(0);
    }
    let title = format!("{} of the model's rules", count(findings.len(), "breach"));
    Err(Problem::new(STORE, title).hint(
        "programs can't cause this: `durable store verify` finds damage, and an export without secrets \
         (`durable store export --redact FILE`) shows a fault of the engine",
    ))
}
