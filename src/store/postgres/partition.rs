//! A partition as a store: one writer, fenced by the partition's epoch and token.
//!
//! A commit is one call of a function of the database. If the connection is lost, the same batch is
//! sent again with the same number, until the database says what became of it: looking alone is not
//! enough, since the first call may still be on its way.

use std::ops::Range;
use std::path::Path;

use crate::kv::{Batch, Cause, Ranges, Read, Reader, SharedStore, Source, Store, StoreError, Transit, Visit};

use super::cluster::Cluster;
use super::connection::{Connection, Failure};
use super::failure::{TAKEN_TWICE, is_conflict};
use super::lease::Ownership;
use super::patience::Patience;
use super::reader::column;
use super::scope::{Scope, Slots};
use super::watermark::{Mark, Watermark};

const COMMIT: &str = "select durable.commit($1, $2, $3::text::uuid, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";

/// The number of attempts of a commit that meets other ones of the same keys.
const MEETINGS: u32 = 100;

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Written,
    Deposed,
    Lost { found: u64 },
}

/// Learns of a batch that is durable.
type Told = Box<dyn Fn(&Batch) + Send>;

/// The store of a partition that this process owns.
pub struct PartitionStore {
    cluster: Cluster,
    ownership: Ownership,
    slots: Slots,
    reads: Reader,
    patience: Patience,
    /// The number of the last commit.
    commits: u64,
    watermark: Option<Watermark>,
    /// Learns of each batch that is durable.
    told: Option<Told>,
    /// The error after which nothing more is written.
    ended: Option<StoreError>,
}

impl PartitionStore {
    /// Opens the store of a partition that was taken. `folder` has the watermarks of this machine;
    /// if the database has fewer commits than these, it was restored to an earlier time, and the
    /// store does not open.
    pub fn open(
        cluster: &Cluster,
        ownership: Ownership,
        folder: Option<&Path>,
        patience: &Patience,
    ) -> Result<PartitionStore, StoreError> {
        let slots = Slots::of(ownership.partition, ownership.slots.clone());
        let now = Mark { incarnation: ownership.incarnation, commits: ownership.commits };
        let mut watermark = None;
        if let Some(folder) = folder {
            let (file, known) = Watermark::open(folder, cluster.about(), ownership.partition)?;
            if let Some(known) = known.filter(|known| *known > now) {
                let (partition, found) = (ownership.partition, ownership.commits);
                return Err(StoreError::Restored { partition, found, acknowledged: known.commits });
            }
            file.set(now)?;
            watermark = Some(file);
        }
        Ok(PartitionStore {
            reads: cluster.reader_of(Scope::Partition(slots.clone())),
            cluster: cluster.clone(),
            commits: ownership.commits,
            ownership,
            slots,
            patience: patience.clone(),
            watermark,
            told: None,
            ended: None,
        })
    }

    /// Has a function learn of each batch that is durable, before its commit returns.
    pub fn telling(mut self, told: impl Fn(&Batch) + Send + 'static) -> PartitionStore {
        self.told = Some(Box::new(told));
        self
    }

    pub fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// Returns the number of the last commit.
    pub fn commits(&self) -> u64 {
        self.commits
    }

    fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let number = self.commits + 1;
        let parts = Parts::of(batch, self.cluster.layout(), &self.slots)?;
        match self.send(&parts, number)? {
            Outcome::Written => {}
            Outcome::Deposed => return Err(StoreError::Fenced { partition: self.ownership.partition }),
            Outcome::Lost { found } => {
                let (partition, acknowledged) = (self.ownership.partition, self.commits);
                return Err(StoreError::Restored { partition, found, acknowledged });
            }
        }
        self.commits = number;
        match &self.watermark {
            Some(watermark) => {
                watermark.set(Mark { incarnation: self.ownership.incarnation, commits: number })
            }
            None => Ok(()),
        }
    }

    /// Sends a batch until the database says what became of it.
    fn send(&mut self, parts: &Parts<'_>, number: u64) -> Result<Outcome, StoreError> {
        let patience = self.patience.clone();
        let (mut attempts, mut meetings) = (patience.attempts(), 0);
        loop {
            let failure = match self.attempt(parts, number) {
                Ok(outcome) => return outcome,
                Err(failure) => failure,
            };
            let meets = matches!(&failure, Failure::Sql(error) if is_conflict(error));
            meetings += u32::from(meets);
            let again = match &failure {
                failure if failure.is_lost() => attempts.next(|| failure.reason(self.cluster.url())),
                _ => meets && meetings < MEETINGS && !patience.is_over(),
            };
            if !again {
                return Err(self.refusal(failure));
            }
        }
    }

    fn attempt(&self, parts: &Parts<'_>, number: u64) -> Result<Result<Outcome, StoreError>, Failure> {
        let mut lent = self.cluster.commits().lend(&self.patience)?;
        let answer = parts.call(&mut lent, &self.ownership, number);
        if let Err(failure) = &answer {
            lent.note(failure);
        }
        answer.map(|answer| outcome(&answer))
    }

    fn refusal(&self, failure: Failure) -> StoreError {
        match &failure {
            Failure::Sql(error) if error.code().is_some_and(|code| code.code() == TAKEN_TWICE) => {
                let said = error.as_db_error().map_or("", |error| error.message());
                let partition = self.ownership.partition;
                let what = format!("a batch of partition {partition} consumes what is not there: {said}");
                StoreError::Internal { what }
            }
            _ => failure.into_error("write to", self.cluster.url()),
        }
    }
}

fn outcome(answer: &str) -> Result<Outcome, StoreError> {
    let unknown = || StoreError::broken(format!("the database answered `{answer}` to a commit"));
    match answer.split_once(' ') {
        None if answer == "ok" || answer == "landed" => Ok(Outcome::Written),
        None if answer == "deposed" => Ok(Outcome::Deposed),
        Some(("lost", found)) => found.parse().map(|found| Outcome::Lost { found }).map_err(|_| unknown()),
        _ => Err(unknown()),
    }
}

impl Read for PartitionStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.reads.get(key)
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.reads.scan_from(prefix, from, visit)
    }

    fn ranges(&self, ranges: &[Range<Vec<u8>>], most: usize, bytes: usize) -> Result<Ranges, StoreError> {
        self.reads.ranges(ranges, most, bytes)
    }
}

impl Store for PartitionStore {
    /// Writes a batch, which is durable when this returns.
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        if batch.is_empty() {
            return Ok(());
        }
        if let Some(key) = batch.repeated() {
            let what = format!("a batch has the key {} twice", String::from_utf8_lossy(key));
            return Err(StoreError::Internal { what });
        }
        // Without an answer, nobody knows whether the number is used.
        let written = self.write(batch);
        self.ended = written.clone().err();
        if let (Ok(()), Some(told)) = (&written, &self.told) {
            told(batch);
        }
        written
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), StoreError> {
        let closed = Cause::new("the partition's store has ended");
        self.ended.get_or_insert(StoreError::Broken { source: closed });
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.cluster.size_bytes().unwrap_or(0)
    }
}

impl SharedStore for PartitionStore {
    fn reader(&self) -> Reader {
        self.reads.clone()
    }

    /// A row that changes is written anew as a whole, and the old one is cleared away later. A short
    /// one costs little more than a new row with its entry in the index.
    fn growth(&self) -> usize {
        512
    }
}

/// A write to the queue: slot, key, and value.
type Queued<'a> = (u32, &'a [u8], Option<&'a [u8]>);

/// The parts of a batch, as the function of the database takes them.
#[derive(Default)]
struct Parts<'a> {
    puts: (Vec<&'a [u8]>, Vec<&'a [u8]>),
    gone: Vec<&'a [u8]>,
    queue_puts: (Vec<i32>, Vec<&'a [u8]>, Vec<&'a [u8]>),
    queue_gone: (Vec<i32>, Vec<&'a [u8]>),
    sends: (Vec<i32>, Vec<&'a [u8]>),
    consumed: (Vec<i32>, Vec<i64>),
    answers: (Vec<i64>, Vec<&'a [u8]>),
}

impl<'a> Parts<'a> {
    /// Sorts the parts of a batch. Refuses keys of slots that are not the partition's.
    fn of(batch: &'a Batch, layout: &super::Layout, slots: &Slots) -> Result<Parts<'a>, StoreError> {
        let mut parts = Parts::default();
        let mut writes: Vec<_> = batch.writes.iter().collect();
        if !batch.writes.is_sorted_by(|(one, _), (other, _)| one < other) {
            writes.sort_by_key(|(key, _)| key);
        }
        let mut queued: Vec<Queued<'a>> = Vec::new();
        for (key, value) in writes {
            if layout.is_queued(key) {
                let slot = layout.slot(key).unwrap_or(slots.own);
                if !slots.contains(slot) {
                    let shown = String::from_utf8_lossy(key);
                    let what =
                        format!("a batch has the key {shown} of slot {slot}, which is another partition's");
                    return Err(StoreError::Internal { what });
                }
                queued.push((slot, key, value.as_deref()));
            } else if let Some(value) = value {
                parts.puts.0.push(key);
                parts.puts.1.push(value);
            } else {
                parts.gone.push(key);
            }
        }
        queued.sort_unstable_by_key(|(slot, key, _)| (*slot, *key));
        for (slot, key, value) in queued {
            let slot = slot as i32;
            if let Some(value) = value {
                parts.queue_puts.0.push(slot);
                parts.queue_puts.1.push(key);
                parts.queue_puts.2.push(value);
            } else {
                parts.queue_gone.0.push(slot);
                parts.queue_gone.1.push(key);
            }
        }
        parts.add(&batch.transit);
        Ok(parts)
    }

    fn add(&mut self, transit: &'a Transit) {
        for (to, body) in &transit.sends {
            self.sends.0.push(*to as i32);
            self.sends.1.push(body);
        }
        for receipt in &transit.consumed {
            self.consumed.0.push(source_number(receipt.source));
            self.consumed.1.push(receipt.number as i64);
        }
        for (request, answer) in &transit.answers {
            self.answers.0.push(*request as i64);
            self.answers.1.push(answer);
        }
    }

    fn call(
        &self,
        connection: &mut Connection,
        ownership: &Ownership,
        number: u64,
    ) -> Result<String, Failure> {
        let (partition, epoch, number) = (ownership.partition as i32, ownership.epoch as i64, number as i64);
        let rows = connection.rows(
            COMMIT,
            &[
                &partition,
                &epoch,
                &ownership.token,
                &number,
                &filled(&self.puts.0),
                &filled(&self.puts.1),
                &filled(&self.gone),
                &filled(&self.queue_puts.0),
                &filled(&self.queue_puts.1),
                &filled(&self.queue_puts.2),
                &filled(&self.queue_gone.0),
                &filled(&self.queue_gone.1),
                &filled(&self.sends.0),
                &filled(&self.sends.1),
                &filled(&self.consumed.0),
                &filled(&self.consumed.1),
                &filled(&self.answers.0),
                &filled(&self.answers.1),
            ],
        )?;
        match rows.first() {
            Some(row) => column(row, 0).map_err(Failure::Store),
            None => Err(Failure::Store(StoreError::broken("a commit has no answer"))),
        }
    }
}

/// Returns an array for the database, which is null there if it has no elements.
fn filled<T>(array: &[T]) -> Option<&[T]> {
    (!array.is_empty()).then_some(array)
}

/// Returns the number of a source in the database.
pub(super) fn source_number(source: Source) -> i32 {
    match source {
        Source::Partition(partition) => partition as i32,
        Source::Client => -1,
    }
}
