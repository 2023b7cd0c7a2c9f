//! `durable programs`: what programs a store has, and who needs them.

use serde_json::json;

use crate::engine::{Deployed, InstanceRecord, StoredProgram, keys};
use crate::kv::Read;

use super::access::{Access, records};
use super::arguments::Programs;
use super::print;
use super::problem::{Problem, unreadable};
use super::table::table;

/// Lists the programs of a store.
pub fn programs(list: Programs) -> Result<u8, Problem> {
    let store = Access::open(&list.store.store)?;
    let records = records(&store, "")?;
    let deployed = store.all(keys::DEPLOYED).map_err(unreadable)?;
    let mut rows = Vec::new();
    let mut lines = String::new();
    for (key, bytes) in store.all(keys::PROGRAMS).map_err(unreadable)? {
        let hash = &key[keys::PROGRAMS.len()..];
        let program = StoredProgram::decode(&bytes)
            .ok_or_else(|| unreadable("a program in the store is not readable"))?;
        let own = |record: &&InstanceRecord| record.program.0 == *hash;
        let instances = records.iter().filter(own).count();
        let unfinished = records.iter().filter(own).filter(|r| !r.status.is_ended()).count();
        let entities: Vec<String> = deployed
            .iter()
            .filter(|(_, bytes)| Deployed::decode(bytes).is_some_and(|of| of.program.0 == *hash))
            .map(|(key, _)| String::from_utf8_lossy(&key[keys::DEPLOYED.len()..]).into_owned())
            .collect();
        let short: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let full: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let modules =
            program.modules.iter().map(|(name, _)| name).filter(|n| !n.starts_with(crate::check::STD));
        let modules: Vec<&String> = modules.collect();
        let shown = json!({"program": full, "modules": modules, "instances": instances, "unfinished": unfinished, "entities": entities});
        lines.push_str(&format!("{shown}\n"));
        rows.push(vec![
            short,
            modules.first().map_or_else(String::new, |name| name.to_string()),
            instances.to_string(),
            unfinished.to_string(),
            if entities.is_empty() { "-".into() } else { entities.join(", ") },
        ]);
    }
    store.close()?;
    match list.json {
        true => print(&lines)?,
        false => print(&table(&["PROGRAM", "FILE", "INSTANCES", "UNFINISHED", "ENTITIES"], &rows))?,
    }
    Ok(0)
}
