//! Paths, followed one name at a time from open folder to open folder.
//!
//! Invariant: the file that is used is the file that was checked. A path leads to an open folder
//! and a name in it, with their path without links. Every later operation applies to that name in
//! that folder, and follows no link. So renamed folders, and links put in their place, do not
//! affect the operation.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::Mode;

/// The largest number of links that one path may lead through.
const MOST_LINKS: usize = 40;
/// The largest length of a path, in bytes.
const MOST_BYTES: usize = 4096;

/// The flags for opening a folder that the path only leads through. On Linux this needs no right to
/// read the folder.
#[cfg(target_os = "linux")]
const THROUGH: OFlag = OFlag::O_PATH;
#[cfg(not(target_os = "linux"))]
const THROUGH: OFlag = OFlag::O_RDONLY;

/// The end of a path: an open folder, and a name in it. The name is a link only if a link was
/// wanted or is the system's own.
pub(super) struct Place {
    pub folder: OwnedFd,
    /// The name; `.` for the root folder.
    pub name: OsString,
    /// The path without links.
    pub real: PathBuf,
    /// Whether the name is a link of the system's own to a file that has no path, like an open
    /// pipe.
    pub is_magic: bool,
}

/// A path that leads nowhere.
pub(super) struct Astray {
    /// The path without links, as far as it is known.
    pub real: PathBuf,
    pub error: io::Error,
}

/// The treatment of a link as the last name of a path.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Last {
    /// The link is followed to its target.
    Followed,
    /// The link itself is wanted.
    Meant,
}

/// The folders that the path led through, each open and with its name.
struct Trail {
    root: OwnedFd,
    folders: Vec<(OsString, OwnedFd)>,
}

impl Trail {
    fn new() -> io::Result<Trail> {
        let root = open("/", THROUGH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Trail { root, folders: Vec::new() })
    }

    fn here(&self) -> &OwnedFd {
        self.folders.last().map_or(&self.root, |(_, folder)| folder)
    }

    fn real(&self) -> PathBuf {
        let mut real = PathBuf::from("/");
        real.extend(self.folders.iter().map(|(name, _)| name));
        real
    }

    /// Returns whether links here may lead to files that have no path.
    fn is_of_processes(&self) -> bool {
        self.folders.first().is_some_and(|(name, _)| name == "proc")
    }

    /// Returns the current folder as a name in the folder above it.
    fn place(mut self) -> Place {
        let real = self.real();
        match self.folders.pop() {
            None => Place { folder: self.root, name: ".".into(), real, is_magic: false },
            Some((name, _)) => self.place_of(name),
        }
    }

    fn place_of(mut self, name: OsString) -> Place {
        let real = self.real().join(&name);
        let folder = self.folders.pop().map_or(self.root, |(_, folder)| folder);
        Place { folder, name, real, is_magic: false }
    }
}

/// Follows a path, from the working folder if it is relative.
pub(super) fn walk(path: &Path, last: Last) -> Result<Place, Astray> {
    let astray = |error: io::Error| Astray { real: path.to_path_buf(), error };
    if path.as_os_str().is_empty() {
        return Err(astray(Errno::ENOENT.into()));
    }
    if path.as_os_str().len() > MOST_BYTES {
        return Err(astray(Errno::ENAMETOOLONG.into()));
    }
    let whole = match path.is_absolute() {
        true => path.to_path_buf(),
        false => std::env::current_dir().map_err(astray)?.join(path),
    };
    let mut ahead: VecDeque<OsString> = names(&whole);
    let mut trail = Trail::new().map_err(astray)?;
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            trail.folders.pop();
            continue;
        }
        let is_last = ahead.is_empty();
        if is_last && last == Last::Meant {
            return Ok(trail.place_of(name));
        }
        match readlinkat(trail.here(), name.as_os_str()) {
            Ok(_) if is_last && trail.is_of_processes() => {
                return Ok(Place { is_magic: true, ..trail.place_of(name) });
            }
            Ok(target) => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(lost(&trail, &name, &ahead, Errno::ELOOP));
                }
                let target = PathBuf::from(target);
                if target.is_absolute() {
                    trail.folders.clear();
                }
                for part in names(&target).into_iter().rev() {
                    ahead.push_front(part);
                }
                continue;
            }
            // The name is not a link.
            Err(Errno::EINVAL) => {}
            Err(Errno::ENOENT) if is_last => return Ok(trail.place_of(name)),
            Err(errno) => return Err(lost(&trail, &name, &ahead, errno)),
        }
        if is_last {
            return Ok(trail.place_of(name));
        }
        let through = THROUGH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(trail.here(), name.as_os_str(), through, Mode::empty()) {
            Ok(folder) => trail.folders.push((name, folder)),
            Err(errno) => return Err(lost(&trail, &name, &ahead, errno)),
        }
    }
    Ok(trail.place())
}

/// Returns the names of a path, without `.` and without a slash at the end.
fn names(path: &Path) -> VecDeque<OsString> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

fn lost(trail: &Trail, name: &OsStr, ahead: &VecDeque<OsString>, errno: Errno) -> Astray {
    let mut real = trail.real().join(name);
    for part in ahead {
        if part == ".." {
            real.pop();
        } else {
            real.push(part);
        }
    }
    Astray { real, error: errno.into() }
}
