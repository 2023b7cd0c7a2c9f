//! The store in a folder: a database with its proof, and a write-ahead log before it.
//!
//! sled is at its best with large batches. A small one costs it a page of up to sixteen keys with every ninth, and a hand-over to
//! one of its threads, of which seven wake for each write. So small commits go to the [log](super::wal) and the
//! [memtable](super::memtable), and to sled together, when the log is full or a large one comes, which takes what waits with it
//! in one batch. A store that fits the log has no database yet.

use std::path::{Path, PathBuf};

use crate::engine::{Batch, Read};

use super::change::{Change, Writes};
use super::memtable::Memtable;
use super::wal::{self, Wal};
use super::{Lock, Pair, Proven, Report, SledTree, Store, StoreError, Visit, collected, sled};

/// Batches up to this size go to the log, in bytes.
const SMALL_BATCH: usize = 16 << 10;

/// When so many bytes are gone with what waits, the database is told of it, in bytes.
const MUCH_REMOVED: u64 = 4 << 20;

/// The store in a folder, opened by this process alone.
pub struct DiskStore {
    folder: PathBuf,
    database: Proven<SledTree>,
    wal: Wal,
    memtable: Memtable,
    /// What is in the memtable and not in the log.
    unlogged: Vec<Change>,
    /// The bytes of it.
    unlogged_bytes: usize,
    /// The bytes of the database's values that are removed in the memtable, as far as this process removed them.
    removed: u64,
    /// Something was committed by this process.
    has_changed: bool,
    /// The database has commits that are not durable, or may have: of what a process wrote that was killed, some may be in the
    /// system's memory alone.
    is_dirty: bool,
}

/// A store for reading, also while another thread writes to it.
#[derive(Clone)]
pub struct Reader {
    database: sled::Reader,
    memtable: Memtable,
}

impl DiskStore {
    /// Opens the store in a folder, or makes it there. Errors: another process has it, it is damaged or of a newer format,
    /// the disk can't be read or written.
    pub fn open(folder: &Path) -> Result<DiskStore, StoreError> {
        let lock = Lock::take(folder)?;
        let tree = SledTree::open(&folder.join("journal"))?;
        let database = Proven::open(tree, Some(folder.join("watermark")), Some(lock))?;
        let (wal, writes) = Wal::open(&folder.join("wal"), database.commits(), database.frames())?;
        Ok(DiskStore::new(folder, database, wal, writes))
    }

    /// Opens a store without checking it, to save what can be read of it.
    pub fn open_unchecked(folder: &Path) -> Result<DiskStore, StoreError> {
        let lock = Lock::take(folder)?;
        let tree = SledTree::open(&folder.join("journal"))?;
        let database = Proven::open_unchecked(tree, Some(lock));
        let (wal, writes) = Wal::open_unchecked(&folder.join("wal"), database.commits());
        Ok(DiskStore::new(folder, database, wal, writes))
    }

    fn new(folder: &Path, database: Proven<SledTree>, wal: Wal, writes: Writes) -> DiskStore {
        let memtable = Memtable::default();
        memtable.extend(writes);
        DiskStore {
            folder: folder.to_path_buf(),
            database,
            wal,
            memtable,
            unlogged: Vec::new(),
            unlogged_bytes: 0,
            removed: 0,
            has_changed: false,
            is_dirty: true,
        }
    }

    /// The folder that it is in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The same store for reading, also while it is written to; all of them must be gone when it ends.
    pub fn reader(&self) -> Reader {
        Reader { database: self.database.reader(), memtable: self.memtable.clone() }
    }

    /// How many batches the database got since it was made.
    pub fn commits(&self) -> u64 {
        self.database.commits()
    }

    /// Adds up everything.
    pub fn verify(&self) -> Result<Report, StoreError> {
        let mut report = self.database.verify()?;
        for (key, value) in self.memtable.with_prefix(b"") {
            for (pair, sign) in [(Store::get(&self.database, &key)?, -1), (value, 1)] {
                if let Some(value) = pair {
                    report.keys = report.keys.wrapping_add_signed(sign);
                    report.bytes = report.bytes.wrapping_add_signed(sign * (key.len() + value.len()) as i64);
                }
            }
        }
        Ok(report)
    }

    /// Ends cleanly: everything durable, and the watermark with it.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.end()
    }

    /// Gives the database what waits and a batch, as one.
    fn settle(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.is_dirty = true;
        match self.memtable.is_empty() {
            true => self.database.commit(batch)?,
            false => self.database.commit(&Batch { writes: self.memtable.with(&batch.writes) })?,
        }
        // Only now: who reads meanwhile finds it here or there.
        self.memtable.clear();
        self.unlogged.clear();
        self.unlogged_bytes = 0;
        self.removed = 0;
        Ok(())
    }

    /// Counts what a batch removes that only the database has.
    fn count_removed(&mut self, batch: &Batch) -> Result<(), StoreError> {
        for (key, _) in batch.writes.iter().filter(|(_, value)| value.is_none()) {
            if !self.memtable.has(key) {
                self.removed += Store::get(&self.database, key)?.map_or(0, |value| value.len() as u64);
            }
        }
        Ok(())
    }
}

impl Store for DiskStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.memtable.get(key, || Store::get(&self.database, key))
    }

    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.memtable.scan(prefix, |visit| self.database.scan(prefix, visit), visit)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.has_changed = true;
        let generation = self.database.commits();
        // As long as all of a store fits the log there is no database.
        let most = if generation == 0 { wal::CAPACITY } else { SMALL_BATCH };
        // A large one may be small in a log that has something of it already.
        let whole = if self.memtable.is_empty() { most } else { wal::CAPACITY };
        if batch.bytes() > whole {
            return self.settle(batch);
        }
        let changes = batch.writes.iter().map(|(key, value)| self.memtable.change(key, value.as_deref()));
        let changes: Vec<Change> = changes.collect();
        let bytes: usize = changes.iter().map(Change::bytes).sum();
        if bytes > most || !self.wal.has_room(generation, self.unlogged_bytes + bytes) {
            return self.settle(batch);
        }
        self.count_removed(batch)?;
        self.unlogged_bytes += bytes;
        self.unlogged.extend(changes);
        self.memtable.extend(batch.writes.iter().cloned());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if self.removed > MUCH_REMOVED {
            self.settle(&Batch::default())?;
        }
        // The frames of a generation come when the database is at it durably.
        if self.is_dirty {
            self.database.flush()?;
            self.is_dirty = false;
            self.database.compact_if_shrunk()?;
        }
        if !self.unlogged.is_empty() {
            self.wal.append(self.database.commits(), &self.unlogged)?;
            self.unlogged.clear();
            self.unlogged_bytes = 0;
            if self.database.frames().is_none() {
                self.database.begin_log()?;
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), StoreError> {
        if self.removed > 0 && self.database.is_worth_a_look() {
            self.settle(&Batch::default())?;
        }
        self.flush()?;
        if !self.has_changed {
            // A store that was only read stays as it is.
            return self.database.end();
        }
        self.database.compact()?;
        if !self.memtable.is_empty() {
            // What fits the log stays there.
            return self.database.end_with(self.wal.frames(self.database.commits()));
        }
        self.database.end_with(None)?;
        self.wal.remove()
    }

    fn size_bytes(&self) -> u64 {
        self.database.size_bytes()
    }
}

impl Reader {
    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.memtable.get(key, || self.database.get(key))
    }

    /// Visits all keys with a prefix, in order.
    pub fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.memtable.scan(prefix, |visit| self.database.scan(prefix, visit), visit)
    }
}

impl Read for Reader {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        self.get(key).map_err(|error| error.to_string())
    }

    fn all(&self, prefix: &[u8]) -> Result<Vec<Pair>, String> {
        collected(|visit| self.scan(prefix, visit)).map_err(|error| error.to_string())
    }
}
