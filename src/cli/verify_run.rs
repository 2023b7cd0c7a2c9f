//! `durable verify-run`: what happened in a store, against the rules of the model.

use serde_json::json;

use crate::archive::{Finding, Traced, trace};

use super::access::{self, known};
use super::arguments::VerifyRun;
use super::problem::{Problem, note, unreadable};
use super::verdict::{count, grouped};
use super::{STORE, print};

/// Validates the journals of one instance and its children, or of all instances.
pub fn verify_run(asked: VerifyRun) -> Result<u8, Problem> {
    access::is_there(&asked.store.store)?;
    let store = access::look(&asked.store.store)?;
    if let Some(id) = &asked.id {
        known(&store, id)?;
    }
    let traced = trace(&store, asked.id.as_deref()).map_err(unreadable)?;
    store.close()?;
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
