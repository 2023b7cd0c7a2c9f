//! Copies of files, and new names of files and folders.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode as Bits, SFlag, fstatat};

use crate::permissions::Capability;

use super::at::{At, Done, Failure, Reach, Unfinished, entries, kind};
use super::walk::Last;

/// The largest depth of a folder that a restricted program may give another name.
const MOST_LEVELS: usize = 1_000;

impl At<'_> {
    /// Copies a file, its mode included. The new file replaces an old one as a whole.
    pub(super) fn copy(&self, to: &str) -> Done<()> {
        let target = At::of(to, self.reach, self.patience);
        let mut source = self.open_regular()?;
        let of_target = |failure| target.of_itself(failure);
        let place = target.place(Capability::Write, Last::Followed).map_err(of_target)?;
        let mode = source.metadata()?.permissions().mode() & 0o777;
        let (unfinished, mut file) = Unfinished::begin(place).map_err(of_target)?;
        io::copy(&mut source, &mut file)?;
        unfinished.finish(&file, Some(mode)).map_err(of_target)
    }

    /// Gives a file or a folder another path, in place of a file that has that path. A link keeps
    /// its target.
    pub(super) fn rename(&self, to: &str) -> Done<()> {
        let target = At::of(to, self.reach, self.patience);
        let of_target = |failure| target.of_itself(failure);
        let from = self.place(Capability::Write, Last::Meant)?;
        self.check(Capability::Read, &from.real)?;
        let old = from.look()?.ok_or(Errno::ENOENT)?;
        let into = target.place(Capability::Write, Last::Meant).map_err(of_target)?;
        let Reach { permissions, store } = self.reach;
        if kind(&old) == SFlag::S_IFDIR && !permissions.are_all() {
            // Under another name, other rules would hold for the content.
            permissions.check_removal(&from.real, self.shown, store.as_deref()).map_err(Failure::Refused)?;
            let open = |folder: &OwnedFd, name: &OsStr| {
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                openat(folder, name, flags, Bits::empty())
            };
            let folder = open(&from.folder, &from.name)?;
            self.check_move(&folder, &from.real, &target, &into.real, 0)?;
        }
        match renameat(&from.folder, from.name.as_os_str(), &into.folder, into.name.as_os_str()) {
            Err(Errno::EXDEV) => {
                let why = "the new path is on another file system; `fs.copy` and `fs.remove` do the same";
                Err(io::Error::other(why).into())
            }
            Err(errno @ (Errno::EEXIST | Errno::ENOTEMPTY | Errno::EISDIR | Errno::ENOTDIR)) => {
                Err(of_target(errno.into()))
            }
            renamed => Ok(renamed?),
        }
    }

    /// Checks that the content of a folder may be read, and written at both of its paths.
    fn check_move(
        &self,
        folder: &OwnedFd,
        real: &Path,
        target: &At<'_>,
        into: &Path,
        level: usize,
    ) -> Done<()> {
        if level > MOST_LEVELS {
            return Err(io::Error::other("its folders are nested more than 1,000 deep").into());
        }
        for name in entries(folder.try_clone()?)? {
            let (real, into) = (real.join(&name), into.join(&name));
            self.check(Capability::Read, &real)?;
            self.check(Capability::Write, &real)?;
            target.check(Capability::Write, &into)?;
            let is_folder = fstatat(folder, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
                .is_ok_and(|found| kind(&found) == SFlag::S_IFDIR);
            if is_folder {
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let inner = openat(folder, name.as_os_str(), flags, Bits::empty())?;
                self.check_move(&inner, &real, target, &into, level + 1)?;
            }
        }
        Ok(())
    }

    /// Opens a file to read from, which is no folder, pipe or device.
    pub(super) fn open_regular(&self) -> Done<File> {
        let file = File::from(self.open_to_read(OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
        let kind = file.metadata()?.file_type();
        match (kind.is_file(), kind.is_dir()) {
            (true, _) => Ok(file),
            (false, true) => Err(Errno::EISDIR.into()),
            (false, false) => Err(io::Error::other("it is not a regular file").into()),
        }
    }
}
