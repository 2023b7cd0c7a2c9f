//! Programs in a store, each source text once, by its hash.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::builtins::Context;
use crate::check::{self, Program};
use crate::code::{Code, ProgramHash, compile, text_hash};
use crate::kv::{Batch, Read};
use crate::machine::Image;
use crate::syntax::Sources;
use crate::syntax::tree::SCHEDULES;

use super::read_error::ReadError;
use super::{keys, stored};

/// The modules of a program: their names and the hashes of their texts. The first is the one that
/// was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredProgram {
    pub modules: Vec<(String, [u8; 32])>,
}

impl StoredProgram {
    pub fn encode(&self) -> Vec<u8> {
        stored::encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Option<StoredProgram> {
        stored::decode(bytes)
    }
}

/// Adds a program to a batch.
pub fn program_writes(hash: ProgramHash, sources: &Sources, batch: &mut Batch) {
    let modules: Vec<(String, [u8; 32])> =
        sources.files.iter().map(|source| (source.name.clone(), text_hash(&source.text))).collect();
    for (source, (_, text)) in sources.files.iter().zip(&modules) {
        let key = keys::text(text);
        if !batch.writes.iter().any(|(known, _)| *known == key) {
            batch.put(key, source.text.clone().into_bytes());
        }
    }
    batch.put(keys::program(&hash.0), StoredProgram { modules }.encode());
}

/// Reads the names and texts of a program's modules, the standard library's included. The first is
/// the one that was run.
pub fn read_modules(hash: ProgramHash, store: &dyn Read) -> Result<Vec<(String, String)>, ReadError> {
    let stored = store
        .get(&keys::program(&hash.0))?
        .ok_or_else(|| format!("its program {hash} is not in the store"))?;
    let stored =
        StoredProgram::decode(&stored).ok_or_else(|| format!("its program {hash} is not readable"))?;
    let mut texts: Vec<(String, String)> = Vec::new();
    for (name, text) in &stored.modules {
        let bytes =
            store.get(&keys::text(text))?.ok_or_else(|| format!("the text of {name} is not in the store"))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("the text of {name} is not readable"))?;
        texts.push((name.clone(), text));
    }
    Ok(texts)
}

/// Checks the program that consists of these modules. Errors are reasons in words.
pub fn load_modules(hash: ProgramHash, texts: &[(String, String)]) -> Result<Program, String> {
    let program = check::load_stored(texts).ok_or("its program has no modules")?;
    if crate::code::program_hash(&program.sources) != hash {
        return Err(format!("the texts of its program {hash} are not those that it began with"));
    }
    Ok(program)
}

/// Reads a program from the store, and makes it ready to run. Errors are reasons in words.
pub fn load_image(hash: ProgramHash, store: &dyn Read) -> Result<Rc<Image>, ReadError> {
    let program = load_modules(hash, &read_modules(hash, store)?)?;
    build_image(&program).map_err(|reason| format!("its program {hash}: {reason}").into())
}

/// Returns a program that is known, or reads it from the store.
pub fn known_image(
    known: &mut HashMap<ProgramHash, Rc<Image>>,
    hash: ProgramHash,
    store: &dyn Read,
) -> Result<Rc<Image>, ReadError> {
    if let Some(image) = known.get(&hash) {
        return Ok(image.clone());
    }
    let image = load_image(hash, store)?;
    known.insert(hash, image.clone());
    Ok(image)
}

/// Makes a program ready to run. Errors are reasons in words.
pub fn build_image(program: &Program) -> Result<Rc<Image>, String> {
    if let Some(error) = program.diagnostics.iter().find(|d| d.severity == crate::syntax::Severity::Error) {
        return Err(format!("this version finds a mistake in it: {}", error.title));
    }
    let code = compile(&crate::core::lower(program), program)
        .map_err(|error| format!("it can't be compiled: {}", error.title))?;
    Image::new(Arc::new(code))
        .map_err(|(name, error)| format!("`const {name}` has no value: {}", error.title()))
}

/// Whether an orchestration of a program can be started with this number of arguments. An error has
/// the reason, and perhaps a hint.
pub fn startable(code: &Code, file: &str, name: &str, given: usize) -> Result<(), (String, Option<String>)> {
    let all = code.isolated.iter().filter(|item| item.context == Some(Context::Orchestration));
    let all = all.filter(|item| !item.name.starts_with(SCHEDULES));
    let Some(item) = all.clone().find(|item| item.name == name) else {
        let names: Vec<&str> = all.map(|item| item.name.as_str()).collect();
        let hint = match (check::closest(name, names.iter().copied()), &names[..]) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, []) => format!("{file} declares no orchestration"),
            (None, names) => format!("{file} has {}", names.join(", ")),
        };
        return Err((format!("{file} has no orchestration `{name}`"), Some(hint)));
    };
    let function = &code.functions[item.body as usize];
    let arity = (u32::from(function.required), u32::from(function.params));
    super::functions::takes(name, arity, given).map_err(|reason| (reason, None))
}
