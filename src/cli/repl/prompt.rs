//! Evaluation of entries: the session's instance, the host that runs it, and the outcome of each
//! entry.

use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::api::{HostSession, Queries};
use crate::check::{self, Program};
use crate::engine::{Cut, Engine, InstanceRecord, SCRIPT, Status, cut, described, read_history};
use crate::host::{self, Above, Handle, Host, HostError, Settings};
use crate::kv::Store;
use crate::machine::natives::prompt::take_failure;
use crate::machine::value::Record;
use crate::machine::{Data, Image, Value};
use crate::os::read_text;
use crate::permissions::Permissions;
use crate::render::{Shown, show};
use crate::store::{DiskStore, Reader};
use crate::syntax::{Diagnostic, Label, Place, Severity};

use super::super::access;
use super::super::problem::{Problem, note};
use super::super::program::{code, image, stored};
use super::super::{FAILED, print};
use super::lifted::MARK;
use super::session::{Came, FILE, Known, Session, Text};

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
    /// The store in use; `None` only while its host is replaced.
    open: Option<HostSession>,
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
        let mut prompt = Prompt {
            open: None,
            id: id.to_string(),
            session: Session::default(),
            interrupter: Interrupter::default(),
            permissions,
            kinds: Vec::new(),
        };
        match known {
            None => {
                let image = prompt.compiled(&prompt.session, &prompt.session.program())?;
                let mut open = prompt.put_to_use(store)?;
                let hash = image.code.hash;
                open.host.add_program(image);
                let args = Data::encode(&Value::list(vec![Value::list(Vec::new())])).unwrap_or_default();
                open.host.begin(InstanceRecord::new(id, hash, FILE, SCRIPT, args, host::now()));
                prompt.open = Some(open);
                prompt.settle(0)?;
            }
            Some(known) => {
                let text = stored(&store, known.program, id, &known.file)?.code.sources.files[0].text.clone();
                let session = Session::read(&text).filter(|_| known.file == FILE);
                prompt.session = session.ok_or_else(|| {
                    Problem::new(FAILED, format!("`{id}` is an instance, but no session of the prompt"))
                        .hint("give another name after `--session`")
                })?;
                if known.status.is_ended() {
                    return Err(Problem::new(FAILED, format!("session `{id}` has ended"))
                        .hint(format!("`durable purge {id}` removes it; then the name is free")));
                }
                let mut open = prompt.put_to_use(store)?;
                open.host.watch(id);
                prompt.open = Some(open);
                let number = prompt.session.evaluated();
                let told = known.custom.as_ref().is_some_and(|said| number_of(said) == number);
                if told || prompt.session.only_declares() {
                    prompt.settle(number)?;
                    prompt.recall(number)?;
                } else {
                    note("going on with the last entry");
                    prompt.finish(number)?;
                }
            }
        }
        Ok(prompt)
    }

    fn put_to_use(&self, store: DiskStore) -> Result<HostSession, Problem> {
        let settings = Settings { stays: true, permissions: self.permissions.clone(), ..Settings::default() };
        let mut open = HostSession::open(store, settings, Some(&self.id))?;
        open.host.terminal.shows_no_progress();
        // Without the listener, other processes cannot look at the store; the session loses
        // nothing.
        open.listen().ok();
        self.interrupter.of(&open.host);
        Ok(open)
    }

    fn running(&mut self) -> Result<&mut Host, Problem> {
        let open = self.open.as_mut().map(|open| &mut open.host);
        open.ok_or_else(|| Problem::new(FAILED, "the session is closed"))
    }

    /// Returns the store, for commands that read it.
    pub fn store(&self) -> Option<&Reader> {
        self.open.as_ref().map(|open| open.host.store())
    }

    /// Closes the session's store; the session can be continued later.
    pub fn close(self) -> Result<(), Problem> {
        match self.open {
            Some(open) => Ok(open.close()?),
            None => Ok(()),
        }
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
        if let Some(open) = &mut self.open {
            open.host.terminal.writes_above(above);
        }
    }

    /// Returns the host's handle, for the reader's thread.
    pub fn handle(&self) -> Option<Handle> {
        self.open.as_ref().map(|open| open.host.handle())
    }

    /// Returns the names of the session, with their kinds and fields as far as known.
    pub fn known(&self) -> Vec<Known> {
        let of = |name: String| {
            let known = self.kinds.iter().find(|known| known.0 == name);
            known.cloned().unwrap_or((name, String::new(), Vec::new()))
        };
        self.session.names().into_iter().map(of).collect()
    }

    /// Runs the session and everything else in the store until `read` returns something.
    pub fn wait_for<T>(&mut self, read: &mut dyn FnMut() -> Option<T>) -> Result<T, Problem> {
        let mut found = read();
        while found.is_none() {
            let host = self.running()?;
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
            Problem::new(FAILED, "tests, mocks and properties have no place at the prompt")
                .hint("write them into a file, for `durable test` and `durable explore`")
                .show();
            return Ok(Evaluated::Refused);
        }
        let text = next.program();
        let Ok(image) = self.compiled(&next, &text) else { return Ok(Evaluated::Refused) };
        let number = next.evaluated();
        let id = self.id.clone();
        let only_declares = next.only_declares();
        let event = (!only_declares).then(|| format!("entry-{number}"));
        self.rest()?;
        if let Err(reason) = self.running()?.extend(&id, &image, event.as_deref())? {
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
        self.running()?.run_until(&mut |engine| says(engine, &id, number) || engine.is_gone(&id))?;
        self.rest()
    }

    /// Runs until the session has consumed all that arrived for it; returns false if it has ended.
    fn rest(&mut self) -> Result<bool, Problem> {
        let id = self.id.clone();
        let is_so = &mut |engine: &Engine| engine.is_waiting(&id) || engine.is_gone(&id);
        self.running()?.run_until(is_so)?;
        Ok(!self.running()?.is_gone(&id))
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
        match self.running()?.run_until(&mut |engine| done(engine)) {
            Ok(()) => return self.settle(number).map(Some),
            Err(HostError::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
        self.running()?.raise(&id, &format!("interrupt-{number}"));
        let began = Instant::now();
        let late = || began.elapsed() > PATIENCE;
        match self.running()?.run_until(&mut |engine| done(engine) || late()) {
            Ok(()) | Err(HostError::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
        if self.running()?.says(&id).is_some_and(|said| number_of(said) == number) {
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
        let Some(said) = self.said(number)? else { return Ok(Evaluated::Done) };
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
    fn recall(&mut self, number: usize) -> Result<(), Problem> {
        match self.said(number)? {
            _ if self.session.only_declares() => self.came(Came::Done),
            Some(said) => self.take_in(&said),
            None => {}
        }
        Ok(())
    }

    /// Returns the session's report about an entry, or `None` if it has made none.
    fn said(&mut self, number: usize) -> Result<Option<Rc<Record>>, Problem> {
        let id = self.id.clone();
        let said = self.running()?.says(&id).filter(|said| number_of(said) == number).map(Data::decode);
        Ok(match said {
            Some(Value::Record(said)) => Some(said),
            _ => None,
        })
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
            if let Err(reason) = self.running()?.extend(&id, &image, None)? {
                return Err(Problem::new(FAILED, reason));
            }
            self.session = earlier;
            self.settle(number)?;
            return Ok(Vec::new());
        }
        let Some(mut open) = self.open.take() else {
            return Err(Problem::new(FAILED, "the session is closed"));
        };
        let terminal = std::mem::take(&mut open.host.terminal);
        let mut store = open.into_store();
        let taken = taken_back(&store, &id, &image, number);
        let dropped = match taken {
            Ok(Cut { mut batch, dropped }) => {
                crate::engine::program_writes(image.code.hash, &image.code.sources, &mut batch);
                store.commit(&batch)?;
                store.flush()?;
                self.session = earlier;
                Ok(dropped.iter().map(described).collect())
            }
            Err(reason) => Err(Problem::new(FAILED, format!("the entry can't be taken back: {reason}"))),
        };
        let mut open = self.put_to_use(store)?;
        open.host.terminal = terminal;
        open.host.watch(&id);
        self.open = Some(open);
        let waits = self.session.evaluated();
        self.settle(waits)?;
        dropped
    }

    /// Executes `:undo`.
    pub fn undo(&mut self) -> Result<(), Problem> {
        let dropped = self.take_back()?;
        note("the last entry is taken back");
        list_dropped(&dropped)
    }
}

fn taken_back(store: &DiskStore, id: &str, image: &Image, number: usize) -> Result<Cut, String> {
    let record =
        crate::engine::read_record(store, id)?.ok_or_else(|| format!("there is no instance `{id}`"))?;
    if record.status != Status::Running {
        return Err(format!("it is {}", record.status.word()));
    }
    let history = read_history(store, &record)?;
    let said = Value::record([("entry", Value::Int(number as i64 - 1))]);
    let custom = Some(Data::encode(&said).unwrap_or_default());
    let earlier = InstanceRecord { program: image.code.hash, custom, ..record.clone() };
    cut(&record, &history, &format!("entry-{number}"), earlier)
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
