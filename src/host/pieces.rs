//! Files that are read a piece at a time, so that a large file takes little memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::machine::{MAX_TEXT, Value};

use super::at::{At, Done};

/// Reads at most `most` bytes of a regular file from a place on.
pub(super) fn read_at(file: &File, from: u64, most: u64) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len().saturating_sub(from).min(most).min(MAX_TEXT as u64 + 1);
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], from + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

impl At<'_> {
    /// Reads the lines from a place on, about `limit` bytes of them and at least one. Returns
    /// `{lines, next}`; `next` is the place of the following line, or null at the end.
    pub(super) fn lines(&self, from: u64, limit: u64) -> Done<Value> {
        let file = self.open_regular()?;
        let (mut limit, mut is_long) = (limit, false);
        loop {
            let mut bytes = read_at(&file, from, limit)?;
            let is_whole = (bytes.len() as u64) < limit;
            // Of a line that is longer than a piece, nothing more is wanted.
            let last = if is_long { memchr::memchr(b'\n', &bytes) } else { memchr::memrchr(b'\n', &bytes) };
            let end = match last {
                Some(at) if is_long || !is_whole => at + 1,
                _ if is_whole => bytes.len(),
                _ if limit > MAX_TEXT as u64 => {
                    let why = "it has a line of more than 256 MiB";
                    return Err(io::Error::new(io::ErrorKind::FileTooLarge, why).into());
                }
                _ => {
                    limit = limit.saturating_mul(4).min(MAX_TEXT as u64 + 1);
                    is_long = true;
                    continue;
                }
            };
            let is_end = is_whole && end == bytes.len();
            bytes.truncate(end);
            let text = String::from_utf8(bytes).map_err(|error| {
                let at = from + error.utf8_error().valid_up_to() as u64;
                let why = format!(
                    "it is not UTF-8 text at byte {at}; `fs.read_bytes(path, {{from, limit}})` reads any file"
                );
                io::Error::new(io::ErrorKind::InvalidData, why)
            })?;
            let next = if is_end { Value::Null } else { Value::Int((from + end as u64) as i64) };
            let lines = text.lines().map(Value::str).collect();
            return Ok(Value::record([("lines", Value::list(lines)), ("next", next)]));
        }
    }
}
