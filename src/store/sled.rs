//! A store in a folder, by sled 0.34.7.
//!
//! What sled does not do is done here. Its flush is `sync_file_range` on Linux, which does not survive
//! the loss of power (its issue 1452): each flush is followed by `sync_data` on the same file, and on those that it keeps
//! large values in. It is told never to flush on its own, so that one flush serves all commits gathered before it. And it
//! panics on some damaged files: a panic inside it becomes an error. And a process that is killed while it writes one of
//! its snapshots leaves an unfinished file, which it then takes for a damaged snapshot: such files are removed before it
//! looks. Beside a database that was never flushed lies a file that says so. A batch is begun only when the disk has room for
//! it to spare.
//!
//! The writes of a batch go to sled one by one, in order, and what is found after a crash is a first part of all that were
//! made, since it reads its log up to the first message that is not whole. Its own batches would cost a write
//! more, and a wait for it: it closes its buffer before each of them.

use std::cell::Cell;
use std::fs::File;
use std::io;
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

/// What must be free on the disk beside a batch: two segments of sled's, and its snapshot.
const ROOM_BYTES: u64 = 4 << 20;
/// How long a lock of sled's is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a segment of sled's log.
pub(super) const SEGMENT_BYTES: u64 = 512 << 10;
/// Bytes of a batch of the copy.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes of the page cache.
const CACHE_BYTES: u64 = 16 << 20;

pub struct SledTree {
    reader: Reader,
    /// The database's file, to sync it; none as long as there is none.
    file: Option<File>,
    /// Which file that is.
    identity: Option<Identity>,
    large: LargeValues,
    /// When its folder had changed when its files were last made private.
    private_since: Option<SystemTime>,
    /// Of a database that was never flushed: see [`mark_of`].
    mark: Option<PathBuf>,
    /// After an error of a write nothing more is written: what reached the disk is not known.
    failed: bool,
}

/// A database for reading, also while another thread writes to it.
#[derive(Clone)]
pub struct Reader {
    /// None when it is closed; nothing in it as long as there is no database.
    trees: Option<Arc<RwLock<Option<Trees>>>>,
    path: PathBuf,
}

/// A tree of sled's for each first byte of keys. sled writes a page of up to sixteen keys anew with every ninth of them, and so
/// nothing lies in it that isn't of their kind.
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
        // The first format had all in one.
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

    /// The tree of the keys that begin so; it is made when there is none.
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

    /// The trees that keys with a prefix may lie in, in order.
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
    /// Reads of the database; the default when there is none.
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
    StoreError::Broken { reason: "it is closed".into() }
}

impl SledTree {
    /// Opens the database in a folder. Where there is none it is made with the first commit.
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

    /// Opens the database, made if it isn't there.
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

    /// Makes files of sled's private that have come to its folder, which is private itself.
    fn make_private(&mut self) {
        let changed = std::fs::metadata(&self.reader.path).and_then(|folder| folder.modified()).ok();
        if self.private_since != changed {
            os::make_all_private(&self.reader.path);
            self.private_since = changed;
        }
    }

    /// The same for reading; all of them must be gone when it ends.
    pub(super) fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Writes to the database; nothing when there is none.
    fn write<R>(
        &mut self,
        what: &str,
        run: impl FnOnce(&Trees) -> sled::Result<R>,
    ) -> Result<Option<R>, StoreError> {
        if self.failed {
            return Err(StoreError::Io {
                what: format!("{what} {}", self.reader.path.display()),
                reason: "an earlier write failed".into(),
            });
        }
        let result = self.reader.trees.as_ref().ok_or_else(closed).and_then(|place| {
            let trees = place.read().unwrap_or_else(PoisonError::into_inner);
            let write = |trees: &Trees| guarded(what, &self.reader.path, || run(trees).map(Some));
            trees.as_ref().map_or(Ok(None), write)
        });
        self.failed = result.is_err();
        result
    }

    /// Checks that its file is still where it was.
    pub(super) fn check_file(&self) -> Result<(), StoreError> {
        self.identity.as_ref().map_or(Ok(()), Identity::check)
    }

    /// Bytes on the disk, with the files of large values.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.size_bytes() + self.large.bytes()
    }

    /// Writes the database anew, without what sled keeps of values that are gone. Where that can't be done it stays as it is.
    pub(super) fn compact(&mut self) -> Result<(), StoreError> {
        let path = self.reader.path.clone();
        if copy(&self.reader, &compact::fresh(&path)).is_err() {
            // The disk may have no room for a copy. What can't be read is told to whoever needs it.
            return compact::recover(&path);
        }
        let place = self.reader.trees.clone().ok_or_else(closed)?;
        let mut trees = place.write().unwrap_or_else(PoisonError::into_inner);
        // Nobody reads now. If anything fails from here on, nothing more is written either.
        self.failed = true;
        quietly(|| drop(trees.take())).map_err(|reason| StoreError::Broken { reason })?;
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

    /// The database is durable: from now on what is in it counts.
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

/// The file of a database, to sync it.
fn open_file(path: &Path) -> Result<(File, Identity), StoreError> {
    let path = path.join("db");
    let open = || {
        let file = File::options().read(true).write(true).open(&path)?;
        let identity = Identity::of(&file, &path)?;
        Ok((file, identity))
    };
    open().map_err(|error| StoreError::io("open", &path, &error))
}

/// Checks that the disk has room for a batch, with much to spare. When the disk is full in the middle of a batch, sled
/// keeps a part of it, so the disk must not become full there.
fn has_room(path: &Path, bytes: u64) -> Result<(), StoreError> {
    let free =
        fs2::available_space(path).map_err(|error| StoreError::io("measure the disk of", path, &error))?;
    if free < ROOM_BYTES + 4 * bytes {
        let what = format!("write to {}", path.display());
        return Err(StoreError::Io {
            what,
            reason: format!("no space left on device: {} MiB must be free", (ROOM_BYTES + 4 * bytes) >> 20),
        });
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

/// Opens the database of a folder that this process has locked. The system closes the files of a process that was
/// killed one after another, so sled's own lock may be held for a moment longer than ours.
fn open_released(path: &Path) -> Result<Trees, StoreError> {
    os::make_private_folder(path).map_err(|error| StoreError::io("make the folder", path, &error))?;
    remove_unfinished(path)?;
    let began = Instant::now();
    loop {
        let opened = guarded("open", path, || Trees::open(path));
        let held = matches!(&opened, Err(StoreError::Locked { .. }));
        if !held || began.elapsed() > PATIENCE {
            return opened;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The file beside a database that was not flushed yet. Nothing in it was acknowledged, and a process that was killed while
/// it made it may have left what sled can't open: whoever opens the store removes that.
pub(super) fn mark_of(path: &Path) -> PathBuf {
    path.with_extension("unfinished")
}

/// Makes a database, and the file that says that it was not flushed yet.
fn made(path: &Path, mark: &Path) -> Result<Trees, StoreError> {
    has_room(path.parent().unwrap_or(path), 0)?;
    let marked = os::private_file().create(true).truncate(true).write(true).open(mark);
    marked.map_err(|error| StoreError::io("make", mark, &error))?;
    sync_parent(mark);
    // Earlier versions made databases under this name.
    compact::remove(&path.with_extension("new"))?;
    open_released(path)
}

/// Removes snapshots that were never finished: sled gives them their name only when they are whole and durable.
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
            std::fs::remove_file(&file).map_err(|error| StoreError::io("remove", &file, &error))?;
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
            StoreError::io("sync", &self.reader.path, &error)
        })
    }

    fn end(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        let trees = self.reader.trees.take();
        let ended = quietly(|| drop(trees)).map_err(|reason| StoreError::Broken { reason });
        self.make_private();
        ended
    }

    fn size_bytes(&self) -> u64 {
        self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |data| data.len())
    }
}

impl Drop for SledTree {
    fn drop(&mut self) {
        // sled flushes when it is dropped, and waits for ever where a write has failed. One that was not closed is let
        // be: what was flushed is on the disk, and the process is about to end.
        std::mem::forget(self.reader.trees.take());
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs a function; a panic in it is its result, and prints nothing.
fn quietly<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // sled's own threads may panic as well; what they could not do shows in the next call.
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
            Err(StoreError::Locked { folder: path.to_path_buf(), pid: None })
        }
        Ok(Err(sled::Error::Io(error))) => Err(StoreError::io(what, path, &error)),
        Ok(Err(sled::Error::Corruption { .. })) => {
            Err(StoreError::Damaged { what: "a page of the database does not fit its checksum".into() })
        }
        Ok(Err(error)) => Err(StoreError::Broken { reason: error.to_string() }),
        Err(panic) => Err(StoreError::Broken { reason: format!("the database broke down: {panic}") }),
    }
}
