//! One process at a time.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::os;

use super::StoreError;

/// How long a lock is waited for whose process has let go of it.
const PATIENCE: Duration = Duration::from_secs(2);

/// A store's folder, held by this process until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the folder, made if it isn't there. The error of one that is taken names the process that has it.
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
        let mut file = os::private_file()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| StoreError::io("open", &path, &error))?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    let mut text = String::new();
                    let pid = file
                        .seek(SeekFrom::Start(0))
                        .and_then(|_| file.read_to_string(&mut text))
                        .ok()
                        .and_then(|_| text.trim().parse().ok());
                    if began.elapsed() < PATIENCE && pid.is_some_and(has_let_go) {
                        std::thread::sleep(Duration::from_millis(2));
                        continue;
                    }
                    return Err(StoreError::Locked { folder: folder.to_path_buf(), pid });
                }
                Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path, &error)),
            }
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
        written.map_err(|error| StoreError::io("write", &path, &error))?;
        Ok(Lock { _file: file })
    }
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
