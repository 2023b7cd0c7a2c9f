//! Commands of clients for instances and entities: start, raise, signal, suspend, terminate,
//! rewind.

use crate::api::{Command, Reply, Starting};
use crate::archive::forms;
use crate::engine::{self, InstanceRecord};
use crate::host;
use crate::machine::{Data, EntityId, Value, error, json as values, options};

use super::access::{self, Access, known, own_id};
use super::arguments::{Awaited, Cancel, InStore, One, Raise, Restart, Rewind, Signal, Start, Terminate};
use super::problem::{Problem, note};
use super::{FAILED, USAGE, print, program, run, script};

/// Reads an argument of the command line: JSON if it looks like JSON, otherwise the text itself.
fn argument(text: &str) -> Result<Value, Problem> {
    values::word(text).map_err(|fail| {
        let shown = crate::render::short(text, 60);
        Problem::new(USAGE, format!("`{shown}` is {}", error::message(&fail.value)))
            .hint("what begins with {, [ or \" is read as JSON: a text of that kind is written with quotes, \"\\\"so\\\"\"")
    })
}

fn data(value: &Value) -> Result<Data, Problem> {
    Data::encode(value).map_err(|fail| Problem::new(USAGE, error::title(&fail.value)))
}

pub(super) fn arguments(texts: &[String]) -> Result<Data, Problem> {
    data(&Value::list(texts.iter().map(|text| argument(text)).collect::<Result<_, _>>()?))
}

/// Begins an instance of an orchestration, and prints its id to standard output.
pub fn start(start: Start) -> Result<u8, Problem> {
    start.id.as_deref().map_or(Ok(()), own_id)?;
    let permissions = super::permissions::permissions(&start.may)?;
    let checked = program::read_restricted(&start.file, &permissions)?;
    program::report(&checked, &start.file)?;
    let code = program::code(&checked, &start.file)?;
    let image = program::image(code.clone(), &start.file)?;
    let file = start.file.display().to_string();
    if let Err((title, hint)) = engine::startable(&code, &file, &start.name, start.args.len()) {
        return Err(Problem { hint, ..Problem::new(USAGE, title) });
    }
    let args = arguments(&start.args)?;
    let after = start.after.as_deref().map(duration).transpose()?;
    let store = Access::open_or_make(&start.store.store)?;
    let id = start.id.as_deref().unwrap_or_default();
    let mut record = InstanceRecord::new(id, image.code.hash, &file, &start.name, args, host::now());
    record.permissions = permissions;
    let due = after.map(|after| record.created.saturating_add(after));
    record.begins_later(due);
    let modules = code.sources.texts();
    let named = start.id.is_none().then(|| start.name.clone());
    let if_exists = start.if_exists.into();
    begin(store, Starting { record, modules, named, if_exists }, start.awaited, start.store)
}

/// Begins an instance with the function, the program and the arguments of another one, and prints
/// its id to standard output.
pub fn restart(restart: Restart) -> Result<u8, Problem> {
    restart.new.as_deref().map_or(Ok(()), own_id)?;
    let store = Access::open(&restart.store.store)?;
    let known = known(&store, &restart.id)?;
    let name = match known.function.as_str() {
        engine::SCRIPT => script::stem(&known.file),
        function => function.to_string(),
    };
    let mut starting = Starting::again(&known, restart.new, name, host::now());
    starting.record.permissions = known.permissions.and(&super::permissions::permissions(&restart.may)?);
    begin(store, starting, restart.awaited, restart.store)
}

fn begin(
    mut store: Access,
    starting: Starting,
    Awaited { wait, json }: Awaited,
    place: InStore,
) -> Result<u8, Problem> {
    let wanted = starting.record.permissions.clone();
    let id = match store.ask(Command::Start(Box::new(starting)))? {
        Reply::Begun(id) => id,
        Reply::Known(id) => {
            let known = known(&store, &id)?;
            note(&format!("{id} is there already, and {}", known.status.word()));
            if !known.status.is_ended() && known.permissions.and(&wanted) != known.permissions {
                note(&format!(
                    "{id} keeps the restrictions that it began with; `durable resume {id}` can add to them"
                ));
            }
            id
        }
        Reply::Taken { error, .. } => return Err(access::taken(&error)),
        Reply::Refused(reason) => return Err(Problem::new(FAILED, reason)),
        _ => return Err(Problem::new(FAILED, "it could not be started")),
    };
    if !wait {
        print(&format!("{id}\n"))?;
    }
    let here = matches!(store, Access::Here(_));
    store.close()?;
    if wait {
        return run::wait(One { id, json, store: place });
    }
    if here {
        note(&format!("it runs when a process has the store: `durable resume {id}`, or `durable serve`"));
    }
    Ok(0)
}

fn tell(one: &InStore, id: &str, command: Command) -> Result<u8, Problem> {
    let mut store = Access::open(&one.store)?;
    store.tell(command, id)?;
    store.close()?;
    Ok(0)
}

pub fn raise(Raise { id, event, payload, store }: Raise) -> Result<u8, Problem> {
    let payload = data(&payload.as_deref().map_or(Ok(Value::Null), argument)?)?;
    tell(&store, &id.clone(), Command::Raise { id, event, payload })
}

pub fn suspend(One { id, store, .. }: One) -> Result<u8, Problem> {
    tell(&store, &id.clone(), Command::Suspend { id })
}

pub fn unsuspend(One { id, store, .. }: One) -> Result<u8, Problem> {
    tell(&store, &id.clone(), Command::Resume { id })
}

/// Cancels an instance, which cleans up and ends.
pub fn cancel(Cancel { id, reason, grace, store }: Cancel) -> Result<u8, Problem> {
    let reason = data(&reason.map_or(Value::Null, Value::str))?;
    let grace = match grace {
        None => options::GRACE,
        Some(text) => duration(&text)?,
    };
    let mut store = Access::open(&store.store)?;
    store.tell(Command::Cancel { id: id.clone(), reason, grace }, &id)?;
    let is_suspended = known(&store, &id)?.status.is_suspended();
    let here = matches!(store, Access::Here(_));
    store.close()?;
    if is_suspended {
        note(&format!("{id} is suspended: it is cancelled once it continues (`durable unsuspend {id}`)"));
    } else if here {
        note(&format!(
            "{id} is cancelled when a process has the store: `durable resume {id}`, or `durable serve`"
        ));
    }
    Ok(0)
}

/// Reads a duration of the command line, in nanoseconds.
pub(super) fn duration(text: &str) -> Result<i64, Problem> {
    super::table::duration(text).map_err(|why| {
        let (title, hint) = why.told(text);
        Problem::new(USAGE, title).hint(hint)
    })
}

pub fn terminate(Terminate { id, why, leave_children, store }: Terminate) -> Result<u8, Problem> {
    let why = data(&why.map_or(Value::Null, Value::str))?;
    tell(&store, &id.clone(), Command::Terminate { id, why, children: !leave_children })
}

/// Lets a failed instance ask its failed steps again, and prints the consequences to standard
/// output.
pub fn rewind(rewind: Rewind) -> Result<u8, Problem> {
    let Rewind { id, dry_run, .. } = rewind;
    let mut store = Access::open(&rewind.store.store)?;
    let instances = match store.ask(Command::Rewind { id: id.clone(), dry_run })? {
        Reply::Rewound(instances) => instances,
        Reply::Unknown => return Err(super::access::unknown(&id)),
        Reply::Refused(reason) => return Err(Problem::new(FAILED, reason)),
        _ => return Err(Problem::new(FAILED, "it could not be rewound")),
    };
    match rewind.json {
        true => print(&format!("{}\n", forms::rewound(&instances)))?,
        false => print(&rewound(&instances))?,
    }
    let here = matches!(store, Access::Here(_));
    store.close()?;
    if dry_run {
        note("nothing was changed");
    } else if here {
        note(&format!("go on with it by: durable resume {id}"));
    }
    Ok(0)
}

/// Describes the consequences of a rewind, for people.
fn rewound(instances: &[engine::Steps]) -> String {
    let mut out = String::new();
    for engine::Steps { id, again, cut } in instances {
        if again.is_empty() && cut.is_empty() {
            out.push_str(&format!("{id} goes on where it was\n"));
        }
        for (seq, step) in again {
            out.push_str(&format!("{id} asks again: {step} #{seq}\n"));
        }
        for (seq, step) in cut {
            out.push_str(&format!("{id} loses, since it no longer fits: {step} #{seq}\n"));
        }
    }
    out
}

/// Reads an entity such as `Account@alice`.
pub fn entity(text: &str) -> Result<EntityId, Problem> {
    let not_an_entity = |why: String| {
        Problem::new(USAGE, format!("`{text}` is not an entity{why}"))
            .hint("an entity is its name, `@` and its key, as `durable entities` shows it: Account@alice")
    };
    match EntityId::parse(text) {
        Some(entity) => entity.map_err(|fail| not_an_entity(format!(": {}", error::message(&fail.value)))),
        None => Err(not_an_entity(String::new())),
    }
}

pub fn signal(signal: Signal) -> Result<u8, Problem> {
    let entity = entity(&signal.entity)?;
    let args = arguments(&signal.args)?;
    let after = signal.after.as_deref().map(duration).transpose()?;
    let mut store = Access::open(&signal.store.store)?;
    let name = entity.name.clone();
    match store.ask(Command::Signal { entity, operation: signal.operation, args, after })? {
        Reply::Unknown => {
            return Err(Problem::new(super::UNKNOWN, format!("no program here declares an entity `{name}`"))
                .hint("a program's entities are known once it was run or started in this store"));
        }
        Reply::Refused(reason) => return Err(Problem::new(FAILED, reason)),
        _ => {}
    }
    store.close()?;
    Ok(0)
}

/// Shows the status of an instance, with its custom status.
pub fn status(one: One) -> Result<u8, Problem> {
    let store = Access::open(&one.store.store)?;
    let record = known(&store, &one.id)?;
    store.close()?;
    if one.json {
        let status: serde_json::Value =
            serde_json::from_str(&values::from_data(&engine::status_of(&record))).unwrap_or_default();
        print(&format!("{status}\n"))?;
        return Ok(0);
    }
    let custom = match &record.custom {
        Some(custom) => format!(": {}", crate::machine::format::brief(&custom.decode())),
        None => String::new(),
    };
    print(&format!("{}{custom}\n", record.status.word()))?;
    Ok(0)
}
