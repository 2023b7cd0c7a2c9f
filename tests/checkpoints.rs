//! Checkpoints: an instance that resumes from a checkpoint is in the same state as after a full
//! replay.

mod common;

use std::rc::Rc;

use common::program::{Program, areas, programs};
use common::sim::{Crash, World};
use durable::engine::{
    Address, Checkpoint, Checkpoints, Event, History, InstanceRecord, Replayed, Retention, fetch, keys,
    read_history, replay, state_at_end,
};
use durable::kv::{Batch, Read, Store};
use durable::machine::Image;

/// About how many checkpoints of a program are compared. The stride is rounded down, so there may
/// be almost twice as many.
const MOST: usize = 25;

fn world(program: &Program, retention: Retention, crash: Crash) -> World {
    let mut world = World::new(program.image(), 1);
    world.with(&program.args(), &program.input());
    (world.orderly, world.fine, world.crash) = (true, true, crash);
    world.checkpoints = Checkpoints { after: 0, retention };
    world
}

fn each(check: impl Fn(&Program) -> Result<usize, String> + Sync) -> usize {
    let mut all: Vec<Program> = areas().iter().flat_map(|area| programs(area)).collect();
    all.retain(|program| !program.expects_mistake() && !program.is_of_another_world());
    let checked = common::by_two_threads(&all, |program| {
        check(program).map_err(|reason| format!("{}: {reason}", program.name))
    });
    let failures: Vec<&String> = checked.iter().filter_map(|checked| checked.as_ref().err()).collect();
    assert!(failures.is_empty(), "{failures:#?}");
    checked.iter().flatten().sum()
}

/// At each checkpoint, the state equals that of a replay of the history before it. The history
/// after it leads from either state to the same end.
#[test]
fn a_checkpoint_is_what_replay_comes_to() {
    let all = each(|program| {
        let mut world = world(program, Retention::All, Crash::Never);
        world.run()?;
        let every = (world.written.len() / MOST).max(1);
        let mut count = 0;
        for (id, checkpoint) in world.written.iter().step_by(every) {
            let Some(record) = world.records().into_iter().find(|record| record.id == *id) else { continue };
            if (checkpoint.life, checkpoint.execution) != (record.life, record.execution) {
                continue; // from an earlier life or execution
            }
            count += 1;
            compare(&program.image(), &world, &record, checkpoint)
                .map_err(|reason| format!("{checkpoint:?} of {id}: {reason}"))?;
        }
        Ok(count)
    });
    println!("{all} checkpoints");
    assert!(all > 1_000, "only {all} checkpoints");
}

fn compare(
    image: &Rc<Image>,
    world: &World,
    record: &InstanceRecord,
    checkpoint: &Checkpoint,
) -> Result<(), String> {
    let chunks = world.driver.store.all(&keys::history(&record.id)).map_err(|error| error.to_string())?;
    let number = |key: &[u8]| keys::parse_chunk(key).map_or(0, |(_, number)| number);
    let of = |from: u64, to: u64| {
        let chunks = chunks.iter().map(|(key, bytes)| (number(key), bytes.clone()));
        chunks.filter(move |(number, _)| (from..to).contains(number)).collect::<Vec<_>>()
    };
    // Both states.
    let begun = InstanceRecord { status: durable::engine::Status::Running, ..record.clone() };
    let before = History::read(record.first, of(0, checkpoint.chunks))?;
    let replayed = state_at_end(image, begun.clone(), before);
    let at = History::read_after(checkpoint.clone(), Vec::new())?;
    let restored = state_at_end(image, begun.clone(), at);
    // The restored machine may still have to compute, and may then share new values differently.
    // The states are compared only if it does not.
    if restored.as_deref() == Some(checkpoint.state()) && replayed != restored {
        return Err("replay comes to another state".into());
    }
    if replayed.is_some() != restored.is_some() {
        return Err("only one of them comes to a rest".into());
    }
    // The open requests, with their times and attempts.
    let open = |history: History| match replay(image, begun.clone(), history, &mut |_, _| ()) {
        Replayed::Waits(open) => {
            open.into_iter().map(|open| (open.request.seq, open.time, open.attempt, open.begins)).collect()
        }
        _ => Vec::new(),
    };
    let (all, none) = (of(0, checkpoint.chunks), Vec::new());
    let (replayed, restored) =
        (open(History::read(record.first, all)?), open(History::read_after(checkpoint.clone(), none)?));
    if replayed != restored {
        return Err(format!("open from the beginning: {replayed:?}; from the checkpoint: {restored:?}"));
    }
    // The results of the rest of the history.
    let whole = History::read(record.first, of(0, u64::MAX))?;
    let since = History::read_after(checkpoint.clone(), of(checkpoint.chunks, u64::MAX))?;
    let shown = |history: History| match replay(image, begun.clone(), history, &mut |_, _| ()) {
        Replayed::Ended(status) => format!("{status:?}"),
        Replayed::Waits(open) => {
            format!("waits for {:?}", open.iter().map(|open| open.request.seq).collect::<Vec<_>>())
        }
        other => format!("{other:?}"),
    };
    let (first, second) = (shown(whole), shown(since));
    if first != second {
        return Err(format!("from the beginning: {first}; from the checkpoint: {second}"));
    }
    Ok(())
}

/// An interrupted program resumes from its last checkpoint, and ends as the uninterrupted one,
/// whether its history is kept or not.
#[test]
fn broken_programs_go_on_from_checkpoints() {
    const POINTS: u64 = 5;
    let all = each(|program| {
        let mut unbroken = world(program, Retention::All, Crash::Never);
        unbroken.run()?;
        let wanted = outcomes(&unbroken);
        let every = unbroken.points.div_ceil(POINTS).max(1);
        let mut count = 0;
        for point in (1..=unbroken.points).step_by(every as usize) {
            for retention in [Retention::All, Retention::Latest] {
                let mut broken = world(program, retention, Crash::At(point));
                broken.run().map_err(|reason| format!("broken off at {point}, {retention:?}: {reason}"))?;
                let got = outcomes(&broken);
                if got != wanted {
                    return Err(format!(
                        "broken off at {point}, {retention:?}: {got:?} instead of {wanted:?}"
                    ));
                }
                count += 1;
            }
        }
        Ok(count)
    });
    println!("{all} broken runs");
}

/// Returns the results of the instances and the states of the entities.
fn outcomes(world: &World) -> Vec<String> {
    let of = |record: InstanceRecord| format!("{}: {:?}", record.id, record.status.result(&record.id));
    let entities = world.entities().into_iter().map(|(name, state)| format!("{name}: {state}"));
    world.records().into_iter().map(of).chain(entities).collect()
}

/// A pause between two attempts keeps its length through any crash. When the process died during an
/// attempt, the next attempt begins at once.
#[test]
fn pauses_outlive_crashes_after_checkpoints() {
    let text = "activity f(n) with {retry: {times: 3, first: 1h, factor: 2.0}} { if n == 0 { throw {kind: \"no\"} } }\n\
                try { all([async f(0), async do { sleep(2h); f(1) }]) } catch e { print(e.kind) }\n";
    let image = common::image(text);
    let world = |crash, retention| {
        let mut world = World::new(image.clone(), 1);
        (world.orderly, world.fine, world.crash) = (true, true, crash);
        world.checkpoints = Checkpoints { after: 0, retention };
        world.run().expect("it ends");
        world
    };
    let points = world(Crash::Never, Retention::All).points;
    for point in 0..=points {
        for retention in [Retention::All, Retention::Latest] {
            let world = world(Crash::At(point), retention);
            let began = |attempt: &str| {
                let line = world
                    .trace
                    .iter()
                    .filter(|line| line.contains("activity f #0"))
                    .find(|l| l.ends_with(attempt));
                line.and_then(|line| line.trim_start().split('s').next()?.parse::<f64>().ok())
            };
            // An attempt that never left the process, because the process died before, has no line
            // in the trace.
            let first = began("attempt 1").unwrap_or_default();
            let second = began("attempt 2").unwrap_or(first);
            let third = began("attempt 3").unwrap_or(second);
            let pauses = [(second - first, 3_600.0), (third - second, 7_200.0)];
            let short: Vec<f64> =
                pauses.iter().filter(|(pause, wanted)| pause < wanted).map(|(pause, _)| *pause).collect();
            let at_once = short.iter().all(|pause| *pause < 1.0);
            assert!(
                short.len() <= world.crashes as usize && at_once,
                "broken off at {point}, {retention:?}: {pauses:?}"
            );
        }
    }
}

/// An instance without an end takes no more space than its state, if its history is not kept.
#[test]
fn an_eternal_loop_takes_constant_space() {
    let text = "var n = 0\nwhile n < 5_000 { n += random_int(1, 1) }\nprint(n)\n";
    let image = common::image(text);
    let sizes = |retention| {
        let mut world = World::new(image.clone(), 1);
        (world.orderly, world.fine) = (true, true);
        world.checkpoints = Checkpoints { after: 100_000, retention };
        let record = world.run().expect("it runs");
        let history = read_history(&world.driver.store, &record).expect("what is kept");
        assert_eq!(retention == Retention::Latest, chunks_before_checkpoint(&world, &record.id) == 0);
        (world.written.len(), history.entries.len())
    };
    let (written, kept) = sizes(Retention::All);
    assert!(written > 50, "{written} checkpoints");
    assert!(kept > 10_000, "{kept} entries are kept");
    let (_, kept) = sizes(Retention::Latest);
    assert!(kept < 200, "{kept} entries are kept");
}

/// Returns the number of stored chunks of an instance that are older than its last checkpoint.
fn chunks_before_checkpoint(world: &World, id: &str) -> usize {
    let (_, last) = world.written.iter().rfind(|(of, _)| of == id).expect("a checkpoint");
    let chunks = world.driver.store.all(&keys::history(id)).expect("a store in memory can be read");
    let number = |key: &[u8]| keys::parse_chunk(key).expect("a chunk's key").1;
    chunks.iter().filter(|(key, _)| number(key) < last.chunks).count()
}

/// A trimmed history leaves no chunks, neither in the first execution nor in those after
/// `continue_as_new`.
#[test]
fn trimmed_histories_leave_nothing_behind() {
    let text = "orchestration o(round) {\n\
                  var n = 0\n  while n < 500 { n += random_int(1, 1) }\n\
                  if round < 3 { continue_as_new(round + 1) }\n  n\n}\n\
                print(o(0) with {id: \"o\"})\n";
    let image = common::image(text);
    for crash in [Crash::Never, Crash::At(200), Crash::At(700)] {
        let mut world = World::new(image.clone(), 1);
        (world.orderly, world.fine, world.crash) = (true, true, crash);
        world.checkpoints = Checkpoints { after: 10_000, retention: Retention::Latest };
        world.run().expect("it runs");
        assert!(world.written.iter().filter(|(id, _)| id == "o").count() > 4, "{crash:?}");
        assert_eq!(chunks_before_checkpoint(&world, "o"), 0, "{crash:?}");
    }
}

/// An instance resumes from a checkpoint of its own code. If the checkpoint is of other code
/// (another version or another program), the history is replayed from its beginning. If that is not
/// kept, the instance is incompatible, with the reason.
#[test]
fn a_checkpoint_of_other_code_is_not_taken() {
    let world = |text: &str| {
        let image = common::image(text);
        let mut world = World::new(image.clone(), 1);
        (world.orderly, world.fine) = (true, true);
        world.checkpoints = Checkpoints { after: 0, retention: Retention::All };
        let record = world.run().expect("it runs");
        (world, image, record)
    };
    let (mut own, image, record) = world("var n = 0\nwhile n < 20 { n += random_int(1, 1) }\nprint(n)\n");
    let (other, other_image, _) = world("var n = 1\nwhile n < 20 { n += random_int(1, 1) }\nprint(n)\n");
    let running = InstanceRecord { status: durable::engine::Status::Running, ended: None, ..record };
    let goes_on = |world: &mut World, (_, checkpoint): &(String, Checkpoint)| {
        let mut batch = Batch::default();
        batch.put(keys::instance(&running.id), running.encode());
        batch.put(keys::checkpoint(&running.id), checkpoint.encode());
        world.driver.store.commit(&batch).expect("a store in memory can be written");
        let event =
            fetch(&world.driver.store, &Address::instance(&running.id), false, &mut |_| Ok(image.clone()));
        match event.expect("it can be read") {
            Event::Load { history, .. } => history.after.is_some(),
            _ => panic!("the instance is there"),
        }
    };
    let (of_own, of_other) = (own.written[5].clone(), other.written[5].clone());
    assert!(of_own.1.is_of(&image.code) && of_other.1.is_of(&other_image.code));
    assert!(goes_on(&mut own, &of_own));
    assert!(!goes_on(&mut own, &of_other));
    let history = History::read_after(of_other.1, Vec::new()).expect("an empty history");
    let replayed = replay(&image, running.clone(), history, &mut |_, _| ());
    assert!(matches!(&replayed, Replayed::Incompatible(why) if why.contains("checkpoint")), "{replayed:?}");
}

/// A changed bit in a checkpoint is always noticed, and the checkpoint is refused.
#[test]
fn a_damaged_checkpoint_is_not_taken() {
    let image = common::image("var n = 0\nwhile n < 20 { n += random_int(1, 1) }\nsleep(1h)\nprint(n)\n");
    let mut world = World::new(image, 1);
    (world.orderly, world.fine) = (true, true);
    world.checkpoints = Checkpoints { after: 0, retention: Retention::All };
    world.run().expect("it runs");
    for (_, checkpoint) in &world.written {
        let bytes = checkpoint.encode();
        assert_eq!(Checkpoint::decode(&bytes).map(|whole| whole.encode()).as_ref(), Some(&bytes));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(Checkpoint::decode(&damaged).is_none(), "bit {bit} of byte {at}");
            }
            assert!(Checkpoint::decode(&bytes[..at]).is_none(), "cut at {at}");
        }
    }
}
