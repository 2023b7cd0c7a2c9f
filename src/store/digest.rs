//! The digest of a store, which shows when data is missing.
//!
//! sled loses data silently when its files are damaged, so the store checks itself. Each batch
//! comes with a record of the number of commits and the *sum* of everything that the store then
//! holds: the sum, modulo 2^128, of a 128-bit hash of each key with its value. A batch changes the
//! sum by what it adds and removes, so an update reads only the batch's keys; adding up all keys
//! must give the same sum. A small file beside the database, the watermark, has the least number of
//! commits. It is written with the first commit, from time to time, and at a clean end. Opening
//! checks the number of commits against the watermark, and also the sum unless the store is large.
//!
//! A tree writes in order, so a crash may leave a first part of a batch. The record is therefore
//! written before its batch, and has the batch's keys with their earlier values; most keys are new
//! and had none. If the puts of a batch do not add up to the sum in its record, the batch broke off
//! and was not acknowledged, and opening *undoes* it. So a batch is written only once, at the cost
//! of reading its keys, which the sum requires anyway.

use std::path::PathBuf;

use crate::kv::{Batch, Read, Store, StoreError, Visit};

use super::compact;
use super::lock::Acknowledged;
use super::record::{self, Last, Record, UNDOES, hash};
use super::tree::{Reader, Tree};
use super::watermark::{self, Durability, Mark};
use super::{Lock, earlier};

/// The key of the record.
const RECORD: &[u8] = b"!proof";

/// The key of the number of bytes that the store holds. The number shows when the database takes
/// too much of the disk; it is not verified.
const HELD: &[u8] = b"!held";

/// The size in bytes from which a tree may keep a value apart from its log, so that the value
/// becomes durable later than the writes after it.
const APART_BYTES: usize = 96 << 10;

/// The prefix of the digest's own keys, which are not part of the sum.
const OWN: &[u8] = b"!";

/// The size in bytes up to which a store is added up when it is opened.
const SMALL: u64 = 32 << 20;

/// The number of commits after which the watermark is rewritten.
const COMMITS_A_MARK: u64 = 256;

/// The result of adding up a store.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub commits: u64,
    pub keys: u64,
    pub bytes: u64,
}

/// A store with its digest.
pub struct Verified<S> {
    store: S,
    record: Record,
    /// The contents of the watermark.
    mark: Mark,
    watermark: Option<PathBuf>,
    /// The size of all keys and values in bytes, if it is known.
    held: Option<u64>,
    /// The largest `held` since the last comparison with the size on the disk.
    most_held: u64,
    /// The lock of the store's folder, which says how much was acknowledged.
    lock: Option<Lock>,
    acknowledged: Acknowledged,
    /// The last note of this process in the lock.
    noted: Option<Acknowledged>,
}

/// The part of a store that is added up when it is opened.
#[derive(Clone, Debug)]
pub(super) enum Check {
    /// All of it, if it has at most this many bytes on the disk.
    UpTo(u64),
    /// Nothing, because it was added up before and holds this many bytes.
    Done(u64),
}

impl<S: Store> Verified<S> {
    /// Opens a store and checks its digest. `watermark` is the file beside the store, if there is
    /// one.
    pub fn open(store: S, watermark: Option<PathBuf>, lock: Option<Lock>) -> Result<Verified<S>, StoreError> {
        Verified::open_with(store, watermark, lock, Check::UpTo(SMALL))
    }

    /// Opens a store like [`Verified::open`], and adds up as much as `check` says.
    pub(super) fn open_with(
        store: S,
        watermark: Option<PathBuf>,
        lock: Option<Lock>,
        check: Check,
    ) -> Result<Verified<S>, StoreError> {
        let mark = watermark.as_deref().map(watermark::read).transpose()?.unwrap_or_default();
        let acknowledged = lock.as_ref().and_then(Lock::acknowledged).unwrap_or_default();
        let mut proven = Verified {
            store,
            record: Record::default(),
            mark,
            watermark,
            held: None,
            most_held: 0,
            lock,
            acknowledged,
            noted: None,
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
        match check {
            Check::Done(bytes) => proven.held = Some(bytes),
            Check::UpTo(most) if proven.store.size_bytes() <= most => {
                proven.held = Some(proven.verify()?.bytes)
            }
            Check::UpTo(_) => {}
        }
        proven.most_held = proven.held.unwrap_or(0).max(compact::once_held(proven.store.size_bytes()));
        Ok(proven)
    }

    /// Opens a store without checking it, to save its readable part.
    pub fn open_unchecked(store: S, lock: Option<Lock>) -> Verified<S> {
        let read = || {
            let bytes = store.get(RECORD).ok()??;
            let (format, body) = record::format_and_body(&bytes).ok()?;
            (format >= UNDOES).then(|| record::decode(body).ok())?
        };
        let (record, _) = read().unwrap_or_default();
        let mark = Mark { record, frames: None };
        let acknowledged = Acknowledged::default();
        Verified {
            store,
            record,
            mark,
            watermark: None,
            held: None,
            most_held: 0,
            lock,
            acknowledged,
            noted: None,
        }
    }

    /// Checks that a store without a record has never had one.
    fn is_new(&self) -> Result<(), StoreError> {
        let acknowledged = self.mark.record.commits.max(self.acknowledged.commits);
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

    /// Checks that the record has all acknowledged commits.
    fn reaches(&self) -> Result<(), StoreError> {
        let (mark, record) = (self.mark.record, self.record);
        let least = mark.commits.max(self.acknowledged.commits);
        if least > record.commits {
            let missing = least - record.commits;
            let what = match missing {
                1 => format!("1 commit is missing: number {least} was acknowledged and is not there"),
                _ => format!(
                    "{missing} commits are missing: numbers {} to {least} were acknowledged and are not there",
                    record.commits + 1
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

    /// Returns whether the last batch is complete.
    fn is_whole(&self, last: &Last) -> Result<bool, StoreError> {
        let mut sum = 0u128;
        for (key, _) in &last.before {
            if let Some(value) = self.store.get(key)? {
                sum = sum.wrapping_add(hash(key, &value));
            }
        }
        Ok(sum == last.added)
    }

    /// Undoes the last batch, in an order in which the undoing may itself break off and be
    /// repeated.
    fn undo(&mut self, last: Last) -> Result<(), StoreError> {
        self.store.commit(&Batch::from(last.before))?;
        let record = record::encode(self.record, 0, std::iter::empty());
        self.store.commit(&Batch::from(vec![(RECORD.to_vec(), Some(record))]))?;
        self.store.flush()
    }

    /// Adds up everything, and checks the sum.
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

    /// Ends the store cleanly: all commits and the watermark are durable.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.end()
    }

    /// Returns the number of batches that were committed since the store was made.
    pub fn commits(&self) -> u64 {
        self.record.commits
    }

    /// Returns the least number of frames of this generation in the write-ahead log, or `None` if
    /// there need be no log.
    pub fn frames(&self) -> Option<u64> {
        let commits = self.record.commits;
        let marked =
            self.mark.frames.map(|frames| if self.mark.record.commits == commits { frames } else { 0 });
        let Acknowledged { commits: reached, frames } = self.acknowledged;
        let noted = (reached == commits && frames > 0).then_some(frames);
        marked.max(noted)
    }

    /// Returns the size of all keys and values in bytes, if it is known.
    pub(super) fn held(&self) -> Option<u64> {
        self.held
    }

    /// Notes that all commits are durable, and `frames` frames of the log after them.
    pub(super) fn acknowledge(&mut self, frames: u64) -> Result<(), StoreError> {
        let now = Acknowledged { commits: self.record.commits, frames };
        let before = self.noted.replace(now);
        self.lock.as_ref().map_or(Ok(()), |lock| lock.note(now, before))
    }

    /// Writes the number of this process into the lock of the folder.
    pub(super) fn sign(&self) -> Result<(), StoreError> {
        self.lock.as_ref().map_or(Ok(()), Lock::sign)
    }

    /// Checks that the lock of the folder is still in its place.
    pub(super) fn check_lock(&self) -> Result<(), StoreError> {
        self.lock.as_ref().map_or(Ok(()), Lock::check)
    }

    /// Returns whether the watermark says that there is a log.
    pub(super) fn has_log(&self) -> bool {
        self.mark.frames.is_some()
    }

    /// Writes the watermark of a store that has a write-ahead log from now on, with one frame.
    pub fn begin_log(&mut self) -> Result<(), StoreError> {
        self.mark(Some(1), Durability::None)
    }

    /// Ends the store cleanly, with a write-ahead log of `frames` frames, or without a log.
    pub fn end_with(&mut self, frames: Option<u64>) -> Result<(), StoreError> {
        self.store.end()?;
        // The log verifies its own contents. That there is no log must be durable before the log
        // goes.
        let is_news = self.record.commits > self.mark.record.commits;
        if is_news || frames != self.mark.frames {
            let is_lasting = is_news || frames.is_none();
            self.mark(frames, if is_lasting { Durability::Name } else { Durability::None })?;
        }
        Ok(())
    }

    /// Writes the watermark.
    fn mark(&mut self, frames: Option<u64>, durability: Durability) -> Result<(), StoreError> {
        let Some(path) = &self.watermark else { return Ok(()) };
        let mark = Mark { record: self.record, frames };
        watermark::write(path, mark, durability)?;
        self.mark = mark;
        Ok(())
    }
}

/// Returns the record before the last batch.
fn without(record: Record, last: &Last) -> Record {
    let before = last.before.iter().filter_map(|(key, value)| Some(hash(key, value.as_ref()?)));
    let sum = before.fold(record.sum.wrapping_sub(last.added), u128::wrapping_add);
    Record { commits: record.commits.saturating_sub(1), sum }
}

fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

impl<S: Read> Read for Verified<S> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(key)
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.store.scan_from(prefix, from, &mut |key, value| key.starts_with(OWN) || visit(key, value))
    }
}

impl<S: Store> Store for Verified<S> {
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
        let mut own = Batch::from(vec![(RECORD.to_vec(), Some(bytes))]);
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
            self.mark(self.mark.frames.map(|_| 0), Durability::Contents)?;
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

impl Verified<Tree> {
    /// Rewrites the database if it takes much more of the disk than it holds. Costs nothing unless
    /// the database holds less than half of what it held: many small values take several times
    /// their size, also in a new database. All commits must be durable.
    pub fn compact_if_shrunk(&mut self) -> Result<(), StoreError> {
        match self.held {
            Some(held) if held < self.most_held / 2 => self.compact(),
            _ => Ok(()),
        }
    }

    /// As [`Verified::compact_if_shrunk`], also for a database that does not say how much it holds,
    /// as one of an earlier version.
    pub fn compact_at_end(&mut self) -> Result<(), StoreError> {
        match self.held {
            None => self.compact(),
            Some(_) => self.compact_if_shrunk(),
        }
    }

    /// Returns whether the database is so large that a rewrite may be worthwhile.
    pub fn is_worth_a_look(&self) -> bool {
        compact::is_worth_it(self.store.disk_bytes(), 0)
    }

    /// Rewrites the database if it takes much more of the disk than it holds. All commits must be
    /// durable.
    fn compact(&mut self) -> Result<(), StoreError> {
        // A small database stays as it is, whatever it holds.
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
        // The last batch is durable, so the values that would undo it can go as well.
        let record = record::encode(self.record, 0, std::iter::empty());
        self.store.commit(&Batch::from(vec![(RECORD.to_vec(), Some(record))]))?;
        self.store.flush()?;
        self.store.compact()
    }

    /// Checks that the database's file is still in its place.
    pub(super) fn check_file(&self) -> Result<(), StoreError> {
        self.store.check_file()
    }

    /// Returns a reader, which also works during writes. All readers must be dropped before the
    /// store ends.
    pub fn reader(&self) -> Reader {
        self.store.reader()
    }
}
