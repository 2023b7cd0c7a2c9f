//! The lock of a store, and the record of what was acknowledged.
//!
//! The process that has the store locks the file `lock`. The file holds the number of that process
//! and, in a place of its own, how much was acknowledged. Each flush overwrites that place, without
//! a sync: a kill of the process leaves it exact, and a power loss may leave an earlier state. It
//! is never ahead of the durable state.
//!
//! The log and the database's file are locked as well, so that a store whose `lock` was removed
//! still has one owner.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::xxh3_64;

use crate::kv::{Cause, Endpoint, StoreError};
use crate::os;

/// The time to wait for a lock whose owner is gone or is this process.
const PATIENCE: Duration = Duration::from_secs(2);
/// The place in the file of the acknowledged state. The number of the process precedes it.
const PLACE: usize = 32;
/// The size of the acknowledged state in bytes: the number of commits, its checksum, the number of
/// frames, and half a checksum of everything before. A new frame changes the last eight bytes only.
const SAYS: usize = 24;
/// The place of the number of frames within the acknowledged state.
const FRAMES: usize = 16;

/// A way to lock a file: for this process alone, or shared with others that look at it.
type Way = fn(&File) -> Result<(), TryLockError>;

/// The state of a store that was acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Acknowledged {
    /// The least number of commits in the database.
    pub commits: u64,
    /// The least number of frames in the log, as long as the database has just `commits` commits.
    pub frames: u64,
}

impl Acknowledged {
    fn encode(self) -> [u8; SAYS] {
        let mut bytes = [0; SAYS];
        bytes[..8].copy_from_slice(&self.commits.to_le_bytes());
        let check = xxh3_64(&bytes[..8]);
        bytes[8..FRAMES].copy_from_slice(&check.to_le_bytes());
        // A log has less than 128 KiB, so its number of frames fits.
        let frames = u32::try_from(self.frames).unwrap_or(u32::MAX);
        bytes[FRAMES..FRAMES + 4].copy_from_slice(&frames.to_le_bytes());
        let check = xxh3_64(&bytes[..FRAMES + 4]) as u32;
        bytes[FRAMES + 4..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Decodes an acknowledged state; returns `None` if the bytes are not one. If only the frames
    /// are unreadable, the commits still count.
    fn decode(bytes: &[u8; SAYS]) -> Option<Acknowledged> {
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let commits = number(0)?;
        let frames = number(FRAMES)? as u32;
        let known = Acknowledged { commits, frames: u64::from(frames) };
        if known.encode() == *bytes {
            return Some(known);
        }
        (number(8)? == xxh3_64(&bytes[..8])).then_some(Acknowledged { commits, frames: 0 })
    }
}

/// The identity of a file, by which a removed or replaced file is noticed.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// A store's folder. This process holds it until the lock is dropped or the process ends, no matter
/// how.
#[derive(Debug)]
pub struct Lock {
    file: Option<File>,
    identity: Option<Identity>,
    /// The other locked files of a store that is only looked at.
    _others: Vec<File>,
    /// Whether [`Lock::take`] made the file.
    is_new: bool,
}

impl Identity {
    pub fn of(file: &File, path: &Path) -> io::Result<Identity> {
        let data = file.metadata()?;
        Ok(Identity { path: path.to_path_buf(), device: data.dev(), inode: data.ino() })
    }

    /// Checks that there is a file in the same place. This costs less than [`Identity::check`], and
    /// does not notice another file there. Reading a file's times makes the system store them
    /// exactly at the next write, which costs a quarter of a flush.
    pub fn check_there(&self) -> Result<(), StoreError> {
        use nix::unistd::{AccessFlags, access};
        access(&self.path, AccessFlags::F_OK).map_err(|_| StoreError::Replaced { path: self.path.clone() })
    }

    /// Checks that the same file is still in its place.
    pub fn check(&self) -> Result<(), StoreError> {
        match std::fs::metadata(&self.path) {
            Ok(data) if (data.dev(), data.ino()) == (self.device, self.inode) => Ok(()),
            _ => Err(StoreError::Replaced { path: self.path.clone() }),
        }
    }
}

impl Lock {
    /// Takes the folder, and makes it if there is none. If another process has the folder, the
    /// error names that process. No file of the store is written to before [`Lock::sign`].
    pub fn take(endpoint: &Endpoint) -> Result<Lock, StoreError> {
        let folder = endpoint.folder();
        if folder.is_file() {
            return Err(StoreError::NoFolder { path: folder.to_path_buf() });
        }
        let made = !folder.exists();
        os::make_private_folder(folder).map_err(|error| StoreError::io("make the folder", folder, error))?;
        if made {
            sync_parent(folder);
        }
        if os::make_private(folder) {
            // Earlier versions made files that everybody could read.
            for name in ["lock", "socket", "wal", "watermark", "journal.unfinished"] {
                os::make_private(&folder.join(name));
            }
            os::make_all_private(&folder.join("journal"));
        }
        let path = endpoint.lock();
        let is_new = !path.exists();
        if is_new {
            // The file may have been removed while a process has the store.
            hold(folder, &["wal", "journal/db"], File::try_lock)?;
        }
        let options = os::private_file().read(true).write(true).create(true).truncate(false).clone();
        let file = options.open(&path).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                StoreError::ReadOnly { folder: folder.to_path_buf(), source: Cause::new(error) }
            }
            _ => StoreError::io("open", &path, error),
        })?;
        wait_for(&file, &path, folder, File::try_lock)?;
        let identity = Identity::of(&file, &path).map_err(|error| StoreError::io("read", &path, error))?;
        // The file may have been removed before it was locked.
        identity.check()?;
        Ok(Lock { file: Some(file), identity: Some(identity), _others: Vec::new(), is_new })
    }

    /// Makes sure that nobody writes to a store while it is looked at. Nothing in the folder
    /// changes.
    pub fn look(endpoint: &Endpoint) -> Result<Lock, StoreError> {
        let folder = endpoint.folder();
        if folder.is_file() {
            return Err(StoreError::NoFolder { path: folder.to_path_buf() });
        }
        let others = hold(folder, &["lock", "wal", "journal/db"], File::try_lock_shared)?;
        let file = File::open(endpoint.lock()).ok();
        Ok(Lock { file, identity: None, _others: others, is_new: false })
    }

    /// Returns a function that removes the file if [`Lock::take`] made it, for a store that can't
    /// be opened.
    pub(super) fn removal(&self) -> impl FnOnce() + use<> {
        let path = self.identity.as_ref().filter(|_| self.is_new).map(|identity| identity.path.clone());
        move || {
            if let Some(path) = path {
                // A file that stays does no harm.
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// Writes the number of this process into the file.
    pub fn sign(&self) -> Result<(), StoreError> {
        let (Some(file), Some(identity)) = (&self.file, &self.identity) else { return Ok(()) };
        let number = format!("{:<width$}\n", std::process::id(), width = PLACE - 1);
        let written = file.write_all_at(number.as_bytes(), 0);
        written.map_err(|error| StoreError::io("write", &identity.path, error))
    }

    /// Notes how much was acknowledged. `before` is the last note of this process, if there is one.
    pub(super) fn note(&self, now: Acknowledged, before: Option<Acknowledged>) -> Result<(), StoreError> {
        let (Some(file), Some(identity)) = (&self.file, &self.identity) else { return Ok(()) };
        let bytes = now.encode();
        let from = if before.is_some_and(|before| before.commits == now.commits) { FRAMES } else { 0 };
        let written = file.write_all_at(&bytes[from..], (PLACE + from) as u64);
        written.map_err(|error| StoreError::io("write", &identity.path, error))
    }

    /// Returns how much was acknowledged, or `None` if it is not known.
    pub(super) fn acknowledged(&self) -> Option<Acknowledged> {
        let mut bytes = [0; SAYS];
        self.file.as_ref()?.read_exact_at(&mut bytes, PLACE as u64).ok()?;
        Acknowledged::decode(&bytes)
    }

    /// Returns a copy of the lock that only says what was acknowledged, for a look at a store that
    /// this process has.
    pub fn again(&self) -> Lock {
        let file = self.file.as_ref().and_then(|file| file.try_clone().ok());
        Lock { file, identity: None, _others: Vec::new(), is_new: false }
    }

    /// Checks that the same file is still in its place.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.identity.as_ref().map_or(Ok(()), Identity::check)
    }
}

/// Locks the named files of a folder that exist. Dropping the files unlocks them.
fn hold(folder: &Path, names: &[&str], way: Way) -> Result<Vec<File>, StoreError> {
    let mut held = Vec::new();
    for name in names {
        let path = folder.join(name);
        match File::open(&path) {
            Ok(file) => {
                wait_for(&file, &path, folder, way)?;
                held.push(file);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::io("open", &path, error)),
        }
    }
    Ok(held)
}

/// Locks a file. Waits a little if the owner of the lock is gone or is this process.
pub(super) fn wait_for(file: &File, path: &Path, folder: &Path, way: Way) -> Result<(), StoreError> {
    let began = Instant::now();
    loop {
        match way(file) {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {
                let pid = owner(folder);
                if began.elapsed() < PATIENCE && pid.is_some_and(has_let_go) {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                }
                let command = pid.and_then(os::command_of);
                let is_stopped = pid.is_some_and(os::is_stopped);
                return Err(StoreError::InUse { folder: folder.to_path_buf(), pid, command, is_stopped });
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", path, error)),
        }
    }
}

/// Returns the number of the process that has or had a store.
fn owner(folder: &Path) -> Option<u32> {
    let bytes = std::fs::read(Endpoint::new(folder).lock()).ok()?;
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

/// Returns whether a process that had the lock is gone, or is this process. A program that it was
/// starting holds the lock a moment longer, until the program runs.
fn has_let_go(pid: u32) -> bool {
    let gone = cfg!(target_os = "linux") && !Path::new(&format!("/proc/{pid}")).exists();
    gone || pid == std::process::id()
}

/// Makes a new name in a folder durable.
pub fn sync_parent(path: &Path) {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // If a folder can't be synced, nothing better can be done.
    if let Ok(folder) = File::open(parent) {
        let _ = folder.sync_all();
    }
}
