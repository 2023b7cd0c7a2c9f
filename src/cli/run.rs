//! `durable run` and `durable resume`.

use std::path::Path;
use std::rc::Rc;

use serde_json::json;

use crate::engine::{History, InstanceRecord, Mismatch, Outcome, Status, keys};
use crate::host::{self, Host, HostError, Settings};
use crate::machine::{Data, Image, Value, format, json as values};
use crate::store::{self, DiskStore, Store};
use crate::syntax::Place;

use super::arguments::{Durability, Resume, Run};
use super::problem::{Problem, note};
use super::render::{Shown, show};
use super::{FAILED, INTERRUPTED, STORE, UNKNOWN, USAGE, print, program};

/// Runs a script: a new instance, or an unfinished one that goes on.
pub fn run(run: Run) -> Result<u8, Problem> {
    if let Some(id) = &run.id
        && let Some(reason) = keys::bad_id(id)
    {
        return Err(Problem::new(USAGE, format!("`{id}` can't be an id: {reason}")));
    }
    let args = script_args(&run)?;
    let checked = program::read(&run.file)?;
    program::report(&checked, &run.file)?;
    let image = program::image(program::code(&checked, &run.file)?, &run.file)?;
    let file = run.file.display().to_string();
    let store = store::open(&run.store.store)?;
    let (id, known) = match &run.id {
        Some(id) => (id.clone(), record(&store, id)?),
        None => choose(&store, &file, &args, &image)?,
    };
    let durability = match run.durability {
        Durability::Each => host::Durability::Each,
        Durability::Output => host::Durability::Output,
        Durability::None => host::Durability::None,
    };
    let mut host = Host::new(store, Settings { durability });
    match known {
        None => {
            host.add_program(image.clone());
            host.begin(InstanceRecord {
                id: id.clone(),
                program: image.code.hash,
                file: file.clone(),
                function: "script".into(),
                args,
                created: host::now(),
                status: Status::Running,
                ended: None,
                chunks: 0,
            });
        }
        Some(known) => {
            if known.program == image.code.hash {
                host.add_program(image.clone());
            } else if known.status == Status::Running {
                note(&format!("{id} goes on with the text that it began with; {file} is another one now"));
            }
            if known.status != Status::Running {
                note(&format!("{id} has ended already"));
            }
            take_in(&mut host, known)?;
        }
    }
    finish(host, &[id], run.json)
}

/// Goes on with one unfinished instance, or with all.
pub fn resume(resume: Resume) -> Result<u8, Problem> {
    let store = store::open(&resume.store.store)?;
    let records = match &resume.id {
        Some(id) => vec![record(&store, id)?.ok_or_else(|| unknown(id))?],
        None => {
            let all = records(&store)?;
            all.into_iter().filter(|record| record.status == Status::Running).collect()
        }
    };
    if records.is_empty() {
        note("nothing is unfinished");
        store.close()?;
        return Ok(0);
    }
    let mut host = Host::new(store, Settings::default());
    let mut ids = Vec::new();
    for record in records {
        ids.push(record.id.clone());
        take_in(&mut host, record)?;
    }
    finish(host, &ids, resume.json)
}

/// What the script finds in `args`.
fn script_args(run: &Run) -> Result<Data, Problem> {
    let value = match &run.input {
        None => Value::list(run.args.iter().map(|arg| Value::str(arg.as_str())).collect()),
        Some(text) => values::parse(text).map_err(|fail| {
            Problem::new(
                USAGE,
                format!("`--input` is not JSON: {}", crate::machine::error::title(&fail.value)),
            )
        })?,
    };
    let too_large =
        |fail: crate::machine::error::Fail| Problem::new(USAGE, crate::machine::error::title(&fail.value));
    Data::encode(&Value::list(vec![value])).map_err(too_large)
}

/// The instance that a run without an id is of: the newest unfinished one of the same script with the same arguments,
/// else a new one.
fn choose(
    store: &DiskStore,
    file: &str,
    args: &Data,
    image: &Rc<Image>,
) -> Result<(String, Option<InstanceRecord>), Problem> {
    let stem = Path::new(file)
        .file_stem()
        .map_or_else(|| "script".into(), |stem| stem.to_string_lossy().into_owned());
    let stem: String =
        stem.chars().map(|c| if c.is_whitespace() || c.is_control() { '_' } else { c }).take(40).collect();
    let mut newest: Option<InstanceRecord> = None;
    let mut last = 0u64;
    for (_, bytes) in store.all(&keys::instance(&format!("{stem}-")))? {
        let Some(record) = InstanceRecord::decode(&bytes) else { continue };
        let Some(number) = record.id[stem.len() + 1..].parse::<u64>().ok() else { continue };
        last = last.max(number);
        let same = record.status == Status::Running && record.file == file && record.args == *args;
        if same && newest.as_ref().is_none_or(|newest| record.created > newest.created) {
            newest = Some(record);
        }
    }
    let fresh = format!("{stem}-{}", last + 1);
    Ok(match newest {
        Some(record) if record.program == image.code.hash => {
            note(&format!("going on with {}", record.id));
            (record.id.clone(), Some(record))
        }
        Some(record) => {
            note(&format!(
                "{0} is unfinished but began with another text of {file}; `durable resume {0}` goes on with it",
                record.id
            ));
            (fresh, None)
        }
        None => (fresh, None),
    })
}

/// Reads the record of an instance.
pub fn record(store: &impl Store, id: &str) -> Result<Option<InstanceRecord>, Problem> {
    let Some(bytes) = store.get(&keys::instance(id))? else { return Ok(None) };
    InstanceRecord::decode(&bytes).map(Some).ok_or_else(|| {
        Problem::new(STORE, format!("the record of {id} is not readable"))
            .hint("check the store with `durable store verify`")
    })
}

/// The records of all instances, by id.
pub fn records(store: &impl Store) -> Result<Vec<InstanceRecord>, Problem> {
    let all = store.all(keys::INSTANCES)?;
    all.iter()
        .map(|(key, bytes)| {
            InstanceRecord::decode(bytes).ok_or_else(|| {
                let id = String::from_utf8_lossy(&key[keys::INSTANCES.len()..]).into_owned();
                Problem::new(STORE, format!("the record of {id} is not readable"))
                    .hint("check the store with `durable store verify`")
            })
        })
        .collect()
}

/// Reads the history of an instance.
pub fn read_history(store: &impl Store, record: &InstanceRecord) -> Result<History, Problem> {
    let prefix = keys::history(&record.id);
    let mut chunks = Vec::new();
    store.scan(&prefix, &mut |key, bytes| {
        if let Some((_, number)) = keys::parse_chunk(key) {
            chunks.push((number, bytes.to_vec()));
        }
        true
    })?;
    let damaged = |reason: String| {
        Problem::new(STORE, format!("{} can't be read: {reason}", record.id))
            .hint("check the store with `durable store verify`")
    };
    let history = History::read(chunks).map_err(damaged)?;
    if record.ended.is_some() && history.chunks != record.chunks {
        return Err(damaged(format!("its history has {} of {} parts", history.chunks, record.chunks)));
    }
    Ok(history)
}

pub fn unknown(id: &str) -> Problem {
    Problem::new(UNKNOWN, format!("there is no instance `{id}`"))
        .hint("`durable list` shows those that there are")
}

/// Gives the host an instance of the store: to go on with, or as ended.
fn take_in(host: &mut Host<DiskStore>, record: InstanceRecord) -> Result<(), Problem> {
    match &record.status {
        Status::Running => {
            if host.program(record.program).is_none() {
                host.add_program(program::stored(&host.store, record.program, &record.id, &record.file)?);
            }
            let history = read_history(&host.store, &record)?;
            host.load(record, history);
        }
        Status::Completed(_) | Status::Failed(_) => {}
    }
    Ok(())
}

/// Runs the host until all is done, and shows how the instances ended.
fn finish(mut host: Host<DiskStore>, ids: &[String], as_json: bool) -> Result<u8, Problem> {
    stop_on_signals(&host);
    let ran = host.run();
    let mut code = 0;
    match ran {
        Ok(()) => {
            for id in ids {
                code = code.max(outcome(&host, id, as_json)?);
            }
        }
        Err(HostError::Interrupted) => {
            for id in ids {
                if host.outcome(id).is_none() {
                    note(&format!("{id} is paused; go on with: durable resume {id}"));
                }
            }
            code = INTERRUPTED;
        }
        Err(error) => return Err(error.into()),
    }
    host.into_store().close()?;
    Ok(code)
}

/// SIGINT and SIGTERM stop the host between two steps; the second one ends the process at once.
fn stop_on_signals(host: &Host<DiskStore>) {
    let stop = host.stopper();
    let signals =
        signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM]);
    // Without a handler the signals end the process, which loses nothing either.
    let Ok(mut signals) = signals else { return };
    let watch = move || {
        for (number, _) in signals.forever().enumerate() {
            if number > 0 {
                std::process::exit(i32::from(INTERRUPTED));
            }
            stop();
        }
    };
    let _ = std::thread::Builder::new().name("signals".into()).spawn(watch);
}

fn outcome(host: &Host<DiskStore>, id: &str, as_json: bool) -> Result<u8, Problem> {
    let record = record(&host.store, id)?.ok_or_else(|| unknown(id))?;
    let ended = match (host.outcome(id), record.status.clone()) {
        (Some(Outcome::Stuck(mismatch)), _) => {
            stuck(&host.store, &record, mismatch)?;
            return Ok(FAILED);
        }
        (_, Status::Completed(value)) => Ok(value),
        (_, Status::Failed(error)) => Err(error),
        (_, Status::Running) => return Ok(0),
    };
    match ended {
        Ok(value) => {
            if as_json {
                let result: serde_json::Value =
                    serde_json::from_str(&values::from_data(&value)).unwrap_or_default();
                print(&format!("{}\n", json!({"id": id, "status": "completed", "result": result})))?;
            }
            Ok(0)
        }
        Err(error) => {
            let image = host.program(record.program);
            let image = match image {
                Some(image) => image,
                None => program::stored(&host.store, record.program, id, &record.file)?,
            };
            show(&Shown::new(&image.code.sources, Path::new(&record.file)).error(&error));
            if as_json {
                let error: serde_json::Value =
                    serde_json::from_str(&values::from_data(&error.value)).unwrap_or_default();
                print(&format!("{}\n", json!({"id": id, "status": "failed", "error": error})))?;
            }
            Ok(FAILED)
        }
    }
}

/// Shows a replay that went another way than the history.
pub fn stuck(store: &DiskStore, record: &InstanceRecord, mismatch: &Mismatch) -> Result<(), Problem> {
    let image = program::stored(store, record.program, &record.id, &record.file)?;
    let shown = Shown::new(&image.code.sources, Path::new(&record.file));
    let side = |side: &Option<(String, Place)>, what: &str, none: &str| match side {
        Some((text, place)) => (*place, format!("{what}: {}", format::display(&Value::str(text.as_str())))),
        None => (Place::default(), format!("{what}: {none}")),
    };
    let labels = [
        side(&mismatch.found, "the program now does this", "the program ends"),
        side(&mismatch.recorded, "the history holds", "nothing more"),
    ];
    let title = format!("nondeterminism: {} does not do what its history holds", record.id);
    let notes = [
        "the store is damaged, or another version of durable wrote it; nothing was done and nothing is lost"
            .to_string(),
    ];
    show(&shown.message(
        ariadne::ReportKind::Error,
        &title,
        &labels,
        &notes,
        Some("check the store with `durable store verify`"),
    ));
    Ok(())
}
