//! The layout of a database's folder: segments of the log, the snapshot, and values in files of
//! their own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::kv::StoreError;

use super::super::sled::SEGMENT_BYTES;
use super::bytes::{byte, count, eight, four, number};
use super::damaged;
use super::messages::Kind;

/// The size of a segment's header in bytes.
pub(super) const SEGMENT_HEAD: usize = 20;
/// The settings that sled must have. A checksum follows, which sled does not require.
const SETTINGS: &[u8] = b"segment_size: 524288\nuse_compression: false\nversion: 0.34\n";

/// The place of a message: in the log, or in the log with its body in a file of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pointer {
    /// The message's log sequence number: the bytes of the log that were ever written before it.
    pub lsn: i64,
    pub at: u64,
    pub apart: Option<i64>,
}

/// A leaf: the messages that it consists of, and the first key after its keys.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub base: Pointer,
    pub links: Vec<Pointer>,
    pub page: u64,
    pub end: Option<Vec<u8>>,
}

/// The messages that a page consists of: the last one that replaced it, and those that changed it
/// since.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Page {
    #[default]
    Unknown,
    Free,
    Present {
        base: Pointer,
        links: Vec<Pointer>,
    },
}

impl Page {
    /// Applies a message to the page.
    pub fn apply(&mut self, kind: Kind, pointer: Pointer) {
        match (kind, &mut *self) {
            (Kind::Link { .. }, Page::Present { base, links })
                if links.last().unwrap_or(base).lsn < pointer.lsn =>
            {
                links.push(pointer);
            }
            (Kind::Free, _) => *self = Page::Free,
            (Kind::Replace { .. }, _) => *self = Page::Present { base: pointer, links: Vec::new() },
            // A change to a page that was rewritten elsewhere since.
            _ => {}
        }
    }
}

/// The state of all pages at a place of the log.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub stable: Option<i64>,
    pub pages: Vec<Page>,
}

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SegmentHead {
    pub lsn: i64,
    pub max_stable: i64,
}

/// The files of a database.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    log: File,
    pub log_bytes: u64,
}

impl Files {
    /// Opens the files of a database for reading.
    pub fn open(folder: &Path) -> Result<Files, StoreError> {
        let path = folder.join("db");
        let log = File::open(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => damaged(format!("{} is missing", path.display())),
            _ => StoreError::io("read", &path, error),
        })?;
        let data = log.metadata().map_err(|error| StoreError::io("read", &path, error))?;
        Ok(Files { folder: folder.to_path_buf(), log, log_bytes: data.len() })
    }

    /// Checks that sled will accept the settings of the database.
    pub fn check_settings(&self) -> Result<(), StoreError> {
        let path = self.folder.join("conf");
        match fs::read(&path) {
            // sled rewrites such settings.
            Ok(bytes) if bytes.len() <= 8 => Ok(()),
            Ok(bytes) if bytes.get(..bytes.len() - 4) == Some(SETTINGS) => Ok(()),
            Ok(_) => {
                Err(damaged(format!("the settings of its database, {}, are not readable", path.display())))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StoreError::io("read", &path, error)),
        }
    }

    /// Reads at most `most` bytes of the log; fewer at its end.
    pub fn read(&self, at: u64, most: usize) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; most];
        let mut filled = 0;
        while filled < most {
            match self.log.read_at(&mut bytes[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(StoreError::io("read", &self.folder.join("db"), error)),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Returns the number of segments in the log.
    pub fn segments(&self) -> u64 {
        self.log_bytes / SEGMENT_BYTES + u64::from(self.log_bytes % SEGMENT_BYTES >= SEGMENT_HEAD as u64)
    }

    /// Reads the segment at a place; the last one may be shorter.
    pub fn segment(&self, at: u64) -> Result<Vec<u8>, StoreError> {
        self.read(at, SEGMENT_BYTES as usize)
    }

    /// Reads a value that has a file of its own, as its kind and its bytes. Returns `None` if there
    /// is no such file, and fails if the file is not whole.
    pub fn apart(&self, id: i64) -> Result<Option<(u8, Vec<u8>)>, StoreError> {
        let path = self.folder.join("blobs").join(id.to_string());
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("read", &path, error)),
        };
        let whole = || {
            let (check, body) = bytes.split_first_chunk::<4>()?;
            (u32::from_le_bytes(*check) == crc32fast::hash(body)).then_some(body)?.split_first()
        };
        match whole() {
            Some((kind, body)) => Ok(Some((*kind, body.to_vec()))),
            None => Err(damaged(format!("{} does not fit its checksum", path.display()))),
        }
    }

    /// Reads the newest snapshot; returns an empty one if there is none.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let entries =
            fs::read_dir(&self.folder).map_err(|error| StoreError::io("read", &self.folder, error))?;
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        // A snapshot that is being generated does not count: it is removed before sled opens the
        // database.
        let newest = names.filter(|name| name.starts_with("snap.") && !name.ends_with(".generating")).max();
        let Some(name) = newest else { return Ok(Snapshot::default()) };
        let path = self.folder.join(name);
        let bytes = fs::read(&path).map_err(|error| StoreError::io("read", &path, error))?;
        let whole = || {
            let (rest, check) = bytes.split_last_chunk::<4>()?;
            let (body, _length) = rest.split_last_chunk::<8>()?;
            (!body.is_empty() && u32::from_le_bytes(*check) == crc32fast::hash(body)).then_some(())?;
            snapshot(body)
        };
        whole().ok_or_else(|| damaged(format!("{} does not fit its checksum", path.display())))
    }
}

/// Returns the header of a segment, or `None` if it does not fit its checksum.
pub(super) fn segment_head(segment: &[u8]) -> Option<SegmentHead> {
    let head = segment.get(..SEGMENT_HEAD)?;
    let mut rest = head;
    let check = four(&mut rest)? ^ u32::MAX;
    let (lsn, max_stable) = (eight(&mut rest)? ^ i64::MAX, eight(&mut rest)? ^ i64::MAX);
    (check == crc32fast::hash(&head[4..])).then_some(SegmentHead { lsn, max_stable })
}

/// Returns the places of the segments whose headers are whole and that begin at or after `least`,
/// and the highest stable place in their headers, which is at least `least`.
pub(super) fn segments(files: &Files, least: i64) -> Result<(BTreeMap<i64, u64>, i64), StoreError> {
    let (mut places, mut max_stable) = (BTreeMap::new(), least);
    for index in 0..files.segments() {
        let at = index * SEGMENT_BYTES;
        let Some(head) = segment_head(&files.read(at, SEGMENT_HEAD)?) else { continue };
        if head.lsn < least {
            continue;
        }
        max_stable = max_stable.max(head.max_stable);
        if head.lsn % SEGMENT_BYTES as i64 != 0 || places.insert(head.lsn, at).is_some() {
            return Err(damaged("two parts of the database's log say that they are the same part"));
        }
    }
    Ok((places, max_stable))
}

pub(super) fn snapshot(mut body: &[u8]) -> Option<Snapshot> {
    let stable = match eight(&mut body)? {
        0 => None,
        number if number < 0 => Some(number),
        number => Some(number - 1),
    };
    let _active = number(&mut body)?;
    let mut pages = Vec::new();
    while !body.is_empty() {
        let messages = byte(&mut body)?;
        if messages == 0 {
            let lsn = eight(&mut body)?;
            pointer(lsn, &mut body)?;
            pages.push(Page::Free);
            continue;
        }
        let mut all = Vec::with_capacity(usize::from(messages));
        for _ in 0..messages {
            let lsn = eight(&mut body)?;
            all.push(pointer(lsn, &mut body)?);
            count(&mut body)?;
        }
        let base = all.remove(0);
        pages.push(Page::Present { base, links: all });
    }
    Some(Snapshot { stable, pages })
}

fn pointer(lsn: i64, body: &mut &[u8]) -> Option<Pointer> {
    let kind = byte(body)?;
    let at = number(body)?;
    let apart = match kind {
        0 => None,
        1 => Some(eight(body)?),
        _ => return None,
    };
    Some(Pointer { lsn, at, apart })
}
