//! An instance, as the program around it sees it.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::engine::{self, Message, load_stored};
use crate::host::{Ask, Reply};
use crate::machine::ErrorData;
use crate::render::Shown;

use super::{Client, Error, Failure, done, values};

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    Running,
    /// Held up until somebody resumes it.
    Suspended,
    Completed,
    Failed,
    Terminated,
}

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
        match self.host.asked(Ask::Wait(self.id.clone())).await? {
            Reply::Ended => {}
            reply => done(reply, &self.id)?,
        }
        let record = self.host.recorded(&self.id).await?;
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
        let report = match load_stored(record.program, &*self.host) {
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
        let lifecycle = match record.status {
            engine::Status::Running => Lifecycle::Running,
            engine::Status::Suspended => Lifecycle::Suspended,
            engine::Status::Completed(_) => Lifecycle::Completed,
            engine::Status::Failed(_) => Lifecycle::Failed,
            engine::Status::Terminated(_) => Lifecycle::Terminated,
        };
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
        self.tell(Message::Event { name: event.to_string(), payload })
    }

    /// Holds it up between two steps.
    ///
    /// # Errors
    ///
    /// As [`Instance::raise`].
    pub fn suspend(&self) -> Result<(), Error> {
        self.tell(Message::Suspend)
    }

    /// Lets it go on after [`Instance::suspend`].
    ///
    /// # Errors
    ///
    /// As [`Instance::raise`].
    pub fn resume(&self) -> Result<(), Error> {
        self.tell(Message::Resume)
    }

    /// Ends it and its children. Its locks are released.
    ///
    /// # Errors
    ///
    /// As [`Instance::raise`].
    pub fn terminate(&self, why: impl Serialize) -> Result<(), Error> {
        let why = values::to_data(&why)?;
        self.tell(Message::Terminate { why, children: true, by: None })
    }

    /// After a failure: asks the failed steps again, and goes on. All else that was done stays done.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when it has not failed, or failed by an error that its program threw.
    pub fn rewind(&self) -> Result<(), Error> {
        done(self.host.ask(Ask::Rewind { id: self.id.clone(), dry_run: false })?, &self.id)
    }

    /// Removes it and its history; it has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when it has not ended.
    pub fn purge(self) -> Result<(), Error> {
        done(self.host.ask(Ask::Purge { ids: vec![self.id.clone()], force: false })?, &self.id)
    }

    fn tell(&self, message: Message) -> Result<(), Error> {
        done(self.host.ask(Ask::Instance { id: self.id.clone(), message })?, &self.id)
    }
}
