//! Effects on files.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{OFlag, renameat};
use nix::sys::stat::{Mode as Bits, SFlag, mkdirat, stat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::builtins::Effect;
use crate::machine::error::title;
use crate::machine::io_options::{self, Part};
use crate::machine::{Data, ErrorData, Fail, MAX_TEXT, Value};
use crate::permissions::Capability;

use super::at::{At, Done, Failure, NEW_FILE, Reach, UNFINISHED, entries, keep_rights, kind};
use super::effects::unknown;
use super::pieces::read_at;
use super::pipes::{self, Patience};
use super::walk::{Astray, Last, walk};
use super::{EffectResult, data};

/// Executes an effect on files, which may take as long as the disk does. Returns `None` if the
/// effect must wait for longer than `patience` allows.
pub(crate) fn run(
    effect: Effect,
    args: &Data,
    reach: &Reach,
    patience: Patience<'_>,
) -> Option<EffectResult> {
    let args = args.items();
    let temporary = (effect == Effect::FsTempDir).then(temporary_name);
    let Some(shown) = temporary.or_else(|| words(&args, 0)) else {
        return Some(Err(ErrorData::new("type_error", "a path is a string")));
    };
    let at = At::of(&shown, reach, patience);
    let null = &Value::Null;
    let option = |at: usize| args.get(at).unwrap_or(null);
    let contents = || match args.get(1) {
        Some(Value::Bytes(blob)) => blob.bytes.clone(),
        Some(Value::Str(text)) => text.as_str().as_bytes().to_vec(),
        _ => Vec::new(),
    };
    let other = words(&args, 1).unwrap_or_default();
    let (doing, result) = match effect {
        Effect::FsRead => ("read", at.read().and_then(text)),
        Effect::FsReadBytes => {
            let part = read(io_options::part(option(1), "`fs.read_bytes`"));
            ("read", part.and_then(|part| at.read_part(part)).map(Value::bytes))
        }
        Effect::FsWrite => ("write", at.write(&contents()).map(|()| Value::Null)),
        Effect::FsAppend => ("append to", at.append(&contents()).map(|()| Value::Null)),
        Effect::FsExists => ("look for", at.exists().map(Value::bool)),
        Effect::FsList => ("list", at.list()),
        Effect::FsMakeDir => ("make", at.make_dir().map(|()| Value::Null)),
        Effect::FsTempDir => ("make", at.temp_dir()),
        Effect::FsRemove => ("remove", at.remove().map(|()| Value::Null)),
        Effect::FsStat => {
            let follows = read(io_options::stat(option(1)));
            ("look at", follows.and_then(|follows| at.stat(follows)))
        }
        Effect::FsCopy => ("copy", at.copy(&other).map(|()| Value::Null)),
        Effect::FsRename => ("rename", at.rename(&other).map(|()| Value::Null)),
        Effect::FsWalk => {
            let options = read(io_options::walk(option(1), "`fs.walk`"));
            ("walk through", options.and_then(|options| at.walk(&options)))
        }
        Effect::FsGlob => {
            let options = read(io_options::walk(option(1), "`fs.glob`"));
            ("look for", options.and_then(|options| at.glob(&options)))
        }
        Effect::FsLines => {
            let piece = read(io_options::lines(option(1), option(2)));
            ("read", piece.and_then(|(from, limit)| at.lines(from, limit)))
        }
        other => return Some(Err(unknown(other.name()))),
    };
    Some(match result {
        Ok(value) => data(&value),
        Err(failure) => Err(failure.error(doing, &shown)?),
    })
}

/// Returns an argument that is a string.
fn words(args: &[Value], at: usize) -> Option<String> {
    match args.get(at) {
        Some(Value::Str(text)) => Some(text.as_str().to_string()),
        _ => None,
    }
}

/// Returns options, which the machine has checked before.
fn read<T>(options: Result<T, Fail>) -> Done<T> {
    options.map_err(|fail| Failure::Refused(ErrorData::new("type_error", title(&fail.value))))
}

/// Returns the path of a new folder for temporary files.
fn temporary_name() -> String {
    let name = format!("durable-{}", super::unique());
    std::env::temp_dir().join(name).to_string_lossy().into_owned()
}

fn text(bytes: Vec<u8>) -> Done<Value> {
    String::from_utf8(bytes).map(Value::str).map_err(|_| {
        let why = "it is not UTF-8 text; `fs.read_bytes` reads any file";
        io::Error::new(io::ErrorKind::InvalidData, why).into()
    })
}

impl At<'_> {
    fn read(&self) -> Done<Vec<u8>> {
        let file = File::from(self.open_to_read(OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
        let bytes = pipes::read(file, MAX_TEXT as u64 + 1, self.patience)?;
        if bytes.len() > MAX_TEXT {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it has more than 256 MiB").into());
        }
        Ok(bytes)
    }

    /// Reads a part of a file. A part beyond the end has no bytes.
    fn read_part(&self, part: Part) -> Done<Vec<u8>> {
        if part.from == 0 && part.limit.is_none() {
            return self.read();
        }
        let file = self.open_regular()?;
        let most = part.limit.unwrap_or(MAX_TEXT as u64 + 1);
        let bytes = read_at(&file, part.from, most)?;
        if bytes.len() > MAX_TEXT {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the part has more than 256 MiB").into());
        }
        Ok(bytes)
    }

    fn stat(&self, follows: bool) -> Done<Value> {
        let last = if follows { Last::Followed } else { Last::Meant };
        let place = self.place(Capability::Read, last)?;
        let found = place.look()?.ok_or(Errno::ENOENT)?;
        let kind = match kind(&found) {
            SFlag::S_IFREG => "file",
            SFlag::S_IFDIR => "directory",
            SFlag::S_IFLNK => "symlink",
            _ => "other",
        };
        #[allow(clippy::unnecessary_cast, reason = "the fields are shorter elsewhere")]
        let (mode, seconds, nanos) =
            (found.st_mode as i64, found.st_mtime as i64, found.st_mtime_nsec as i64);
        let modified = seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        Ok(Value::record([
            ("kind", Value::str(kind)),
            ("size", Value::Int(found.st_size)),
            ("modified", Value::Instant(modified)),
            ("mode", Value::Int(mode & 0o7777)),
        ]))
    }

    /// Makes a folder that only its owner may use, and returns its path.
    fn temp_dir(&self) -> Done<Value> {
        let place = self.place(Capability::Write, Last::Followed)?;
        mkdirat(&place.folder, place.name.as_os_str(), Bits::S_IRWXU)?;
        Ok(Value::str(self.shown))
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
    pub(super) fn exists(&self) -> Done<bool> {
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
}
