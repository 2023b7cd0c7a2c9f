//! A store in a folder, by sled 0.34.7.
//!
//! Three things that sled does not do are done here. Its flush is `sync_file_range` on Linux, which does not survive
//! the loss of power (its issue 1452): each flush is followed by `sync_data` on the same file. It is told never to
//! flush on its own, so that one flush serves all commits gathered before it. And it panics on some damaged files: a
//! panic inside it becomes an error.

use std::cell::Cell;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;

use crate::engine::Batch;

use super::lock::sync_parent;
use super::{Store, StoreError, Visit};

/// Bytes of the page cache.
const CACHE_BYTES: u64 = 64 << 20;

pub struct SledTree {
    db: Option<sled::Db>,
    /// The database's file, to sync it.
    file: File,
    path: PathBuf,
    /// After an error of a write nothing more is written: what reached the disk is not known.
    failed: bool,
}

impl SledTree {
    /// Opens the database in a folder, or makes it.
    pub fn open(path: &Path) -> Result<SledTree, StoreError> {
        let made = !path.exists();
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let db = guarded("open", path, || config.open())?;
        let file_path = path.join("db");
        let file = File::options().read(true).write(true).open(&file_path);
        let file = file.map_err(|error| StoreError::io("open", &file_path, &error))?;
        if made {
            sync_parent(&file_path);
            sync_parent(path);
        }
        Ok(SledTree { db: Some(db), file, path: path.to_path_buf(), failed: false })
    }

    fn db(&self) -> Result<&sled::Db, StoreError> {
        self.db.as_ref().ok_or_else(|| StoreError::Broken { reason: "it is closed".into() })
    }

    fn write<R>(
        &mut self,
        what: &str,
        run: impl FnOnce(&sled::Db) -> sled::Result<R>,
    ) -> Result<R, StoreError> {
        if self.failed {
            return Err(StoreError::Io {
                what: format!("{what} {}", self.path.display()),
                reason: "an earlier write failed".into(),
            });
        }
        let result = self.db().and_then(|db| guarded(what, &self.path, || run(db)));
        self.failed = result.is_err();
        result
    }
}

impl Store for SledTree {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let db = self.db()?;
        guarded("read", &self.path, || db.get(key)).map(|found| found.map(|value| value.to_vec()))
    }

    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let db = self.db()?;
        guarded("read", &self.path, || {
            for entry in db.scan_prefix(prefix) {
                let (key, value) = entry?;
                if !visit(&key, &value) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let mut writes = sled::Batch::default();
        for (key, value) in &batch.writes {
            match value {
                Some(value) => writes.insert(key.as_slice(), value.as_slice()),
                None => writes.remove(key.as_slice()),
            }
        }
        self.write("write to", |db| db.apply_batch(writes))
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.write("write to", |db| db.flush())?;
        self.file.sync_data().map_err(|error| {
            self.failed = true;
            StoreError::io("sync", &self.path, &error)
        })
    }

    fn size_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |data| data.len())
    }
}

impl Drop for SledTree {
    fn drop(&mut self) {
        // sled flushes when it is dropped, and may panic on a disk that is full.
        let db = self.db.take();
        let _ = quietly(|| drop(db));
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
        Ok(Err(sled::Error::Io(error))) => Err(StoreError::io(what, path, &error)),
        Ok(Err(sled::Error::Corruption { .. })) => {
            Err(StoreError::Damaged { what: "a page of the database does not fit its checksum".into() })
        }
        Ok(Err(error)) => Err(StoreError::Broken { reason: error.to_string() }),
        Err(panic) => Err(StoreError::Broken { reason: format!("the database broke down: {panic}") }),
    }
}
