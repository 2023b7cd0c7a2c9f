//! The files of large values. sled keeps a value that is too large for a segment of its log in a
//! file of its own, and never syncs that file.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The interval within which two new files may leave the folder with the same modification time.
const TICK: Duration = Duration::from_millis(100);

/// The part of a database that makes new files of large values durable.
pub struct LargeValues {
    folder: PathBuf,
    /// The files that this process made durable.
    synced: HashSet<OsString>,
    /// The folder's modification time at the last search, if it was longer ago than `TICK` then.
    settled: Option<SystemTime>,
}

impl LargeValues {
    /// Returns the large values of the database in a folder.
    pub fn new(database: &Path) -> LargeValues {
        LargeValues { folder: database.join("blobs"), synced: HashSet::new(), settled: None }
    }

    /// Returns the total size of all files in bytes.
    pub fn bytes(&self) -> u64 {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|data| data.len()).sum()
    }

    /// Makes all files durable. When nothing has changed in the folder, this only reads the
    /// folder's modification time.
    pub fn sync(&mut self) -> io::Result<()> {
        let changed = match fs::metadata(&self.folder) {
            Ok(folder) => folder.modified()?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if self.settled == Some(changed) {
            return Ok(());
        }
        let mut there = HashSet::new();
        let mut any = false;
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            if !self.synced.contains(&name) {
                crate::os::make_private(&self.folder.join(&name));
                match File::open(self.folder.join(&name)) {
                    Ok(file) => file.sync_data()?,
                    // sled no longer needs the file.
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
                any = true;
            }
            there.insert(name);
        }
        if any {
            File::open(&self.folder)?.sync_all()?;
        }
        self.synced = there;
        self.settled = changed.elapsed().is_ok_and(|since| since > TICK).then_some(changed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_files_are_found_and_old_ones_forgotten() {
        let database = tempfile::tempdir().expect("a folder");
        let mut large = LargeValues::new(database.path());
        large.sync().expect("there may be no folder yet");
        let folder = database.path().join("blobs");
        fs::create_dir(&folder).expect("a folder");
        for name in ["1", "2"] {
            fs::write(folder.join(name), "large").expect("a file");
            large.sync().expect("synced");
            assert!(large.synced.contains(&OsString::from(name)), "{name}");
        }
        fs::remove_file(folder.join("1")).expect("removed");
        large.sync().expect("synced");
        assert_eq!(large.synced, HashSet::from([OsString::from("2")]));
        // Once the folder has been at rest for long enough, it is not searched again.
        std::thread::sleep(TICK * 2);
        large.sync().expect("synced");
        assert!(large.settled.is_some());
    }
}
