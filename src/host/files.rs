//! Files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::machine::{Data, ErrorData, MAX_TEXT, Value};

use super::{Outcome, data};

/// Does an effect on files; it may block.
pub(crate) fn run(name: &str, args: &Data) -> Outcome {
    let args = args.items();
    let Some(Value::Str(path)) = args.first() else {
        return Err(ErrorData::new("type_error", "a path is a string"));
    };
    let shown = path.as_str();
    let path = Path::new(shown);
    let contents = || match args.get(1) {
        Some(Value::Bytes(blob)) => blob.bytes.clone(),
        Some(Value::Str(text)) => text.as_str().as_bytes().to_vec(),
        _ => Vec::new(),
    };
    let (doing, result) = match name {
        "fs_read" => (
            "read",
            read(path).and_then(|bytes| {
                String::from_utf8(bytes).map(Value::str).map_err(|_| {
                    io::Error::new(
                        io::ErrorKind::InvalidData,
                        "it is not UTF-8 text; `fs.read_bytes` reads any file",
                    )
                })
            }),
        ),
        "fs_read_bytes" => ("read", read(path).map(Value::bytes)),
        "fs_write" => ("write", write(path, &contents()).map(|()| Value::Null)),
        "fs_append" => ("append to", append(path, &contents()).map(|()| Value::Null)),
        "fs_exists" => ("look for", path.try_exists().map(Value::bool)),
        "fs_list" => ("list", list(path)),
        "fs_make_dir" => ("make", fs::create_dir_all(path).map(|()| Value::Null)),
        _ => ("remove", remove(path).map(|()| Value::Null)),
    };
    match result {
        Ok(value) => data(&value),
        Err(error) => {
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
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_TEXT as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_TEXT {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it has more than 256 MiB"));
    }
    Ok(bytes)
}

/// A new file beside the old one, made durable and then renamed: whoever reads sees the old or the new one, whole.
fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is not the name of a file"))?;
    // What a link points at is replaced, not the link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let temporary = format!(".{}.{}-{number}.new", name.to_string_lossy(), std::process::id());
    let temporary = target.with_file_name(temporary);
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(contents)?;
        if let Ok(old) = fs::metadata(&target) {
            file.set_permissions(old.permissions())?;
        }
        file.sync_data()?;
        fs::rename(&temporary, &target)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn append(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(contents)?;
    file.sync_data()
}

fn list(path: &Path) -> io::Result<Value> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(Value::list(names.into_iter().map(Value::str).collect()))
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
