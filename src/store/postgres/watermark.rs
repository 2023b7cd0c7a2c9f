//! The last commit of a partition that this machine knows, in a file beside no database.
//!
//! A database that was restored to an earlier time has fewer commits. The file is not synced: what
//! a crash of the machine takes from it only makes the check weaker.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::kv::StoreError;

use super::schema::About;

/// The place of a partition's commits: how often a restored state was accepted, and their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub incarnation: u64,
    pub commits: u64,
}

pub(super) struct Watermark {
    path: PathBuf,
    file: File,
}

impl Watermark {
    /// Opens the file of a partition in a folder, with the mark in it.
    pub(super) fn open(
        folder: &Path,
        about: &About,
        partition: u32,
    ) -> Result<(Watermark, Option<Mark>), StoreError> {
        let folder = folder.join(&about.id);
        crate::os::make_private_folder(&folder)
            .map_err(|error| StoreError::io("make the folder", &folder, error))?;
        let path = folder.join(format!("partition-{partition}"));
        let opened = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let read = opened.and_then(|mut file| {
            let mut text = String::new();
            // What is not text is no mark.
            match file.read_to_string(&mut text) {
                Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(error),
                _ => {}
            }
            Ok((file, parse(&text)))
        });
        let (file, mark) = read.map_err(|error| StoreError::io("open", &path, error))?;
        Ok((Watermark { path, file }, mark))
    }

    pub(super) fn set(&self, mark: Mark) -> Result<(), StoreError> {
        // The same length each time, so that no mark leaves a part of an earlier one.
        let text = format!("{:020} {:020}\n", mark.incarnation, mark.commits);
        self.file
            .write_all_at(text.as_bytes(), 0)
            .map_err(|error| StoreError::io("write to", &self.path, error))
    }
}

fn parse(text: &str) -> Option<Mark> {
    let (incarnation, commits) = text.trim_end().split_once(' ')?;
    Some(Mark { incarnation: incarnation.parse().ok()?, commits: commits.parse().ok()? })
}
