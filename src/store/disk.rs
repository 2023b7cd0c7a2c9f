//! The store in a folder: a verified database with a write-ahead log before it.
//!
//! sled is at its best with large batches. In a small batch, every ninth key rewrites a page of up
//! to sixteen keys, and each write is handed to one of sled's threads, of which seven wake. So
//! small commits go to the [log](super::wal) and the [memtable](super::memtable). They go to sled
//! as one batch, when the log is full or together with a large batch. A store that fits the log has
//! no database yet.

use std::path::{Path, PathBuf};

use crate::kv::{self, Batch, Cause, Endpoint, Read, SharedStore, Store, StoreError, Visit};

use super::change::{Change, Writes};
use super::digest::Check;
use super::memtable::Memtable;
use super::raw::RawTree;
use super::tree::{self, Tree};
use super::wal::{self, Wal};
use super::{Lock, Report, SledTree, Verified, compact, watermark};

/// The size in bytes up to which batches go to the log.
const SMALL_BATCH: usize = 16 << 10;

/// The number of bytes of removed values above which the memtable's writes go to the database.
const MUCH_REMOVED: u64 = 4 << 20;

/// The size in bytes up to which a database is read and added up before sled opens it. A larger
/// database is added up if something in its log looks as if sled would discard it.
const READ_BEFORE: u64 = 256 << 20;

/// The number of flushes between checks that all files are still in their places. Each flush checks
/// that the log exists.
const FLUSHES_A_CHECK: u32 = 16;

/// The store in a folder, opened by this process alone.
pub struct DiskStore {
    endpoint: Endpoint,
    database: Verified<Tree>,
    wal: Wal,
    memtable: Memtable,
    /// The changes in the memtable that are not in the log.
    unlogged: Vec<Change>,
    /// An upper bound of the encoded size of `unlogged` in bytes.
    unlogged_bytes: usize,
    /// The bytes of the database's values that the memtable removes, as far as this process removed
    /// them.
    removed: u64,
    /// Whether this process committed anything.
    has_changed: bool,
    /// Whether the database may have commits that are not durable. Writes of an earlier process
    /// that was killed may be in the system's memory alone.
    is_dirty: bool,
    flushes: u32,
    /// The folder of a store that was opened to be looked at; `None` for other stores.
    looked_at: Option<PathBuf>,
}

/// A reader of the store, also while another thread writes to the store.
struct Reader {
    database: tree::Reader,
    memtable: Memtable,
}

/// The result of reading a database before it is opened.
struct Looked {
    /// The number of bytes that it holds, if all of it was added up.
    held: Option<u64>,
    /// Whether the database is unfinished, so that nothing in it counts.
    is_void: bool,
}

impl DiskStore {
    /// Opens the store in a folder, and makes the folder if there is none. Fails if another process
    /// has the store, if the store is damaged or of a newer format, or if the disk can't be read or
    /// written. A damaged store stays as it is.
    pub fn open(folder: &Path) -> Result<DiskStore, StoreError> {
        let lock = Lock::take(&Endpoint::new(folder))?;
        let unused = lock.removal();
        let opened = DiskStore::open_locked(folder, lock);
        if opened.is_err() {
            unused();
        }
        opened
    }

    fn open_locked(folder: &Path, lock: Lock) -> Result<DiskStore, StoreError> {
        let path = folder.join("journal");
        let looked = looked_before(folder, &path, &lock)?;
        if looked.is_void {
            compact::remove(&path)?;
        }
        let tree = Tree::Live(SledTree::open(&path)?);
        let check = looked.held.map_or(Check::UpTo(READ_BEFORE), Check::Done);
        let database = Verified::open_with(tree, Some(folder.join("watermark")), Some(lock), check)?;
        let (wal, writes) = Wal::open(&folder.join("wal"), database.commits(), database.frames())?;
        // Nothing is written before everything is known to be whole.
        database.sign()?;
        Ok(DiskStore::new(folder, database, wal, writes))
    }

    /// Opens the store in a folder to look at it. Nothing in the folder changes, and the folder
    /// need not be writable. A folder that is missing reads as an empty store. Fails for the
    /// reasons of [`DiskStore::open`].
    pub fn look(folder: &Path) -> Result<DiskStore, StoreError> {
        let lock = Lock::look(&Endpoint::new(folder))?;
        let (tree, watermark) = (still(&folder.join("journal"))?, folder.join("watermark"));
        let database = Verified::open_with(Tree::still(tree), Some(watermark), Some(lock), Check::UpTo(0))?;
        let (wal, writes) = Wal::look(&folder.join("wal"), database.commits(), database.frames())?;
        Ok(DiskStore {
            looked_at: Some(folder.to_path_buf()),
            ..DiskStore::new(folder, database, wal, writes)
        })
    }

    /// Reads everything readable of a store that may be damaged, and describes the losses. Nothing
    /// in the folder changes.
    pub fn salvage(folder: &Path) -> Result<(DiskStore, Vec<String>), StoreError> {
        let lock = Lock::look(&Endpoint::new(folder))?;
        let path = existing(&folder.join("journal"));
        let (tree, mut lost) =
            if path.exists() { RawTree::salvage(&path) } else { (RawTree::empty(), Vec::new()) };
        let database = Verified::open_unchecked(Tree::still(tree), Some(lock));
        let (wal, writes, of_log) = Wal::salvage(&folder.join("wal"), database.commits());
        lost.extend(of_log);
        let store = DiskStore {
            looked_at: Some(folder.to_path_buf()),
            ..DiskStore::new(folder, database, wal, writes)
        };
        Ok((store, lost))
    }

    fn new(folder: &Path, database: Verified<Tree>, wal: Wal, writes: Writes) -> DiskStore {
        let memtable = Memtable::default();
        memtable.extend(writes);
        DiskStore {
            endpoint: Endpoint::new(folder),
            database,
            wal,
            memtable,
            unlogged: Vec::new(),
            unlogged_bytes: 0,
            removed: 0,
            has_changed: false,
            is_dirty: true,
            flushes: 0,
            looked_at: None,
        }
    }

    /// Checks that the files in the folder are still those that the store writes to.
    fn check_files(&self, fully: bool) -> Result<(), StoreError> {
        self.wal.check(fully)?;
        if fully {
            self.database.check_lock()?;
            self.database.check_file()?;
        }
        Ok(())
    }

    /// Returns the result of a write. If the write failed because the files are gone, the error
    /// says so.
    fn explained<R>(&self, result: Result<R, StoreError>) -> Result<R, StoreError> {
        match result {
            Err(error @ (StoreError::Full { .. } | StoreError::Io { .. } | StoreError::Broken { .. })) => {
                self.check_files(true)?;
                Err(error)
            }
            result => result,
        }
    }

    /// Returns the folder of the store.
    pub fn folder(&self) -> &Path {
        self.endpoint.folder()
    }

    /// Returns the number of batches that the database got since it was made.
    pub fn commits(&self) -> u64 {
        self.database.commits()
    }

    /// Adds up everything, and checks the sum of the database.
    pub fn verify(&self) -> Result<Report, StoreError> {
        let mut report = self.database.verify()?;
        for (key, value) in self.memtable.writes_from(b"", b"") {
            for (pair, sign) in [(self.database.get(&key)?, -1), (value, 1)] {
                if let Some(value) = pair {
                    report.keys = report.keys.wrapping_add_signed(sign);
                    report.bytes = report.bytes.wrapping_add_signed(sign * (key.len() + value.len()) as i64);
                }
            }
        }
        Ok(report)
    }

    /// Ends the store cleanly: all commits and the watermark are durable.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.end()
    }

    /// Gives the database the memtable and a batch, as one batch.
    fn settle(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.is_dirty = true;
        match self.memtable.is_empty() {
            true => self.database.commit(batch)?,
            false => self.database.commit(&Batch::from(self.memtable.with(&batch.writes)))?,
        }
        // Clears the memtable last, so that concurrent readers find the writes in one place or the
        // other.
        self.memtable.clear();
        self.unlogged.clear();
        self.unlogged_bytes = 0;
        self.removed = 0;
        Ok(())
    }

    /// Counts the bytes that a batch removes from the database alone.
    fn count_removed(&mut self, batch: &Batch) -> Result<(), StoreError> {
        for (key, _) in batch.writes.iter().filter(|(_, value)| value.is_none()) {
            if !self.memtable.has(key) {
                self.removed += self.database.get(key)?.map_or(0, |value| value.len() as u64);
            }
        }
        Ok(())
    }
}

impl Read for DiskStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.memtable.get(key, || self.database.get(key))
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.memtable.scan_from(prefix, from, |visit| self.database.scan_from(prefix, from, visit), visit)
    }
}

impl Store for DiskStore {
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if let Some(folder) = &self.looked_at {
            let source = Cause::new("it was opened to be looked at");
            return Err(StoreError::ReadOnly { folder: folder.clone(), source });
        }
        if let Some(key) = batch.repeated() {
            let what = format!("a batch has the key {} twice", String::from_utf8_lossy(key));
            return Err(StoreError::Internal { what });
        }
        batch.stays_here()?;
        let result = self.take(batch);
        self.explained(result)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if self.looked_at.is_some() {
            return Ok(());
        }
        let reaches_database = self.is_dirty;
        let result = self.make_durable();
        self.explained(result)?;
        // Acknowledged data must be where the next process looks for it.
        self.flushes = self.flushes.wrapping_add(1);
        self.check_files(reaches_database || self.flushes.is_multiple_of(FLUSHES_A_CHECK))
    }

    fn end(&mut self) -> Result<(), StoreError> {
        if self.looked_at.is_some() {
            return Ok(());
        }
        let result = self.end_cleanly();
        self.explained(result)
    }

    fn size_bytes(&self) -> u64 {
        self.database.size_bytes()
    }
}

impl SharedStore for DiskStore {
    fn reader(&self) -> kv::Reader {
        kv::Reader::new(Reader { database: self.database.reader(), memtable: self.memtable.clone() })
    }

    fn endpoint(&self) -> Option<Endpoint> {
        Some(self.endpoint.clone())
    }
}

impl DiskStore {
    fn take(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.has_changed = true;
        let generation = self.database.commits();
        // As long as the whole store fits the log, there is no database.
        let most = if generation == 0 { wal::CAPACITY } else { SMALL_BATCH };
        // A large batch may have small changes in a log that has parts of it already.
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

    fn make_durable(&mut self) -> Result<(), StoreError> {
        if self.removed > MUCH_REMOVED {
            self.settle(&Batch::default())?;
        }
        // Frames of a generation are written only when the database has durably reached it.
        if self.is_dirty {
            self.database.flush()?;
            self.is_dirty = false;
            self.database.compact_if_shrunk()?;
            if self.unlogged.is_empty() && self.has_changed {
                let frames = self.wal.frames(self.database.commits());
                self.database.acknowledge(frames.unwrap_or(0))?;
            }
        }
        if !self.unlogged.is_empty() {
            self.wal.append(self.database.commits(), &self.unlogged)?;
            self.unlogged.clear();
            self.unlogged_bytes = 0;
            let frames = self.wal.frames(self.database.commits());
            self.database.acknowledge(frames.unwrap_or(0))?;
            if !self.database.has_log() {
                self.database.begin_log()?;
            }
        }
        Ok(())
    }

    fn end_cleanly(&mut self) -> Result<(), StoreError> {
        if self.removed > 0 && self.database.is_worth_a_look() {
            self.settle(&Batch::default())?;
        }
        self.flush()?;
        if !self.has_changed {
            // A store that was only read stays as it is.
            return self.database.end();
        }
        self.database.compact_at_end()?;
        if !self.memtable.is_empty() {
            // Writes that fit the log stay there.
            return self.database.end_with(self.wal.frames(self.database.commits()));
        }
        self.database.end_with(None)?;
        self.database.acknowledge(0)?;
        self.wal.remove()
    }
}

/// Returns the place of a store's database. A compaction that broke off may have left it under
/// another name.
fn existing(path: &Path) -> PathBuf {
    let old = compact::old(path);
    if !path.exists() && old.exists() { old } else { path.to_path_buf() }
}

/// Opens the database of a store to look at it.
fn still(path: &Path) -> Result<RawTree, StoreError> {
    let path = existing(path);
    if path.exists() { RawTree::open(&path) } else { Ok(RawTree::empty()) }
}

/// Reads a store before sled opens it. This changes nothing, whereas opening the database changes
/// it.
fn looked_before(folder: &Path, path: &Path, lock: &Lock) -> Result<Looked, StoreError> {
    if !existing(path).exists() {
        return Ok(Looked { held: None, is_void: false });
    }
    let watermark = folder.join("watermark");
    let checked = || -> Result<Option<u64>, StoreError> {
        let tree = still(path)?;
        if tree.size_bytes() > READ_BEFORE && !tree.is_torn() {
            return Ok(None);
        }
        let known = lock.again();
        let database =
            Verified::open_with(tree, Some(watermark.clone()), Some(known), Check::UpTo(u64::MAX))?;
        Wal::look(&folder.join("wal"), database.commits(), database.frames())?;
        Ok(database.held())
    };
    match checked() {
        Ok(held) => Ok(Looked { held, is_void: false }),
        // Nothing in an unfinished database was acknowledged.
        Err(StoreError::Damaged { .. }) if super::sled::mark_of(path).exists() => {
            let acknowledged = lock.acknowledged().map_or(0, |known| known.commits);
            match watermark::read(&watermark)?.record.commits.max(acknowledged) {
                0 => Ok(Looked { held: None, is_void: true }),
                _ => Err(StoreError::Damaged {
                    what: "the database was made anew over one that held something".into(),
                }),
            }
        }
        Err(error) => Err(error),
    }
}

impl Read for Reader {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.memtable.get(key, || self.database.get(key))
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.memtable.scan_from(prefix, from, |visit| self.database.scan_from(prefix, from, visit), visit)
    }
}
