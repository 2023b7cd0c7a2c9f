//! An instance, as the program around it sees it.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::api::{Command, Queries, Reply};
use crate::engine::{self, Lifecycle, load_modules};
use crate::machine::ErrorData;
use crate::render::Shown;

use super::{Client, Error, Failure, done, values};

/// What is known of an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// What it runs.
    pub function: String,
    pub lifecycle: Lifecycle,
    /// What it said of itself last by `set_status`.
    pub custom: Json,
}

/// An instance in the store of a runtime. It goes on whether or not somebody has this.
#[derive(Clone)]
pub struct Instance {
    id: String,
    host: Arc<Client>,
}

impl Instance {
    pub(super) fn new(id: &str, host: Arc<Client>) -> Instance {
        Instance { id: id.to_string(), host }
    }

    /// The id by which it is found again.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits for its end, and gives its result.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] or [`Error::Terminated`] when it ended so; [`Error::Conversion`] when its result is no `T`.
    pub fn wait<T: DeserializeOwned>(&self) -> Result<T, Error> {
        pollster::block_on(self.outcome())
    }

    /// As [`Instance::wait`], for `async` code of any runtime.
    ///
    /// # Errors
    ///
    /// As [`Instance::wait`].
    pub async fn outcome<T: DeserializeOwned>(&self) -> Result<T, Error> {
        match self.host.asked(Command::Wait(self.id.clone())).await? {
            Reply::Ended => {}
            reply => done(reply, &self.id)?,
        }
        let record = self.host.record(&self.id)?;
        match &record.status {
            engine::Status::Completed(value) => values::from_data(value),
            engine::Status::Failed(error) => Err(Error::Failed(self.failure(&record, error))),
            engine::Status::Terminated(why) => {
                let why = values::from_data(why).unwrap_or_default();
                Err(Error::Terminated { id: self.id.clone(), why })
            }
            // It was rewound since.
            _ => Err(Error::Refused(format!("{} goes on", self.id))),
        }
    }

    fn failure(&self, record: &engine::InstanceRecord, error: &ErrorData) -> Failure {
        let modules = self.host.modules(record.program).map_err(|error| error.to_string());
        let report = match modules.and_then(|modules| load_modules(record.program, &modules)) {
            Ok(program) => {
                let shown = Shown { colours: false, ..Shown::new(&program.sources, Path::new(&record.file)) };
                shown.error(error)
            }
            Err(_) => error.title(),
        };
        Failure::of(error, report)
    }

    /// What is known of it now.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] when it was removed.
    pub fn status(&self) -> Result<Status, Error> {
        let record = self.host.record(&self.id)?;
        let lifecycle = record.status.lifecycle();
        let custom = record.custom.as_ref().map(values::from_data).transpose()?.unwrap_or_default();
        Ok(Status { function: record.function, lifecycle, custom })
    }

    /// Raises an event, which its `receive(event)` gets, now or when it comes to it.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] when it has ended.
    pub fn raise(&self, event: &str, payload: impl Serialize) -> Result<(), Error> {
        let payload = values::to_data(&payload)?;
        self.tell(Command::Raise { id: self.id.clone(), event: event.to_string(), payload })
    }

    /// Holds it up between two steps.
    ///
    /// # Errors
    ///
    /// As [`Instance::raise`].
    pub fn suspend(&self) -> Result<(), Error> {
        self.tell(Command::Suspend { id: self.id.clone() })
    }

    /// Lets it go on after [`Instance::suspend`].
    ///
    /// # Errors
    ///
    /// As [`Instance::raise`].
    pub fn resume(&self) -> Result<(), Error> {
        self.tell(Command::Resume { id: self.id.clone() })
    }

    /// Ends it and its children. Its locks are released.
    ///
    /// # Errors
    ///
    /// As [`Instance::raise`].
    pub fn terminate(&self, why: impl Serialize) -> Result<(), Error> {
        let why = values::to_data(&why)?;
        self.tell(Command::Terminate { id: self.id.clone(), why, children: true })
    }

    /// After a failure: asks the failed steps again, and goes on. All else that was done stays done.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when it has not failed, or failed by an error that its program threw.
    pub fn rewind(&self) -> Result<(), Error> {
        done(self.host.ask(Command::Rewind { id: self.id.clone(), dry_run: false })?, &self.id)
    }

    /// Removes it and its history; it has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when it has not ended.
    pub fn purge(self) -> Result<(), Error> {
        done(self.host.ask(Command::Purge { ids: vec![self.id.clone()], force: false })?, &self.id)
    }

    fn tell(&self, command: Command) -> Result<(), Error> {
        done(self.host.ask(command)?, &self.id)
    }
}
