//! The watermark: a small file beside a store that says how far its commits reach at least.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::StoreError;
use super::lock::sync_parent;
use super::record::Record;

/// The record that a watermark says; none where there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Record>, StoreError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("read", path, &error)),
    };
    let parsed = || {
        let (line, check) = text.trim_end().rsplit_once(' ')?;
        let is_whole = u64::from_str_radix(check, 16) == Ok(xxh3_64(line.as_bytes()));
        let (commits, sum) = is_whole.then(|| line.split_once(' '))??;
        Some(Record { commits: commits.parse().ok()?, sum: u128::from_str_radix(sum, 16).ok()? })
    };
    let unreadable =
        || StoreError::Damaged { what: format!("the watermark {} is not readable", path.display()) };
    parsed().map(Some).ok_or_else(unreadable)
}

/// Writes a watermark; one that is `durable` survives a crash of the machine.
pub(super) fn write(path: &Path, record: Record, durable: bool) -> Result<(), StoreError> {
    let line = format!("{} {:032x}", record.commits, record.sum);
    let text = format!("{line} {:016x}\n", xxh3_64(line.as_bytes()));
    let temporary = path.with_extension("new");
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        if durable { file.sync_data() } else { Ok(()) }
    });
    written
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|error| StoreError::io("write", path, &error))?;
    if durable {
        sync_parent(path);
    }
    Ok(())
}
