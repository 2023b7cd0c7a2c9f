//! `durable programs`: the programs of a store, and the instances that need them.

use std::collections::HashMap;

use serde_json::json;

use crate::api::Queries;
use crate::code::ProgramHash;
use crate::engine::query::InstanceFilter;

use super::access::Access;
use super::arguments::Programs;
use super::print;
use super::problem::Problem;
use super::table::table;

/// Lists the programs of a store.
pub fn programs(list: Programs) -> Result<u8, Problem> {
    let store = Access::open(&list.store.store)?;
    // The number of a program's instances, and the number of those that have not ended.
    let mut counts: HashMap<ProgramHash, (usize, usize)> = HashMap::new();
    store.each_instances(&InstanceFilter::default(), &mut |page, _| {
        for record in page {
            let (all, unfinished) = counts.entry(record.program).or_default();
            *all += 1;
            *unfinished += usize::from(!record.status.is_ended());
        }
        true
    })?;
    let mut rows = Vec::new();
    let mut lines = String::new();
    for program in store.programs()? {
        let (instances, unfinished) = counts.get(&program.hash).copied().unwrap_or_default();
        let full = hex::encode(program.hash.0);
        let modules: Vec<&String> =
            program.modules.iter().filter(|name| !name.starts_with(crate::check::STD)).collect();
        let entities = &program.entities;
        let shown = json!({"program": full, "modules": modules, "instances": instances, "unfinished": unfinished, "entities": entities});
        lines.push_str(&format!("{shown}\n"));
        rows.push(vec![
            full[..12].to_string(),
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
