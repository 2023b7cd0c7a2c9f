//! The sources of a program: its stored texts, and the files that may have changed since.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::code::text_hash;
use crate::debug::Session;
use crate::os::read_text;

use super::{Debuggee, Reply};

/// A stored text, and the file from which it came if that is there.
struct Known {
    name: String,
    path: Option<PathBuf>,
    /// Whether the file has the stored text.
    is_same: bool,
    checksum: String,
    is_library: bool,
}

/// The sources, in the order of the program.
pub struct Files(Vec<Known>);

impl Files {
    /// Finds the files of a program, relative to a folder.
    pub fn of(session: &Session, folder: &Path) -> Files {
        let beside = Path::new(&session.record.file).parent().unwrap_or(Path::new("")).to_path_buf();
        let known = session.image.code.sources.files.iter().map(|file| {
            let is_library = file.name.starts_with(crate::check::STD);
            let path = folder.join(&beside).join(&file.name);
            let path = (!is_library).then(|| std::fs::canonicalize(path).ok()).flatten();
            let is_same =
                path.as_ref().is_some_and(|path| read_text(path).is_ok_and(|text| text == file.text));
            let checksum = hex::encode(text_hash(&file.text));
            Known { name: file.name.clone(), path, is_same, checksum, is_library }
        });
        Files(known.collect())
    }

    /// Returns the number of a source that the client names.
    pub fn find(&self, source: &Value) -> Option<u32> {
        if let Some(reference) = source["sourceReference"].as_u64().filter(|reference| *reference > 0) {
            let at = reference as usize - 1;
            return (at < self.0.len()).then_some(at as u32);
        }
        let path = source["path"].as_str()?;
        let whole = std::fs::canonicalize(path).ok();
        let is_it = |known: &Known| match (&known.path, &whole) {
            (Some(known), Some(path)) => known == path,
            _ => known.name == path,
        };
        let by_path = self.0.iter().position(is_it);
        // The file may be gone, or the client may run elsewhere.
        let by_end = || self.0.iter().position(|known| !known.is_library && path.ends_with(&known.name));
        by_path.or_else(by_end).map(|at| at as u32)
    }

    /// Returns a source as the client gets it. The stored text has a reference unless the file has
    /// the same text.
    pub fn source(&self, number: u32) -> Value {
        let Some(known) = self.0.get(number as usize) else { return json!({}) };
        let mut source = json!({
            "name": known.name,
            "checksums": [{"algorithm": "SHA256", "checksum": known.checksum}],
        });
        if let Some(path) = &known.path {
            source["path"] = json!(path.display().to_string());
        }
        if !known.is_same {
            source["sourceReference"] = json!(number + 1);
            source["origin"] = match (&known.path, known.is_library) {
                (_, true) => json!("the standard library that is stored with the program"),
                (Some(_), _) => json!("the text that is stored with the program; the file differs"),
                _ => json!("the text that is stored with the program; the file is not there"),
            };
        }
        if known.is_library {
            source["presentationHint"] = json!("deemphasize");
        }
        source
    }

    fn count(&self) -> u32 {
        self.0.len() as u32
    }
}

impl Debuggee {
    pub fn loaded_sources(&self) -> Reply {
        let sources: Vec<Value> = (0..self.files.count()).map(|number| self.files.source(number)).collect();
        Ok(json!({"sources": sources}))
    }

    /// Returns a stored text.
    pub fn source(&self, arguments: &Value) -> Reply {
        let reference = json!({"sourceReference": arguments["sourceReference"]});
        let number = self.files.find(&arguments["source"]).or_else(|| self.files.find(&reference));
        let file = number.and_then(|number| self.session.image.code.sources.files.get(number as usize));
        let file = file.ok_or("the program has no such source")?;
        Ok(json!({"content": file.text, "mimeType": "text/x-durable"}))
    }
}
