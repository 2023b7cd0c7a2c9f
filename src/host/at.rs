//! A path of an effect on files, and the means to use what it names.
//!
//! Invariant: a file is used only by a place that was checked; see [`walk`](super::walk).

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions as Mode};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{FileStat, Mode as Bits, SFlag, fstat, fstatat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use crate::machine::{ErrorData, Value};
use crate::permissions::{Capability, Permissions};

use super::pipes::{self, Blocked, Patience};
use super::walk::{Astray, Last, Place, walk};

/// The mode of a new file, before the process's umask.
pub(super) const NEW_FILE: u32 = 0o666;
/// The mode of a file that replaces another one, until it gets that file's mode.
pub(super) const UNFINISHED: u32 = 0o600;

/// The permissions of an effect on files.
#[derive(Clone, Default)]
pub(crate) struct Reach {
    pub permissions: Permissions,
    /// The folder of the store that the program is in.
    pub store: Option<Arc<Path>>,
}

/// The reason why an effect is not executed.
pub(super) enum Failure {
    Io(io::Error),
    /// The failure of another path than the one that the effect begins with.
    Of(String, io::Error),
    Refused(ErrorData),
    /// The file must be waited for, or the effect was abandoned.
    Waits,
}

impl Failure {
    /// Returns the error for the program, or `None` if the effect must wait. `doing` is what could
    /// not be done with the path `shown`.
    pub(super) fn error(self, doing: &str, shown: &str) -> Option<ErrorData> {
        let (path, error) = match self {
            Failure::Refused(error) => return Some(error),
            Failure::Waits => return None,
            Failure::Io(error) => (shown, error),
            Failure::Of(ref path, error) => (path.as_str(), error),
        };
        let reason = crate::os::reason(&error);
        let code = match error.kind() {
            io::ErrorKind::NotFound => "not_found",
            io::ErrorKind::PermissionDenied => "permission_denied",
            io::ErrorKind::AlreadyExists => "already_exists",
            _ => "other",
        };
        let more = [("path", Value::str(path)), ("reason", Value::str(code))];
        let of = if path == shown { String::new() } else { format!("{path}: ") };
        Some(ErrorData::with("io_error", format!("could not {doing} {shown}: {of}{reason}"), more))
    }
}

impl Failure {
    /// Returns the error for the program, of a path that must be that of a regular file.
    pub(super) fn of_regular(self, doing: &str, path: &str) -> ErrorData {
        let text = format!("could not {doing} {path}: it is not a regular file");
        self.error(doing, path).unwrap_or_else(|| ErrorData::new("io_error", text))
    }
}

impl From<Blocked> for Failure {
    fn from(blocked: Blocked) -> Failure {
        match blocked {
            Blocked::Io(error) => Failure::Io(error),
            Blocked::Waits => Failure::Waits,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure::Io(errno.into())
    }
}

pub(super) type Done<T> = Result<T, Failure>;

/// A path as a program named it, with the permissions for it.
pub(super) struct At<'a> {
    pub(super) path: &'a Path,
    pub(super) shown: &'a str,
    pub(super) reach: &'a Reach,
    pub(super) patience: Patience<'a>,
}

impl<'a> At<'a> {
    /// Returns a failure as one of this path, which is not the one that the effect begins with.
    pub(super) fn of_itself(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Io(error) => Failure::Of(self.shown.to_string(), error),
            other => other,
        }
    }

    pub(super) fn of(shown: &'a str, reach: &'a Reach, patience: Patience<'a>) -> At<'a> {
        At { path: Path::new(shown), shown, reach, patience }
    }

    pub(super) fn check(&self, capability: Capability, real: &Path) -> Done<()> {
        let Reach { permissions, store } = self.reach;
        permissions.check_path(capability, real, self.shown, store.as_deref()).map_err(Failure::Refused)
    }

    /// Returns the place of the path, if the path may be used so. The error that a path leads
    /// nowhere is shown only to programs that may use the path.
    pub(super) fn place(&self, capability: Capability, last: Last) -> Done<Place> {
        self.place_of(self.path, capability, last)
    }

    pub(super) fn place_of(&self, path: &Path, capability: Capability, last: Last) -> Done<Place> {
        match walk(path, last) {
            Ok(place) => {
                self.check(capability, &place.real)?;
                if place.is_of_processes() {
                    let refused = self.reach.permissions.check_system(capability, self.shown);
                    refused.map_err(Failure::Refused)?;
                }
                Ok(place)
            }
            Err(Astray { real, error }) => {
                self.check(capability, &real)?;
                Err(error.into())
            }
        }
    }

    /// Returns the path for the system to follow, if there is nothing to check on the way. That is
    /// one system call in place of two for each name.
    pub(super) fn unchecked(&self) -> Option<PathBuf> {
        let is_free = self.reach.permissions.are_all() && !self.path.as_os_str().is_empty();
        // The components leave out a slash at the end, as `walk` does.
        is_free.then(|| self.path.components().collect())
    }

    pub(super) fn open_to_read(&self, flags: OFlag) -> Done<OwnedFd> {
        match self.unchecked() {
            Some(path) => Ok(open(&path, flags | OFlag::O_CLOEXEC, Bits::empty())?),
            None => self.place(Capability::Read, Last::Followed)?.open(flags, 0),
        }
    }

    pub(super) fn open_to_write(&self, place: &Place, flags: OFlag) -> Done<File> {
        // Opening and closing a pipe would end it for its reader, so the kind is checked first.
        let is_no_file = place.look()?.is_some_and(|old| kind(&old) != SFlag::S_IFREG);
        if let (Patience::None, true) = (self.patience, is_no_file) {
            return Err(Blocked::Waits.into());
        }
        let mut refused = None;
        let open = || match place.open(flags | OFlag::O_NONBLOCK, NEW_FILE) {
            Ok(file) => Ok(File::from(file)),
            Err(Failure::Io(error)) => Err(error),
            Err(other) => {
                refused = Some(other);
                Err(io::ErrorKind::PermissionDenied.into())
            }
        };
        let opened = pipes::open_to_write(open, self.patience);
        match refused {
            Some(failure) => Err(failure),
            None => Ok(opened?),
        }
    }
}

impl Place {
    /// Opens the file that has the name now, without following a link that was put there meanwhile.
    pub(super) fn open(&self, flags: OFlag, mode: u32) -> Done<OwnedFd> {
        let follow = if self.is_magic { OFlag::empty() } else { OFlag::O_NOFOLLOW };
        let flags = flags | follow | OFlag::O_CLOEXEC;
        Ok(openat(&self.folder, self.name.as_os_str(), flags, Bits::from_bits_truncate(mode as _))?)
    }

    /// Returns whether the place is in a `proc` file system, wherever that is mounted.
    #[cfg(target_os = "linux")]
    pub(super) fn is_of_processes(&self) -> bool {
        use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
        fstatfs(&self.folder).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn is_of_processes(&self) -> bool {
        false
    }

    /// Returns the metadata of the file that has the name now, or `None` if there is none. Links
    /// are not followed.
    pub(super) fn look(&self) -> Done<Option<FileStat>> {
        match fstatat(&self.folder, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Creates a file in the same folder, under a name that no other file has.
    pub(super) fn temporary(&self, mode: u32) -> Done<(OsString, File)> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = OsString::from(format!(".durable-{}-{number}.new", std::process::id()));
            let flags =
                OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            match openat(&self.folder, name.as_os_str(), flags, Bits::from_bits_truncate(mode as _)) {
                Ok(file) => return Ok((name, File::from(file))),
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Gives a file the owner and the mode of the file that it replaces. Only privileged processes can
/// change the owner, so a failure of that is ignored.
pub(super) fn keep_rights(file: &File, old: &FileStat) -> Done<()> {
    let new = fstat(file)?;
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid) {
        let group = Some(Gid::from_raw(old.st_gid));
        let _ = fchown(file, Some(Uid::from_raw(old.st_uid)), group).or_else(|_| fchown(file, None, group));
    }
    #[allow(clippy::unnecessary_cast, reason = "modes are shorter elsewhere")]
    Ok(file.set_permissions(Mode::from_mode((old.st_mode as u32) & 0o7777))?)
}

/// A new file under a name of its own, which replaces another file when it is finished. Dropping
/// this before removes the file.
pub(super) struct Unfinished {
    place: Place,
    name: OsString,
    old: Option<FileStat>,
    is_finished: bool,
}

impl Unfinished {
    /// Begins a file that will have the name of `place`, which must be free or a regular file's.
    pub(super) fn begin(place: Place) -> Done<(Unfinished, File)> {
        let old = place.look()?;
        match old.as_ref().map(kind) {
            Some(SFlag::S_IFDIR) => return Err(Errno::EISDIR.into()),
            _ if place.name == "." => return Err(Errno::EISDIR.into()),
            Some(SFlag::S_IFREG) | None => {}
            Some(_) => return Err(io::Error::other("it is not a regular file").into()),
        }
        let (name, file) = place.temporary(if old.is_some() { UNFINISHED } else { NEW_FILE })?;
        Ok((Unfinished { place, name, old, is_finished: false }, file))
    }

    /// Makes the content durable, and gives the file its name. `mode` is the mode where no other
    /// file is replaced.
    pub(super) fn finish(mut self, file: &File, mode: Option<u32>) -> Done<()> {
        match (&self.old, mode) {
            (Some(old), _) => keep_rights(file, old)?,
            (None, Some(mode)) => file.set_permissions(Mode::from_mode(mode))?,
            (None, None) => {}
        }
        file.sync_data()?;
        let Place { folder, name, .. } = &self.place;
        renameat(folder, self.name.as_os_str(), folder, name.as_os_str())?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_finished {
            let _ = unlinkat(&self.place.folder, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

pub(super) fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT
}

/// Returns the names in an open folder.
pub(super) fn entries(folder: OwnedFd) -> Done<Vec<OsString>> {
    use std::os::unix::ffi::OsStrExt;
    let mut names = Vec::new();
    for entry in Dir::from_fd(folder)?.iter() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_os_string());
        }
    }
    Ok(names)
}

/// Counts a file that is gone already as removed.
pub(super) fn gone(removed: nix::Result<()>) -> Done<()> {
    match removed {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
