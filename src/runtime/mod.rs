//! Durable programs within a Rust program.
//!
//! Invariant: a [`Runtime`] is a client of a host on a thread of its own, like a process that uses
//! the socket. The effect of a call is durable when the call returns. Values cross as JSON, as
//! `json.encode` writes it. A value that does not fit the type on the other side is an error there,
//! so nothing is lost silently.

mod activity;
mod error;
mod instance;
mod program;
mod values;

use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{Answer, Command, HostSession, Queries, Query, QueryError, Reply, Starting, answered};
use crate::code::ProgramHash;
use crate::engine::query::InstanceFilter;
use crate::engine::{InstanceRecord, Retention, SCRIPT, load_modules};
use crate::host::externs::Externs;
use crate::host::{self, Callbacks, Handle, Reads, Settings, unique};
use crate::http::{self, Options, Service};
use crate::kv::{Cause, MemoryStore, SharedStore, StoreError};
use crate::machine::{self, ErrorData, IfExists, bad_own_id};
use crate::permissions::Permissions;
use crate::render::Shown;
use crate::store;

pub use crate::engine::Lifecycle;
pub use activity::{Activity, AsyncActivity, idempotency_key};
pub use error::{Error, Failure};
pub use instance::{Instance, Status};
pub use program::Program;

/// The stack of the host's thread in bytes. The machine does not recurse, but dropping a value may
/// recurse a hundred levels deep.
const STACK_BYTES: usize = 8 << 20;

/// A function that opens a store.
trait Opener: FnOnce() -> Result<Box<dyn SharedStore>, StoreError> + Send + 'static {}

impl<F: FnOnce() -> Result<Box<dyn SharedStore>, StoreError> + Send + 'static> Opener for F {}

/// The settings of a runtime that is not open yet.
#[derive(Default)]
pub struct Builder {
    externs: Externs,
    retention: Retention,
    keep_operations: Option<bool>,
    permissions: Permissions,
    callbacks: Callbacks,
}

impl Builder {
    /// Provides the function behind `extern activity name(…)`. The function may block. Serde reads
    /// its arguments and writes its result. The function runs at least once for each call, and its
    /// result is recorded in the journal.
    pub fn activity<Args>(mut self, name: &str, function: impl Activity<Args>) -> Builder {
        self.externs.add(name, activity::blocking(function));
        self
    }

    /// Does the same as [`Builder::activity`], with an `async` function, which runs on tokio's
    /// threads.
    pub fn async_activity<Args>(mut self, name: &str, function: impl AsyncActivity<Args>) -> Builder {
        self.externs.add(name, activity::asynchronous(function));
        self
    }

    /// Sets the part of histories before checkpoints that is kept. The default is all of it.
    pub fn retention(mut self, retention: Retention) -> Builder {
        self.retention = retention;
        self
    }

    /// Sets whether the operations of entities are kept from now on, for their history and for the
    /// debugger. The store remembers the choice; a new store keeps none.
    pub fn keep_operations(mut self, keep: bool) -> Builder {
        self.keep_operations = Some(keep);
        self
    }

    /// Sets the permissions for what programs do outside by themselves. By default, everything is
    /// allowed.
    pub fn permissions(mut self, permissions: Permissions) -> Builder {
        self.permissions = permissions;
        self
    }

    /// Lets `callback_url` give URLs below this one, such as `https://jobs.example`, where the
    /// application serves [`Runtime::router`] with these keys.
    pub fn callbacks(mut self, url: &str, keys: &http::Keys) -> Builder {
        self.callbacks = http::callbacks(url, keys.clone());
        self
    }

    /// Opens the store in a folder, and resumes its unfinished instances. The folder is made if
    /// there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if the store can't be opened, because another process has it or because it
    /// is damaged; the [`StoreError`](crate::StoreError) tells these apart.
    pub fn open(self, folder: impl AsRef<Path>) -> Result<Runtime, Error> {
        let folder = folder.as_ref().to_path_buf();
        self.open_by(move || Ok(Box::new(store::open(&folder)?)))
    }

    /// Opens an empty store in memory, for tests. Everything in the store is gone when the runtime
    /// ends, and other processes can't reach it.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] if the system gives no thread.
    pub fn in_memory(self) -> Result<Runtime, Error> {
        self.open_by(|| Ok(Box::new(MemoryStore::default())))
    }

    /// Opens a store by a function, which runs on the thread of the host.
    fn open_by(self, open: impl Opener) -> Result<Runtime, Error> {
        let settings = Settings {
            stays: true,
            quiet: true,
            retention: self.retention,
            keep_operations: self.keep_operations,
            permissions: self.permissions,
            externs: Arc::new(self.externs),
            callbacks: self.callbacks,
            ..Settings::default()
        };
        let externs = settings.externs.clone();
        let why = Arc::new(Mutex::new(None));
        let (ready, opened) = channel::<(Handle, Reads)>();
        let told = why.clone();
        let serve = move || {
            let result = serve(open, settings, |handle| {
                let _ = ready.send(handle);
            });
            if let (Err(error), Ok(mut why)) = (result, told.lock()) {
                *why = Some(error);
            }
        };
        let started = thread::Builder::new().name("durable".into()).stack_size(STACK_BYTES).spawn(serve);
        let thread = started.map_err(Error::stopped)?;
        match opened.recv() {
            Ok(handle) => {
                let (handle, reads) = handle;
                Ok(Runtime { host: Arc::new(Client { handle, reads, why }), externs, thread: Some(thread) })
            }
            Err(_) => {
                let _ = thread.join();
                let why = why.lock().ok().and_then(|mut why| why.take());
                Err(why.unwrap_or_else(|| Error::stopped("the thread of the runtime ended")))
            }
        }
    }
}

/// Opens a store, and works on it until the host is stopped.
fn serve(open: impl Opener, settings: Settings, ready: impl FnOnce((Handle, Reads))) -> Result<(), Error> {
    let mut session = HostSession::open(open()?, settings, None)?;
    // Without the listener, the command line can't look at the store while it is in use; everything
    // else works.
    session.listen().ok();
    ready((session.host.handle(), session.host.reads()));
    let ran = session.run();
    let closed = session.close();
    ran?;
    Ok(closed?)
}

/// A store with the programs that run in it, on a thread of its own. Unfinished instances go on
/// while the runtime exists. After the runtime is dropped or its process is killed, they go on when
/// the store is opened again.
///
/// ```
/// use durable::{Failure, Runtime};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Order {
///     item: String,
///     price: i64,
/// }
///
/// fn charge(order: Order) -> Result<String, Failure> {
///     if order.price > 100 {
///         return Err(Failure::new("declined", "too dear").with("limit", 100));
///     }
///     Ok(format!("receipt for {}", order.item))
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let store = folder.path().join("shop");
/// let runtime = Runtime::builder().activity("charge", charge).open(store)?;
/// let shop = runtime.compile(
///     "shop.df",
///     r#"
///     extern activity charge(order)
///     orchestration buy(order) {
///       let receipt = charge(order)
///       sleep(1ms)
///       {item: order.item, receipt}
///     }
///     "#,
/// )?;
/// let order = Order { item: "lamp".into(), price: 40 };
/// let bought: serde_json::Value = runtime.start(&shop, "buy", (order,))?.wait()?;
/// assert_eq!(bought["receipt"], "receipt for lamp");
/// # Ok(())
/// # }
/// ```
pub struct Runtime {
    host: Arc<Client>,
    externs: Arc<Externs>,
    thread: Option<JoinHandle<()>>,
}

impl Runtime {
    /// Returns a builder, which takes activities and settings before it opens a store.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Opens a store for programs without activities in Rust.
    ///
    /// # Errors
    ///
    /// The same as for [`Builder::open`].
    pub fn open(folder: impl AsRef<Path>) -> Result<Runtime, Error> {
        Runtime::builder().open(folder)
    }

    /// Returns the routes of the HTTP server with its page, for an application with axum. The
    /// routes begin at `/`, `/api/v1`, `/page`, `/metrics`, `/healthz`, `/readyz` and
    /// `/runtime/webhooks/durabletask`.
    pub fn router(&self, options: Options) -> axum::Router {
        let Client { handle, reads, .. } = &*self.host;
        http::router(Service::new(handle.clone(), reads.clone(), options))
    }

    /// Loads the program in a file, with the modules that it imports.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the file can't be read, if the program has mistakes, or if one of its
    /// external activities is not provided. The error lists all mistakes with their places.
    pub fn load(&self, file: impl AsRef<Path>) -> Result<Program, Error> {
        Program::load(file.as_ref(), &self.externs)
    }

    /// Compiles a program from a text. `name` is the name of its file in messages. The program
    /// can't import files.
    ///
    /// # Errors
    ///
    /// The same as for [`Runtime::load`].
    pub fn compile(&self, name: &str, text: &str) -> Result<Program, Error> {
        Program::compile(name, text, &self.externs)
    }

    /// Starts an instance of an orchestration under a new unique id. The instance is durable when
    /// this function returns. `args` is a tuple of the arguments, or any value that serde writes as
    /// a list.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the program has no such orchestration, or if the number of arguments
    /// is wrong; [`Error::Conversion`] if `args` can't be a list of data.
    pub fn start(
        &self,
        program: &Program,
        orchestration: &str,
        args: impl Serialize,
    ) -> Result<Instance, Error> {
        let name = orchestration.rsplit(':').next().unwrap_or(orchestration);
        self.start_as(&format!("{name}-{}", unique()), program, orchestration, args)
    }

    /// Starts an instance like [`Runtime::start`], under a given id. If there is already an
    /// instance with this id, returns that instance, so a repeated request is carried out once.
    ///
    /// # Errors
    ///
    /// The same as for [`Runtime::start`]. Also [`Error::Invalid`] if `id` can't be an id, for
    /// example because it contains a space or a `:`; and [`Error::IdTaken`] if the id belongs to an
    /// instance of another orchestration or with other arguments.
    pub fn start_as(
        &self,
        id: &str,
        program: &Program,
        orchestration: &str,
        args: impl Serialize,
    ) -> Result<Instance, Error> {
        if let Some(reason) = bad_own_id(id) {
            return Err(Error::Invalid(format!("`{id}` can't be an id: {reason}")));
        }
        let args = values::arguments(&args)?;
        program.accepts(orchestration, args.items().len())?;
        let record =
            InstanceRecord::new(id, program.hash(), program.file(), orchestration, args, host::now());
        let (modules, if_exists) = (program.modules(), IfExists::Join);
        match self.host.ask(Command::Start(Box::new(Starting { record, modules, named: None, if_exists })))? {
            Reply::Taken { error, function } => {
                let message = machine::error::message(&error.value.decode());
                return Err(Error::IdTaken { id: id.to_string(), function, message });
            }
            reply => done(reply, id)?,
        }
        Ok(Instance::new(id, self.host.clone()))
    }

    /// Starts an instance of a program's script, which gets `args` under that name.
    ///
    /// # Errors
    ///
    /// [`Error::Conversion`] if `args` can't be data; [`Error::Invalid`] if the name of the
    /// program's file can't be part of an id.
    pub fn run(&self, program: &Program, args: impl Serialize) -> Result<Instance, Error> {
        let stem = program.file().rsplit('/').next().unwrap_or(SCRIPT).trim_end_matches(".df");
        self.start_as(&format!("{stem}-{}", unique()), program, SCRIPT, (args,))
    }

    /// Returns the instance with an id.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] if there is no such instance.
    pub fn instance(&self, id: &str) -> Result<Instance, Error> {
        self.host.record(id)?;
        Ok(Instance::new(id, self.host.clone()))
    }

    /// Returns the instances whose ids begin with `prefix`, in the order of their ids.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if the store can't be read.
    pub fn instances(&self, prefix: &str) -> Result<Vec<Instance>, Error> {
        let filter = InstanceFilter { prefix: prefix.to_string(), ..InstanceFilter::default() };
        let mut all = Vec::new();
        self.host.each_instances(&filter, &mut |page, _| {
            all.extend(page.iter().map(|record| Instance::new(&record.id, self.host.clone())));
            true
        })?;
        Ok(all)
    }

    /// Sends an entity a signal: the entity runs the operation, and nobody waits for the result.
    /// Signals arrive once, in the order in which they were sent.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] if no program that was started in this store declares such an entity.
    pub fn signal(
        &self,
        entity: &str,
        key: impl Serialize,
        operation: &str,
        args: impl Serialize,
    ) -> Result<(), Error> {
        let entity = values::entity(entity, &key)?;
        let what = entity.to_string();
        let args = values::arguments(&args)?;
        let operation = operation.to_string();
        done(self.host.ask(Command::Signal { entity, operation, args, after: None })?, &what)
    }

    /// Calls an operation of an entity, and returns its answer. The call happens once, in the order
    /// of the messages to the entity, and after a critical section that holds it. If the process
    /// dies before this function returns, the operation may still happen.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if the operation throws, which undoes its changes; [`Error::Unknown`] if no
    /// program that was started in this store declares such an entity; [`Error::Conversion`] if the
    /// answer is not a `T`.
    pub fn call_entity<T: DeserializeOwned>(
        &self,
        entity: &str,
        key: impl Serialize,
        operation: &str,
        args: impl Serialize,
    ) -> Result<T, Error> {
        self.call_entity_as(&format!("call-{}", unique()), entity, key, operation, args)
    }

    /// Calls an operation like [`Runtime::call_entity`], under a given id. A repeated call with the
    /// same id joins the first one and has its answer, also in another process, for as long as the
    /// store keeps the answer: until 4,096 later ones have come, or 64 MiB of them.
    ///
    /// # Errors
    ///
    /// The same as for [`Runtime::call_entity`]. Also [`Error::Refused`] if `id` can't be an id, and
    /// [`Error::IdTaken`] if the id belongs to another call.
    pub fn call_entity_as<T: DeserializeOwned>(
        &self,
        id: &str,
        entity: &str,
        key: impl Serialize,
        operation: &str,
        args: impl Serialize,
    ) -> Result<T, Error> {
        let entity = values::entity(entity, &key)?;
        let what = entity.to_string();
        let (args, operation, id) = (values::arguments(&args)?, operation.to_string(), id.to_string());
        let call = Command::Call { id: id.clone(), entity, operation, args, timeout: None };
        match self.host.ask(call)? {
            Reply::Answered(Ok(value)) => values::from_data(&value),
            Reply::Answered(Err(error)) => {
                let program = self.host.program_of(&error)?;
                Err(Error::Failed(self.host.failure(program, "", &error)))
            }
            Reply::Taken { error, function } => {
                Err(Error::IdTaken { id, function, message: machine::error::message(&error.value.decode()) })
            }
            Reply::Unanswered => Err(Error::Refused(format!("{what} has not answered"))),
            reply => {
                done(reply, &what)?;
                Err(Error::Refused(format!("{what} was not called")))
            }
        }
    }

    /// Returns the state of an entity, or `None` if the entity still has its initial state.
    ///
    /// # Errors
    ///
    /// [`Error::Conversion`] if the state is not a `T`.
    pub fn state<T: DeserializeOwned>(&self, entity: &str, key: impl Serialize) -> Result<Option<T>, Error> {
        let entity = values::entity(entity, &key)?;
        let state = self.host.entity(&entity)?.and_then(|view| view.state);
        state.as_ref().map(values::from_data).transpose()
    }

    /// Stops between two steps, and closes the store. Unfinished instances go on when the store is
    /// opened again. Dropping the runtime does the same, but does not report errors.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if the store can't be written, or could not be written before.
    pub fn close(mut self) -> Result<(), Error> {
        self.stop();
        let why = self.host.why.lock().ok().and_then(|mut why| why.take());
        why.map_or(Ok(()), Err)
    }

    fn stop(&mut self) {
        self.host.handle.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The runtime's connection to its host.
pub(crate) struct Client {
    handle: Handle,
    reads: Reads,
    /// The reason why the host has ended.
    why: Arc<Mutex<Option<Error>>>,
}

impl Client {
    /// Sends a command and waits for the reply. Also works on threads of an async runtime.
    fn ask(&self, command: Command) -> Result<Reply, Error> {
        pollster::block_on(self.asked(command))
    }

    /// Sends a command and returns its reply.
    async fn asked(&self, command: Command) -> Result<Reply, Error> {
        self.handle.ask(command).await.map_err(|_| self.stopped())
    }

    /// Returns the failure for an error. Its report shows the place if the program is known; an
    /// empty `file` stands for the program's own name.
    fn failure(&self, program: Option<ProgramHash>, file: &str, error: &ErrorData) -> Failure {
        let modules = |hash| self.modules(hash).map_err(|error| error.to_string());
        let load = |hash| modules(hash).and_then(|modules| load_modules(hash, &modules)).ok();
        let report = match program.and_then(load) {
            Some(program) => {
                let name = program.sources.files.first().map_or("", |file| file.name.as_str());
                let file = if file.is_empty() { name } else { file };
                let shown = Shown { colours: false, ..Shown::new(&program.sources, Path::new(file)) };
                shown.error(error)
            }
            None => error.title(),
        };
        Failure::of(error, report)
    }

    fn stopped(&self) -> Error {
        Error::Stopped { source: self.why() }
    }

    /// Returns the reason why the host has ended.
    fn why(&self) -> Cause {
        let why = self.why.lock().ok().and_then(|why| why.clone());
        why.map_or_else(|| Cause::new("it was closed"), Cause::new)
    }

    /// Returns the record of an instance.
    fn record(&self, id: &str) -> Result<InstanceRecord, Error> {
        self.instance(id)?.ok_or_else(|| Error::Unknown(id.to_string()))
    }
}

impl Queries for Client {
    fn query(&self, query: Query) -> Result<Answer, QueryError> {
        let answer = self.reads.ask(|store| answered(store, &query));
        Ok(answer.map_err(|_| QueryError::Lost { source: self.why() })??)
    }
}

/// Returns an error if a reply about `what` says anything but success.
fn done(reply: Reply, what: &str) -> Result<(), Error> {
    match reply {
        Reply::Unknown => Err(Error::Unknown(what.to_string())),
        Reply::Ended => Err(Error::Ended(what.to_string())),
        Reply::Refused(reason) => Err(Error::Refused(reason)),
        _ => Ok(()),
    }
}
