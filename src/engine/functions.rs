//! The deployed functions of a store: orchestrations that clients can start by name.

use serde::{Deserialize, Serialize};

use crate::builtins::Context;
use crate::code::{Code, ProgramHash};
use crate::kv::{Batch, Read};
use crate::machine::Image;
use crate::permissions::Permissions;
use crate::syntax::tree::SCHEDULES;

use super::read_error::ReadError;
use super::{keys, stored};

/// An orchestration that was deployed: the newest program under its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Function {
    pub program: ProgramHash,
    /// The name of the program's file when the function was deployed.
    pub file: String,
    /// The permissions of the instances that begin by this name.
    pub permissions: Permissions,
    /// The smallest and the largest number of arguments.
    pub arity: (u32, u32),
    /// The time of the deployment, in nanoseconds since 1970.
    pub deployed: i64,
}

impl Function {
    pub fn encode(&self) -> Vec<u8> {
        stored::append(Vec::new(), self)
    }

    pub fn decode(bytes: &[u8]) -> Option<Function> {
        stored::read(bytes)
    }

    /// Whether the function can be called with this number of arguments. The error is the reason.
    pub fn takes(&self, name: &str, given: usize) -> Result<(), String> {
        takes(name, self.arity, given)
    }
}

/// Checks a number of arguments against the least and the largest number of them. The error is the
/// reason.
pub(super) fn takes(name: &str, (least, most): (u32, u32), given: usize) -> Result<(), String> {
    if (least as usize..=most as usize).contains(&given) {
        return Ok(());
    }
    let takes = if least == most { format!("{least}") } else { format!("{least} to {most}") };
    Err(format!("`{name}` takes {takes} arguments, {given} given"))
}

/// Returns the orchestrations that a program declares in its first file, with their arities.
pub fn orchestrations(code: &Code) -> Vec<(&str, (u32, u32))> {
    let own = code.isolated.iter().filter(|item| item.context == Some(Context::Orchestration));
    own.filter(|item| !item.name.contains(':') && !item.name.starts_with(SCHEDULES))
        .map(|item| {
            let function = &code.functions[item.body as usize];
            (item.name.as_str(), (u32::from(function.required), u32::from(function.params)))
        })
        .collect()
}

/// Adds the writes that deploy all orchestrations of a program.
pub(super) fn deploy(image: &Image, file: &str, permissions: &Permissions, now: i64, batch: &mut Batch) {
    for (name, arity) in orchestrations(&image.code) {
        let function = Function {
            program: image.code.hash,
            file: file.to_string(),
            permissions: permissions.clone(),
            arity,
            deployed: now,
        };
        batch.put(keys::function(name), function.encode());
    }
}

fn unreadable(name: &str) -> ReadError {
    format!("the deployed function {name} is not readable").into()
}

/// Reads a deployed function, or `None` if there is none of that name.
pub fn function(store: &dyn Read, name: &str) -> Result<Option<Function>, ReadError> {
    let Some(bytes) = store.get(&keys::function(name))? else { return Ok(None) };
    Function::decode(&bytes).map(Some).ok_or_else(|| unreadable(name))
}

/// Reads all deployed functions with their names.
pub fn functions(store: &dyn Read) -> Result<Vec<(String, Function)>, ReadError> {
    let mut all = Vec::new();
    for (key, bytes) in store.all(keys::FUNCTIONS)? {
        let name = String::from_utf8_lossy(&key[keys::FUNCTIONS.len()..]).into_owned();
        let function = Function::decode(&bytes).ok_or_else(|| unreadable(&name))?;
        all.push((name, function));
    }
    Ok(all)
}
