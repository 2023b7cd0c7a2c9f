//! The proof that nothing is missing.
//!
//! sled loses data without a word when its files are damaged, so the store carries its own account. With each batch
//! goes a record of its number and of the *sum* of everything the store then holds: the sum, modulo 2^128, of a
//! 128-bit hash of each key with its value. A batch changes the sum by what it adds and removes, so keeping it costs
//! no reading of anything else, and adding up all keys must give it again. A small file beside the database, the
//! watermark, says how far the numbers must reach at least; it is written with the first commit, from time to time, and at
//! a clean end. Opening checks the number against the watermark, and the sum as well unless the store is large.
//!
//! A tree writes in order, and may be left with a first part of what it was given. So the record goes before its batch, and
//! has the batch's keys with the values that they had, which mostly are new and had none. A batch whose puts don't add up
//! to what its record says was broken off, was not acknowledged, and is *undone* at opening. A batch is so written once,
//! and costs the reading of its keys, which the sum needs anyway.

use std::path::PathBuf;

use crate::engine::Batch;

use super::compact;
use super::record::{self, Last, Record, UNDOES, hash};
use super::sled::Reader;
use super::watermark::{self, Mark};
use super::{Lock, SledTree, Store, StoreError, Visit, earlier};

/// The key of the record.
const RECORD: &[u8] = b"!proof";

/// The key of the number of bytes that it holds. It says when the database takes too much of the disk, and proves nothing.
const HELD: &[u8] = b"!held";

/// A tree may keep values from this size on apart from its log, so that they are durable later than what follows them.
const APART_BYTES: usize = 96 << 10;

/// Keys that begin so are the proof's own, and are not part of the sum.
const OWN: &[u8] = b"!";

/// Stores up to this size are added up when they are opened, in bytes.
const SMALL: u64 = 32 << 20;

/// The watermark is rewritten after so many commits.
const COMMITS_A_MARK: u64 = 256;

/// What adding up a store found.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub commits: u64,
    pub keys: u64,
    pub bytes: u64,
}

/// A store with its proof.
pub struct Proven<S> {
    store: S,
    record: Record,
    /// What the watermark says.
    mark: Mark,
    watermark: Option<PathBuf>,
    /// The bytes of its keys and values, when that is known.
    held: Option<u64>,
    /// The most bytes that it held since somebody last looked at what it takes of the disk.
    most_held: u64,
    _lock: Option<Lock>,
}

impl<S: Store> Proven<S> {
    /// Opens a store and checks its proof. `watermark` is the file beside it, where there is one.
    pub fn open(store: S, watermark: Option<PathBuf>, lock: Option<Lock>) -> Result<Proven<S>, StoreError> {
        let mark = watermark.as_deref().map(watermark::read).transpose()?.unwrap_or_default();
        let mut proven = Proven {
            store,
            record: Record::default(),
            mark,
            watermark,
            held: None,
            most_held: 0,
            _lock: lock,
        };
        earlier::undo(&mut proven.store)?;
        let Some(bytes) = proven.store.get(RECORD)? else {
            proven.is_new()?;
            proven.held = Some(0);
            return Ok(proven);
        };
        match record::format_and_body(&bytes)? {
            (UNDOES.., body) => {
                let (record, last) = record::decode(body)?;
                let whole = proven.is_whole(&last)?;
                proven.record = if whole { record } else { without(record, &last) };
                proven.reaches()?;
                if !whole {
                    proven.undo(last)?;
                }
            }
            (_, body) => {
                let (record, last) = earlier::decode(body)?;
                proven.record = record;
                proven.reaches()?;
                earlier::make_again(&mut proven.store, last)?;
            }
        }
        let held = proven.store.get(HELD)?;
        proven.held = held.and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        if proven.store.size_bytes() <= SMALL {
            proven.held = Some(proven.verify()?.bytes);
        }
        proven.most_held = proven.held.unwrap_or(0);
        Ok(proven)
    }

    /// Opens a store without checking it, to save what can be read of it.
    pub fn open_unchecked(store: S, lock: Option<Lock>) -> Proven<S> {
        let read = || {
            let bytes = store.get(RECORD).ok()??;
            let (format, body) = record::format_and_body(&bytes).ok()?;
            (format >= UNDOES).then(|| record::decode(body).ok())?
        };
        let (record, _) = read().unwrap_or_default();
        let mark = Mark { record, frames: None };
        Proven { store, record, mark, watermark: None, held: None, most_held: 0, _lock: lock }
    }

    /// Checks that a store without a record has never had one.
    fn is_new(&self) -> Result<(), StoreError> {
        let acknowledged = self.mark.record.commits;
        if acknowledged > 0 {
            let were = if acknowledged == 1 { "was" } else { "were" };
            let what = format!("it is empty, but {} {were} acknowledged", count(acknowledged, "commit"));
            return Err(StoreError::Damaged { what });
        }
        let mut any = false;
        self.store.scan(b"", &mut |_, _| {
            any = true;
            false
        })?;
        if any {
            return Err(StoreError::Damaged { what: "the record of its commits is missing".into() });
        }
        Ok(())
    }

    /// Checks that the record reaches as far as the watermark says.
    fn reaches(&self) -> Result<(), StoreError> {
        let (mark, record) = (self.mark.record, self.record);
        if mark.commits > record.commits {
            let missing = mark.commits - record.commits;
            let what = match missing {
                1 => {
                    format!("1 commit is missing: number {} was acknowledged and is not there", mark.commits)
                }
                _ => format!(
                    "{missing} commits are missing: numbers {} to {} were acknowledged and are not there",
                    record.commits + 1,
                    mark.commits
                ),
            };
            return Err(StoreError::Damaged { what });
        }
        if mark.commits > 0 && mark.commits == record.commits && mark.sum != record.sum {
            return Err(StoreError::Damaged {
                what: "its last commit is not the one that was acknowledged".into(),
            });
        }
        Ok(())
    }

    /// Whether the last batch came to its end.
    fn is_whole(&self, last: &Last) -> Result<bool, StoreError> {
        let mut sum = 0u128;
        for (key, _) in &last.before {
            if let Some(value) = self.store.get(key)? {
                sum = sum.wrapping_add(hash(key, &value));
            }
        }
        Ok(sum == last.added)
    }

    /// Undoes the last batch, in an order in which that may itself be broken off, and be done again.
    fn undo(&mut self, last: Last) -> Result<(), StoreError> {
        self.store.commit(&Batch { writes: last.before })?;
        let record = record::encode(self.record, 0, std::iter::empty());
        self.store.commit(&Batch { writes: vec![(RECORD.to_vec(), Some(record))] })?;
        self.store.flush()
    }

    /// Adds up everything.
    pub fn verify(&self) -> Result<Report, StoreError> {
        let mut report = Report { commits: self.record.commits, keys: 0, bytes: 0 };
        let mut sum = 0u128;
        self.store.scan(b"", &mut |key, value| {
            if !key.starts_with(OWN) {
                sum = sum.wrapping_add(hash(key, value));
                report.keys += 1;
                report.bytes += (key.len() + value.len()) as u64;
            }
            true
        })?;
        if sum != self.record.sum {
            let what = format!(
                "what it holds does not add up to what was written by its {}",
                count(self.record.commits, "commit")
            );
            return Err(StoreError::Damaged { what });
        }
        Ok(report)
    }

    /// Ends cleanly: everything durable, and the watermark with it.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.end()
    }

    /// How many batches were committed since it was made.
    pub fn commits(&self) -> u64 {
        self.record.commits
    }

    /// How many frames a write-ahead log must have of this generation; none when there need be no log.
    pub fn frames(&self) -> Option<u64> {
        let is_of_now = self.mark.record.commits == self.record.commits;
        self.mark.frames.map(|frames| if is_of_now { frames } else { 0 })
    }

    /// Says that a write-ahead log goes with it from now on, with one frame.
    pub fn begin_log(&mut self) -> Result<(), StoreError> {
        self.mark(Some(1), false)
    }

    /// Ends cleanly, with a write-ahead log that has so many frames, or without one.
    pub fn end_with(&mut self, frames: Option<u64>) -> Result<(), StoreError> {
        self.store.end()?;
        // What is in the log is proven by it; that there is none must be durable before it goes.
        let is_news = self.record.commits > self.mark.record.commits;
        if is_news || frames != self.mark.frames {
            self.mark(frames, is_news || frames.is_none())?;
        }
        Ok(())
    }

    /// Writes the watermark; durably at a clean end.
    fn mark(&mut self, frames: Option<u64>, durable: bool) -> Result<(), StoreError> {
        let Some(path) = &self.watermark else { return Ok(()) };
        let mark = Mark { record: self.record, frames };
        watermark::write(path, mark, durable)?;
        self.mark = mark;
        Ok(())
    }
}

/// The record before the last batch.
fn without(record: Record, last: &Last) -> Record {
    let before = last.before.iter().filter_map(|(key, value)| Some(hash(key, value.as_ref()?)));
    let sum = before.fold(record.sum.wrapping_sub(last.added), u128::wrapping_add);
    Record { commits: record.commits.saturating_sub(1), sum }
}

fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

impl<S: Store> Store for Proven<S> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(key)
    }

    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.store.scan(prefix, &mut |key, value| key.starts_with(OWN) || visit(key, value))
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let Record { commits, mut sum } = self.record;
        let mut added = 0u128;
        let mut held = self.held;
        let mut before = Vec::with_capacity(batch.writes.len());
        for (key, value) in &batch.writes {
            let old = self.store.get(key)?;
            if let Some(old) = &old {
                sum = sum.wrapping_sub(hash(key, old));
                held = held.map(|held| held.saturating_sub((key.len() + old.len()) as u64));
            }
            if let Some(value) = value {
                added = added.wrapping_add(hash(key, value));
                held = held.map(|held| held + (key.len() + value.len()) as u64);
            }
            before.push(old);
        }
        let record = Record { commits: commits + 1, sum: sum.wrapping_add(added) };
        let before = batch.writes.iter().zip(&before).map(|((key, _), old)| (&key[..], old.as_deref()));
        let bytes = record::encode(record, added, before);
        let is_apart = bytes.len() >= APART_BYTES;
        let mut own = Batch { writes: vec![(RECORD.to_vec(), Some(bytes))] };
        if let Some(held) = held {
            own.put(HELD.to_vec(), held.to_le_bytes().to_vec());
            self.most_held = self.most_held.max(held);
        }
        self.held = held;
        self.store.commit(&own)?;
        if is_apart {
            self.store.flush()?;
        }
        self.store.commit(batch)?;
        if batch.writes.iter().filter_map(|(_, value)| value.as_ref()).any(|value| value.len() >= APART_BYTES)
        {
            self.store.flush()?;
        }
        self.record = record;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.store.flush()?;
        let marked = self.mark.record.commits;
        let most = if marked == 0 { 1 } else { COMMITS_A_MARK };
        if self.record.commits >= marked + most {
            // The log has no frame of this generation yet.
            self.mark(self.mark.frames.map(|_| 0), false)?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), StoreError> {
        self.end_with(self.frames())
    }

    fn size_bytes(&self) -> u64 {
        self.store.size_bytes()
    }
}

impl Proven<SledTree> {
    /// Writes the database anew if it takes much more of the disk than what it holds. Costs nothing as long as what it holds
    /// has not become half of what it was. What it was given is durable.
    pub fn compact_if_shrunk(&mut self) -> Result<(), StoreError> {
        match self.held {
            Some(held) if held < self.most_held / 2 => self.compact(),
            _ => Ok(()),
        }
    }

    /// Whether the database is so large that it may be worth to write it anew.
    pub fn is_worth_a_look(&self) -> bool {
        compact::is_worth_it(self.store.disk_bytes(), 0)
    }

    /// Writes the database anew if it takes much more of the disk than what it holds. What it was given is durable.
    pub fn compact(&mut self) -> Result<(), StoreError> {
        // A small one is left as it is, whatever it holds.
        if !self.is_worth_a_look() {
            return Ok(());
        }
        let on_disk = self.store.disk_bytes();
        let held = match self.held {
            Some(held) => held,
            None => self.verify()?.bytes,
        };
        (self.held, self.most_held) = (Some(held), held);
        if !compact::is_worth_it(on_disk, held) {
            return Ok(());
        }
        // The last batch is durable, so what would undo it goes as well.
        let record = record::encode(self.record, 0, std::iter::empty());
        self.store.commit(&Batch { writes: vec![(RECORD.to_vec(), Some(record))] })?;
        self.store.flush()?;
        self.store.compact()
    }

    /// The same store for reading, also while it is written to; all of them must be gone when it ends.
    pub fn reader(&self) -> Reader {
        self.store.reader()
    }
}
