//! What becomes of a call or a start whose id is known.

use crate::machine::{ErrorData, IfExists, ids};

use super::fault::{self, Fault};
use super::record::InstanceRecord;

/// What becomes of it.
#[derive(Debug, PartialEq)]
pub enum Known {
    /// It is the instance that exists.
    Joins,
    /// The id is another's.
    Taken(ErrorData),
    /// The instance that exists is purged, with all that goes with it, if all of that has ended; then another begins.
    Replaces,
}

/// What becomes of `wanted` when there is `known`.
pub fn known_id(known: &InstanceRecord, wanted: &InstanceRecord, if_exists: IfExists) -> Known {
    // A call that is asked again, since its caller was rewound, is the one that it was.
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
        IfExists::Replace if known.status.is_ended() => Known::Replaces,
        IfExists::Replace => Known::Taken(not_ended(known, wanted, &known.id)),
    }
}

/// The error of an instance that can't be replaced, since the one of this id has not ended.
pub fn not_ended(known: &InstanceRecord, wanted: &InstanceRecord, running: &str) -> ErrorData {
    ids::not_ended(&known.id, running, &shown(known), &shown(wanted))
}

/// Whether they run the same with the same arguments; the text of the program may be another one.
fn is_same(known: &InstanceRecord, wanted: &InstanceRecord) -> bool {
    let same_args = |args| known.first_args().is_none_or(|first| ids::same_arguments(first, args));
    known.function == wanted.function && is_same_script(known, wanted) && same_args(&wanted.args)
}

/// All scripts have one function: they are told apart by the names of their files, wherever those lie.
fn is_same_script(known: &InstanceRecord, wanted: &InstanceRecord) -> bool {
    known.function != super::SCRIPT || name_of(&known.file) == name_of(&wanted.file)
}

fn name_of(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}

/// What an instance runs: `charge("1234", 10)`.
pub fn shown(record: &InstanceRecord) -> String {
    ids::shown_call(&record.function, record.first_args().unwrap_or(&record.args))
}

/// Both, with the files of scripts that differ in nothing else.
fn shown_with_files(known: &InstanceRecord, wanted: &InstanceRecord) -> (String, String) {
    let with_file = |record: &InstanceRecord| format!("{} of {}", shown(record), record.file);
    match known.function == wanted.function && !is_same_script(known, wanted) {
        true => (with_file(known), with_file(wanted)),
        false => (shown(known), shown(wanted)),
    }
}
