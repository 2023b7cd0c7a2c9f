//! Instances, as the embedding program sees them.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::api::{Command, Reply};
use crate::engine::{self, Lifecycle};
use crate::machine::{ErrorData, options};

use super::{Client, Error, Failure, done, values};

/// The state of an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The name of the function that the instance runs.
    pub function: String,
    pub lifecycle: Lifecycle,
    /// The value of the instance's last `set_status`, or null.
    pub custom: Json,
}

/// An instance in the store of a runtime. The instance goes on even if this value is dropped.
#[derive(Clone)]
pub struct Instance {
    id: String,
    host: Arc<Client>,
}

impl Instance {
    pub(super) fn new(id: &str, host: Arc<Client>) -> Instance {
        Instance { id: id.to_string(), host }
    }

    /// Returns the id, by which [`Runtime::instance`](super::Runtime::instance) finds the instance
    /// again.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits for the end of the instance, and returns its result.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] or [`Error::Terminated`] if the instance ended so; [`Error::Conversion`]
    /// if its result is not a `T`.
    pub fn wait<T: DeserializeOwned>(&self) -> Result<T, Error> {
        pollster::block_on(self.outcome())
    }

    /// Does the same as [`Instance::wait`], for `async` code of any runtime.
    ///
    /// # Errors
    ///
    /// The same as for [`Instance::wait`].
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
            // The instance was rewound in the meantime.
            _ => Err(Error::Refused(format!("{} goes on", self.id))),
        }
    }

    fn failure(&self, record: &engine::InstanceRecord, error: &ErrorData) -> Failure {
        self.host.failure(Some(record.program), &record.file, error)
    }

    /// Returns the present state of the instance.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] if the instance was removed.
    pub fn status(&self) -> Result<Status, Error> {
        let record = self.host.record(&self.id)?;
        let lifecycle = record.status.lifecycle();
        let custom = record.custom.as_ref().map(values::from_data).transpose()?.unwrap_or_default();
        Ok(Status { function: record.function, lifecycle, custom })
    }

    /// Raises an event for the instance. Its `receive(event)` takes the event, now or when the
    /// program gets there.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] if the instance has ended.
    pub fn raise(&self, event: &str, payload: impl Serialize) -> Result<(), Error> {
        let payload = values::to_data(&payload)?;
        self.tell(Command::Raise { id: self.id.clone(), event: event.to_string(), payload })
    }

    /// Suspends the instance between two steps.
    ///
    /// # Errors
    ///
    /// The same as for [`Instance::raise`].
    pub fn suspend(&self) -> Result<(), Error> {
        self.tell(Command::Suspend { id: self.id.clone() })
    }

    /// Resumes the instance after [`Instance::suspend`].
    ///
    /// # Errors
    ///
    /// The same as for [`Instance::raise`].
    pub fn resume(&self) -> Result<(), Error> {
        self.tell(Command::Resume { id: self.id.clone() })
    }

    /// Cancels the instance: it gets a `cancelled` error where it waits, cleans up, and ends. If the
    /// clean-up takes longer than `grace`, or 30 seconds without one, the instance is terminated.
    ///
    /// # Errors
    ///
    /// The same as for [`Instance::raise`].
    pub fn cancel(&self, reason: impl Serialize, grace: Option<Duration>) -> Result<(), Error> {
        let reason = values::to_data(&reason)?;
        let nanos = |grace: Duration| i64::try_from(grace.as_nanos()).unwrap_or(i64::MAX);
        let grace = grace.map_or(options::GRACE, nanos);
        self.tell(Command::Cancel { id: self.id.clone(), reason, grace })
    }

    /// Terminates the instance and its children, without a clean-up, and releases its locks.
    ///
    /// # Errors
    ///
    /// The same as for [`Instance::raise`].
    pub fn terminate(&self, why: impl Serialize) -> Result<(), Error> {
        let why = values::to_data(&why)?;
        self.tell(Command::Terminate { id: self.id.clone(), why, children: true })
    }

    /// Rewinds a failed instance: it repeats its failed steps and goes on. All successful steps are
    /// kept.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the instance has not failed, or if its program threw the error itself.
    pub fn rewind(&self) -> Result<(), Error> {
        done(self.host.ask(Command::Rewind { id: self.id.clone(), dry_run: false })?, &self.id)
    }

    /// Removes the instance, which must have ended, and its history.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the instance has not ended.
    pub fn purge(self) -> Result<(), Error> {
        done(self.host.ask(Command::Purge { ids: vec![self.id.clone()], force: false })?, &self.id)
    }

    fn tell(&self, command: Command) -> Result<(), Error> {
        done(self.host.ask(command)?, &self.id)
    }
}
