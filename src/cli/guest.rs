//! `durable run` while another process has the store: that process runs the script, and this one
//! shows its output, reads its input and ends with its outcome.
//!
//! Invariant: the script may do only what both processes permit. If the other process ends, this
//! one goes on with the script.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::api::{Attending, Command, Connection, GuestRequest, Queries, Reply, Shown, Starting};
use crate::engine::{InstanceRecord, Known, Quotas, SCRIPT, Status, known_id};
use crate::host::{self, EffectResult, HostError, Message, Terminal};
use crate::kv::{Endpoint, StoreError};
use crate::machine::{IfExists, Value, error};

use super::access;
use super::arguments::{Durability, Kept, Run};
use super::outcome::{Shows, outcome, wait_there};
use super::problem::{Problem, note, unreadable};
use super::script::{Script, choose, is_script, stem, suspended, text_changed};
use super::{FAILED, INTERRUPTED};

/// The end of a visit.
pub enum Visit {
    /// The script has ended, or the guest was interrupted, with this exit code.
    Done(u8),
    /// The process that has the store has ended or let go of it; the id is that of the script's
    /// instance, if it has begun.
    HostGone(Option<String>),
}

/// Has the process that has the store run a script, and shows the script's output. `in_use` is the
/// error of the store.
pub fn visit(
    run: &Run,
    script: &Script,
    connection: Connection,
    in_use: StoreError,
) -> Result<Visit, Problem> {
    let (id, known) = match &run.id {
        Some(id) => (id.clone(), connection.instance(id)?),
        None => choose(&connection, &script.file, &script.args, &script.image)?,
    };
    let hash = script.image.code.hash;
    let mut wanted = InstanceRecord::new(&id, hash, &script.file, SCRIPT, script.args.clone(), host::now());
    wanted.permissions = script.permissions.clone();
    let mut if_exists: IfExists = run.if_exists.into();
    match &known {
        Some(known) => match known_id(known, &wanted, if_exists) {
            Known::Taken(error) if known.function == SCRIPT || if_exists != IfExists::Join => {
                return Err(access::taken(&error));
            }
            Known::Replaces => {}
            Known::Joins | Known::Taken(_) => {
                is_script(known)?;
                if let Some(code) = joins(run, script, &connection, known)? {
                    return Ok(Visit::Done(code));
                }
                if_exists = IfExists::Join;
            }
        },
        None => access::own_id(&id)?,
    }
    let modules = script.image.code.sources.texts();
    // The process that has the store chooses a new id.
    let named = (run.id.is_none() && known.is_none()).then(|| stem(&script.file));
    let guest = host::unique();
    let folder = std::env::current_dir().unwrap_or_default();
    let starting = Starting { record: wanted, modules, named, if_exists };
    let attending = Attending { guest: guest.clone(), folder, starting };
    let id = match connection.command(Command::Attend(Box::new(attending))) {
        Ok(Reply::Begun(id) | Reply::Known(id)) => id,
        Ok(Reply::Taken { error, .. }) => return Err(access::taken(&error)),
        Ok(Reply::Refused(reason)) => {
            return Err(Problem { title: format!("{in_use}; {reason}"), ..in_use.into() }
                .hint("run the script in the folder of that process, or use another store with `--store`"));
        }
        Ok(_) => return Err(Problem::new(FAILED, "the script could not be started")),
        // Whether it has begun is found out when the store is open again.
        Err(_) => return Ok(Visit::HostGone(run.id.clone())),
    };
    ignored(run);
    let visit = Visiting { endpoint: Endpoint::new(&run.store.store), guest, id, is_over: Arc::default() };
    visit.signals();
    let shown = visit.show(run, connection);
    visit.is_over.store(true, Ordering::SeqCst);
    shown
}

/// Checks that a script may be joined that is there already. Returns the exit code if it has ended.
fn joins(
    run: &Run,
    script: &Script,
    connection: &Connection,
    known: &InstanceRecord,
) -> Result<Option<u8>, Problem> {
    let id = &known.id;
    match &known.status {
        status if status.is_suspended() => return Err(suspended(id)),
        Status::Running | Status::Scheduled { .. } => {}
        _ => {
            note(&format!("{id} has ended already"));
            return outcome(connection, id, run.json, Shows::Values).map(Some);
        }
    }
    if known.permissions.and(&script.permissions) != known.permissions {
        let title = format!("{id} runs in another process, without the restrictions that are given here");
        return Err(Problem::new(FAILED, title)
            .hint(format!("`durable resume {id}` adds restrictions when no process has the store")));
    }
    if known.program != script.image.code.hash {
        note(&text_changed(id, &script.file));
    }
    Ok(None)
}

/// Names the options that concern the process that has the store.
fn ignored(run: &Run) {
    let keep = &run.keep;
    let quotas = Quotas::default();
    let given = [
        ("--durability", !matches!(run.durability, Durability::Output)),
        ("--history", !matches!(keep.kept, Kept::All)),
        ("--journal-entities", keep.journal_entities.is_some()),
        ("--max-instances", keep.max_instances != quotas.instances),
        ("--max-written", keep.max_written != quotas.bytes),
        ("--otlp", run.telemetry.otlp.is_some()),
    ];
    for (option, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
        note(&format!("`{option}` has no effect: the process that has the store decides that"));
    }
}

/// A guest, as its threads know it.
#[derive(Clone)]
struct Visiting {
    endpoint: Endpoint,
    guest: String,
    id: String,
    is_over: Arc<AtomicBool>,
}

impl Visiting {
    /// Shows the script's output until its end.
    fn show(&self, run: &Run, connection: Connection) -> Result<Visit, Problem> {
        let id = &self.id;
        let mut terminal = Terminal::new();
        let (sender, messages) = channel();
        self.forward(messages);
        let mut seen = 0;
        loop {
            let page = match connection.guest(&self.guest, GuestRequest::Show { seen }) {
                Ok(Some(page)) => page,
                Ok(None) if seen == 0 => {
                    note(&format!(
                        "{id} is running elsewhere, where its output appears; waiting for its end"
                    ));
                    return wait_there(connection, id, run.json, Shows::Nothing).map(Visit::Done);
                }
                Ok(None) | Err(_) => return Ok(Visit::HostGone(Some(id.clone()))),
            };
            for item in page {
                seen += 1;
                match item {
                    Shown::Line(line) => {
                        if let Err(error) = terminal.line(&line) {
                            self.suspend();
                            return Err(HostError::Output(error).into());
                        }
                    }
                    Shown::Input { ticket, prompt } => {
                        if let Err(error) = terminal.flush() {
                            self.suspend();
                            return Err(HostError::Output(error).into());
                        }
                        if let Some(line) = terminal.input(ticket, &prompt, &sender) {
                            let _ = sender.send(Message::Done { ticket, result: line });
                        }
                    }
                    Shown::Ended { why: Some(why) } => return Err(unreadable(why)),
                    Shown::Ended { why: None } => {
                        terminal.flush().map_err(HostError::Output)?;
                        return outcome(&connection, id, run.json, Shows::Nothing).map(Visit::Done);
                    }
                    Shown::Interrupted => {
                        let _ = terminal.flush();
                        note(&format!("{id} is suspended; go on with: durable unsuspend {id}"));
                        return Ok(Visit::Done(INTERRUPTED));
                    }
                    Shown::TooSlow => {
                        note(&format!(
                            "{id} prints faster than it is shown here; `durable history {id} --output` shows all"
                        ));
                        return wait_there(connection, id, run.json, Shows::Nothing).map(Visit::Done);
                    }
                }
            }
            if let Err(error) = terminal.flush() {
                self.suspend();
                return Err(HostError::Output(error).into());
            }
        }
    }

    /// Sends the lines of input that are read to the script, from a thread.
    fn forward(&self, messages: Receiver<Message>) {
        let visiting = self.clone();
        let forward = move || {
            for message in messages {
                match message {
                    Message::Done { ticket, result } => visiting.send(ticket, result),
                    Message::Interrupt => visiting.interrupt(),
                    _ => {}
                }
            }
        };
        // Without the thread, the script waits for its input until the guest is interrupted.
        let _ = thread::Builder::new().name("guest".into()).spawn(forward);
    }

    fn send(&self, ticket: u64, result: EffectResult) {
        let line = match result {
            Ok(line) => Ok(match line.decode() {
                Value::Str(text) => Some(text.as_str().to_string()),
                _ => None,
            }),
            Err(failure) => Err(error::message(&failure.value.decode())),
        };
        // A process that is gone is noticed by the thread that shows the output.
        if let Ok(connection) = Connection::open(&self.endpoint) {
            let _ = connection.guest(&self.guest, GuestRequest::Input { ticket, line });
        }
    }

    /// Suspends the script, since nobody sees its output any more.
    fn suspend(&self) -> bool {
        let suspend = Command::Suspend { id: self.id.clone() };
        Connection::open(&self.endpoint).and_then(|connection| connection.command(suspend)).is_ok()
    }

    /// Suspends the script, and makes the guest leave.
    fn interrupt(&self) {
        let leave = || {
            let connection = Connection::open(&self.endpoint)?;
            connection.guest(&self.guest, GuestRequest::Interrupt)
        };
        if !self.suspend() || leave().is_err() {
            note(&format!("{0} is paused; go on with: durable resume {0}", self.id));
            std::process::exit(i32::from(INTERRUPTED));
        }
    }

    /// Makes SIGINT and SIGTERM suspend the script. A second signal ends this process at once.
    fn signals(&self) {
        use signal_hook::consts::{SIGINT, SIGTERM};
        // Without a handler the signals end this process, and the script goes on.
        let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]) else { return };
        let visiting = self.clone();
        let watch = move || {
            for (number, _) in signals.forever().enumerate() {
                if visiting.is_over.load(Ordering::SeqCst) {
                    return;
                }
                if number > 0 {
                    std::process::exit(i32::from(INTERRUPTED));
                }
                visiting.interrupt();
            }
        };
        let _ = thread::Builder::new().name("signals".into()).spawn(watch);
    }
}
