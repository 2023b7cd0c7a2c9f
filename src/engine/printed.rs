//! The output of an instance: the lines that it printed and logged, from its history and in pages.
//!
//! Every request for a line counts as written, since `print` and `log` are answered at once.

use serde::{Deserialize, Serialize};

use crate::builtins::Effect;
use crate::kv::Read;

use super::checkpoint::Checkpoint;
use super::entry::{Args, Entry};
use super::history::Chunk;
use super::keys;
use super::outbox::Line;
use super::page::{Cursor, PAGE_BYTES, Page, Paging};
use super::read_error::ReadError;
use super::reads::{missing, read_checkpoint, read_record, unreadable};
use super::record::InstanceRecord;
use super::stored;

/// A line that an instance printed or logged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Printed {
    /// The number of the request.
    pub seq: u64,
    /// The time of the request, in nanoseconds since 1970.
    pub time: i64,
    pub line: PrintedLine,
}

/// The contents of a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PrintedLine {
    Short(Line),
    /// A long line. The history has only its size and its checksum, since a replay makes it again.
    Long {
        is_log: bool,
        bytes: u64,
    },
}

/// A part of the output of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputPage {
    /// The instance. If it has begun anew or was rewound since the page before, this page has no
    /// lines.
    pub record: InstanceRecord,
    /// Whether the lines from before the last checkpoint are not kept.
    pub is_trimmed: bool,
    pub lines: Page<Printed>,
}

impl OutputPage {
    /// Whether this page and a later one belong to the same history.
    pub fn continues(&self, later: &OutputPage) -> bool {
        self.record.has_same_history(&later.record)
    }
}

/// The place in a history where a page begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    life: u64,
    execution: u32,
    first: u64,
    rewound: Vec<u64>,
    /// The number of the chunk, and the checksum of the chunk before.
    chunk: u64,
    checksum: u64,
    /// The number of lines of the chunk that were in earlier pages.
    seen: usize,
}

impl Place {
    /// Returns the beginning of a history: its first chunk, or the checkpoint of a trimmed history.
    fn begin(record: &InstanceRecord, trimmed: Option<&Checkpoint>) -> Place {
        let (chunk, checksum) =
            trimmed.map_or((record.first, 0), |checkpoint| (checkpoint.chunks, checkpoint.checksum));
        Place {
            life: record.life,
            execution: record.execution,
            first: record.first,
            rewound: record.rewound.clone(),
            chunk,
            checksum,
            seen: 0,
        }
    }

    fn is_of(&self, record: &InstanceRecord) -> bool {
        (self.life, self.execution, self.first) == (record.life, record.execution, record.first)
            && self.rewound == record.rewound
    }

    fn cursor(&self) -> Cursor {
        Cursor(stored::append(Vec::new(), self))
    }

    /// Adds lines of the chunk at this place to a page that has at most `most` lines, and moves
    /// behind them. Returns whether the chunk has no more lines.
    fn read(&mut self, bytes: &[u8], lines: &mut Vec<Printed>, most: usize) -> Result<bool, ReadError> {
        let chunk = Chunk::decode(bytes, self.checksum)
            .map_err(|error| format!("part {} of its history {error}", self.chunk))?;
        let mut rest = chunk.entries.iter().filter_map(printed).skip(self.seen);
        let room = most - lines.len();
        lines.extend(rest.by_ref().take(room));
        if rest.next().is_some() {
            self.seen += room;
            return Ok(false);
        }
        (self.chunk, self.checksum, self.seen) = (self.chunk + 1, chunk.checksum, 0);
        Ok(true)
    }
}

/// Returns the output of an instance, as far as its history is kept; `None` if there is no such
/// instance.
pub fn output(store: &dyn Read, id: &str, paging: &Paging) -> Result<Option<OutputPage>, ReadError> {
    let Some(record) = read_record(store, id)? else { return Ok(None) };
    let trimmed = read_checkpoint(store, &record)?.filter(|checkpoint| checkpoint.trimmed);
    let mut place = Place::begin(&record, trimmed.as_ref());
    let mut lines = Page { items: Vec::new(), next: None };
    let is_trimmed = trimmed.is_some();
    if let Some(cursor) = &paging.from {
        let from: Place = stored::read(&cursor.0).ok_or("the cursor is that of another question")?;
        if !from.is_of(&record) {
            return Ok(Some(OutputPage { record, is_trimmed, lines }));
        }
        // Chunks may have been removed since the page before.
        if from.chunk >= place.chunk {
            place = from;
        }
    }
    let (mut bytes, mut result) = (0, Ok(true));
    store.scan_from(&keys::history(id), &keys::chunk(id, place.chunk), &mut |key, value| {
        let Some((_, number)) = keys::parse_chunk(key) else { return true };
        if lines.items.len() == paging.limit() || bytes > PAGE_BYTES {
            lines.next = Some(place.cursor());
            return false;
        }
        bytes += value.len();
        result = match number == place.chunk {
            true => place.read(value, &mut lines.items, paging.limit()),
            false => Err(format!("part {} of its history is missing", place.chunk).into()),
        };
        if let Ok(false) = result {
            lines.next = Some(place.cursor());
        }
        matches!(result, Ok(true))
    })?;
    result.map_err(|error| unreadable(&record, &error.to_string()))?;
    match missing(&record, place.chunk, is_trimmed) {
        Some(reason) if lines.next.is_none() => Err(unreadable(&record, &reason)),
        _ => Ok(Some(OutputPage { record, is_trimmed, lines })),
    }
}

/// Returns the line that an entry of a history asks for, if it asks for one.
fn printed(entry: &Entry) -> Option<Printed> {
    let Entry::Requested { seq, what, args, time, .. } = entry else { return None };
    let effect = what.effect().filter(|effect| effect.is_line())?;
    let line = match args {
        // A value that can't become text was not written.
        Args::Whole(args) => PrintedLine::Short(Line::of(effect, args)?.ok()?),
        Args::Large { bytes, .. } => PrintedLine::Long { is_log: effect == Effect::Log, bytes: *bytes },
    };
    Some(Printed { seq: *seq, time: *time, line })
}
