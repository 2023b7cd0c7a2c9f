//! Durable programs within a Rust program.
//!
//! Invariant: a [`Runtime`] is a client of a host on a thread of its own, like a process that asks over the socket.
//! What a call returns is durable. Values cross as JSON, as `json.encode` writes it: what the one side's type can't
//! hold is an error there, and nothing is lost.

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

use crate::api::{Answer, Command, Listener, Queries, Query, QueryError, Reply, Starting, answer};
use crate::engine::query::InstanceFilter;
use crate::engine::{InstanceRecord, Retention, SCRIPT};
use crate::host::externs::Externs;
use crate::host::{self, Handle, Host, HostError, Reads, Settings, unique};
use crate::machine::{self, IfExists, bad_own_id};
use crate::permissions::Permissions;
use crate::store;

pub use crate::engine::Lifecycle;
pub use activity::{Activity, AsyncActivity, idempotency_key};
pub use error::{Error, Failure};
pub use instance::{Instance, Status};
pub use program::Program;

/// The stack of the host's thread: the machine doesn't recurse, but values are dropped a hundred levels deep.
const STACK_BYTES: usize = 8 << 20;

/// What a runtime is made of, before it is opened.
#[derive(Default)]
pub struct Builder {
    externs: Externs,
    retention: Retention,
    permissions: Permissions,
}

impl Builder {
    /// Provides the function behind `extern activity name(…)`. It may block. Its arguments are read, and its result is
    /// written, by serde. It runs at least once for each call; what it gives is journaled.
    pub fn activity<Args>(mut self, name: &str, function: impl Activity<Args>) -> Builder {
        self.externs.add(name, activity::blocking(function));
        self
    }

    /// As [`Builder::activity`], with an `async` function. It runs on threads of tokio's.
    pub fn async_activity<Args>(mut self, name: &str, function: impl AsyncActivity<Args>) -> Builder {
        self.externs.add(name, activity::asynchronous(function));
        self
    }

    /// What is kept of histories before their checkpoints; all of it, unless said otherwise.
    pub fn retention(mut self, retention: Retention) -> Builder {
        self.retention = retention;
        self
    }

    /// What programs may do outside by themselves; all, unless said otherwise.
    pub fn permissions(mut self, permissions: Permissions) -> Builder {
        self.permissions = permissions;
        self
    }

    /// Opens the store in a folder, which is made if it isn't there, and goes on with what is unfinished in it.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the store can't be opened: another process has it, or it is damaged.
    pub fn open(self, folder: impl AsRef<Path>) -> Result<Runtime, Error> {
        let folder = folder.as_ref().to_path_buf();
        let settings = Settings {
            stays: true,
            quiet: true,
            retention: self.retention,
            permissions: self.permissions,
            externs: Arc::new(self.externs),
            ..Settings::default()
        };
        let externs = settings.externs.clone();
        let why = Arc::new(Mutex::new(None));
        let (ready, opened) = channel::<(Handle, Reads)>();
        let told = why.clone();
        let serve = move || {
            let result = serve(&folder, settings, |handle| {
                let _ = ready.send(handle);
            });
            if let (Err(error), Ok(mut why)) = (result, told.lock()) {
                *why = Some(error);
            }
        };
        let started = thread::Builder::new().name("durable".into()).stack_size(STACK_BYTES).spawn(serve);
        let thread = started.map_err(|error| Error::Store(crate::os::reason(&error)))?;
        match opened.recv() {
            Ok(handle) => {
                let (handle, reads) = handle;
                Ok(Runtime { host: Arc::new(Client { handle, reads, why }), externs, thread: Some(thread) })
            }
            Err(_) => {
                let _ = thread.join();
                let why = why.lock().ok().and_then(|mut why| why.take());
                Err(why.unwrap_or_else(|| Error::Stopped("the thread of the runtime ended".into())))
            }
        }
    }
}

/// Opens a store and works on it until it is stopped.
fn serve(folder: &Path, settings: Settings, ready: impl FnOnce((Handle, Reads))) -> Result<(), Error> {
    let store = store::open(folder)?;
    let mut host = Host::new(store, settings);
    host.recover(None)?;
    // Without it the command line can't look at this store while it is in use; nothing else is missing.
    let listener = Listener::open(folder, &host).ok();
    ready((host.handle(), host.reads()));
    let result = match host.run() {
        Err(HostError::Interrupted) => Ok(()),
        result => result,
    };
    // The socket goes before the store: the next process that has that has a socket of its own.
    drop(listener);
    let closed = host.into_store().close();
    result?;
    Ok(closed?)
}

/// A store with the programs that run in it, on a thread of its own. While it is there, what is unfinished goes on;
/// after it is dropped or the process was killed, the next one that opens the store goes on with it.
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
    /// A runtime to be furnished and opened.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Opens a store for programs without activities in Rust.
    ///
    /// # Errors
    ///
    /// As [`Builder::open`].
    pub fn open(folder: impl AsRef<Path>) -> Result<Runtime, Error> {
        Runtime::builder().open(folder)
    }

    /// Loads the program in a file, with what it imports.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with all mistakes, each with its place, when it has some or can't be read.
    pub fn load(&self, file: impl AsRef<Path>) -> Result<Program, Error> {
        Program::load(file.as_ref(), &self.externs)
    }

    /// As [`Runtime::load`], of a text; `name` is what its file is called in messages.
    ///
    /// # Errors
    ///
    /// As [`Runtime::load`].
    pub fn compile(&self, name: &str, text: &str) -> Result<Program, Error> {
        Program::compile(name, text, &self.externs)
    }

    /// Begins an instance of an orchestration, under an id that no other one has. It is durable when this returns.
    /// `args` is a tuple of the arguments, or whatever serde writes as a list.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the program has no such orchestration, or one of other arguments.
    pub fn start(
        &self,
        program: &Program,
        orchestration: &str,
        args: impl Serialize,
    ) -> Result<Instance, Error> {
        let name = orchestration.rsplit(':').next().unwrap_or(orchestration);
        self.start_as(&format!("{name}-{}", unique()), program, orchestration, args)
    }

    /// As [`Runtime::start`], under a given id. When there is an instance of that id already, that is the one: so a
    /// request that comes twice is done once.
    ///
    /// # Errors
    ///
    /// As [`Runtime::start`]; [`Error::Invalid`] also when an id can't be this one, which has no spaces and no `:`; and
    /// [`Error::IdTaken`] when the id is that of another orchestration, or of other arguments.
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

    /// Begins an instance of a program's script, which finds `args` under that name.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when `args` are no data.
    pub fn run(&self, program: &Program, args: impl Serialize) -> Result<Instance, Error> {
        let stem = program.file().rsplit('/').next().unwrap_or(SCRIPT).trim_end_matches(".df");
        self.start_as(&format!("{stem}-{}", unique()), program, SCRIPT, (args,))
    }

    /// The instance of an id.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] when there is none.
    pub fn instance(&self, id: &str) -> Result<Instance, Error> {
        self.host.record(id)?;
        Ok(Instance::new(id, self.host.clone()))
    }

    /// The instances whose ids begin with `prefix`, by id.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the store can't be read.
    pub fn instances(&self, prefix: &str) -> Result<Vec<Instance>, Error> {
        let filter = InstanceFilter { prefix: prefix.to_string(), ..InstanceFilter::default() };
        let mut all = Vec::new();
        self.host.each_instances(&filter, &mut |page, _| {
            all.extend(page.iter().map(|record| Instance::new(&record.id, self.host.clone())));
            true
        })?;
        Ok(all)
    }

    /// Sends an entity an operation whose result nobody waits for. It arrives once, after those that were sent before.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] when no program that was started in this store declares such an entity.
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

    /// The state of an entity; none when it has its initial one.
    ///
    /// # Errors
    ///
    /// [`Error::Conversion`] when the state is no `T`.
    pub fn state<T: DeserializeOwned>(&self, entity: &str, key: impl Serialize) -> Result<Option<T>, Error> {
        let entity = values::entity(entity, &key)?;
        let state = self.host.entity(&entity)?.and_then(|view| view.state);
        state.as_ref().map(values::from_data).transpose()
    }

    /// Stops between two steps, and closes the store. What is unfinished goes on when it is opened again. Dropping the
    /// runtime does the same, without saying what went wrong.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the store could not be written, now or before.
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

/// The host, for those who ask it.
pub(crate) struct Client {
    handle: Handle,
    reads: Reads,
    /// Why the host has ended.
    why: Arc<Mutex<Option<Error>>>,
}

impl Client {
    /// Has a command carried out, in threads of an async runtime too.
    fn ask(&self, command: Command) -> Result<Reply, Error> {
        pollster::block_on(self.asked(command))
    }

    /// Has a command carried out.
    async fn asked(&self, command: Command) -> Result<Reply, Error> {
        self.handle.ask(command).await.map_err(|_| self.stopped())
    }

    fn stopped(&self) -> Error {
        let why = self.why.lock().ok().and_then(|why| why.as_ref().map(ToString::to_string));
        Error::Stopped(why.unwrap_or_else(|| "it was closed".into()))
    }

    /// The record of an instance.
    fn record(&self, id: &str) -> Result<InstanceRecord, Error> {
        self.instance(id)?.ok_or_else(|| Error::Unknown(id.to_string()))
    }
}

impl Queries for Client {
    fn query(&self, query: Query) -> Result<Answer, QueryError> {
        let answer = self.reads.ask(|store| answer(store, &query));
        answer.map_err(|_| QueryError::Lost(self.stopped().to_string()))
    }
}

/// What a reply about `what` says other than that it is done.
fn done(reply: Reply, what: &str) -> Result<(), Error> {
    match reply {
        Reply::Unknown => Err(Error::Unknown(what.to_string())),
        Reply::Ended => Err(Error::Ended(what.to_string())),
        Reply::Refused(reason) => Err(Error::Refused(reason)),
        _ => Ok(()),
    }
}
