//! The store in a folder: a database with its proof, and a write-ahead log before it.
//!
//! sled is at its best with large batches. A small one costs it a page of up to sixteen keys with every ninth, and a hand-over to
//! one of its threads, of which seven wake for each write. So small commits go to the [log](super::wal) and the
//! [memtable](super::memtable), and to sled together, when the log is full or a large one comes, which takes what waits with it
//! in one batch. A store that fits the log has no database yet.

use std::path::{Path, PathBuf};

use crate::kv::{Batch, Read, Store, StoreError, Visit};

use super::change::{Change, Writes};
use super::digest::Check;
use super::memtable::Memtable;
use super::raw::RawTree;
use super::tree::{self, Tree};
use super::wal::{self, Wal};
use super::{Lock, Report, SledTree, Verified, compact, watermark};

/// Batches up to this size go to the log, in bytes.
const SMALL_BATCH: usize = 16 << 10;

/// When so many bytes are gone with what waits, the database is told of it, in bytes.
const MUCH_REMOVED: u64 = 4 << 20;

/// Databases up to this size are read and added up before sled opens them, in bytes. Larger ones are when something in their
/// log looks as if sled would throw it away.
const READ_BEFORE: u64 = 256 << 20;

/// After so many flushes it is looked whether all files are where they were. That there is a log is looked at with each.
const FLUSHES_A_CHECK: u32 = 16;

/// The store in a folder, opened by this process alone.
pub struct DiskStore {
    folder: PathBuf,
    database: Verified<Tree>,
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
    flushes: u32,
    /// The folder, of a store that is only looked at.
    looked_at: Option<PathBuf>,
}

/// A store for reading, also while another thread writes to it.
#[derive(Clone)]
pub struct Reader {
    database: tree::Reader,
    memtable: Memtable,
}

/// What looking at a database before it is opened has found.
struct Looked {
    /// The bytes that it holds, when all of it was added up.
    held: Option<u64>,
    /// It was being made, and nothing in it counts.
    is_void: bool,
}

impl DiskStore {
    /// Opens the store in a folder, or makes it there. Errors: another process has it, it is damaged or of a newer format,
    /// the disk can't be read or written. A damaged store is left as it is.
    pub fn open(folder: &Path) -> Result<DiskStore, StoreError> {
        let lock = Lock::take(folder)?;
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
        // Nothing is written before all is known to be whole.
        database.sign()?;
        Ok(DiskStore::new(folder, database, wal, writes))
    }

    /// Opens the store in a folder to look at it. Nothing in the folder is changed, and it need not be writable. Errors: as
    /// those of [`DiskStore::open`], and there is none.
    pub fn look(folder: &Path) -> Result<DiskStore, StoreError> {
        let lock = Lock::look(folder)?;
        let (tree, watermark) = (still(&folder.join("journal"))?, folder.join("watermark"));
        let database = Verified::open_with(Tree::still(tree), Some(watermark), Some(lock), Check::UpTo(0))?;
        let (wal, writes) = Wal::look(&folder.join("wal"), database.commits(), database.frames())?;
        Ok(DiskStore {
            looked_at: Some(folder.to_path_buf()),
            ..DiskStore::new(folder, database, wal, writes)
        })
    }

    /// Reads all that can be read of a store that may be damaged, and says what can't. Nothing in the folder is changed.
    pub fn salvage(folder: &Path) -> Result<(DiskStore, Vec<String>), StoreError> {
        let lock = Lock::look(folder)?;
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
            folder: folder.to_path_buf(),
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

    /// Checks that what it writes to is still what is in its folder.
    fn check_files(&self, fully: bool) -> Result<(), StoreError> {
        self.wal.check(fully)?;
        if fully {
            self.database.check_lock()?;
            self.database.check_file()?;
        }
        Ok(())
    }

    /// The result of a write; of one that failed because the files are gone, that they are.
    fn explained<R>(&self, result: Result<R, StoreError>) -> Result<R, StoreError> {
        match result {
            Err(error @ (StoreError::Io { .. } | StoreError::Broken { .. })) => {
                self.check_files(true)?;
                Err(error)
            }
            result => result,
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
            let reason = "it was opened to be looked at".into();
            return Err(StoreError::ReadOnly { folder: folder.clone(), reason });
        }
        if let Some(key) = batch.repeated() {
            let what = format!("a batch has the key {} twice", String::from_utf8_lossy(key));
            return Err(StoreError::Internal { what });
        }
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
        // What is acknowledged must be where it is looked for.
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

impl DiskStore {
    fn take(&mut self, batch: &Batch) -> Result<(), StoreError> {
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

    fn make_durable(&mut self) -> Result<(), StoreError> {
        if self.removed > MUCH_REMOVED {
            self.settle(&Batch::default())?;
        }
        // The frames of a generation come when the database is at it durably.
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
        self.database.compact()?;
        if !self.memtable.is_empty() {
            // What fits the log stays there.
            return self.database.end_with(self.wal.frames(self.database.commits()));
        }
        self.database.end_with(None)?;
        self.database.acknowledge(0)?;
        self.wal.remove()
    }
}

/// Where the database of a store is, which a compaction that was broken off may have left under another name.
fn existing(path: &Path) -> PathBuf {
    let old = compact::old(path);
    if !path.exists() && old.exists() { old } else { path.to_path_buf() }
}

/// The database of a store, to be looked at.
fn still(path: &Path) -> Result<RawTree, StoreError> {
    let path = existing(path);
    if path.exists() { RawTree::open(&path) } else { Ok(RawTree::empty()) }
}

/// Reads a store as it will be opened, and changes nothing: whoever opens the database changes it.
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
        // Nothing of a database that was being made was acknowledged.
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
