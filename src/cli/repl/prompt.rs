//! Evaluation of entries: the session's instance, the host that runs it, and the outcome of each
//! entry.

use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::api::{HostSession, Queries};
use crate::check::{self, Program};
use crate::engine::{Engine, InstanceRecord, SCRIPT};
use crate::host::{self, Above, Handle, Host, HostError, Settings};
use crate::kv::Reader;
use crate::machine::natives::prompt::take_failure;
use crate::machine::value::Record;
use crate::machine::{Data, Image, Value};
use crate::os::read_text;
use crate::permissions::Permissions;
use crate::render::{Shown, show};
use crate::store::DiskStore;
use crate::syntax::{Diagnostic, Label, Place, Severity, Sources, parse};

use super::super::access;
use super::super::problem::{Problem, note};
use super::super::program::{code, image, stored};
use super::super::{FAILED, INTERRUPTED, print};
use super::lifted::MARK;
use super::session::{Came, ENTITY, FILE, Known, Session, Text};

/// The time that an interrupted entry has to reach a wait.
const PATIENCE: Duration = Duration::from_millis(700);

/// The means to interrupt an evaluation, shared with the thread that handles signals.
#[derive(Clone, Default)]
pub struct Interrupter {
    stop: Arc<Mutex<Option<Handle>>>,
    evaluates: Arc<AtomicBool>,
}

impl Interrupter {
    fn of(&self, host: &Host) {
        if let Ok(mut stop) = self.stop.lock() {
            *stop = Some(host.handle());
        }
    }

    /// Interrupts an evaluation; returns whether there was one.
    pub fn interrupt(&self) -> bool {
        let evaluates = self.evaluates.load(Ordering::SeqCst);
        if evaluates
            && let Ok(stop) = self.stop.lock()
            && let Some(host) = &*stop
        {
            host.stop();
        }
        evaluates
    }
}

/// A session with its host.
pub struct Prompt {
    open: HostSession,
    pub id: String,
    pub session: Session,
    pub interrupter: Interrupter,
    permissions: Permissions,
    /// The kinds and fields of the values that names are bound to, as far as known.
    pub kinds: Vec<Known>,
}

/// The outcome of an entry.
#[derive(Debug, PartialEq, Eq)]
pub enum Evaluated {
    Done,
    Failed,
    /// The entry has mistakes, and was not evaluated.
    Refused,
    /// The session has ended.
    Over,
}

impl Prompt {
    /// Continues a session, or begins a new one.
    pub fn open(folder: &Path, id: &str, permissions: Permissions) -> Result<Prompt, Problem> {
        let store = access::own(folder)?;
        let known = store.instance(id)?;
        let session = match &known {
            None => Session::default(),
            Some(known) => session_of(&store, known)?,
        };
        let mut prompt = Prompt {
            open: put_to_use(store, id, &permissions)?,
            id: id.to_string(),
            session,
            interrupter: Interrupter::default(),
            permissions,
            kinds: Vec::new(),
        };
        prompt.interrupter.of(&prompt.open.host);
        match known {
            None => prompt.begin()?,
            Some(known) => prompt.go_on(&known)?,
        }
        Ok(prompt)
    }

    /// Begins a new session.
    fn begin(&mut self) -> Result<(), Problem> {
        let image = self.compiled(&self.session, &self.session.program())?;
        let hash = image.code.hash;
        self.open.host.add_program(image);
        let args = Data::encode(&Value::list(vec![Value::list(Vec::new())])).unwrap_or_default();
        self.open.host.begin(InstanceRecord::new(&self.id, hash, FILE, SCRIPT, args, host::now()));
        self.settle(0)?;
        Ok(())
    }

    /// Continues a session of an earlier process, whose last entry may be under way.
    fn go_on(&mut self, known: &InstanceRecord) -> Result<(), Problem> {
        self.open.host.watch(&self.id);
        let number = self.session.evaluated();
        let told = known.custom.as_ref().is_some_and(|said| number_of(said) == number);
        if told || self.session.only_declares() {
            self.settle(number)?;
            self.recall(number);
        } else {
            note("going on with the last entry");
            self.finish(number)?;
        }
        Ok(())
    }

    fn host(&mut self) -> &mut Host {
        &mut self.open.host
    }

    /// Returns the store, for commands that read it.
    pub fn store(&self) -> &Reader {
        self.open.host.store()
    }

    /// Closes the session's store; the session can be continued later.
    pub fn close(self) -> Result<(), Problem> {
        Ok(self.open.close()?)
    }

    /// Returns the text of a module, if the session may read it.
    fn import(&self, key: &str) -> Result<String, String> {
        let path = Path::new(key);
        self.permissions.check_import(path, Path::new(""))?;
        read_text(path)
    }

    /// Checks and compiles a session's program. Mistakes are shown at their places in the entries
    /// as typed.
    fn compiled(&self, session: &Session, text: &Text) -> Result<Rc<Image>, Problem> {
        let program = check::load(FILE, text.text.clone(), &|key: &str| self.import(key));
        if !program.is_sound() {
            self.report(session, text, &program);
            return Err(Problem::new(FAILED, ""));
        }
        image(code(&program, Path::new(FILE))?, Path::new(FILE))
    }

    /// Shows what can't be read in an entry. Returns whether there is anything.
    fn misread(&self, entry: &str) -> bool {
        let parsed = parse(entry, 0);
        let is_error = |diagnostic: &&Diagnostic| diagnostic.severity == Severity::Error;
        let mut sources = Sources::default();
        sources.add(format!("[{}]", self.session.entries.len() + 1), entry);
        let shown = Shown::new(&sources, Path::new(""));
        let errors: Vec<&Diagnostic> = parsed.diagnostics.iter().filter(is_error).collect();
        errors.iter().for_each(|diagnostic| show(&shown.diagnostic(diagnostic)));
        !errors.is_empty()
    }

    fn report(&self, session: &Session, text: &Text, program: &Program) {
        let (sources, first) = text.sources(&program.sources, session);
        let shown = Shown::new(&sources, Path::new(""));
        for diagnostic in program.diagnostics.iter().filter(|d| d.severity == Severity::Error) {
            let labels: Vec<Label> = diagnostic
                .labels
                .iter()
                .filter_map(|label| {
                    Some(Label { place: text.place(label.place, first)?, text: label.text.clone() })
                })
                .collect();
            let plain = |text: &String| text.replace(MARK, "");
            let labels =
                labels.into_iter().map(|label| Label { text: plain(&label.text), ..label }).collect();
            show(&shown.diagnostic(&Diagnostic {
                labels,
                title: plain(&diagnostic.title),
                reason: diagnostic.reason.as_ref().map(plain),
                hint: diagnostic.hint.as_ref().map(plain),
                ..diagnostic.clone()
            }));
        }
    }

    /// Makes output appear above the line that is being typed.
    pub fn writes_above(&mut self, above: Option<Above>) {
        self.host().terminal.writes_above(above);
    }

    /// Returns the host's handle, for the reader's thread.
    pub fn handle(&self) -> Handle {
        self.open.host.handle()
    }

    /// Returns the names of the session, with their kinds and fields as far as known.
    pub fn known(&self) -> Vec<Known> {
        let of = |name: String| {
            let known = self.kinds.iter().find(|known| known.0 == name);
            known.cloned().unwrap_or((name, String::new(), Vec::new()))
        };
        let mut known: Vec<Known> = self.session.names().into_iter().map(of).collect();
        for (name, operations) in self.session.entities() {
            known.retain(|known| known.0 != name);
            known.push((name, ENTITY.to_string(), operations));
        }
        known
    }

    /// Runs the session and everything else in the store until `read` returns something.
    pub fn wait_for<T>(&mut self, read: &mut dyn FnMut() -> Option<T>) -> Result<T, Problem> {
        let mut found = read();
        while found.is_none() {
            let host = self.host();
            host.terminal.is_typed_in(true);
            let ran = host.run_until(&mut |_| {
                found = found.take().or_else(&mut *read);
                found.is_some()
            });
            host.terminal.is_typed_in(false);
            match ran {
                // The evaluation that the interrupt was meant for has ended meanwhile.
                Err(HostError::Interrupted) => {}
                ran => ran?,
            }
        }
        found.ok_or_else(|| Problem::new(FAILED, "nothing was read"))
    }

    /// Evaluates an entry.
    pub fn evaluate(&mut self, entry: &str, width: usize) -> Result<Evaluated, Problem> {
        let next = self.session.with(entry, width);
        if next.misplaced() {
            Problem::new(FAILED, "tests, mocks, properties and schedules have no place at the prompt")
                .hint("write them into a file, for `durable test`, `durable explore` and `durable start`")
                .show();
            return Ok(Evaluated::Refused);
        }
        if self.misread(entry) {
            return Ok(Evaluated::Refused);
        }
        let text = next.program();
        let Ok(image) = self.compiled(&next, &text) else { return Ok(Evaluated::Refused) };
        let number = next.evaluated();
        let id = self.id.clone();
        let only_declares = next.only_declares();
        let event = (!only_declares).then(|| format!("entry-{number}"));
        self.rest()?;
        if let Err(reason) = self.host().extend(&id, &image, event.as_deref())? {
            return Err(Problem::new(FAILED, reason));
        }
        self.session = next;
        if only_declares {
            self.came(Came::Done);
            self.settle(number)?;
            return Ok(Evaluated::Done);
        }
        self.finish(number)
    }

    fn came(&mut self, came: Came) {
        if let Some(entry) = self.session.entries.last_mut() {
            entry.came = came;
        }
    }

    /// Runs until the session waits for the next entry; returns false if it has ended.
    fn settle(&mut self, number: usize) -> Result<bool, Problem> {
        let id = self.id.clone();
        self.host().run_until(&mut |engine| says(engine, &id, number) || engine.is_gone(&id))?;
        self.rest()
    }

    /// Runs until the session has consumed all that arrived for it; returns false if it has ended.
    fn rest(&mut self) -> Result<bool, Problem> {
        let id = self.id.clone();
        let is_so = &mut |engine: &Engine| engine.is_waiting(&id) || engine.is_gone(&id);
        self.host().run_until(is_so)?;
        Ok(!self.host().is_gone(&id))
    }

    /// Runs until an entry is done, and shows its outcome.
    fn finish(&mut self, number: usize) -> Result<Evaluated, Problem> {
        self.interrupter.evaluates.store(true, Ordering::SeqCst);
        let settled = self.settle_interruptibly(number);
        self.interrupter.evaluates.store(false, Ordering::SeqCst);
        match settled? {
            Some(true) => self.show(number),
            Some(false) => {
                note(&format!("session {} has come to an end; `durable show {}` says how", self.id, self.id));
                Ok(Evaluated::Over)
            }
            None => Ok(Evaluated::Failed),
        }
    }

    /// Runs like `settle`, but can be interrupted; `None` means that the entry was taken back.
    fn settle_interruptibly(&mut self, number: usize) -> Result<Option<bool>, Problem> {
        let id = self.id.clone();
        let done = |engine: &Engine| says(engine, &id, number) || engine.is_gone(&id);
        match self.host().run_until(&mut |engine| done(engine)) {
            Ok(()) => return self.settle(number).map(Some),
            Err(HostError::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
        self.host().raise(&id, &format!("interrupt-{number}"));
        let began = Instant::now();
        let late = || began.elapsed() > PATIENCE;
        match self.host().run_until(&mut |engine| done(engine) || late()) {
            Ok(()) | Err(HostError::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
        if self.host().says(&id).is_some_and(|said| number_of(said) == number) {
            return self.settle(number).map(Some);
        }
        // The entry computes and consumes nothing, so it is undone as if it had not been typed.
        let taken = self.take_back()?;
        note("interrupted; the entry is taken back");
        list_dropped(&taken)?;
        Ok(None)
    }

    /// Shows the outcome of an entry.
    fn show(&mut self, number: usize) -> Result<Evaluated, Problem> {
        let Some(said) = self.said(number) else { return Ok(Evaluated::Done) };
        self.take_in(&said);
        if said.get_str("interrupted").is_some() {
            note("interrupted");
            return Ok(Evaluated::Failed);
        }
        if let Some(failure) = said.get_str("failure") {
            self.show_failure(failure);
            return Ok(Evaluated::Failed);
        }
        if let Some(Value::Str(text)) = said.get_str("text") {
            print(&format!("{}\n", text.as_str()))?;
        }
        Ok(Evaluated::Done)
    }

    /// Notes the outcome of the last entry, which an earlier process showed already.
    fn recall(&mut self, number: usize) {
        match self.said(number) {
            _ if self.session.only_declares() => self.came(Came::Done),
            Some(said) => self.take_in(&said),
            None => {}
        }
    }

    /// Returns the session's report about an entry, or `None` if it has made none.
    fn said(&self, number: usize) -> Option<Rc<Record>> {
        let said = self.open.host.says(&self.id).filter(|said| number_of(said) == number);
        match said.map(Data::decode) {
            Some(Value::Record(said)) => Some(said),
            _ => None,
        }
    }

    fn take_in(&mut self, said: &Record) {
        let failed = said.get_str("interrupted").is_some() || said.get_str("failure").is_some();
        self.came(if failed { Came::Failed } else { Came::Done });
        if let Some(Value::Record(kinds)) = said.get_str("kinds") {
            self.learn(kinds);
        }
    }

    fn learn(&mut self, kinds: &Record) {
        for (name, known) in kinds.iter() {
            let Value::Record(known) = known else { continue };
            let Some(Value::Str(kind)) = known.get_str("kind") else { continue };
            let fields = match known.get_str("fields") {
                Some(Value::List(fields)) => {
                    fields.as_slice().iter().map(crate::machine::format::display).collect()
                }
                _ => Vec::new(),
            };
            self.kinds.retain(|(known, ..)| **known != **name);
            self.kinds.push((name.to_string(), kind.as_str().to_string(), fields));
        }
    }

    fn show_failure(&mut self, failure: &Value) {
        let error =
            take_failure().filter(|_| matches!(failure, Value::Str(text) if text.as_str().is_empty()));
        let Some(mut error) = error else {
            note(&format!("Error: {}", crate::machine::format::display(failure)));
            return;
        };
        let text = self.session.program();
        let program = check::load(FILE, text.text.clone(), &|key: &str| self.import(key));
        let (sources, first) = text.sources(&program.sources, &self.session);
        // A place outside of all entries belongs to the session's own code.
        let is_found = |place: &mut Place| text.place(*place, first).map(|found| *place = found).is_some();
        error.trace.entries.retain_mut(|entry| {
            entry.function = entry.function.replace(MARK, "");
            is_found(&mut entry.place)
        });
        error.trace.also.retain_mut(|(place, _)| is_found(place));
        show(&Shown::new(&sources, Path::new("")).error(&error));
    }

    /// Takes back the last entry, with everything that followed from it in the session. Returns
    /// descriptions of the requests that the entry made. An error says why the entry cannot be
    /// taken back.
    fn take_back(&mut self) -> Result<Vec<String>, Problem> {
        let mut earlier = self.session.clone();
        if earlier.entries.pop().is_none() {
            return Err(Problem::new(FAILED, "there is no entry before"));
        }
        let image = self.compiled(&earlier, &earlier.program())?;
        let number = self.session.evaluated();
        let only_declares = self.session.only_declares();
        let id = self.id.clone();
        if only_declares {
            if let Err(reason) = self.host().extend(&id, &image, None)? {
                return Err(Problem::new(FAILED, reason));
            }
            self.session = earlier;
            self.settle(number)?;
            return Ok(Vec::new());
        }
        let event = format!("entry-{number}");
        let said = Value::record([("entry", Value::Int(number as i64 - 1))]);
        let undone = self.host().undo(&id, &event, &image, Data::of(&said))?;
        let dropped = undone
            .map_err(|reason| Problem::new(FAILED, format!("the entry can't be taken back: {reason}")))?;
        self.session = earlier;
        let waits = self.session.evaluated();
        match self.settle(waits) {
            // A second interrupt was meant for the entry, too.
            Err(problem) if problem.code == INTERRUPTED => {}
            settled => drop(settled?),
        }
        Ok(dropped)
    }

    /// Executes `:undo`.
    pub fn undo(&mut self) -> Result<(), Problem> {
        let dropped = self.take_back()?;
        note("the last entry is taken back");
        list_dropped(&dropped)
    }
}

/// Returns the session that an instance is.
fn session_of(store: &DiskStore, known: &InstanceRecord) -> Result<Session, Problem> {
    let id = &known.id;
    let text = stored(store, known.program, id, &known.file)?.code.sources.files[0].text.clone();
    let session = Session::read(&text).filter(|_| known.file == FILE).ok_or_else(|| {
        Problem::new(FAILED, format!("`{id}` is an instance, but no session of the prompt"))
            .hint("give another name after `--session`")
    })?;
    if known.status.is_ended() {
        return Err(Problem::new(FAILED, format!("session `{id}` has ended"))
            .hint(format!("`durable purge {id}` removes it; then the name is free")));
    }
    Ok(session)
}

/// Puts a store to use for a session.
fn put_to_use(store: DiskStore, id: &str, permissions: &Permissions) -> Result<HostSession, Problem> {
    let settings = Settings { stays: true, permissions: permissions.clone(), ..Settings::default() };
    let mut open = HostSession::open(Box::new(store), settings, Some(id))?;
    open.host.terminal.shows_no_progress();
    // Without the listener, other processes cannot look at the store; the session loses nothing.
    open.listen().ok();
    Ok(open)
}

/// Lists the outside effects of an entry that was taken back.
fn list_dropped(dropped: &[String]) -> Result<(), Problem> {
    let own = ["receive(", "set_status("];
    let outside: Vec<&String> =
        dropped.iter().filter(|what| !own.iter().any(|own| what.starts_with(own))).collect();
    if !outside.is_empty() {
        note("what it did outside the session is done:");
        outside.iter().for_each(|what| note(&format!("  {what}")));
    }
    Ok(())
}

fn number_of(said: &Data) -> usize {
    match said.decode() {
        Value::Record(said) => match said.get_str("entry") {
            Some(Value::Int(number)) => *number as usize,
            _ => usize::MAX,
        },
        _ => usize::MAX,
    }
}

/// Returns whether the session has reported the outcome of an entry.
fn says(engine: &Engine, id: &str, number: usize) -> bool {
    engine.says(id).is_some_and(|said| number_of(said) == number)
}
