//! The URLs at which the outside can raise events for instances.
//!
//! Whoever serves HTTP says how a URL is made. The host only knows the instance, the event, and the
//! life of the instance's id.

use std::fmt;
use std::sync::Arc;

use crate::engine::{Address, StepId};
use crate::machine::{Data, ErrorData, Value};

use super::{EffectResult, data};

/// The means to make URLs, if a server can be reached at them.
#[derive(Clone, Default)]
pub struct Callbacks {
    make: Option<Arc<MakeUrl>>,
}

/// Makes the URL of an event, given the id of an instance, its life, and the event's name.
type MakeUrl = dyn Fn(&str, u64, &str) -> String + Send + Sync;

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks").field("are_there", &self.make.is_some()).finish()
    }
}

impl Callbacks {
    /// Returns the means to make URLs by a function, which gets the id of an instance, its life, and
    /// the event's name.
    pub fn new(make: impl Fn(&str, u64, &str) -> String + Send + Sync + 'static) -> Callbacks {
        Callbacks { make: Some(Arc::new(make)) }
    }

    /// Returns the URL that a request asks for.
    pub(super) fn url(&self, step: &StepId, args: &Data) -> EffectResult {
        let (Some(make), Address::Instance(id)) = (&self.make, &step.owner) else {
            return Err(no_server());
        };
        match &args.items()[..] {
            [Value::Str(event)] => data(&Value::str(make(id, step.life, event.as_str()))),
            _ => data(&Value::Null),
        }
    }
}

/// Returns the error that nothing can be reached from the outside.
pub(super) fn no_server() -> ErrorData {
    let message = "the outside can't reach this process, which has no HTTP server: \
                   `durable serve --http ADDRESS` has one";
    ErrorData::new("no_server", message)
}
