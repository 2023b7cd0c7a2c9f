//! Paths, followed one name at a time from open folder to open folder.
//!
//! Invariant: what is used is what was checked. A path leads to an open folder and a name in it, with the path that they
//! have without links; what is done then is done in that folder, to that name, and follows no link. Whoever renames
//! folders or puts links in their place meanwhile changes nothing of it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::Mode;

/// Links that one path may lead through.
const MOST_LINKS: usize = 40;
/// Bytes of a path.
const MOST_BYTES: usize = 4096;

/// A folder is opened to be gone through, and needs no right to be read.
#[cfg(target_os = "linux")]
const THROUGH: OFlag = OFlag::O_PATH;
#[cfg(not(target_os = "linux"))]
const THROUGH: OFlag = OFlag::O_RDONLY;

/// Where a path leads: an open folder, and a name in it that is no link unless the path ends there.
pub(super) struct Place {
    pub folder: OwnedFd,
    /// `.` for the root of all.
    pub name: OsString,
    /// The path without links.
    pub real: PathBuf,
    /// The name is a link of the system's own to what has no path, like an open pipe.
    pub is_magic: bool,
}

/// A path that leads nowhere.
pub(super) struct Astray {
    /// What the path would be, as far as it is known.
    pub real: PathBuf,
    pub error: io::Error,
}

/// What the last name of a path may be.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Last {
    /// A link is followed to what it points at.
    Followed,
    /// A link is meant itself.
    Meant,
}

/// The folders that were gone through: each open, with its name.
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

    /// Whether links here may lead to what has no path.
    fn is_of_processes(&self) -> bool {
        self.folders.first().is_some_and(|(name, _)| name == "proc")
    }

    /// The folder that was come to, as a name in the one above it.
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
            // It is no link.
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

/// The names of a path. One that ends in `/` ends in a folder.
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
