//! Imports: all or nothing, with an export that imports as the same store.

use std::collections::HashMap;

use durable::archive::{self, Exporting};
use durable::engine::{Engine, Event, InstanceRecord, keys, look_up, read_history, recovery};
use durable::kv::{Batch, MemoryTree, Read, Store};

/// The longest export that is imported. Longer ones find nothing more.
const MOST: usize = 64 << 10;
/// The number of turns that an engine runs.
const TURNS: usize = 50;

/// Imports lines, or has them refused.
///
/// An imported store can be read, and its export imports as the same store. A store that already
/// has the instances gains nothing from the export.
pub fn run(bytes: &[u8]) {
    let lines = &bytes[..bytes.len().min(MOST)];
    for damaged in [false, true] {
        let mut store = MemoryTree::default();
        let Ok(batch) = import(lines, &store, damaged) else { continue };
        store.commit(&batch).expect("memory takes it");
        let has_instances = is_whole(&store);
        let exported = export(&store).expect("what was imported is exported");
        let again = import(exported.as_bytes(), &MemoryTree::default(), false);
        let mut copy = MemoryTree::default();
        copy.commit(&again.expect("an export is imported")).expect("memory takes it");
        assert!(copy.tree == store.tree, "it is another after export and import:\n{exported}");
        match import(exported.as_bytes(), &store, false) {
            Ok(batch) => assert!(!has_instances && batch.writes.is_empty(), "it is imported twice"),
            Err(reason) => assert!(has_instances, "{reason}"),
        }
    }
}

/// Returns the batch of an import of lines into a store. With `damaged`, what is incomplete is left
/// out.
fn import(lines: &[u8], store: &dyn Read, damaged: bool) -> Result<Batch, String> {
    let mut incoming = archive::read(lines).map_err(|error| error.to_string())?;
    if damaged {
        incoming.leave_out(store);
    }
    incoming.batch(store).map_err(|refusal| refusal.reason)
}

/// Returns the lines of an export of a store after the first.
pub fn export(store: &dyn Read) -> Result<String, String> {
    let mut out = Vec::new();
    let exported = archive::export(store, Exporting::default(), &mut out);
    match exported.map_err(|error| error.to_string())?.left_out.into_iter().next() {
        Some(reason) => Err(reason),
        None => {
            let text = String::from_utf8(out).map_err(|error| error.to_string())?;
            Ok(text.split_once('\n').map_or_else(String::new, |(_, lines)| lines.to_string()))
        }
    }
}

/// Checks that the whole store can be read, and returns whether it has instances.
fn is_whole(store: &MemoryTree) -> bool {
    let records = Read::all(store, keys::INSTANCES).expect("memory is read");
    for (key, bytes) in &records {
        let record = InstanceRecord::decode(bytes).expect("a record");
        assert_eq!(&keys::instance(&record.id), key);
        read_history(store, &record).expect("a history");
    }
    // An engine that can't continue returns the reason.
    let _ = goes_on(store.clone());
    !records.is_empty()
}

/// Runs an engine on a store, without performing any effects.
fn goes_on(mut store: MemoryTree) -> Result<(), String> {
    let mut engine = Engine::new();
    let (mut now, mut images) = (1_000_000, HashMap::new());
    for event in recovery(&store, None)? {
        engine.handle(event, now);
    }
    for _ in 0..TURNS {
        now = now.saturating_add(1_000_000).max(engine.time());
        engine.handle(Event::Tick, now);
        if engine.is_ready() {
            engine.handle(Event::Run, now);
        }
        for output in engine.take_outputs() {
            // Only reads are answered. A host would perform the other outputs.
            if let Some(event) = look_up(&store, &mut images, &output)? {
                engine.handle(event, now);
            }
        }
        store.commit(&engine.take_writes().batch).expect("memory takes it");
        if engine.is_quiet() {
            break;
        }
    }
    Ok(())
}
