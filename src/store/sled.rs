//! A store in a folder, in sled 0.34.7.
//!
//! This module makes up for what sled lacks:
//!
//! - sled's flush is `sync_file_range` on Linux, which does not survive a power loss (sled issue
//!   1452). So `sync_data` follows each flush, on the same file and on the files of large values.
//! - sled never flushes on its own here, so that one flush serves all commits before it.
//! - sled panics on some damaged files. Such a panic becomes an error.
//! - A process that is killed while sled writes a snapshot leaves an unfinished file, which sled
//!   then takes for a damaged snapshot. Such files are removed before sled opens the database.
//! - A file beside a database says that the database was never flushed.
//! - A batch is begun only when the disk has ample room for it.
//!
//! The writes of a batch go to sled one by one, in order. After a crash, sled reads its log up to
//! the first message that is not whole, so the database has a first part of all writes. sled's own
//! batches would cost one more write and one more wait, since sled closes its buffer before each
//! batch.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use crate::kv::{Batch, Read, Store, StoreError, Visit, first_of};
use crate::os;

use super::compact;
use super::large::LargeValues;
use super::lock::{Identity, sync_parent};
use super::resources;

/// The bytes that must be free on the disk beside a batch: two segments of sled's log, and its
/// snapshot.
const ROOM_BYTES: u64 = 4 << 20;
/// The time to wait for sled's own lock.
const PATIENCE: Duration = Duration::from_secs(5);
/// The size of a segment of sled's log in bytes.
pub(super) const SEGMENT_BYTES: u64 = 512 << 10;
/// The size of a batch in bytes when a database is copied.
const BATCH_BYTES: usize = 1 << 20;
/// The size of the page cache in bytes.
const CACHE_BYTES: u64 = 10 << 20;

pub struct SledTree {
    reader: Reader,
    /// The database's file, to be synced; `None` as long as there is no database.
    file: Option<File>,
    /// The identity of that file.
    identity: Option<Identity>,
    large: LargeValues,
    /// The folder's modification time when its files were last made private.
    private_since: Option<SystemTime>,
    /// The marker of a database that was never flushed: see [`mark_of`].
    mark: Option<PathBuf>,
    /// Whether a write failed; nothing more is written then, because the state of the disk is
    /// unknown.
    failed: bool,
}

/// A reader of the database, also while another thread writes to it.
#[derive(Clone)]
pub struct Reader {
    /// The trees: `None` when the database is closed, and an empty lock as long as there is no
    /// database.
    trees: Option<Arc<RwLock<Option<Trees>>>>,
    path: PathBuf,
}

/// A database with a sled tree for each first byte of keys. Every ninth new key makes sled rewrite
/// a page of up to sixteen keys, so a tree has keys of one kind only.
struct Trees {
    db: sled::Db,
    by_first: Box<[OnceLock<sled::Tree>; 256]>,
}

impl Trees {
    fn open(path: &Path) -> sled::Result<Trees> {
        let db = config(path).open()?;
        let by_first = Box::new([const { OnceLock::new() }; 256]);
        let trees = Trees { db, by_first };
        for name in trees.db.tree_names() {
            if let [first] = name[..] {
                trees.of(first)?;
            }
        }
        // The first format had everything in one tree.
        if !trees.db.is_empty() {
            for entry in trees.db.iter() {
                let (key, value) = entry?;
                trees.of(first(&key))?.insert(key, value)?;
            }
            trees.db.flush()?;
            trees.db.clear()?;
        }
        Ok(trees)
    }

    /// Returns the tree of the keys with a first byte, and makes the tree if there is none.
    fn of(&self, first: u8) -> sled::Result<&sled::Tree> {
        let place = &self.by_first[first as usize];
        match place.get() {
            Some(tree) => Ok(tree),
            None => {
                let tree = self.db.open_tree([first])?;
                Ok(place.get_or_init(|| tree))
            }
        }
    }

    /// Returns the trees that may have keys with a prefix, in order.
    fn with_prefix<'a>(&'a self, prefix: &[u8]) -> impl Iterator<Item = &'a sled::Tree> + use<'a> {
        let range = match prefix.first() {
            Some(first) => *first as usize..=*first as usize,
            None => 0..=255,
        };
        self.by_first[range].iter().filter_map(OnceLock::get)
    }
}

fn first(key: &[u8]) -> u8 {
    key.first().copied().unwrap_or(0)
}

impl Reader {
    /// Reads from the database; returns the default if there is no database.
    fn read<R: Default>(&self, run: impl FnOnce(&Trees) -> sled::Result<R>) -> Result<R, StoreError> {
        let place = self.trees.as_ref().ok_or_else(closed)?;
        let trees = place.read().unwrap_or_else(PoisonError::into_inner);
        trees.as_ref().map_or_else(|| Ok(R::default()), |trees| guarded("read", &self.path, || run(trees)))
    }
}

impl Read for Reader {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.read(|trees| trees.of(first(key))?.get(key))?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let from = first_of(prefix, from);
        self.read(|trees| {
            for entry in trees.with_prefix(prefix).flat_map(|tree| tree.range(from..)) {
                let (key, value) = entry?;
                if !key.starts_with(prefix) || !visit(&key, &value) {
                    break;
                }
            }
            Ok(())
        })
    }
}

fn closed() -> StoreError {
    StoreError::broken("it is closed")
}

impl SledTree {
    /// Opens the database in a folder. If there is none, the first commit makes it.
    pub fn open(path: &Path) -> Result<SledTree, StoreError> {
        let reader = Reader { trees: Some(Arc::default()), path: path.to_path_buf() };
        let mut tree = SledTree {
            reader,
            file: None,
            identity: None,
            large: LargeValues::new(path),
            private_since: None,
            mark: None,
            failed: false,
        };
        compact::recover(path)?;
        if path.exists() {
            tree.make()?;
        }
        Ok(tree)
    }

    /// Opens the database, and makes it if there is none.
    fn make(&mut self) -> Result<(), StoreError> {
        let path = &self.reader.path;
        resources::check()?;
        let mark = mark_of(path);
        let is_new = !path.exists() || mark.exists();
        let trees = if is_new { made(path, &mark)? } else { open_released(path)? };
        let (file, identity) = open_file(path)?;
        (self.file, self.identity) = (Some(file), Some(identity));
        self.mark = is_new.then_some(mark);
        if let Some(place) = &self.reader.trees {
            *place.write().unwrap_or_else(PoisonError::into_inner) = Some(trees);
        }
        self.make_private();
        Ok(())
    }

    /// Makes new files of sled's private. The folder itself is private already.
    fn make_private(&mut self) {
        let changed = std::fs::metadata(&self.reader.path).and_then(|folder| folder.modified()).ok();
        if self.private_since != changed {
            os::make_all_private(&self.reader.path);
            self.private_since = changed;
        }
    }

    /// Returns a reader. All readers must be dropped before the database ends.
    pub(super) fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Writes to the database; returns `None` if there is no database.
    fn write<R>(
        &mut self,
        what: &str,
        run: impl FnOnce(&Trees) -> sled::Result<R>,
    ) -> Result<Option<R>, StoreError> {
        if self.failed {
            let error = io::Error::other("an earlier write failed");
            return Err(StoreError::io(what, &self.reader.path, error));
        }
        let result = self.reader.trees.as_ref().ok_or_else(closed).and_then(|place| {
            let trees = place.read().unwrap_or_else(PoisonError::into_inner);
            let write = |trees: &Trees| guarded(what, &self.reader.path, || run(trees).map(Some));
            trees.as_ref().map_or(Ok(None), write)
        });
        self.failed = result.is_err();
        result
    }

    /// Checks that the database's file is still in its place.
    pub(super) fn check_file(&self) -> Result<(), StoreError> {
        self.identity.as_ref().map_or(Ok(()), Identity::check)
    }

    /// Returns the size on the disk in bytes, with the files of large values.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.size_bytes() + self.large.bytes()
    }

    /// Rewrites the database without the removed values that sled still keeps. If that is
    /// impossible, the database stays as it is.
    pub(super) fn compact(&mut self) -> Result<(), StoreError> {
        let path = self.reader.path.clone();
        if copy(&self.reader, &compact::fresh(&path)).is_err() {
            // The disk may have no room for a copy. A part that can't be read fails when it is
            // needed.
            return compact::recover(&path);
        }
        let place = self.reader.trees.clone().ok_or_else(closed)?;
        let mut trees = place.write().unwrap_or_else(PoisonError::into_inner);
        // No reader is active now. If anything fails from here on, nothing more is written either.
        self.failed = true;
        quietly(|| drop(trees.take())).map_err(StoreError::broken)?;
        compact::swap(&path)?;
        *trees = Some(open_released(&path)?);
        drop(trees);
        let (file, identity) = open_file(&path)?;
        (self.file, self.identity) = (Some(file), Some(identity));
        self.large = LargeValues::new(&path);
        self.make_private();
        self.failed = false;
        Ok(())
    }

    /// Removes the marker: the database is durable, so its contents count from now on.
    fn unmark(&mut self) -> io::Result<()> {
        let Some(mark) = self.mark.take() else { return Ok(()) };
        // sled does not sync its settings.
        File::open(self.reader.path.join("conf"))?.sync_all()?;
        sync_parent(&self.reader.path.join("db"));
        std::fs::remove_file(&mark)?;
        sync_parent(&mark);
        Ok(())
    }
}

/// Copies everything to a database in a folder, durably.
fn copy(from: &Reader, folder: &Path) -> Result<(), StoreError> {
    let mut to = SledTree::open(folder)?;
    let mut batch = Batch::default();
    let mut bytes = 0;
    let mut written = Ok(());
    from.scan(b"", &mut |key, value| {
        bytes += key.len() + value.len();
        batch.put(key.to_vec(), value.to_vec());
        if bytes > BATCH_BYTES {
            bytes = 0;
            written = to.commit(&std::mem::take(&mut batch));
        }
        written.is_ok()
    })?;
    written?;
    to.commit(&batch)?;
    to.end()
}

/// Opens the file of a database, to sync it.
fn open_file(path: &Path) -> Result<(File, Identity), StoreError> {
    let path = path.join("db");
    let open = || {
        let file = File::options().read(true).write(true).open(&path)?;
        let identity = Identity::of(&file, &path)?;
        Ok((file, identity))
    };
    open().map_err(|error| StoreError::io("open", &path, error))
}

/// Checks that the disk has ample room for a batch. If the disk becomes full during a batch, sled
/// keeps a part of the batch.
fn has_room(path: &Path, bytes: u64) -> Result<(), StoreError> {
    let free =
        fs2::available_space(path).map_err(|error| StoreError::io("measure the disk of", path, error))?;
    if free < ROOM_BYTES + 4 * bytes {
        let needed = (ROOM_BYTES + 4 * bytes) >> 20;
        let reason = format!("no space left on device: {needed} MiB must be free");
        return Err(StoreError::io("write to", path, io::Error::new(ErrorKind::StorageFull, reason)));
    }
    Ok(())
}

fn config(path: &Path) -> sled::Config {
    sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT_BYTES as usize)
        .flush_every_ms(None)
}

/// Opens the database of a folder that this process has locked. The system closes the files of a
/// killed process one after another, so sled's own lock may be held a moment longer than ours.
fn open_released(path: &Path) -> Result<Trees, StoreError> {
    os::make_private_folder(path).map_err(|error| StoreError::io("make the folder", path, error))?;
    remove_unfinished(path)?;
    let began = Instant::now();
    loop {
        let opened = guarded("open", path, || Trees::open(path));
        let held = matches!(&opened, Err(StoreError::InUse { .. }));
        if !held || began.elapsed() > PATIENCE {
            return opened;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Returns the path of the marker, a file beside a database that was never flushed. Nothing in such
/// a database was acknowledged. If a process was killed while making the database, sled may be
/// unable to open it; opening the store then removes it.
pub(super) fn mark_of(path: &Path) -> PathBuf {
    path.with_extension("unfinished")
}

/// Makes a database, and its marker before it.
fn made(path: &Path, mark: &Path) -> Result<Trees, StoreError> {
    has_room(path.parent().unwrap_or(path), 0)?;
    let marked = os::private_file().create(true).truncate(true).write(true).open(mark);
    marked.map_err(|error| StoreError::io("make", mark, error))?;
    sync_parent(mark);
    // Earlier versions made databases under this name.
    compact::remove(&path.with_extension("new"))?;
    open_released(path)
}

/// Removes unfinished snapshots: sled renames a snapshot only when it is whole and durable.
fn remove_unfinished(path: &Path) -> Result<(), StoreError> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        // There is no store yet, or sled will say what is wrong with it.
        Err(_) => return Ok(()),
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            let file = entry.path();
            std::fs::remove_file(&file).map_err(|error| StoreError::io("remove", &file, error))?;
        }
    }
    Ok(())
}

impl Read for SledTree {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.reader.get(key)
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.reader.scan_from(prefix, from, visit)
    }
}

impl Store for SledTree {
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if self.file.is_none() {
            self.make()?;
        }
        has_room(&self.reader.path, batch.bytes() as u64)?;
        self.write("write to", |trees| {
            for (key, value) in &batch.writes {
                let tree = trees.of(first(key))?;
                match value {
                    Some(value) => tree.insert(key, value.as_slice())?,
                    None => tree.remove(key)?,
                };
            }
            Ok(())
        })?;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let Some(_) = self.write("write to", |trees| trees.db.flush())? else { return Ok(()) };
        let sync = |file: &Option<File>| file.as_ref().map_or(Ok(()), File::sync_data);
        self.make_private();
        let synced = self.large.sync().and_then(|()| sync(&self.file)).and_then(|()| self.unmark());
        synced.map_err(|error| {
            self.failed = true;
            StoreError::io("sync", &self.reader.path, error)
        })
    }

    fn end(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        let trees = self.reader.trees.take();
        let ended = quietly(|| drop(trees)).map_err(StoreError::broken);
        self.make_private();
        ended
    }

    fn size_bytes(&self) -> u64 {
        self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |data| data.len())
    }
}

impl Drop for SledTree {
    fn drop(&mut self) {
        // sled flushes when it is dropped, and waits forever after a failed write. So a database
        // that was not closed is leaked: flushed data is on the disk, and the process is about to
        // end.
        std::mem::forget(self.reader.trees.take());
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs a function; a panic in it becomes the result and prints nothing.
fn quietly<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // sled's own threads may panic as well; the next call reports their failure.
            let sled = info.location().is_some_and(|at| at.file().contains("sled-"));
            if !QUIET.with(Cell::get) && !sled {
                usual(info);
            }
        }));
    });
    let before = QUIET.with(|quiet| quiet.replace(true));
    let result = catch_unwind(AssertUnwindSafe(run));
    QUIET.with(|quiet| quiet.set(before));
    result.map_err(|panic| {
        let text =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        text.unwrap_or("an internal error").lines().next().unwrap_or("").chars().take(200).collect()
    })
}

fn guarded<R>(what: &str, path: &Path, run: impl FnOnce() -> sled::Result<R>) -> Result<R, StoreError> {
    match quietly(run) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) if error.to_string().starts_with("could not acquire lock") => {
            let folder = path.to_path_buf();
            Err(StoreError::InUse { folder, pid: None, command: None, is_stopped: false })
        }
        Ok(Err(sled::Error::Io(error))) => Err(StoreError::io(what, path, error)),
        Ok(Err(sled::Error::Corruption { .. })) => {
            Err(StoreError::Damaged { what: "a page of the database does not fit its checksum".into() })
        }
        Ok(Err(error)) => Err(StoreError::broken(error)),
        Err(panic) => Err(StoreError::broken(format!("the database broke down: {panic}"))),
    }
}
