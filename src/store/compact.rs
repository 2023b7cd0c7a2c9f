//! Compaction: a database is written anew when it takes much more of the disk than what it holds.
//!
//! sled writes over what is gone, but its file never becomes shorter, and the files of large values stay when the process ends
//! before their segment does. So the database is copied to a folder beside it, which then takes its place. A crash leaves the
//! old folder or the new one in that place, or the old one under another name, which [`recover`] gives it back.

use std::fs;
use std::path::{Path, PathBuf};

use crate::kv::StoreError;

use super::lock::sync_parent;

/// A database that takes no more of the disk than this is left as it is, in bytes.
const SMALL: u64 = 16 << 20;
/// A database may take this many times what it holds: sled needs about twice as much for itself.
const MOST: u64 = 4;

/// Whether a database takes so much more of the disk than what it holds that it is worth a copy.
pub(super) fn is_worth_it(on_disk: u64, held: u64) -> bool {
    on_disk > SMALL && on_disk / MOST > held
}

/// Where the copy of a database is made.
pub(super) fn fresh(path: &Path) -> PathBuf {
    path.with_file_name("compact")
}

/// Where the database is that the copy takes the place of.
pub(super) fn old(path: &Path) -> PathBuf {
    path.with_extension("old")
}

/// Removes a folder that may not be there.
pub(super) fn remove(folder: &Path) -> Result<(), StoreError> {
    match folder.exists() {
        true => fs::remove_dir_all(folder).map_err(|error| StoreError::io("remove", folder, &error)),
        false => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(|error| StoreError::io("rename", from, &error))
}

/// Brings a compaction to its end, or takes it back, that a crash has broken off.
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
            fs::remove_file(&mark).map_err(|error| StoreError::io("remove", &mark, &error))?;
        }
    }
    Ok(())
}

/// Puts the copy, which is durable, into the place of the database. Nobody has either open.
pub(super) fn swap(path: &Path) -> Result<(), StoreError> {
    rename(path, &old(path))?;
    rename(&fresh(path), path)?;
    sync_parent(path);
    remove(&old(path))
}
