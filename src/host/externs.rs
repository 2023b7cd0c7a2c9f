//! What the process around provides: the functions behind `extern activity`.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tokio::task::JoinSet;
use tracing::{Instrument, Span};

use crate::machine::{Data, ErrorData, Value};

use super::Outcome;

/// One call of an `extern activity`.
#[derive(Clone, Debug)]
pub struct ExternCall {
    /// The arguments, a list.
    pub args: Data,
    /// The key by which a system outside recognises a repetition of the call.
    pub key: String,
}

/// A call under way.
pub type Doing = Pin<Box<dyn Future<Output = Result<Data, ErrorData>> + Send>>;

/// What is done for an `extern activity`.
#[derive(Clone)]
pub enum Extern {
    /// On a thread that it may block.
    Blocking(Arc<dyn Fn(ExternCall) -> Result<Data, ErrorData> + Send + Sync>),
    Async(Arc<dyn Fn(ExternCall) -> Doing + Send + Sync>),
}

/// What is provided, by name.
#[derive(Default)]
pub struct Externs(HashMap<String, Extern>);

impl Externs {
    /// Provides an activity, instead of what was provided under that name.
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

/// Reads the arguments of the effect: what is called, and how.
pub(crate) fn prepare(args: &Data) -> Option<(String, ExternCall)> {
    match &args.items()[..] {
        [Value::Str(name), list, Value::Str(key)] => {
            let args = Data::encode(list).ok()?;
            Some((name.as_str().to_string(), ExternCall { args, key: key.as_str().to_string() }))
        }
        _ => None,
    }
}

/// Does it, with its own spans within this one. A panic is an error of the call. What is dropped before its end is broken off where it waits.
pub(crate) async fn run(name: String, provided: Extern, call: ExternCall, span: Span) -> Outcome {
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

/// What a panic said.
fn panic_text(payload: &(dyn Any + Send)) -> String {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_string(),
        (_, Some(text)) => text.clone(),
        _ => "without a message".to_string(),
    }
}
