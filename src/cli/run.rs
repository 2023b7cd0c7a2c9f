//! `durable run` and `durable resume`.

use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use serde_json::json;

use crate::api::{Command, Connection, End, HostSession, Queries, Reply};
use crate::engine::query::InstanceFilter;
use crate::engine::{
    Ending, InstanceRecord, Known, Lifecycle, Mismatch, Quotas, Retention, SCRIPT, Status, known_id,
};
use crate::host::{self, Groups, Host, Settings};
use crate::machine::{Data, IfExists, Image, Value, format, json as values};
use crate::permissions::Permissions;
use crate::render::{Shown, show};
use crate::resident;
use crate::store::DiskStore;
use crate::syntax::Place;

use super::access::{self, Access, Opened, known};
use super::arguments::{Durability, Keep, Kept, May, One, Resume, Run, Telemetry};
use super::permissions::permissions;
use super::problem::{Problem, note, unreadable};
use super::{FAILED, INTERRUPTED, USAGE, print, program, telemetry};

/// Returns the part of histories that is kept.
pub fn retention(keep: &Keep) -> Retention {
    match keep.kept {
        Kept::All => Retention::All,
        Kept::Latest => Retention::Latest,
    }
}

/// Returns the limits of one root.
pub fn quotas(keep: &Keep) -> Quotas {
    Quotas { instances: keep.max_instances, bytes: keep.max_written }
}

/// Runs a script as a new instance, or continues an unfinished one.
pub fn run(run: Run) -> Result<u8, Problem> {
    let _exporter = telemetry::begin(&run.telemetry)?;
    let bad_id = run.id.as_deref().map_or(Ok(()), access::own_id);
    let args = script_args(&run)?;
    resident::begin_phase();
    let permissions = permissions(&run.may)?;
    let image = image(&run.file, &permissions)?;
    resident::begin_phase();
    let file = run.file.display().to_string();
    let store = access::own(&run.store.store)?;
    let (id, known) = match &run.id {
        Some(id) => {
            let known = store.instance(id)?;
            // An earlier version accepted ids that are not accepted now. Instances with these ids
            // can continue.
            if known.as_ref().is_none_or(|known| known.life > 0) {
                bad_id?;
            }
            (id.clone(), known)
        }
        None => choose(&store, &file, &args, &image)?,
    };
    let durability = match run.durability {
        Durability::Each => host::Durability::Each,
        Durability::Output => host::Durability::Output,
        Durability::None => host::Durability::None,
    };
    resident::begin_phase();
    let settings = Settings {
        durability,
        retention: retention(&run.keep),
        quotas: quotas(&run.keep),
        permissions,
        lean: true,
        ..Settings::default()
    };
    let mut session = HostSession::open(Box::new(store), settings, Some(&id))?;
    let host = &mut session.host;
    let wanted = InstanceRecord::new(&id, image.code.hash, &file, SCRIPT, args, host::now());
    let mut shows = Shows::Nothing;
    match joined(host, known, &wanted, run.if_exists.into())? {
        None => {
            host.add_program(image.clone());
            host.begin(wanted);
        }
        Some(known) => {
            if known.status.is_ended() {
                shows = Shows::Values;
            }
            if known.program == image.code.hash {
                host.add_program(image.clone());
            } else if !known.status.is_ended() {
                note(&format!("{id} goes on with the text that it began with; {file} is another one now"));
            }
            go_on(host, &known)?;
        }
    }
    finish(session, &[id], run.json, shows)
}

/// Returns the instance that a run joins, if there is one. An instance that the run replaces is
/// purged.
fn joined(
    host: &mut Host,
    known: Option<InstanceRecord>,
    wanted: &InstanceRecord,
    if_exists: IfExists,
) -> Result<Option<InstanceRecord>, Problem> {
    let Some(known) = known else { return Ok(None) };
    // The message for an instance that is not a script says more than this error.
    if known.function != SCRIPT && if_exists == IfExists::Join {
        return Ok(Some(known));
    }
    match known_id(&known, wanted, if_exists) {
        Known::Joins => Ok(Some(known)),
        Known::Taken(error) => Err(access::taken(&error)),
        Known::Replaces => match host.ask(Command::Purge { ids: vec![known.id.clone()], force: false })? {
            Reply::Removed(_) => Ok(None),
            Reply::Refused(reason) => {
                let title = format!("{} is not replaced: {reason}", known.id);
                Err(Problem::new(FAILED, title).hint("`durable terminate` ends an instance"))
            }
            _ => Err(Problem::new(FAILED, format!("{} could not be replaced", known.id))),
        },
    }
}

/// Returns a script that is ready to run.
fn image(file: &Path, permissions: &Permissions) -> Result<Rc<Image>, Problem> {
    let checked = program::read_restricted(file, permissions)?;
    program::report(&checked, file)?;
    program::image(program::code(&checked, file)?, file)
}

/// Continues an instance of the store, if that is possible.
fn go_on(host: &mut Host, known: &InstanceRecord) -> Result<(), Problem> {
    let id = &known.id;
    if known.function != SCRIPT {
        let title =
            format!("`{id}` is an instance of orchestration `{}`, and not of a script", known.function);
        return Err(Problem::new(USAGE, title).hint(format!("go on with it by `durable resume {id}`")));
    }
    match &known.status {
        Status::Running => {
            // The mistakes of a program that cannot run any more are shown.
            program::stored(host.store(), known.program, id, &known.file)?;
            host.restrict_instance(known);
            host.watch(id);
        }
        Status::Suspended => return Err(suspended(id)),
        _ => note(&format!("{id} has ended already")),
    }
    Ok(())
}

fn suspended(id: &str) -> Problem {
    Problem::new(FAILED, format!("{id} is suspended")).hint(format!("`durable unsuspend {id}` lets it go on"))
}

/// Continues one unfinished instance, or all of them.
pub fn resume(resume: Resume) -> Result<u8, Problem> {
    let _exporter = telemetry::begin(&resume.telemetry)?;
    access::is_there(&resume.store.store)?;
    match (access::open(&resume.store.store)?, &resume.id) {
        (Opened::Own(store), _) => resume_here(*store, &resume, Shows::Nothing),
        // The process that has the store runs the instance.
        (Opened::Another(connection, _), Some(id)) => wait_there(connection, id, resume.json, Shows::Nothing),
        (Opened::Another(_, error), None) => Err(error.into()),
    }
}

/// Returns a filter for running instances, since ended ones may be very many.
fn running() -> InstanceFilter {
    InstanceFilter { lifecycle: Some(Lifecycle::Running), ..InstanceFilter::default() }
}

fn resume_here(store: DiskStore, resume: &Resume, shows: Shows) -> Result<u8, Problem> {
    let records = match &resume.id {
        Some(id) => vec![known(&store, id)?],
        None => access::instances(&store, &running())?,
    };
    if let [record] = &records[..]
        && record.status == Status::Suspended
    {
        return Err(suspended(&record.id));
    }
    resident::begin_phase();
    let permissions = permissions(&resume.may)?;
    let settings = Settings {
        retention: retention(&resume.keep),
        quotas: quotas(&resume.keep),
        permissions,
        lean: true,
        ..Settings::default()
    };
    let mut session = HostSession::new(Box::new(store), settings);
    session.watch_slices(resume.id.as_deref());
    let host = &mut session.host;
    let root = resume.id.as_ref().and(records.first()).map(|record| record.root.clone());
    host.recover(root.as_deref())?;
    if records.is_empty() && !host.has_work() {
        note("nothing is unfinished");
        session.close()?;
        return Ok(0);
    }
    let mut ids = Vec::new();
    let mut sound = HashSet::new();
    for record in records {
        // The outcome of a child concerns its caller.
        if record.parent.is_none() || resume.id.is_some() {
            ids.push(record.id.clone());
        }
        if !record.status.is_ended() {
            // The mistakes of a program that cannot run any more are shown.
            if sound.insert(record.program) {
                program::stored(host.store(), record.program, &record.id, &record.file)?;
            }
            if resume.id.is_some() {
                host.restrict_instance(&record);
            }
            host.watch(&record.id);
        }
    }
    finish(session, &ids, resume.json, shows)
}

/// Waits for an instance's end and shows its outcome. If no other process has the store, this
/// process runs the instance.
pub fn wait(one: One) -> Result<u8, Problem> {
    access::is_there(&one.store.store)?;
    match access::open(&one.store.store)? {
        Opened::Another(connection, _) => wait_there(connection, &one.id, one.json, Shows::Results),
        Opened::Own(store) if known(&*store, &one.id)?.status.is_ended() => {
            let code = outcome(&*store, &one.id, one.json, Shows::Results)?;
            store.close()?;
            Ok(code)
        }
        Opened::Own(store) => resume_here(
            *store,
            &Resume {
                id: Some(one.id),
                json: one.json,
                keep: Keep::default(),
                may: May::default(),
                telemetry: Telemetry::default(),
                store: one.store,
            },
            Shows::Results,
        ),
    }
}

fn wait_there(connection: Connection, id: &str, as_json: bool, shows: Shows) -> Result<u8, Problem> {
    let mut store = Access::There(connection);
    match store.ask(Command::Wait(id.to_string()))? {
        // The instance has ended, before the command or since.
        Reply::Ended => outcome(&store, id, as_json, shows),
        Reply::Refused(reason) => Err(unreadable(reason)),
        _ => Err(access::unknown(id)),
    }
}

/// Returns the value of the script's `args`.
fn script_args(run: &Run) -> Result<Data, Problem> {
    let value = match &run.input {
        None => Value::list(run.args.iter().map(|arg| Value::str(arg.as_str())).collect()),
        Some(text) => values::parse(text).map_err(|fail| {
            Problem::new(USAGE, format!("`--input` is {}", crate::machine::error::message(&fail.value)))
        })?,
    };
    let too_large =
        |fail: crate::machine::error::Fail| Problem::new(USAGE, crate::machine::error::title(&fail.value));
    Data::encode(&Value::list(vec![value])).map_err(too_large)
}

/// Returns the prefix of the ids of a script's instances.
pub fn stem(file: &str) -> String {
    let stem = Path::new(file)
        .file_stem()
        .map_or_else(|| "script".into(), |stem| stem.to_string_lossy().into_owned());
    let replaced = |c: char| if c.is_whitespace() || c.is_control() || c == ':' { '_' } else { c };
    stem.chars().map(replaced).take(40).collect()
}

/// Chooses the instance for a run without an id: the newest unfinished one of the same script with
/// the same arguments, or else a new one.
fn choose(
    store: &dyn Queries,
    file: &str,
    args: &Data,
    image: &Rc<Image>,
) -> Result<(String, Option<InstanceRecord>), Problem> {
    let stem = stem(file);
    let mut newest: Option<InstanceRecord> = None;
    let mut last = 0u64;
    let of_file = InstanceFilter { prefix: format!("{stem}-"), ..InstanceFilter::default() };
    for record in access::instances(store, &of_file)? {
        let Some(number) = record.id[stem.len() + 1..].parse::<u64>().ok() else { continue };
        last = last.max(number);
        let same = record.status == Status::Running
            && record.function == SCRIPT
            && record.file == file
            && record.args == *args;
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

/// Runs the host until everything is done, and shows how the instances ended.
fn finish(mut session: HostSession, ids: &[String], as_json: bool, shows: Shows) -> Result<u8, Problem> {
    stop_on_signals(&session.host);
    // Without the listener, other processes only learn that the store is in use.
    if let Err(error) = session.listen() {
        note(&format!("other processes can't reach this one: {}", crate::os::reason(&error)));
    }
    resident::begin_phase();
    let ran = session.run();
    resident::begin_phase();
    let host = &session.host;
    let mut code = 0;
    match ran? {
        End::Done => {
            for id in ids {
                code = code.max(match host.outcome(id) {
                    Some(Ending::Nondeterminism(mismatch)) => {
                        let record = known(host.store(), id)?;
                        stuck(host.store(), &record, mismatch)?;
                        FAILED
                    }
                    Some(Ending::Incompatible(reason)) => {
                        return Err(unreadable(format!("{id} can't go on: {reason}")));
                    }
                    _ => outcome(host.store(), id, as_json, shows)?,
                });
            }
        }
        End::Interrupted => {
            for id in ids {
                if host.outcome(id).is_none() {
                    note(&format!("{id} is paused; go on with: durable resume {id}"));
                }
            }
            code = INTERRUPTED;
        }
    }
    session.close()?;
    Ok(code)
}

/// The time that a step may take after the process was asked to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Makes SIGINT and SIGTERM stop the host between two steps. A second signal ends the process at
/// once, and so does a step that takes too long.
pub fn stop_on_signals(host: &Host) {
    let (handle, programs) = (host.handle(), host.programs());
    let signals =
        signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM]);
    // Without a handler the signals end the process, which loses nothing either.
    let Ok(mut signals) = signals else { return };
    let watch = move || {
        for (number, _) in signals.forever().enumerate() {
            let end = |programs: &Groups| {
                programs.kill_all();
                std::process::exit(i32::from(INTERRUPTED));
            };
            if number > 0 {
                end(&programs);
            }
            handle.stop();
            // A step that takes too long is aborted, as by a crash.
            let programs = programs.clone();
            let late = move || {
                std::thread::sleep(GRACE);
                end(&programs);
            };
            let _ = std::thread::Builder::new().name("stops".into()).spawn(late);
        }
    };
    let _ = std::thread::Builder::new().name("signals".into()).spawn(watch);
}

/// Whether results are shown without `--json`.
#[derive(Clone, Copy, PartialEq)]
pub enum Shows {
    /// No result: the program prints what it has to say.
    Nothing,
    /// The result of an instance that had ended before, unless it is null.
    Values,
    /// Every result, for a command that waits for the end of an instance.
    Results,
}

/// Shows how an instance ended, and returns the exit code.
pub fn outcome(store: &dyn Queries, id: &str, as_json: bool, shows: Shows) -> Result<u8, Problem> {
    let record = known(store, id)?;
    let as_value = |data: &Data| -> serde_json::Value {
        serde_json::from_str(&values::from_data(data)).unwrap_or_default()
    };
    let (code, shown) = match &record.status {
        Status::Running | Status::Suspended => return Ok(0),
        Status::Completed(value) => {
            let is_shown = match shows {
                Shows::Nothing => false,
                Shows::Values => !matches!(value.decode(), Value::Null),
                Shows::Results => true,
            };
            if is_shown && !as_json {
                print(&format!("{}\n", result_text(value)))?;
            }
            (0, json!({"id": id, "status": "completed", "result": as_value(value)}))
        }
        Status::Failed(error) => {
            let image = program::stored(store, record.program, id, &record.file)?;
            show(&Shown::new(&image.code.sources, Path::new(&record.file)).error(error));
            (FAILED, json!({"id": id, "status": "failed", "error": as_value(&error.value)}))
        }
        Status::Terminated(why) => {
            let reason = match why.decode() {
                Value::Null => String::new(),
                why => format!(": {}", format::display(&why)),
            };
            note(&format!("{id} was terminated{reason}"));
            (FAILED, json!({"id": id, "status": "terminated", "why": as_value(why)}))
        }
    };
    if as_json {
        print(&format!("{shown}\n"))?;
    }
    Ok(code)
}

/// Returns a result for people: the content of a string, or any other value as a program writes it.
pub(super) fn result_text(value: &Data) -> String {
    let value = value.decode();
    format::to_text(&value).unwrap_or_else(|_| format::display(&value))
}

/// Shows a replay that differs from the history.
pub fn stuck(store: &dyn Queries, record: &InstanceRecord, mismatch: &Mismatch) -> Result<(), Problem> {
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
