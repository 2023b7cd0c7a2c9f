//! The outbox: lines that instances printed and logged, durable until they are out.
//!
//! A program does not wait for its lines. They are written with the history that records them, as
//! *runs*: consecutive lines of one instance. A run is deleted once all its lines are out. After a
//! crash, the remaining runs are output once more, before anything else. So no line is lost, and no
//! line comes after its consequences.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::builtins::Effect;
use crate::kv::Batch;
use crate::machine::{Data, ErrorData, Request, RequestKind, Value, error, format};

use super::keys;
use super::stored::{self, Stored};

/// A line of a program.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Line {
    /// For standard output.
    Print(String),
    /// For standard error.
    Log { level: String, text: String },
}

/// A run of lines, as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredLines {
    pub instance: String,
    /// The root of the instance's tree.
    pub root: String,
    pub lines: Vec<Line>,
}

impl Stored for StoredLines {
    type Before = StoredLines;
    type Earlier = StoredLines;
}

impl StoredLines {
    pub fn encode(&self) -> Vec<u8> {
        stored::encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Option<StoredLines> {
        stored::decode(bytes)
    }
}

impl Line {
    /// Returns the line that an effect writes; `None` for other effects.
    pub fn of(effect: Effect, args: &Data) -> Option<Result<Line, ErrorData>> {
        if !effect.is_line() {
            return None;
        }
        let args = args.items();
        let at = |at: usize| args.get(at).unwrap_or(&Value::Null);
        Some(match effect {
            Effect::Print => format::to_text(at(0))
                .map(Line::Print)
                .map_err(|fail| ErrorData::new("limit", error::title(&fail.value))),
            _ => Ok(Line::Log { level: format::display(at(0)), text: format::display(at(1)) }),
        })
    }

    /// Returns the line that a request writes; `None` for other requests.
    pub(super) fn of_request(request: &Request) -> Option<Result<Line, ErrorData>> {
        match request.what {
            RequestKind::Effect(effect) => Line::of(effect, &request.args),
            _ => None,
        }
    }
}

/// Whether an effect writes a line.
pub(super) fn is_line(what: &RequestKind) -> bool {
    matches!(what, RequestKind::Effect(effect) if effect.is_line())
}

/// Returns the answer to a request for a line.
pub(super) fn answered() -> Result<Data, ErrorData> {
    Ok(Data::null())
}

/// The runs that are not completely out.
#[derive(Default)]
pub(super) struct Outbox {
    next: u64,
    /// The instance of each run and the number of its lines that are not out, by the run's number.
    under_way: BTreeMap<u64, (Arc<str>, usize)>,
    /// The number of lines that are not out, by instance.
    waiting: HashMap<Arc<str>, usize>,
    /// The runs that are not written. The last one may grow.
    fresh: BTreeMap<u64, StoredLines>,
    fresh_lines: usize,
}

impl Outbox {
    /// Adds a line of an instance, and returns the number of its run.
    pub fn add(&mut self, instance: &Arc<str>, root: &str, line: Line) -> u64 {
        *self.waiting.entry(instance.clone()).or_default() += 1;
        self.fresh_lines += 1;
        if let Some((number, run)) = self.fresh.last_key_value()
            && *run.instance == **instance
        {
            let number = *number;
            self.fresh.entry(number).and_modify(|run| run.lines.push(line));
            if let Some((_, left)) = self.under_way.get_mut(&number) {
                *left += 1;
            }
            return number;
        }
        let number = self.next;
        self.next += 1;
        let run = StoredLines { instance: instance.to_string(), root: root.to_string(), lines: vec![line] };
        self.fresh.insert(number, run);
        self.under_way.insert(number, (instance.clone(), 1));
        number
    }

    /// Registers a run that the store has. The run is output once more if it `is_ours`.
    pub fn recover(&mut self, number: u64, run: &StoredLines, is_ours: bool) {
        self.next = self.next.max(number + 1);
        if is_ours {
            let instance: Arc<str> = run.instance.as_str().into();
            *self.waiting.entry(instance.clone()).or_default() += run.lines.len();
            self.under_way.insert(number, (instance, run.lines.len()));
        }
    }

    /// Notes that `count` lines of a run are out. Returns the instance when all its lines are.
    pub fn out(&mut self, number: u64, count: usize, batch: &mut Batch) -> Option<Arc<str>> {
        let (instance, left) = self.under_way.get_mut(&number)?;
        *left = left.saturating_sub(count);
        let (instance, is_out) = (instance.clone(), *left == 0);
        if is_out {
            self.under_way.remove(&number);
            if self.fresh.remove(&number).is_none() {
                batch.delete(keys::lines(number));
            }
        }
        let waiting = self.waiting.get_mut(&instance)?;
        *waiting = waiting.saturating_sub(count);
        if *waiting > 0 {
            return None;
        }
        self.waiting.remove(&instance);
        Some(instance)
    }

    /// Returns the instance of a run that is not completely out.
    pub fn instance_of(&self, number: u64) -> Option<Arc<str>> {
        self.under_way.get(&number).map(|(instance, _)| instance.clone())
    }

    /// Whether an instance has lines that are not out.
    pub fn has(&self, instance: &str) -> bool {
        self.waiting.contains_key(instance)
    }

    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Returns the approximate number of lines to write.
    pub fn changes(&self) -> usize {
        self.fresh_lines
    }

    pub fn has_writes(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Writes the runs that are not written. None of them grows any more.
    pub fn take_writes(&mut self, batch: &mut Batch) {
        self.fresh_lines = 0;
        for (number, run) in std::mem::take(&mut self.fresh) {
            batch.put(keys::lines(number), run.encode());
        }
    }
}
