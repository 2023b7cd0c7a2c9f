//! The proof that nothing is missing.
//!
//! sled loses data without a word when its files are damaged, so the store carries its own account. With each batch
//! goes a record of its number and of the *sum* of everything the store then holds: the sum, modulo 2^128, of a
//! 128-bit hash of each key with its value. A batch changes the sum by what it adds and removes, so keeping it costs
//! no reading of anything else, and adding up all keys must give it again. A small file beside the database, the
//! watermark, says how far the numbers must reach at least; it is written with the first commit, from time to time, and at
//! a clean end. Opening checks the number against the watermark, and the sum as well unless the store is large.
//!
//! Nor is a batch of sled's all or nothing when a write fails in the middle of it: it keeps what it has got so far. So
//! before a large batch goes, in a write of its own, what undoes it: its keys with the values that they had. After the
//! batch that is removed again. Where it is found at opening, the batch was not acknowledged, and is undone. A small
//! batch is one piece of memory when sled writes it to the disk, but for one in a few hundred, and doing the same for
//! it would cost a third of the rate of single steps.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::engine::Batch;

use super::lock::sync_parent;
use super::{Lock, Store, StoreError, Visit};

/// The format of stores that this version writes.
pub const FORMAT: u32 = 1;

/// The key of the record.
const RECORD: &[u8] = b"!proof";

/// The key of what undoes the batch under way.
const UNDO: &[u8] = b"!undo";

/// Batches from this size on can be undone, in bytes of keys and values.
pub const LARGE_BYTES: usize = 4096;

/// Keys that begin so are the proof's own, and are not part of the sum.
const OWN: &[u8] = b"!";

/// Stores up to this size are added up when they are opened, in bytes.
const SMALL: u64 = 32 << 20;

/// The watermark is rewritten after so many commits.
const COMMITS_A_MARK: u64 = 256;

/// What a store must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Record {
    format: u32,
    /// How many batches were committed.
    commits: u64,
    sum: u128,
}

/// What undoes a batch: its number, and its keys with the values that they had.
#[derive(Serialize, Deserialize)]
struct Undo {
    commit: u64,
    before: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

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
    marked: u64,
    watermark: Option<PathBuf>,
    _lock: Option<Lock>,
}

fn hash(key: &[u8], value: &[u8]) -> u128 {
    let mut hasher = Xxh3::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.digest128()
}

impl<S: Store> Proven<S> {
    /// Opens a store and checks its proof. `watermark` is the file beside it, where there is one.
    pub fn open(store: S, watermark: Option<PathBuf>, lock: Option<Lock>) -> Result<Proven<S>, StoreError> {
        let mark = watermark.as_deref().map(read_mark).transpose()?.flatten();
        let mut store = store;
        undo(&mut store)?;
        let record = match store.get(RECORD)? {
            Some(bytes) => Some(decode(&bytes)?),
            None => None,
        };
        let fresh = Record { format: FORMAT, ..Record::default() };
        let mut proven = Proven { store, record: fresh, marked: 0, watermark, _lock: lock };
        let Some(record) = record else {
            if let Some(mark) = mark.filter(|mark| mark.commits > 0) {
                let what = format!("it is empty, but {} were acknowledged", count(mark.commits, "commit"));
                return Err(StoreError::Damaged { what });
            }
            let mut any = false;
            proven.store.scan(b"", &mut |_, _| {
                any = true;
                false
            })?;
            if any {
                return Err(StoreError::Damaged { what: "the record of its commits is missing".into() });
            }
            return Ok(proven);
        };
        if record.format > FORMAT {
            return Err(StoreError::Newer { found: record.format, known: FORMAT });
        }
        proven.record = record;
        if let Some(mark) = mark {
            proven.marked = mark.commits;
            if mark.commits > record.commits {
                let missing = mark.commits - record.commits;
                let what = format!(
                    "{} missing: numbers {} to {} were acknowledged and are not there",
                    if missing == 1 { "1 commit is".to_string() } else { format!("{missing} commits are") },
                    record.commits + 1,
                    mark.commits
                );
                return Err(StoreError::Damaged { what });
            }
            if mark.commits == record.commits && mark.sum != record.sum {
                return Err(StoreError::Damaged {
                    what: "its last commit is not the one that was acknowledged".into(),
                });
            }
        }
        if proven.store.size_bytes() <= SMALL {
            proven.verify()?;
        }
        Ok(proven)
    }

    /// Opens a store without checking it, to save what can be read of it.
    pub fn open_unchecked(store: S, lock: Option<Lock>) -> Proven<S> {
        Proven { store, record: Record::default(), marked: 0, watermark: None, _lock: lock }
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

    /// How many batches were committed since it was made.
    pub fn commits(&self) -> u64 {
        self.record.commits
    }

    /// Writes the watermark; durably at a clean end.
    fn mark(&mut self, durable: bool) -> Result<(), StoreError> {
        let Some(path) = &self.watermark else { return Ok(()) };
        let line = format!("{} {:032x}", self.record.commits, self.record.sum);
        let text = format!("{line} {:016x}\n", xxh3_64(line.as_bytes()));
        let temporary = path.with_extension("new");
        let written = std::fs::File::create(&temporary).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            if durable { file.sync_data() } else { Ok(()) }
        });
        written
            .and_then(|()| std::fs::rename(&temporary, path))
            .map_err(|error| StoreError::io("write", path, &error))?;
        if durable {
            sync_parent(path);
        }
        self.marked = self.record.commits;
        Ok(())
    }
}

fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn decode(bytes: &[u8]) -> Result<Record, StoreError> {
    let unreadable = || StoreError::Damaged { what: "the record of its commits is not readable".into() };
    let (format, body) = bytes.split_first_chunk::<4>().ok_or_else(unreadable)?;
    let format = u32::from_le_bytes(*format);
    if format > FORMAT {
        return Ok(Record { format, ..Record::default() });
    }
    let (check, body) = body.split_first_chunk::<8>().ok_or_else(unreadable)?;
    if u64::from_le_bytes(*check) != xxh3_64(body) {
        return Err(unreadable());
    }
    let (commits, sum) = postcard::from_bytes(body).map_err(|_| unreadable())?;
    Ok(Record { format, commits, sum })
}

fn encode(record: &Record) -> Vec<u8> {
    let body = postcard::to_stdvec(&(record.commits, record.sum)).unwrap_or_default();
    [&record.format.to_le_bytes()[..], &xxh3_64(&body).to_le_bytes(), &body].concat()
}

/// Undoes the batch that did not come to its end, if there is one.
fn undo(store: &mut impl Store) -> Result<(), StoreError> {
    let Some(bytes) = store.get(UNDO)? else { return Ok(()) };
    let unreadable = || StoreError::Damaged { what: "what undoes its last batch is not readable".into() };
    let (check, body) = bytes.split_first_chunk::<8>().ok_or_else(unreadable)?;
    if u64::from_le_bytes(*check) != xxh3_64(body) {
        return Err(unreadable());
    }
    let undo: Undo = postcard::from_bytes(body).map_err(|_| unreadable())?;
    // Each in a write of its own, so that undoing may itself be broken off, and be done again.
    for (key, value) in undo.before {
        store.commit(&Batch { writes: vec![(key, value)] })?;
    }
    store.commit(&Batch { writes: vec![(UNDO.to_vec(), None)] })?;
    store.flush()
}

fn encode_undo(undo: &Undo) -> Vec<u8> {
    let body = postcard::to_stdvec(undo).unwrap_or_default();
    [&xxh3_64(&body).to_le_bytes()[..], &body].concat()
}

/// The watermark; none where there is no such file.
fn read_mark(path: &Path) -> Result<Option<Record>, StoreError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("read", path, &error)),
    };
    let unreadable =
        || StoreError::Damaged { what: format!("the watermark {} is not readable", path.display()) };
    let (line, check) = text.trim_end().rsplit_once(' ').ok_or_else(unreadable)?;
    if u64::from_str_radix(check, 16) != Ok(xxh3_64(line.as_bytes())) {
        return Err(unreadable());
    }
    let (commits, sum) = line.split_once(' ').ok_or_else(unreadable)?;
    let commits = commits.parse().map_err(|_| unreadable())?;
    let sum = u128::from_str_radix(sum, 16).map_err(|_| unreadable())?;
    Ok(Some(Record { format: FORMAT, commits, sum }))
}

impl<S: Store> Store for Proven<S> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(key)
    }

    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.store.scan(prefix, &mut |key, value| key.starts_with(OWN) || visit(key, value))
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let mut record = self.record;
        record.commits += 1;
        let large = batch.bytes() >= LARGE_BYTES;
        let mut before = Vec::new();
        for (key, value) in &batch.writes {
            let old = self.store.get(key)?;
            if let Some(old) = &old {
                record.sum = record.sum.wrapping_sub(hash(key, old));
            }
            if let Some(value) = value {
                record.sum = record.sum.wrapping_add(hash(key, value));
            }
            if large {
                before.push((key.clone(), old));
            }
        }
        if large {
            before.push((RECORD.to_vec(), self.store.get(RECORD)?));
            let mut undo = Batch::default();
            undo.put(UNDO.to_vec(), encode_undo(&Undo { commit: record.commits, before }));
            self.store.commit(&undo)?;
        }
        let mut batch = batch.clone();
        batch.put(RECORD.to_vec(), encode(&record));
        self.store.commit(&batch)?;
        if large {
            self.store.commit(&Batch { writes: vec![(UNDO.to_vec(), None)] })?;
        }
        self.record = record;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.store.flush()?;
        if self.marked == 0 || self.record.commits >= self.marked + COMMITS_A_MARK {
            self.mark(false)?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), StoreError> {
        self.store.end()?;
        if self.record.commits > self.marked {
            self.mark(true)?;
        }
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.store.size_bytes()
    }
}

impl<S> Proven<S> {
    /// The store without its proof.
    pub fn inner(&mut self) -> &mut S {
        &mut self.store
    }
}

impl<S: Store> Proven<S> {
    /// Ends cleanly: everything durable, and the watermark with it.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.end()
    }
}
