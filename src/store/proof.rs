//! The proof that nothing is missing.
//!
//! sled loses data without a word when its files are damaged, so the store carries its own account. With each batch
//! goes a record of its number and of the *sum* of everything the store then holds: the sum, modulo 2^128, of a
//! 128-bit hash of each key with its value. A batch changes the sum by what it adds and removes, so keeping it costs
//! no reading of anything else, and adding up all keys must give it again. A small file beside the database, the
//! watermark, says how far the numbers must reach at least; it is written with the first commit, from time to time, and at
//! a clean end. Opening checks the number against the watermark, and the sum as well unless the store is large.
//!
//! A tree writes in order, and may be left with a first part of what it was given. So the record of a small batch goes before
//! it, and has its writes: what was broken off is *made again* at opening. Before a large batch goes what *undoes* it,
//! its keys with the values that they had, and the record follows; then what undoes it is removed. Where that is
//! found at opening, the batch was not acknowledged, and is undone. The one costs the values once more, the other reads
//! what they were, and writes no more than the keys when they are new.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::engine::Batch;

use super::lock::sync_parent;
use super::{DiskStore, Lock, Reader, Store, StoreError, Visit};

/// The format of stores that this version writes. The first had no writes in its record.
pub const FORMAT: u32 = 2;

/// The key of the record.
const RECORD: &[u8] = b"!proof";

/// The key of what undoes the batch under way.
const UNDO: &[u8] = b"!undo";

/// Batches from this size on are undone, not made again, in bytes of keys and values.
pub const LARGE_BYTES: usize = 4096;

/// A tree may keep values from this size on apart from its log, so that they are durable later than what follows them.
const APART_BYTES: usize = 96 << 10;

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

/// A key, and its value if it has one.
type Write = (Vec<u8>, Option<Vec<u8>>);

/// A write in a list of them in the order of their keys: how many bytes its key shares with the one before, the
/// others, and the value.
#[derive(Serialize, Deserialize)]
struct Packed<'a> {
    shared: usize,
    #[serde(borrow)]
    rest: &'a [u8],
    #[serde(borrow)]
    value: Option<&'a [u8]>,
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
        let record = store.get(RECORD)?.map(|bytes| decode(&bytes)).transpose()?;
        let fresh = Record { format: FORMAT, ..Record::default() };
        let mut proven = Proven { store, record: fresh, marked: 0, watermark, _lock: lock };
        let Some((record, last)) = record else {
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
        make_again(&mut proven.store, last)?;
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

    /// Ends cleanly: everything durable, and the watermark with it.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.end()
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

/// The record, and the writes of its batch when they are to be made again.
fn decode(bytes: &[u8]) -> Result<(Record, Vec<Write>), StoreError> {
    let unreadable = || StoreError::Damaged { what: "the record of its commits is not readable".into() };
    let (format, body) = bytes.split_first_chunk::<4>().ok_or_else(unreadable)?;
    let format = u32::from_le_bytes(*format);
    if format > FORMAT {
        return Ok((Record { format, ..Record::default() }, Vec::new()));
    }
    let body = checked(body).ok_or_else(unreadable)?;
    let ((commits, sum), rest) = postcard::take_from_bytes(body).map_err(|_| unreadable())?;
    let writes = unpack(rest).ok_or_else(unreadable)?;
    Ok((Record { format, commits, sum }, writes))
}

fn encode(record: &Record, writes: &[Write]) -> Vec<u8> {
    let mut body = postcard::to_stdvec(&(record.commits, record.sum)).unwrap_or_default();
    pack(writes, &mut body);
    [&FORMAT.to_le_bytes()[..], &with_check(&body)].concat()
}

/// Adds writes to bytes.
fn pack(writes: &[Write], out: &mut Vec<u8>) {
    let mut before: &[u8] = &[];
    for (key, value) in writes {
        let shared = before.iter().zip(key).take_while(|(a, b)| a == b).count();
        let packed = Packed { shared, rest: &key[shared..], value: value.as_deref() };
        // Writing to memory has no way to fail.
        if let Ok(bytes) = postcard::to_extend(&packed, std::mem::take(out)) {
            *out = bytes;
        }
        before = key;
    }
}

/// The writes of such bytes; none when they are something else.
fn unpack(mut bytes: &[u8]) -> Option<Vec<Write>> {
    let mut writes: Vec<Write> = Vec::new();
    while !bytes.is_empty() {
        let (packed, rest) = postcard::take_from_bytes::<Packed<'_>>(bytes).ok()?;
        let before = writes.last().map_or(&[][..], |(key, _)| key);
        let key = [before.get(..packed.shared)?, packed.rest].concat();
        writes.push((key, packed.value.map(<[u8]>::to_vec)));
        bytes = rest;
    }
    Some(writes)
}

/// Bytes after their checksum.
fn with_check(body: &[u8]) -> Vec<u8> {
    [&xxh3_64(body).to_le_bytes()[..], body].concat()
}

/// What comes after the checksum of it.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (check, body) = bytes.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*check) == xxh3_64(body)).then_some(body)
}

/// Makes those of a batch's writes that are not there.
fn make_again(store: &mut impl Store, writes: Vec<Write>) -> Result<(), StoreError> {
    let mut missing = Vec::new();
    for (key, value) in writes {
        if store.get(&key)? != value {
            missing.push((key, value));
        }
    }
    if missing.is_empty() { Ok(()) } else { store.commit(&Batch { writes: missing }) }
}

/// Undoes the batch that did not come to its end, if there is one.
fn undo(store: &mut impl Store) -> Result<(), StoreError> {
    let Some(bytes) = store.get(UNDO)? else { return Ok(()) };
    let before = checked(&bytes).and_then(unpack);
    let unreadable = || StoreError::Damaged { what: "what undoes its last batch is not readable".into() };
    // In an order in which undoing may itself be broken off, and be done again.
    store.commit(&Batch { writes: before.ok_or_else(unreadable)? })?;
    store.commit(&Batch { writes: vec![(UNDO.to_vec(), None)] })?;
    store.flush()
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
            self.commit_large(batch, &record, before)?;
        } else {
            let bytes = encode(&record, &batch.writes);
            self.store.commit(&Batch { writes: vec![(RECORD.to_vec(), Some(bytes))] })?;
            self.store.commit(batch)?;
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

impl<S: Store> Proven<S> {
    /// Writes a batch so that it can be undone; `before` is what its keys have now.
    fn commit_large(
        &mut self,
        batch: &Batch,
        record: &Record,
        mut before: Vec<Write>,
    ) -> Result<(), StoreError> {
        before.push((RECORD.to_vec(), self.store.get(RECORD)?));
        let mut undo = Vec::new();
        pack(&before, &mut undo);
        let undo = with_check(&undo);
        let apart = undo.len() >= APART_BYTES;
        self.store.commit(&Batch { writes: vec![(UNDO.to_vec(), Some(undo))] })?;
        if apart {
            self.store.flush()?;
        }
        self.store.commit(batch)?;
        if batch.writes.iter().flat_map(|(_, value)| value).any(|value| value.len() >= APART_BYTES) {
            self.store.flush()?;
        }
        let record = encode(record, &[]);
        self.store.commit(&Batch { writes: vec![(RECORD.to_vec(), Some(record)), (UNDO.to_vec(), None)] })
    }
}

impl DiskStore {
    /// The same store for reading, also while it is written to; all of them must be gone when it ends.
    pub fn reader(&self) -> Reader {
        self.store.reader()
    }
}
