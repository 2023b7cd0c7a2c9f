//! The programs that a command line names.

use std::path::{Path, PathBuf};

use super::problem::Problem;
use super::{STORE, USAGE};

/// The programs that a command line names.
#[derive(Default)]
pub struct Found {
    pub files: Vec<PathBuf>,
    /// The problems of folders that cannot be read.
    pub problems: Vec<Problem>,
}

/// Returns the named files, and the programs in the named folders and below. Hidden folders are
/// left out.
pub fn find(named: &[PathBuf]) -> Result<Found, Problem> {
    let mut found = Found::default();
    for path in named {
        if path.is_dir() {
            walk(path, &mut found);
        } else {
            found.files.push(path.clone());
        }
    }
    if found.files.is_empty() && found.problems.is_empty() {
        let named: Vec<String> = named.iter().map(|path| path.display().to_string()).collect();
        return Err(Problem::new(USAGE, format!("there are no programs in {}", named.join(", ")))
            .hint("programs are files that end in `.df`"));
    }
    Ok(found)
}

fn walk(folder: &Path, found: &mut Found) {
    let entries = (|| {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            entries.push((entry.path(), entry.file_type()?));
        }
        Ok::<_, std::io::Error>(entries)
    })();
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(error) => {
            let reason = crate::os::reason(&error);
            let title = format!("{} can't be read: {reason}", folder.display());
            found.problems.push(Problem::new(STORE, title));
            return;
        }
    };
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    for (path, kind) in entries {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        // A link to a folder is not followed, since it may lead back here.
        if kind.is_dir() && !hidden {
            walk(&path, found);
        } else if !kind.is_dir() && path.extension().is_some_and(|end| end == "df") && path.is_file() {
            found.files.push(path.strip_prefix("./").map(Path::to_path_buf).unwrap_or(path));
        }
    }
}
