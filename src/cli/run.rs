//! `durable run` and `durable resume`.

use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::api::{Command, End, HostSession, Queries, Reply};
use crate::engine::query::InstanceFilter;
use crate::engine::{
    Ending, InstanceRecord, Known, Lifecycle, Quotas, Retention, SCHEDULES, SCRIPT, Status, known_id,
};
use crate::host::{self, Groups, Host, HostError, Settings};
use crate::machine::{Data, IfExists, Image, Value, json as values};
use crate::permissions::Permissions;
use crate::resident;
use crate::store::DiskStore;

use super::access::{self, Access, Opened, known};
use super::arguments::{Durability, Keep, Kept, May, One, Resume, Run, Switch, Telemetry, WhenThere};
use super::guest::{self, Visit};
use super::outcome::{Shows, outcome, stuck, wait_by, wait_there};
use super::permissions::permissions;
use super::problem::{Problem, note, unreadable};
use super::script::{Script, choose, is_script, suspended, text_changed};
use super::{FAILED, INTERRUPTED, USAGE, place, program, telemetry};

/// Returns the part of histories that is kept.
pub fn retention(keep: &Keep) -> Retention {
    match keep.kept {
        Kept::All => Retention::All,
        Kept::Latest => Retention::Latest,
    }
}

/// Returns whether the operations of entities are kept; `None` leaves that to the store.
pub fn keep_operations(keep: &Keep) -> Option<bool> {
    keep.journal_entities.map(|wanted| wanted == Switch::On)
}

/// Returns the limits of one root.
pub fn quotas(keep: &Keep) -> Quotas {
    Quotas { instances: keep.max_instances, bytes: keep.max_written }
}

/// Runs a script as a new instance, or continues an unfinished one. If another process has the
/// store, that process runs the script, and this one shows its output.
pub fn run(mut run: Run) -> Result<u8, Problem> {
    let _exporter = telemetry::begin(&run.telemetry)?;
    let bad_id = run.id.as_deref().map_or(Ok(()), access::own_id);
    let script = script(&run)?;
    loop {
        match access::open(&run.store.store)? {
            Opened::Own(store) => return run_here(*store, &run, script, bad_id),
            Opened::Another(connection, error) => match guest::visit(&run, &script, connection, error)? {
                Visit::Done(code) => return Ok(code),
                Visit::HostGone(id) => {
                    if let Some(id) = id {
                        note(&format!("the process that ran {id} has ended; going on with {id} here"));
                        (run.id, run.if_exists) = (Some(id), WhenThere::Join);
                    }
                }
            },
        }
    }
}

/// Returns the script of a run, ready to run.
pub(super) fn script(run: &Run) -> Result<Script, Problem> {
    let args = script_args(run)?;
    resident::begin_phase();
    let permissions = permissions(&run.may)?;
    let image = image(&run.file, &permissions)?;
    resident::begin_phase();
    Ok(Script { file: run.file.display().to_string(), args, image, permissions })
}

fn run_here(store: DiskStore, run: &Run, script: Script, bad_id: Result<(), Problem>) -> Result<u8, Problem> {
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
        None => choose(&store, &script.file, &script.args, &script.image)?,
    };
    let permissions = script.permissions.clone();
    resident::begin_phase();
    let settings = settings(run, permissions);
    let mut session = HostSession::open(Box::new(store), settings, Some(&id))?;
    let shows = enter(&mut session.host, run, script, &id, known)?;
    finish(session, &[id], run.json, shows)
}

/// Returns the settings of a run.
pub(super) fn settings(run: &Run, permissions: Permissions) -> Settings {
    let durability = match run.durability {
        Durability::Each => host::Durability::Each,
        Durability::Output => host::Durability::Output,
        Durability::None => host::Durability::None,
    };
    Settings {
        durability,
        retention: retention(&run.keep),
        quotas: quotas(&run.keep),
        keep_operations: keep_operations(&run.keep),
        permissions,
        lean: true,
        ..Settings::default()
    }
}

/// Begins an instance of a script, or goes on with a known one.
pub(super) fn enter(
    host: &mut Host,
    run: &Run,
    script: Script,
    id: &str,
    known: Option<InstanceRecord>,
) -> Result<Shows, Problem> {
    let Script { file, args, image, .. } = script;
    let wanted = InstanceRecord::new(id, image.code.hash, &file, SCRIPT, args, host::now());
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
                note(&text_changed(id, &file));
            }
            go_on(host, &known)?;
        }
    }
    Ok(shows)
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
    is_script(known)?;
    match &known.status {
        Status::Running | Status::Scheduled { suspended: false, .. } => {
            // The mistakes of a program that cannot run any more are shown.
            program::stored(host.store(), known.program, id, &known.file)?;
            host.restrict_instance(known);
            host.watch(id);
        }
        status if status.is_suspended() => return Err(suspended(id)),
        _ => note(&format!("{id} has ended already")),
    }
    Ok(())
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

/// Returns the instances that go on by themselves, except schedules, which have no end. Ended ones
/// may be very many.
fn unfinished(store: &DiskStore) -> Result<Vec<InstanceRecord>, Problem> {
    let lifecycles = vec![Lifecycle::Running, Lifecycle::Scheduled];
    let mut records = access::instances(store, &InstanceFilter { lifecycles, ..InstanceFilter::default() })?;
    records.retain(|record| !record.id.starts_with(SCHEDULES));
    Ok(records)
}

fn resume_here(store: DiskStore, resume: &Resume, shows: Shows) -> Result<u8, Problem> {
    let records = match &resume.id {
        Some(id) => vec![known(&store, id)?],
        None => unfinished(&store)?,
    };
    if let [record] = &records[..]
        && record.status.is_suspended()
    {
        return Err(suspended(&record.id));
    }
    resident::begin_phase();
    let permissions = permissions(&resume.may)?;
    let settings = Settings {
        retention: retention(&resume.keep),
        quotas: quotas(&resume.keep),
        keep_operations: keep_operations(&resume.keep),
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
    if let Some(url) = place::url(&one.store.store)? {
        let store = Access::Cluster(Box::new(place::client(&url)?));
        // Nobody may be there to say that an instance does not exist.
        known(&store, &one.id)?;
        return wait_by(store, &one.id, one.json, Shows::Results);
    }
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

/// Returns the value of the script's `args`.
fn script_args(run: &Run) -> Result<Data, Problem> {
    let value = match &run.input {
        None => Value::list(run.args.iter().map(|arg| Value::str(arg.as_str())).collect()),
        Some(text) => values::to_value(text).map_err(|fail| {
            Problem::new(USAGE, format!("`--input` is {}", crate::machine::error::message(&fail.value)))
        })?,
    };
    let too_large =
        |fail: crate::machine::error::Fail| Problem::new(USAGE, crate::machine::error::title(&fail.value));
    Data::encode(&Value::list(vec![value])).map_err(too_large)
}

/// Runs the host until everything is done, and shows how the instances ended.
pub(super) fn finish(
    mut session: HostSession,
    ids: &[String],
    as_json: bool,
    shows: Shows,
) -> Result<u8, Problem> {
    stop_on_signals(&session.host);
    // Without the listener, other processes only learn that the store is in use.
    if let Err(error) = session.listen() {
        note(&format!("other processes can't reach this one: {}", crate::os::reason(&error)));
    }
    resident::begin_phase();
    let ran = session.run();
    ended(session, ran, ids, as_json, shows)
}

/// Shows how the instances of a run ended, and closes the store.
pub(super) fn ended(
    session: HostSession,
    ran: Result<End, HostError>,
    ids: &[String],
    as_json: bool,
    shows: Shows,
) -> Result<u8, Problem> {
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
    on_signals(move |number| {
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
    });
}

/// Calls a function for each SIGINT and SIGTERM, on a thread of its own, with the number of those
/// before.
pub(super) fn on_signals(mut take: impl FnMut(usize) + Send + 'static) {
    let signals =
        signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM]);
    // Without a handler the signals end the process, which loses nothing either.
    let Ok(mut signals) = signals else { return };
    let watch = move || signals.forever().enumerate().for_each(|(number, _)| take(number));
    let _ = std::thread::Builder::new().name("signals".into()).spawn(watch);
}
