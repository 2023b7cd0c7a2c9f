//! Folders with all that is in them: their removal, the paths below a folder, and the paths that
//! fit a pattern.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use globset::{GlobBuilder, GlobSet};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode as Bits, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::machine::io_options::Walk;
use crate::machine::{ErrorData, MAX_TEXT, Value};
use crate::permissions::Capability;

use super::at::{At, Done, Failure, Reach, entries, gone, kind};
use super::walk::Last;

/// The largest depth of nested folders that can be removed or walked through.
const MOST_LEVELS: usize = 1_000;
/// The largest number of names that one walk looks at.
const MOST_NAMES: usize = 1_000_000;
/// The largest length of a pattern, in bytes.
const MOST_PATTERN: usize = 1_024;

impl At<'_> {
    pub(super) fn remove(&self) -> Done<()> {
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

    /// Returns the paths below a folder, those of each folder in the order of their names. Links
    /// are listed, and not followed.
    pub(super) fn walk(&self, options: &Walk) -> Done<Value> {
        let mut visit = Visit::new(options, None);
        let real = self.place(Capability::Read, Last::Followed)?.real;
        let folder = self.open_to_read(OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let shown = self.shown.trim_end_matches('/');
        let shown = if shown.is_empty() { "/" } else { shown };
        self.below(folder, shown, Path::new(""), &real, &mut visit)?;
        Ok(visit.listed())
    }

    /// Returns the paths that fit a pattern. What is before its first special character is a
    /// folder, in which everything else is looked for.
    pub(super) fn glob(&self, options: &Walk) -> Done<Value> {
        let (base, rest) = split(self.shown);
        if rest.is_empty() {
            let found = match self.exists()? {
                true => vec![Value::str(self.shown)],
                false => Vec::new(),
            };
            return Ok(Value::list(found));
        }
        let names = rest.split('/');
        let depth = if names.clone().any(|name| name == "**") { None } else { Some(names.clone().count()) };
        let hidden = options.hidden || names.clone().any(|name| name.starts_with('.'));
        let matcher = matcher(rest).map_err(|reason| {
            let message = format!("not a pattern of paths: {reason}");
            Failure::Refused(ErrorData::with("parse_error", message, [("pattern", Value::str(self.shown))]))
        })?;
        let options = Walk { directories: true, hidden, depth };
        let mut visit = Visit::new(&options, Some(matcher));
        let above = At::of(if base.is_empty() { "." } else { base }, self.reach, self.patience);
        let opened = above.place(Capability::Read, Last::Followed).and_then(|place| {
            let folder = above.open_to_read(OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
            Ok((folder, place.real))
        });
        match opened {
            Ok((folder, real)) => self.below(folder, base, Path::new(""), &real, &mut visit)?,
            // Nothing is in a folder that isn't there.
            Err(Failure::Io(error))
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(failure) => return Err(failure),
        }
        Ok(visit.listed())
    }

    /// Visits the content of an open folder. `shown` is the folder's path for the program, `below`
    /// its path from the folder of the walk, and `real` its path without links. What the program
    /// may not read is left out.
    fn below(&self, folder: OwnedFd, shown: &str, below: &Path, real: &Path, visit: &mut Visit) -> Done<()> {
        let level = below.components().count();
        if level >= visit.options.depth.unwrap_or(MOST_LEVELS + 1) {
            return Ok(());
        }
        if level > MOST_LEVELS {
            return Err(io::Error::other("its folders are nested more than 1,000 deep").into());
        }
        let mut names = entries(folder.try_clone()?)?;
        names.sort();
        visit.count(names.len())?;
        for name in names {
            if !visit.options.hidden && name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let (real, below) = (real.join(&name), below.join(&name));
            match self.check(Capability::Read, &real) {
                Ok(()) => {}
                Err(Failure::Refused(_)) => continue,
                Err(failure) => return Err(failure),
            }
            let found = match fstatat(folder.as_fd(), name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(found) => found,
                // It was removed meanwhile.
                Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let is_folder = kind(&found) == SFlag::S_IFDIR;
            let name_shown = name.to_string_lossy();
            let path = match shown {
                "" => name_shown.into_owned(),
                _ if shown.ends_with('/') => format!("{shown}{name_shown}"),
                _ => format!("{shown}/{name_shown}"),
            };
            visit.found(&path, &below, is_folder)?;
            if !is_folder {
                continue;
            }
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            match openat(folder.as_fd(), name.as_os_str(), flags, Bits::empty()) {
                Ok(inner) => self.below(inner, &path, &below, &real, visit)?,
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(Failure::Of(path, errno.into())),
            }
        }
        Ok(())
    }
}

/// A walk through folders.
struct Visit {
    options: Walk,
    pattern: Option<GlobSet>,
    found: Vec<Value>,
    bytes: usize,
    seen: usize,
}

impl Visit {
    fn new(options: &Walk, pattern: Option<GlobSet>) -> Visit {
        Visit { options: *options, pattern, found: Vec::new(), bytes: 0, seen: 0 }
    }

    fn count(&mut self, names: usize) -> Done<()> {
        self.seen += names;
        match self.seen > MOST_NAMES {
            true => Err(too_many()),
            false => Ok(()),
        }
    }

    fn found(&mut self, path: &str, below: &Path, is_folder: bool) -> Done<()> {
        let fits = match &self.pattern {
            Some(pattern) => pattern.is_match(below),
            None => !is_folder || self.options.directories,
        };
        if fits {
            self.bytes += path.len();
            if self.bytes > MAX_TEXT {
                return Err(too_many());
            }
            self.found.push(Value::str(path));
        }
        Ok(())
    }

    fn listed(self) -> Value {
        Value::list(self.found)
    }
}

fn too_many() -> Failure {
    let message = "more than 1,000,000 names, or 256 MiB of paths: go through its folders one by one";
    Failure::Refused(ErrorData::new("limit", message))
}

/// Compiles a pattern. An error is a reason in words.
fn matcher(pattern: &str) -> Result<GlobSet, String> {
    if pattern.len() > MOST_PATTERN {
        return Err(format!("it has more than {MOST_PATTERN} bytes"));
    }
    let reason = |error: globset::Error| error.kind().to_string();
    let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
    // A single pattern could panic where a set returns an error.
    GlobSet::builder().add(glob.map_err(reason)?).build().map_err(reason)
}

/// Splits a pattern into a folder without special characters, and the rest. The rest is empty if
/// the whole pattern is a path.
fn split(pattern: &str) -> (&str, &str) {
    let Some(special) = pattern.find(['*', '?', '[', '{', '\\']) else { return (pattern, "") };
    match pattern[..special].rfind('/') {
        None => ("", pattern),
        Some(0) => ("/", &pattern[1..]),
        Some(at) => (&pattern[..at], &pattern[at + 1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_pattern_begins_with_a_folder() {
        assert_eq!(split("a/b*/c"), ("a", "b*/c"));
        assert_eq!(split("*.txt"), ("", "*.txt"));
        assert_eq!(split("/*"), ("/", "*"));
        assert_eq!(split("/a/b/{c,d}"), ("/a/b", "{c,d}"));
        assert_eq!(split("a/b"), ("a/b", ""));
    }
}
