//! Effects on files.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions as Mode};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{FileStat, Mode as Bits, SFlag, fstat, fstatat, mkdirat, stat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use crate::builtins::Effect;
use crate::machine::{Data, ErrorData, MAX_TEXT, Value};
use crate::permissions::{Capability, Permissions};

use super::effects::unknown;
use super::pipes::{self, Blocked, Patience};
use super::walk::{Astray, Last, Place, walk};
use super::{EffectResult, data};

/// The mode of a new file, before the process's umask.
const NEW_FILE: u32 = 0o666;
/// The mode of a file that replaces another one, until it gets that file's mode.
const UNFINISHED: u32 = 0o600;
/// The largest depth of nested folders that can be removed.
const MOST_LEVELS: usize = 1_000;

/// The permissions of an effect on files.
#[derive(Clone, Default)]
pub(crate) struct Reach {
    pub permissions: Permissions,
    /// The folder of the store that the program is in.
    pub store: Option<PathBuf>,
}

/// The reason why an effect is not executed.
enum Failure {
    Io(io::Error),
    Refused(ErrorData),
    /// The file must be waited for, or the effect was abandoned.
    Waits,
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

type Done<T> = Result<T, Failure>;

/// Executes an effect on files, which may take as long as the disk does. Returns `None` if the
/// effect must wait for longer than `patience` allows.
pub(crate) fn run(
    effect: Effect,
    args: &Data,
    reach: &Reach,
    patience: Patience<'_>,
) -> Option<EffectResult> {
    let args = args.items();
    let Some(Value::Str(path)) = args.first() else {
        return Some(Err(ErrorData::new("type_error", "a path is a string")));
    };
    let shown = path.as_str();
    let at = At { path: Path::new(shown), shown, reach, patience };
    let contents = || match args.get(1) {
        Some(Value::Bytes(blob)) => blob.bytes.clone(),
        Some(Value::Str(text)) => text.as_str().as_bytes().to_vec(),
        _ => Vec::new(),
    };
    let (doing, result) = match effect {
        Effect::FsRead => ("read", at.read().and_then(text)),
        Effect::FsReadBytes => ("read", at.read().map(Value::bytes)),
        Effect::FsWrite => ("write", at.write(&contents()).map(|()| Value::Null)),
        Effect::FsAppend => ("append to", at.append(&contents()).map(|()| Value::Null)),
        Effect::FsExists => ("look for", at.exists().map(Value::bool)),
        Effect::FsList => ("list", at.list()),
        Effect::FsMakeDir => ("make", at.make_dir().map(|()| Value::Null)),
        Effect::FsRemove => ("remove", at.remove().map(|()| Value::Null)),
        other => return Some(Err(unknown(other.name()))),
    };
    Some(match result {
        Ok(value) => data(&value),
        Err(Failure::Refused(error)) => Err(error),
        Err(Failure::Waits) => return None,
        Err(Failure::Io(error)) => {
            let reason = crate::os::reason(&error);
            let code = match error.kind() {
                io::ErrorKind::NotFound => "not_found",
                io::ErrorKind::PermissionDenied => "permission_denied",
                io::ErrorKind::AlreadyExists => "already_exists",
                _ => "other",
            };
            let more = [("path", Value::str(shown)), ("reason", Value::str(code))];
            Err(ErrorData::with("io_error", format!("could not {doing} {shown}: {reason}"), more))
        }
    })
}

fn text(bytes: Vec<u8>) -> Done<Value> {
    String::from_utf8(bytes).map(Value::str).map_err(|_| {
        let why = "it is not UTF-8 text; `fs.read_bytes` reads any file";
        io::Error::new(io::ErrorKind::InvalidData, why).into()
    })
}

/// A path as a program named it, with the permissions for it.
struct At<'a> {
    path: &'a Path,
    shown: &'a str,
    reach: &'a Reach,
    patience: Patience<'a>,
}

impl At<'_> {
    fn check(&self, capability: Capability, real: &Path) -> Done<()> {
        let Reach { permissions, store } = self.reach;
        permissions.check_path(capability, real, self.shown, store.as_deref()).map_err(Failure::Refused)
    }

    /// Returns the place of the path, if the path may be used so. The error that a path leads
    /// nowhere is shown only to programs that may use the path.
    fn place(&self, capability: Capability, last: Last) -> Done<Place> {
        self.place_of(self.path, capability, last)
    }

    fn place_of(&self, path: &Path, capability: Capability, last: Last) -> Done<Place> {
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
    fn unchecked(&self) -> Option<PathBuf> {
        let is_free = self.reach.permissions.are_all() && !self.path.as_os_str().is_empty();
        // The components leave out a slash at the end, as `walk` does.
        is_free.then(|| self.path.components().collect())
    }

    fn open_to_read(&self, flags: OFlag) -> Done<OwnedFd> {
        match self.unchecked() {
            Some(path) => Ok(open(&path, flags | OFlag::O_CLOEXEC, Bits::empty())?),
            None => self.place(Capability::Read, Last::Followed)?.open(flags, 0),
        }
    }

    fn read(&self) -> Done<Vec<u8>> {
        let file = File::from(self.open_to_read(OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
        let bytes = pipes::read(file, MAX_TEXT as u64 + 1, self.patience)?;
        if bytes.len() > MAX_TEXT {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it has more than 256 MiB").into());
        }
        Ok(bytes)
    }

    /// Writes a new file beside the old one, makes it durable and renames it. So readers see the
    /// old or the new content as a whole. A device or a pipe is written to in place.
    fn write(&self, contents: &[u8]) -> Done<()> {
        let place = self.place(Capability::Write, Last::Followed)?;
        let old = place.look()?;
        let kind = old.as_ref().map(kind);
        if kind == Some(SFlag::S_IFDIR) || place.name == "." {
            return Err(Errno::EISDIR.into());
        }
        if kind.is_some_and(|kind| kind != SFlag::S_IFREG) {
            let mut file = self.open_to_write(&place, OFlag::O_WRONLY)?;
            return Ok(pipes::write(&mut file, contents, self.patience)?);
        }
        let (temporary, mut file) = place.temporary(if old.is_some() { UNFINISHED } else { NEW_FILE })?;
        let written = (|| {
            file.write_all(contents)?;
            if let Some(old) = &old {
                keep_rights(&file, old)?;
            }
            file.sync_data()?;
            Ok(renameat(&place.folder, temporary.as_os_str(), &place.folder, place.name.as_os_str())?)
        })();
        if written.is_err() {
            let _ = unlinkat(&place.folder, temporary.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
        written
    }

    fn append(&self, contents: &[u8]) -> Done<()> {
        let place = self.place(Capability::Write, Last::Followed)?;
        let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT;
        let mut file = self.open_to_write(&place, flags)?;
        pipes::write(&mut file, contents, self.patience)?;
        // Devices and pipes have nothing to make durable.
        if file.metadata()?.is_file() {
            file.sync_data()?;
        }
        Ok(())
    }

    fn open_to_write(&self, place: &Place, flags: OFlag) -> Done<File> {
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

    fn exists(&self) -> Done<bool> {
        let found = match self.unchecked() {
            Some(path) => stat(&path).map(|_| true).map_err(Failure::from),
            None => {
                self.place(Capability::Read, Last::Followed).and_then(|place| Ok(place.look()?.is_some()))
            }
        };
        match found {
            Err(Failure::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            found => found,
        }
    }

    fn list(&self) -> Done<Value> {
        let mut names = Vec::new();
        for name in entries(self.open_to_read(OFlag::O_RDONLY | OFlag::O_DIRECTORY)?)? {
            names.push(name.to_string_lossy().into_owned());
        }
        names.sort();
        Ok(Value::list(names.into_iter().map(Value::str).collect()))
    }

    /// Makes a folder, and the missing folders above it.
    fn make_dir(&self) -> Done<()> {
        let mut so_far = PathBuf::new();
        let mut parts = self.path.components().peekable();
        while let Some(part) = parts.next() {
            so_far.push(part);
            let is_last = parts.peek().is_none();
            let place = match walk(&so_far, Last::Followed) {
                Ok(place) => place,
                Err(Astray { real, error }) => {
                    self.check(Capability::Write, &real)?;
                    return Err(error.into());
                }
            };
            let old = place.look()?;
            if old.is_none() || is_last {
                self.check(Capability::Write, &place.real)?;
            }
            match old.as_ref().map(kind) {
                Some(SFlag::S_IFDIR) => {}
                Some(_) if is_last => return Err(Errno::EEXIST.into()),
                Some(_) => return Err(Errno::ENOTDIR.into()),
                None => match mkdirat(&place.folder, place.name.as_os_str(), Bits::from_bits_truncate(0o777))
                {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(errno.into()),
                },
            }
        }
        match so_far.as_os_str().is_empty() {
            true => Err(Errno::ENOENT.into()),
            false => Ok(()),
        }
    }

    fn remove(&self) -> Done<()> {
        let place = match self.place(Capability::Write, Last::Meant) {
            Err(Failure::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            place => place?,
        };
        let Some(old) = place.look()? else { return Ok(()) };
        if kind(&old) != SFlag::S_IFDIR {
            return gone(unlinkat(&place.folder, place.name.as_os_str(), UnlinkatFlags::NoRemoveDir));
        }
        let Reach { permissions, store } = self.reach;
        permissions.check_removal(&place.real, self.shown, store.as_deref()).map_err(Failure::Refused)?;
        if !permissions.are_all() {
            // Everything is checked first, so nothing is removed if something must stay.
            self.tree(&place.folder, &place.name, &place.real, 0, &mut |_, _, _| Ok(()))?;
        }
        self.tree(&place.folder, &place.name, &place.real, 0, &mut |folder, name, is_folder| {
            let flag = if is_folder { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
            gone(unlinkat(folder, name, flag))
        })
    }

    /// Visits a folder, its content before itself. Each path is checked before `each` is called for
    /// it.
    fn tree(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        real: &Path,
        level: usize,
        each: &mut dyn FnMut(&OwnedFd, &OsStr, bool) -> Done<()>,
    ) -> Done<()> {
        self.check(Capability::Write, real)?;
        if level > MOST_LEVELS {
            return Err(io::Error::other("its folders are nested more than 1,000 deep").into());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let folder = match openat(parent, name, flags, Bits::empty()) {
            Ok(folder) => folder,
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        for entry in entries(folder.try_clone()?)? {
            let below = real.join(&entry);
            let is_folder = match fstatat(&folder, entry.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(found) => kind(&found) == SFlag::S_IFDIR,
                Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if is_folder {
                self.tree(&folder, &entry, &below, level + 1, each)?;
            } else {
                self.check(Capability::Write, &below)?;
                each(&folder, &entry, false)?;
            }
        }
        each(parent, name, true)
    }
}

impl Place {
    /// Opens the file that has the name now, without following a link that was put there meanwhile.
    fn open(&self, flags: OFlag, mode: u32) -> Done<OwnedFd> {
        let follow = if self.is_magic { OFlag::empty() } else { OFlag::O_NOFOLLOW };
        let flags = flags | follow | OFlag::O_CLOEXEC;
        Ok(openat(&self.folder, self.name.as_os_str(), flags, Bits::from_bits_truncate(mode as _))?)
    }

    /// Returns whether the place is in a `proc` file system, wherever that is mounted.
    #[cfg(target_os = "linux")]
    fn is_of_processes(&self) -> bool {
        use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
        fstatfs(&self.folder).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC)
    }

    #[cfg(not(target_os = "linux"))]
    fn is_of_processes(&self) -> bool {
        false
    }

    /// Returns the metadata of the file that has the name now, or `None` if there is none. Links
    /// are not followed.
    fn look(&self) -> Done<Option<FileStat>> {
        match fstatat(&self.folder, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Creates a file in the same folder, under a name that no other file has.
    fn temporary(&self, mode: u32) -> Done<(OsString, File)> {
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
fn keep_rights(file: &File, old: &FileStat) -> Done<()> {
    let new = fstat(file)?;
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid) {
        let group = Some(Gid::from_raw(old.st_gid));
        let _ = fchown(file, Some(Uid::from_raw(old.st_uid)), group).or_else(|_| fchown(file, None, group));
    }
    #[allow(clippy::unnecessary_cast, reason = "modes are shorter elsewhere")]
    Ok(file.set_permissions(Mode::from_mode((old.st_mode as u32) & 0o7777))?)
}

fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT
}

/// Returns the names in an open folder.
fn entries(folder: OwnedFd) -> Done<Vec<OsString>> {
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
fn gone(removed: nix::Result<()>) -> Done<()> {
    match removed {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
