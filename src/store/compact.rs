//! Compaction: the rewrite of a database that takes much more of the disk than it holds.
//!
//! sled reuses the space of removed data, but its file never becomes shorter. The files of large
//! values stay if the process ends before their segment does. So the database is copied to a folder
//! beside it, which then takes its place. A crash leaves the old or the new folder in that place,
//! or the old folder under another name, which [`recover`] renames back.

use std::fs;
use std::path::{Path, PathBuf};

use crate::kv::StoreError;

use super::lock::sync_parent;

/// The size on the disk in bytes up to which a database stays as it is.
const SMALL: u64 = 16 << 20;
/// The largest acceptable ratio of the size on the disk to the size held. sled needs a ratio of
/// about two for itself.
const MOST: u64 = 4;

/// Returns whether a database takes so much more of the disk than it holds that a copy is
/// worthwhile.
pub(super) fn is_worth_it(on_disk: u64, held: u64) -> bool {
    on_disk > SMALL && on_disk / MOST > held
}

/// Returns the least that a database of this size on the disk has held at some time, as far as the
/// size says so. Small values take up to a dozen times their size.
pub(super) fn once_held(on_disk: u64) -> u64 {
    on_disk / (4 * MOST)
}

/// Returns the place of a database's copy.
pub(super) fn fresh(path: &Path) -> PathBuf {
    path.with_file_name("compact")
}

/// Returns the place to which the database moves when the copy replaces it.
pub(super) fn old(path: &Path) -> PathBuf {
    path.with_extension("old")
}

/// Removes a folder, if it exists.
pub(super) fn remove(folder: &Path) -> Result<(), StoreError> {
    match folder.exists() {
        true => fs::remove_dir_all(folder).map_err(|error| StoreError::io("remove", folder, error)),
        false => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(|error| StoreError::io("rename", from, error))
}

/// Completes or reverts a compaction that a crash interrupted.
pub(super) fn recover(path: &Path) -> Result<(), StoreError> {
    let old = old(path);
    if old.exists() && !path.exists() {
        rename(&old, path)?;
        sync_parent(path);
    }
    remove(&old)?;
    if path != fresh(path) {
        remove(&fresh(path))?;
        let mark = fresh(path).with_extension("unfinished");
        if mark.exists() {
            fs::remove_file(&mark).map_err(|error| StoreError::io("remove", &mark, error))?;
        }
    }
    Ok(())
}

/// Replaces the database by its copy, which is durable. Neither may be open.
pub(super) fn swap(path: &Path) -> Result<(), StoreError> {
    rename(path, &old(path))?;
    rename(&fresh(path), path)?;
    sync_parent(path);
    remove(&old(path))
}
