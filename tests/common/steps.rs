//! Runs of a bare machine on a history, step by step.

use std::rc::Rc;

use durable::builtins::Context;
use durable::engine::{Entry, History, InstanceRecord, SCRIPT, read_history};
use durable::kv::Read;
use durable::machine::{Data, Identity, Image, Machine, Progress, Value};

/// Reads the history of an instance.
pub fn history(store: &impl Read, record: &InstanceRecord) -> Result<History, durable::engine::ReadError> {
    read_history(store, record)
}

/// About how often the machine of a program is saved and restored. The stride is rounded down, and
/// slices of long computations add some.
const RESTORES: usize = 60;

/// Runs an instance from its history. The machine is saved, dropped and restored between steps.
pub fn with_restored_machines(
    image: &Rc<Image>,
    record: &InstanceRecord,
    history: &History,
) -> Result<Result<Data, Data>, String> {
    let Value::List(args) = record.args.decode() else { return Err("the arguments are no list".into()) };
    let identity = Identity { id: record.id.clone(), ..Identity::default() };
    let function = match record.function.as_str() {
        SCRIPT => image.code.script,
        name => {
            let at = image.code.find_isolated(name).ok_or("the program does not have its orchestration")?;
            image.code.isolated[at].body
        }
    };
    let mut machine =
        Machine::new(image.clone(), Context::Orchestration, function, args.as_slice().to_vec(), identity);
    let answers: Vec<&Entry> =
        history.entries.iter().filter(|entry| matches!(entry, Entry::Answered { .. })).collect();
    let every = (answers.len() / RESTORES).max(1);
    let mut answers = answers.into_iter();
    let (mut number, mut slices) = (0, 0);
    loop {
        match machine.run(1_000_000) {
            Progress::Done(outcome) => return Ok(outcome.map_err(|error| error.value)),
            Progress::Waiting => {
                (number, slices) = (number + 1, 0);
                let Some(Entry::Answered { seq, result, .. }) = answers.next() else {
                    return Err("it waits after the end of its history".into());
                };
                machine.answer(*seq, result.clone());
            }
            Progress::OutOfFuel => slices += 1,
        }
        // The machine is restored in the middle of a computation too, but not again and again in a
        // long one.
        if slices > 2 {
            continue;
        }
        if number % every == 0 {
            let bytes = machine.snapshot();
            machine = Machine::restore(image.clone(), &bytes).ok_or("the machine can't be restored")?;
            if machine.snapshot() != bytes {
                return Err("a restored machine is written down otherwise".into());
            }
        }
    }
}
