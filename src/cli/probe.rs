//! Imports and exports in memory, for fuzzing alone (`fuzz/`).

use std::path::Path;

use crate::engine::keys;
use crate::kv::{Batch, Read};

use super::export::{Chain, line};
use super::import::read_lines;

/// What an import of these lines writes into a store. With `damaged`, what is not whole is left out.
pub fn import(lines: &[u8], store: &dyn Read, damaged: bool) -> Result<Batch, String> {
    let mut incoming = read_lines(lines, Path::new("export")).map_err(|problem| problem.title)?;
    if damaged {
        incoming.leave_out(store);
    }
    incoming.batch(store).map_err(|(_, reason)| reason)
}

/// The lines of an export of a store, but for the first.
pub fn export(store: &dyn Read) -> Result<String, String> {
    let (mut chain, mut out) = (Chain::default(), String::new());
    for (key, bytes) in store.all(b"").map_err(|error| error.to_string())? {
        if key != keys::CANONICAL {
            out.push_str(&line(&key, &bytes, &mut chain, None)?.to_string());
            out.push('\n');
        }
    }
    Ok(out)
}
