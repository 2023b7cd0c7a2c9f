//! The files of large values: sled keeps what is too large for a part of its log in a file of its own, and never syncs it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Files that come within this time of one another may leave the folder with the same time of its last change.
const TICK: Duration = Duration::from_millis(100);

/// Makes those files durable that are new.
pub struct LargeValues {
    folder: PathBuf,
    /// Those that were made durable by this process.
    synced: HashSet<OsString>,
    /// When the folder had last changed when it was last looked through, if that was long before.
    settled: Option<SystemTime>,
}

impl LargeValues {
    /// Of the database in a folder.
    pub fn new(database: &Path) -> LargeValues {
        LargeValues { folder: database.join("blobs"), synced: HashSet::new(), settled: None }
    }

    /// The bytes of all of them.
    pub fn bytes(&self) -> u64 {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|data| data.len()).sum()
    }

    /// Makes all of them durable. Costs a look at the folder's time, when nothing has changed in it.
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
                    // sled has no more use for it.
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
        // Once it has been at rest for long enough, nothing is looked through.
        std::thread::sleep(TICK * 2);
        large.sync().expect("synced");
        assert!(large.settled.is_some());
    }
}
