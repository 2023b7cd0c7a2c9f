//! Rust functions as activities.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::EffectResult;
use crate::host::externs::{Doing, Extern, ExternCall};
use crate::machine::{Data, ErrorData, Value};

use super::{Failure, values};

tokio::task_local! {
    static KEY: String;
}

/// Returns the idempotency key of the call that the current activity carries out, or `None` outside
/// of an activity. The key is the same for all attempts at one call and different for all others.
/// An outside system that gets the key can recognise a repeated attempt.
pub fn idempotency_key() -> Option<String> {
    KEY.try_with(Clone::clone).ok()
}

/// A function of up to eight arguments that can be an activity: `fn(A, B) -> Result<T, E>`. Serde
/// reads the arguments and writes the result. The error is a [`Failure`] or any Rust error.
#[diagnostic::on_unimplemented(
    message = "this can't be an activity",
    note = "wanted is a function `Fn(A, …) -> Result<T, E>` whose arguments implement `serde::Deserialize`, with `T: serde::Serialize` and `E: Into<durable::Failure>`"
)]
pub trait Activity<Args>: Send + Sync + 'static {
    #[doc(hidden)]
    fn call(&self, args: &Data) -> EffectResult;
}

/// An activity like [`Activity`], as a function that returns a future of the result.
#[diagnostic::on_unimplemented(
    message = "this can't be an asynchronous activity",
    note = "wanted is a function `async Fn(A, …) -> Result<T, E>` whose arguments implement `serde::Deserialize`, with `T: serde::Serialize`, `E: Into<durable::Failure>`, and a future that is `Send`"
)]
pub trait AsyncActivity<Args>: Send + Sync + 'static {
    #[doc(hidden)]
    fn begin(&self, args: &Data) -> Doing;
}

/// Converts an argument of a call to the type of the function. A missing argument is null, which an
/// `Option` takes.
fn read<T: DeserializeOwned>(args: &[Value], at: usize) -> Result<T, ErrorData> {
    let read = values::from_value(args.get(at).unwrap_or(&Value::Null));
    read.map_err(|error| ErrorData::new("type_error", format!("argument {}: {error}", at + 1)))
}

fn written<T: Serialize, E: Into<Failure>>(result: Result<T, E>) -> EffectResult {
    let value = result.map_err(|error| error.into().into_data())?;
    values::to_data(&value).map_err(|error| ErrorData::new("type_error", format!("the result: {error}")))
}

macro_rules! functions_of {
    ($($arg:ident $at:literal),*) => {
        impl<F, T, E, $($arg),*> Activity<($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> Result<T, E> + Send + Sync + 'static,
            T: Serialize,
            E: Into<Failure>,
            $($arg: DeserializeOwned,)*
        {
            fn call(&self, args: &Data) -> EffectResult {
                let _args = args.items();
                written(self($(read::<$arg>(&_args, $at)?),*))
            }
        }

        impl<F, D, T, E, $($arg),*> AsyncActivity<($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> D + Send + Sync + 'static,
            D: Future<Output = Result<T, E>> + Send + 'static,
            T: Serialize,
            E: Into<Failure>,
            $($arg: DeserializeOwned,)*
        {
            fn begin(&self, args: &Data) -> Doing {
                let _args = args.items();
                let begun = || Ok(self($(read::<$arg>(&_args, $at)?),*));
                match begun() {
                    Ok(doing) => Box::pin(async move { written(doing.await) }),
                    Err(error) => Box::pin(async move { Err(error) }),
                }
            }
        }
    };
}

functions_of!();
functions_of!(A 0);
functions_of!(A 0, B 1);
functions_of!(A 0, B 1, C 2);
functions_of!(A 0, B 1, C 2, G 3);
functions_of!(A 0, B 1, C 2, G 3, H 4);
functions_of!(A 0, B 1, C 2, G 3, H 4, I 5);
functions_of!(A 0, B 1, C 2, G 3, H 4, I 5, J 6);
functions_of!(A 0, B 1, C 2, G 3, H 4, I 5, J 6, K 7);

pub(super) fn blocking<Args>(function: impl Activity<Args>) -> Extern {
    Extern::Blocking(Arc::new(move |call: ExternCall| KEY.sync_scope(call.key, || function.call(&call.args))))
}

pub(super) fn asynchronous<Args>(function: impl AsyncActivity<Args>) -> Extern {
    Extern::Async(Arc::new(move |call: ExternCall| {
        let doing = KEY.sync_scope(call.key.clone(), || function.begin(&call.args));
        Box::pin(KEY.scope(call.key, doing))
    }))
}
