//! Scripts as instances: their ids, and which instance a run goes on with.

use std::path::Path;
use std::rc::Rc;

use crate::api::Queries;
use crate::engine::query::InstanceFilter;
use crate::engine::{InstanceRecord, SCRIPT, Status};
use crate::machine::{Data, Image};
use crate::permissions::Permissions;

use super::problem::{Problem, note};
use super::{FAILED, USAGE, access};

/// A script that is ready to run.
#[derive(Clone)]
pub struct Script {
    pub file: String,
    pub args: Data,
    pub image: Rc<Image>,
    pub permissions: Permissions,
}

/// Chooses the instance for a run without an id: the newest unfinished one of the same script with
/// the same arguments, or else a new one.
pub fn choose(
    store: &dyn Queries,
    file: &str,
    args: &Data,
    image: &Rc<Image>,
) -> Result<(String, Option<InstanceRecord>), Problem> {
    let stem = stem(file);
    let mut newest: Option<InstanceRecord> = None;
    let mut last = 0u64;
    let of_file = InstanceFilter { prefix: format!("{stem}-"), ..InstanceFilter::default() };
    for record in access::instances(store, &of_file)? {
        // In a database, the number of the script's partition follows.
        let number = record.id[stem.len() + 1..].split('!').next().unwrap_or_default();
        let Ok(number) = number.parse::<u64>() else { continue };
        last = last.max(number);
        let same = record.status == Status::Running
            && record.function == SCRIPT
            && record.file == file
            && record.args == *args;
        if same && newest.as_ref().is_none_or(|newest| record.created > newest.created) {
            newest = Some(record);
        }
    }
    let fresh = format!("{stem}-{}", last + 1);
    Ok(match newest {
        Some(record) if record.program == image.code.hash => {
            note(&format!("going on with {}", record.id));
            (record.id.clone(), Some(record))
        }
        Some(record) => {
            note(&format!(
                "{0} is unfinished but began with another text of {file}; `durable resume {0}` goes on with it",
                record.id
            ));
            (fresh, None)
        }
        None => (fresh, None),
    })
}

/// Returns the prefix of the ids of a script's instances.
pub fn stem(file: &str) -> String {
    let stem = Path::new(file)
        .file_stem()
        .map_or_else(|| "script".into(), |stem| stem.to_string_lossy().into_owned());
    let replaced = |c: char| if c.is_whitespace() || c.is_control() || c == ':' { '_' } else { c };
    stem.chars().map(replaced).take(40).collect()
}

/// Checks that an instance is one of a script.
pub fn is_script(known: &InstanceRecord) -> Result<(), Problem> {
    let InstanceRecord { id, function, .. } = known;
    if function == SCRIPT {
        return Ok(());
    }
    let title = format!("`{id}` is an instance of orchestration `{function}`, and not of a script");
    Err(Problem::new(USAGE, title).hint(format!("go on with it by `durable resume {id}`")))
}

/// Returns the problem that a suspended instance does not go on.
pub fn suspended(id: &str) -> Problem {
    Problem::new(FAILED, format!("{id} is suspended")).hint(format!("`durable unsuspend {id}` lets it go on"))
}

/// Returns the note that an instance runs with another text than its file has now.
pub fn text_changed(id: &str, file: &str) -> String {
    format!(
        "{id} goes on with the text that it began with; {file} is another one now \
         (`durable upgrade {id} --to {file}` changes it, if that fits)"
    )
}
