//! The functions behind `extern activity`, which the surrounding process provides.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tokio::task::JoinSet;
use tracing::{Instrument, Span};

use crate::machine::{Data, ErrorData, Value};

use super::EffectResult;

/// A call of an `extern activity`.
#[derive(Clone, Debug)]
pub struct ExternCall {
    /// The arguments, as a list.
    pub args: Data,
    /// The key by which an external system recognises a repetition of the call.
    pub key: String,
}

/// A call in progress.
pub type Doing = Pin<Box<dyn Future<Output = Result<Data, ErrorData>> + Send>>;

/// The function behind an `extern activity`.
#[derive(Clone)]
pub enum Extern {
    /// A function that runs on a thread of its own, which it may block.
    Blocking(Arc<dyn Fn(ExternCall) -> Result<Data, ErrorData> + Send + Sync>),
    Async(Arc<dyn Fn(ExternCall) -> Doing + Send + Sync>),
}

/// The provided functions, by name.
#[derive(Default)]
pub struct Externs(HashMap<String, Extern>);

impl Externs {
    /// Provides an activity. This replaces an earlier function of that name.
    pub fn add(&mut self, name: &str, provided: Extern) {
        self.0.insert(name.to_string(), provided);
    }

    pub fn find(&self, name: &str) -> Option<&Extern> {
        self.0.get(name)
    }
}

impl fmt::Debug for Externs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Reads the arguments of the effect: the name of the activity, and the call.
pub(crate) fn prepare(args: &Data) -> Option<(String, ExternCall)> {
    match &args.items()[..] {
        [Value::Str(name), list, Value::Str(key)] => {
            let args = Data::encode(list).ok()?;
            Some((name.as_str().to_string(), ExternCall { args, key: key.as_str().to_string() }))
        }
        _ => None,
    }
}

/// Executes a call, with its own spans within the given one. A panic becomes an error of the call.
/// Dropping the future aborts an async call where it waits.
pub(crate) async fn run(name: String, provided: Extern, call: ExternCall, span: Span) -> EffectResult {
    let mut doing = JoinSet::new();
    match provided {
        Extern::Blocking(function) => doing.spawn_blocking(move || span.in_scope(|| function(call))),
        Extern::Async(function) => doing.spawn(async move { function(call).await }.instrument(span)),
    };
    match doing.join_next().await {
        Some(Ok(outcome)) => outcome,
        Some(Err(error)) if error.is_panic() => {
            let why = panic_text(&*error.into_panic());
            Err(ErrorData::new("extern_error", format!("`{name}` panicked: {why}")))
        }
        _ => Err(ErrorData::new("cancelled", format!("`{name}` was broken off"))),
    }
}

/// Returns the message of a panic.
fn panic_text(payload: &(dyn Any + Send)) -> String {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_string(),
        (_, Some(text)) => text.clone(),
        _ => "without a message".to_string(),
    }
}
