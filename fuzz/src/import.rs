//! Imports: all or nothing, and what was imported is exported as the same.

use std::collections::HashMap;

use durable::cli::probe::{export, import};
use durable::engine::{Engine, Event, InstanceRecord, keys, look_up, read_history, recovery};
use durable::kv::{MemoryTree, Read, Store};

/// Longer files find nothing that shorter ones don't.
const MOST: usize = 64 << 10;
/// How long an engine goes on.
const TURNS: usize = 50;

/// Lines are an export or are refused. What is imported can be read, is exported, and imported again as the same; who has it
/// gains nothing by it.
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

/// Checks that all of it can be read, and says whether it has instances.
fn is_whole(store: &MemoryTree) -> bool {
    let records = Read::all(store, keys::INSTANCES).expect("memory is read");
    for (key, bytes) in &records {
        let record = InstanceRecord::decode(bytes).expect("a record");
        assert_eq!(&keys::instance(&record.id), key);
        read_history(store, &record).expect("a history");
    }
    // What can't go on says why.
    let _ = goes_on(store.clone());
    !records.is_empty()
}

/// Lets an engine go on with a store, in which nothing is done outside.
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
            // What is to be read; the others would be done outside.
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
