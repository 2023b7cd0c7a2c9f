//! The watermark: a small file beside a store that has the least number of the store's commits, and
//! says whether the store has a write-ahead log.

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use crate::kv::StoreError;
use crate::os;

use super::lock::sync_parent;
use super::record::Record;

/// The contents of a watermark.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Mark {
    pub record: Record,
    /// The least number of frames in the write-ahead log, as long as the database has just
    /// `record.commits` commits. `None` if the store has no log.
    pub frames: Option<u64>,
}

/// Reads the watermark in a file. A missing file means that nothing was acknowledged.
pub(super) fn read(path: &Path) -> Result<Mark, StoreError> {
    let bytes = match std::fs::read(path) {
        // The first watermark is not synced, so a power loss may leave an empty or zeroed file.
        Ok(bytes) if bytes.iter().all(|byte| *byte == 0) => return Ok(Mark::default()),
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Mark::default()),
        Err(error) => return Err(StoreError::io("read", path, error)),
    };
    let parsed = || {
        let text = std::str::from_utf8(&bytes).ok()?;
        let (line, check) = text.trim_end().rsplit_once(' ')?;
        let is_whole = u64::from_str_radix(check, 16) == Ok(xxh3_64(line.as_bytes()));
        let (commits, rest) = is_whole.then(|| line.split_once(' '))??;
        let (sum, frames) = match rest.split_once(' ') {
            Some((sum, frames)) => (sum, Some(frames.parse().ok()?)),
            None => (rest, None),
        };
        let record = Record { commits: commits.parse().ok()?, sum: u128::from_str_radix(sum, 16).ok()? };
        Some(Mark { record, frames })
    };
    let unreadable =
        || StoreError::Damaged { what: format!("the watermark {} is not readable", path.display()) };
    parsed().ok_or_else(unreadable)
}

/// The durability of a new watermark.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Durability {
    /// After a power loss, the file may be empty.
    None,
    /// After a power loss, the file has this watermark or the one before.
    Contents,
    /// After a power loss, the file has this watermark.
    Name,
}

/// Writes a watermark.
pub(super) fn write(path: &Path, mark: Mark, durability: Durability) -> Result<(), StoreError> {
    let Mark { record: Record { commits, sum }, frames } = mark;
    let frames = frames.map(|frames| format!(" {frames}")).unwrap_or_default();
    let line = format!("{commits} {sum:032x}{frames}");
    let text = format!("{line} {:016x}\n", xxh3_64(line.as_bytes()));
    let temporary = path.with_extension("new");
    let made = os::private_file().create(true).truncate(true).write(true).open(&temporary);
    let written = made.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        if durability == Durability::None { Ok(()) } else { file.sync_data() }
    });
    written
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|error| StoreError::io("write", path, error))?;
    if durability == Durability::Name {
        sync_parent(path);
    }
    Ok(())
}
