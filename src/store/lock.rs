//! One process at a time, and what the last one acknowledged.
//!
//! The file `lock` is locked by the process that has the store. It holds the process's number and, in a place of its own, how
//! far what was acknowledged reaches. That place is written over in the file with each flush and is not synced: a kill of the
//! process leaves it exact, and the loss of power leaves it as it was a while before. It is never ahead of what is durable.
//!
//! The log and the database's file are locked as well, so that a store whose `lock` was removed still has one owner.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::xxh3_64;

use crate::kv::StoreError;
use crate::os;

/// How long a lock is waited for whose process has let go of it.
const PATIENCE: Duration = Duration::from_secs(2);
/// Where in the file it says what was acknowledged. What is before it is the process's number.
const PLACE: usize = 32;
/// Bytes of what it says there: the number of commits, a checksum of it, the number of frames, and half a checksum of both. The
/// last eight are all that changes with a frame.
const SAYS: usize = 24;
/// Where the number of frames is in that.
const FRAMES: usize = 16;

/// How a file is locked: for this process alone, or shared with others that look at it.
type Way = fn(&File) -> Result<(), TryLockError>;

/// How far what was acknowledged reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Acknowledged {
    /// How many commits the database has at least.
    pub commits: u64,
    /// How many frames the log has at least, while the database has no more commits than that.
    pub frames: u64,
}

impl Acknowledged {
    fn encode(self) -> [u8; SAYS] {
        let mut bytes = [0; SAYS];
        bytes[..8].copy_from_slice(&self.commits.to_le_bytes());
        let check = xxh3_64(&bytes[..8]);
        bytes[8..FRAMES].copy_from_slice(&check.to_le_bytes());
        // A log has less than 128 KiB.
        let frames = u32::try_from(self.frames).unwrap_or(u32::MAX);
        bytes[FRAMES..FRAMES + 4].copy_from_slice(&frames.to_le_bytes());
        let check = xxh3_64(&bytes[..FRAMES + 4]) as u32;
        bytes[FRAMES + 4..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// What such bytes say; none when they are something else. Where only the frames can't be read, the commits count.
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

/// A file that another may remove or put something else in the place of.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// A store's folder, held by this process until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    file: Option<File>,
    identity: Option<Identity>,
    /// Other files that are locked, when the store is only looked at.
    _others: Vec<File>,
    /// The file was not there before.
    is_new: bool,
}

impl Identity {
    pub fn of(file: &File, path: &Path) -> io::Result<Identity> {
        let data = file.metadata()?;
        Ok(Identity { path: path.to_path_buf(), device: data.dev(), inode: data.ino() })
    }

    /// Checks that there is a file where it was. That costs less than [`Identity::check`], and does not see that it is
    /// another: whoever looks at a file's times makes its next write write them exactly, which costs a quarter of a flush.
    pub fn check_there(&self) -> Result<(), StoreError> {
        use nix::unistd::{AccessFlags, access};
        access(&self.path, AccessFlags::F_OK).map_err(|_| StoreError::Replaced { path: self.path.clone() })
    }

    /// Checks that the file is still where it was.
    pub fn check(&self) -> Result<(), StoreError> {
        match std::fs::metadata(&self.path) {
            Ok(data) if (data.dev(), data.ino()) == (self.device, self.inode) => Ok(()),
            _ => Err(StoreError::Replaced { path: self.path.clone() }),
        }
    }
}

impl Lock {
    /// Takes the folder, made if it isn't there. The error of one that is taken names the process that has it. Nothing is
    /// written to a file of the store before [`Lock::sign`].
    pub fn take(folder: &Path) -> Result<Lock, StoreError> {
        if folder.is_file() {
            return Err(StoreError::NoFolder { path: folder.to_path_buf() });
        }
        let made = !folder.exists();
        os::make_private_folder(folder).map_err(|error| StoreError::io("make the folder", folder, &error))?;
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
        let path = folder.join("lock");
        let is_new = !path.exists();
        if is_new {
            // Somebody may have removed it while a process has the store.
            hold(folder, &["wal", "journal/db"], File::try_lock)?;
        }
        let options = os::private_file().read(true).write(true).create(true).truncate(false).clone();
        let file = options.open(&path).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                StoreError::ReadOnly { folder: folder.to_path_buf(), reason: os::reason(&error) }
            }
            _ => StoreError::io("open", &path, &error),
        })?;
        wait_for(&file, &path, folder, File::try_lock)?;
        let identity = Identity::of(&file, &path).map_err(|error| StoreError::io("read", &path, &error))?;
        // Somebody may have removed it before it was locked.
        identity.check()?;
        Ok(Lock { file: Some(file), identity: Some(identity), _others: Vec::new(), is_new })
    }

    /// Makes sure that nobody writes to a store while it is looked at. Nothing in the folder is changed.
    pub fn look(folder: &Path) -> Result<Lock, StoreError> {
        if folder.is_file() {
            return Err(StoreError::NoFolder { path: folder.to_path_buf() });
        }
        let others = hold(folder, &["lock", "wal", "journal/db"], File::try_lock_shared)?;
        let file = File::open(folder.join("lock")).ok();
        Ok(Lock { file, identity: None, _others: others, is_new: false })
    }

    /// What removes the file again when the store is not opened: one that was not there before, in a folder that was.
    pub(super) fn removal(&self) -> impl FnOnce() + use<> {
        let path = self.identity.as_ref().filter(|_| self.is_new).map(|identity| identity.path.clone());
        move || {
            if let Some(path) = path {
                // Where it stays nothing is lost.
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// Writes the number of this process into it.
    pub fn sign(&self) -> Result<(), StoreError> {
        let (Some(file), Some(identity)) = (&self.file, &self.identity) else { return Ok(()) };
        let number = format!("{:<width$}\n", std::process::id(), width = PLACE - 1);
        let written = file.write_all_at(number.as_bytes(), 0);
        written.map_err(|error| StoreError::io("write", &identity.path, &error))
    }

    /// Notes how far what was acknowledged reaches. `before` is what was noted last, if anything was.
    pub(super) fn note(&self, now: Acknowledged, before: Option<Acknowledged>) -> Result<(), StoreError> {
        let (Some(file), Some(identity)) = (&self.file, &self.identity) else { return Ok(()) };
        let bytes = now.encode();
        let from = if before.is_some_and(|before| before.commits == now.commits) { FRAMES } else { 0 };
        let written = file.write_all_at(&bytes[from..], (PLACE + from) as u64);
        written.map_err(|error| StoreError::io("write", &identity.path, &error))
    }

    /// How far what was acknowledged reaches, as far as it is known.
    pub(super) fn acknowledged(&self) -> Option<Acknowledged> {
        let mut bytes = [0; SAYS];
        self.file.as_ref()?.read_exact_at(&mut bytes, PLACE as u64).ok()?;
        Acknowledged::decode(&bytes)
    }

    /// What it says, for a look at the store that this process has.
    pub fn again(&self) -> Lock {
        let file = self.file.as_ref().and_then(|file| file.try_clone().ok());
        Lock { file, identity: None, _others: Vec::new(), is_new: false }
    }

    /// Checks that the file is still where it was.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.identity.as_ref().map_or(Ok(()), Identity::check)
    }
}

/// Locks those files of a folder that are there. They are let go of when they are dropped.
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
            Err(error) => return Err(StoreError::io("open", &path, &error)),
        }
    }
    Ok(held)
}

/// Locks a file. One whose process is about to let go of it is waited for.
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
                return Err(StoreError::Locked { folder: folder.to_path_buf(), pid });
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", path, &error)),
        }
    }
}

/// The process that has or had a store.
fn owner(folder: &Path) -> Option<u32> {
    let bytes = std::fs::read(folder.join("lock")).ok()?;
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

/// Whether a process that had the lock is gone, or is this one. A program that it was just starting holds the lock a
/// moment longer, until it runs.
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
    // Where a folder can't be synced there is nothing better to be done.
    if let Ok(folder) = File::open(parent) {
        let _ = folder.sync_all();
    }
}
