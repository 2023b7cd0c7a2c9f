//! How instances ended, as people and programs see it.

use std::path::Path;

use serde_json::json;

use crate::api::{Command, Connection, Queries, Reply};
use crate::engine::{InstanceRecord, Mismatch, Status};
use crate::machine::{Data, Value, format, json as values};
use crate::render::{Shown, show};
use crate::syntax::Place;

use super::access::{self, Access, known};
use super::problem::{Problem, note, unreadable};
use super::{FAILED, print, program};

/// Whether results are shown without `--json`.
#[derive(Clone, Copy, PartialEq)]
pub enum Shows {
    /// No result: the program prints what it has to say.
    Nothing,
    /// The result of an instance that had ended before, unless it is null.
    Values,
    /// Every result, for a command that waits for the end of an instance.
    Results,
}

/// Shows how an instance ended, and returns the exit code.
pub fn outcome(store: &dyn Queries, id: &str, as_json: bool, shows: Shows) -> Result<u8, Problem> {
    let record = known(store, id)?;
    let as_value = |data: &Data| -> serde_json::Value {
        serde_json::from_str(&values::from_data(data)).unwrap_or_default()
    };
    let (code, shown) = match &record.status {
        Status::Running | Status::Suspended | Status::Scheduled { .. } => return Ok(0),
        Status::Completed(value) => {
            let is_shown = match shows {
                Shows::Nothing => false,
                Shows::Values => !matches!(value.decode(), Value::Null),
                Shows::Results => true,
            };
            if is_shown && !as_json {
                print(&format!("{}\n", result_text(value)))?;
            }
            (0, json!({"id": id, "status": "completed", "result": as_value(value)}))
        }
        Status::Failed(error) => {
            let image = program::stored(store, record.program, id, &record.file)?;
            show(&Shown::new(&image.code.sources, Path::new(&record.file)).error(error));
            (FAILED, json!({"id": id, "status": "failed", "error": as_value(&error.value)}))
        }
        Status::Terminated(why) => {
            let reason = match why.decode() {
                Value::Null => String::new(),
                why => format!(": {}", format::display(&why)),
            };
            note(&format!("{id} was terminated{reason}"));
            (FAILED, json!({"id": id, "status": "terminated", "why": as_value(why)}))
        }
    };
    if as_json {
        print(&format!("{shown}\n"))?;
    }
    Ok(code)
}

/// Returns a result for people: the content of a string, or any other value as a program writes it.
pub fn result_text(value: &Data) -> String {
    let value = value.decode();
    format::to_text(&value).unwrap_or_else(|_| format::display(&value))
}

/// Shows a replay that differs from the history.
pub fn stuck(store: &dyn Queries, record: &InstanceRecord, mismatch: &Mismatch) -> Result<(), Problem> {
    let image = program::stored(store, record.program, &record.id, &record.file)?;
    let shown = Shown::new(&image.code.sources, Path::new(&record.file));
    let side = |side: &Option<(String, Place)>, what: &str, none: &str| match side {
        Some((text, place)) => (*place, format!("{what}: {}", format::display(&Value::str(text.as_str())))),
        None => (Place::default(), format!("{what}: {none}")),
    };
    let labels = [
        side(&mismatch.found, "the program now does this", "the program ends"),
        side(&mismatch.recorded, "the history holds", "nothing more"),
    ];
    let title = format!("nondeterminism: {} does not do what its history holds", record.id);
    let notes = [
        "the store is damaged, or another version of durable wrote it; nothing was done and nothing is lost"
            .to_string(),
    ];
    show(&shown.message(
        ariadne::ReportKind::Error,
        &title,
        &labels,
        &notes,
        Some("check the store with `durable store verify`"),
    ));
    Ok(())
}

/// Waits for the end of an instance that another process runs, and shows its outcome.
pub fn wait_there(connection: Connection, id: &str, as_json: bool, shows: Shows) -> Result<u8, Problem> {
    wait_by(Access::There(connection), id, as_json, shows)
}

/// Waits for the end of an instance that other processes run, and shows its outcome.
pub fn wait_by(mut store: Access, id: &str, as_json: bool, shows: Shows) -> Result<u8, Problem> {
    match store.ask(Command::Wait(id.to_string()))? {
        // The instance has ended, before the command or since.
        Reply::Ended => outcome(&store, id, as_json, shows),
        Reply::Refused(reason) => Err(unreadable(reason)),
        _ => Err(access::unknown(id)),
    }
}
