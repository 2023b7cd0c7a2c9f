//! Calls and starts whose id belongs to an existing instance.

use crate::machine::{ErrorData, IfExists, ids};

use super::fault::{self, Fault};
use super::record::InstanceRecord;

/// The result of a call or a start with the id of an existing instance.
#[derive(Debug, PartialEq)]
pub enum Known {
    /// The call or start joins the existing instance.
    Joins,
    /// The id is taken by a different instance.
    Taken(ErrorData),
    /// The existing instance and its tree are purged, if all of the tree has ended. Then the new
    /// instance begins.
    Replaces,
}

/// Decides how `wanted` begins if `known` exists.
pub fn known_id(known: &InstanceRecord, wanted: &InstanceRecord, if_exists: IfExists) -> Known {
    // If a caller was rewound and makes a call again, that is the same call.
    let is_again = wanted.waiters.iter().any(|waiter| known.waiters.contains(waiter));
    match if_exists {
        _ if fault::is_in(Fault::PurgeLeavesChildren) => Known::Joins,
        _ if is_again => Known::Joins,
        IfExists::Join if is_same(known, wanted) => Known::Joins,
        IfExists::Join => {
            let (this, other) = shown_with_files(known, wanted);
            Known::Taken(ids::taken(&known.id, &this, &other))
        }
        IfExists::Fail => Known::Taken(ids::exists(&known.id, &shown(known), &shown(wanted))),
        IfExists::Replace | IfExists::Supersede if known.status.is_ended() => Known::Replaces,
        IfExists::Supersede => Known::Joins,
        IfExists::Replace => Known::Taken(not_ended(known, wanted, &known.id)),
    }
}

/// Returns the error of an instance that can't replace `known`, since `running` has not ended.
pub fn not_ended(known: &InstanceRecord, wanted: &InstanceRecord, running: &str) -> ErrorData {
    ids::not_ended(&known.id, running, &shown(known), &shown(wanted))
}

/// Whether two instances run the same function with the same arguments. The texts of their programs
/// may differ.
fn is_same(known: &InstanceRecord, wanted: &InstanceRecord) -> bool {
    let same_args = |args| known.first_args().is_none_or(|first| ids::same_arguments(first, args));
    known.function == wanted.function && is_same_script(known, wanted) && same_args(&wanted.args)
}

/// All scripts have the same function. The names of their files tell them apart, regardless of the
/// folders.
fn is_same_script(known: &InstanceRecord, wanted: &InstanceRecord) -> bool {
    known.function != super::SCRIPT || name_of(&known.file) == name_of(&wanted.file)
}

fn name_of(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}

/// Returns the call that an instance runs, such as `charge("1234", 10)`.
pub fn shown(record: &InstanceRecord) -> String {
    ids::shown_call(&record.function, record.first_args().unwrap_or(&record.args))
}

/// Returns the calls of both, with the files of scripts that differ in nothing else.
fn shown_with_files(known: &InstanceRecord, wanted: &InstanceRecord) -> (String, String) {
    let with_file = |record: &InstanceRecord| format!("{} of {}", shown(record), record.file);
    match known.function == wanted.function && !is_same_script(known, wanted) {
        true => (with_file(known), with_file(wanted)),
        false => (shown(known), shown(wanted)),
    }
}
