//! `--where`: an expression of the language that says which instances a command is about.
//!
//! Invariant: the expression only computes. It can do nothing outside, and its work is limited.

use std::path::Path;
use std::rc::Rc;

use crate::builtins::Context;
use crate::check;
use crate::code::FunctionId;
use crate::engine::{InstanceRecord, Status};
use crate::machine::{Data, Identity, Image, Machine, Progress, Value};

use super::problem::{Problem, note};
use super::{INVALID, USAGE, program};

/// The fuel of one evaluation, in calls and repetitions.
const FUEL: u64 = 1_000_000;
/// The names that an expression can use.
const NAMES: [&str; 12] = [
    "id", "status", "function", "file", "args", "custom", "result", "error", "created", "ended", "parent",
    "root",
];

/// A condition on instances.
pub struct Condition {
    image: Rc<Image>,
    function: FunctionId,
    /// The first instance for which the expression failed, and why.
    failed: Option<(String, String)>,
    matched: bool,
}

impl Condition {
    /// Reads a condition.
    pub fn new(text: &str) -> Result<Condition, Problem> {
        let file = Path::new("--where");
        let code = format!("activity wanted({{{}}}) {{\n{text}\n}}", NAMES.join(", "));
        let program = check::load("--where", code, &|_: &str| Err("nothing is imported here".to_string()));
        let bad = || {
            Problem::new(INVALID, format!("`--where {text}` is no condition")).hint(format!(
                "a condition is an expression over {}, as 'custom.phase == \"paid\"'",
                NAMES.join(", ")
            ))
        };
        if !program.is_sound() {
            // The mistakes are shown, and the title says more than theirs.
            let _ = program::report(&program, file);
            return Err(bad());
        }
        let code = program::code(&program, file).map_err(|_| bad())?;
        let image = program::image(code, file).map_err(|_| bad())?;
        let found = image.code.find_isolated("wanted").map(|at| image.code.isolated[at].body);
        match found {
            Some(function) => Ok(Condition { image, function, failed: None, matched: false }),
            None => Err(bad()),
        }
    }

    /// Returns whether an instance is wanted. One for which the expression fails is not: a field
    /// that another instance has may be missing.
    pub fn wants(&mut self, record: &InstanceRecord) -> Result<bool, Problem> {
        match self.value(record) {
            Ok(Value::Bool(wanted)) => {
                self.matched |= wanted.get();
                Ok(wanted.get())
            }
            Ok(other) => Err(Problem::new(
                USAGE,
                format!("`--where` gives {} for {}, and not true or false", other.a_kind(), record.id),
            )),
            Err(reason) => {
                self.failed.get_or_insert((record.id.clone(), reason));
                Ok(false)
            }
        }
    }

    /// Tells why nothing matched, if the expression failed.
    pub fn end(self) {
        if let Some((id, reason)) = self.failed.filter(|_| !self.matched) {
            note(&format!("no instance matches; for {id} the condition fails: {reason}"));
        }
    }

    fn value(&self, record: &InstanceRecord) -> Result<Value, String> {
        let text = |text: &str| Value::str(text);
        // Data of a damaged store may be unreadable.
        let of = |data: &Data| data.try_decode().unwrap_or(Value::Null);
        let field = |name: &'static str| {
            let value = match (name, &record.status) {
                ("id", _) => text(&record.id),
                ("status", status) => text(status.word()),
                ("function", _) => text(&record.function),
                ("file", _) => text(&record.file),
                ("root", _) => text(&record.root),
                ("parent", _) => record.parent.as_ref().map_or(Value::Null, |parent| text(&parent.id)),
                ("args", _) => of(&record.args),
                ("custom", _) => record.custom.as_ref().map_or(Value::Null, of),
                ("created", _) => Value::Instant(record.created),
                ("ended", _) => record.ended.map_or(Value::Null, Value::Instant),
                ("result", Status::Completed(value)) => of(value),
                ("error", Status::Failed(error)) => of(&error.value),
                _ => Value::Null,
            };
            (name, value)
        };
        let args = vec![Value::record(NAMES.map(field))];
        let mut machine =
            Machine::new(self.image.clone(), Context::Pure, self.function, args, Identity::default());
        machine.keep_value();
        match machine.run(FUEL) {
            Progress::Done(Ok(_)) => Ok(machine.take_value()),
            Progress::Done(Err(error)) => Err(error.title()),
            Progress::OutOfFuel => Err("it computes for too long".to_string()),
            Progress::Waiting => Err("it waits for something".to_string()),
        }
    }
}
