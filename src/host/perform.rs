//! Carrying effects out: the terminal at once, files, programs and requests on threads of their own.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::runtime::Runtime;

use crate::builtins::{Effect, engine, files, immediate, lines, looks, messages, programs};
use crate::machine::{Data, ErrorData, Value, format};
use crate::permissions::Permissions;

use super::disk::Job;
use super::effects::{Revealed, hidden, reveal, unknown};
use super::files::Reach;
use super::groups::Groups;
use super::run::{Abort, Host, Owner, Running};
use super::{Message, Outcome, exec, externs, http};

/// Open files that are asked of the system.
const MAX_FILES: u64 = 65_536;
/// Files that a request has open: its connection, and one while a name is looked up.
const HTTP_FILES: u32 = 2;
/// Files that a program has open here: its three streams, both ends of each while it starts, and its handle.
const EXEC_FILES: u32 = 8;

/// The threads for I/O, and the programs that they wait for. What is still under way when this goes is abandoned; it is
/// done again when its instance is resumed.
#[derive(Default)]
pub(super) struct Threads {
    runtime: Option<Runtime>,
    pub(super) programs: Groups,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.programs.end_all();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Host {
    /// Carries an effect out, as far as its permissions go: those of this process and of who asks for it.
    pub(super) fn perform(&mut self, owner: Owner, effect: Effect, args: Data, permissions: Permissions) {
        let revealed = match takes_secrets(effect) {
            true => reveal(args, &permissions),
            false => Ok((args, Revealed::new())),
        };
        let (args, revealed) = match revealed {
            Ok(revealed) => revealed,
            Err(error) => return self.answer(owner, Err(error)),
        };
        match effect {
            Effect::Sleep => match owner {
                Owner::Activity(ticket) => {
                    let due = match &args.items()[..] {
                        [Value::Duration(duration)] => self.now().saturating_add(*duration),
                        _ => self.now(),
                    };
                    self.sleeps.insert((due, ticket));
                }
                Owner::Step(_) => self.answer(owner, Err(unknown(effect.name()))),
            },
            Effect::Input => {
                let prompt = args.items().first().map(format::display).unwrap_or_default();
                let ticket = self.ticket();
                let sender = self.sender.clone();
                match self.terminal.input(ticket, &prompt, &sender) {
                    Some(result) => self.answer(owner, result),
                    None => {
                        self.effects.insert(ticket, Running { owner, abort: None, input: true });
                    }
                }
            }
            Effect::Http => match http::prepare(&args) {
                Ok(call) => {
                    let sent = call.send(self.clients.clone(), permissions);
                    let sent = async move { hidden(sent.await, &revealed) };
                    self.spawn(owner, Some(effect.name()), HTTP_FILES, sent)
                }
                Err(error) => self.answer(owner, hidden(Err(error), &revealed)),
            },
            Effect::Extern => self.extern_activity(owner, &args, revealed),
            Effect::Exec => match exec::prepare(&args, &permissions) {
                Ok(call) => {
                    let programs = self.runtime.programs.clone();
                    let run = async move { hidden(call.run(programs).await, &revealed) };
                    self.spawn(owner, Some(effect.name()), EXEC_FILES, run)
                }
                Err(error) => self.answer(owner, Err(error)),
            },
            files!() => {
                let ticket = self.ticket();
                self.opened(ticket, &owner, effect.name());
                let over = Arc::new(AtomicBool::new(false));
                let abort = Some(Abort::Flag(over.clone()));
                self.effects.insert(ticket, Running { owner, abort, input: false });
                let reach = Reach { permissions, store: self.folder.clone() };
                self.files.push(Job { ticket, effect, args, reach, over });
            }
            // Lines have their turn among others, the engine sees to some, and others are answered where they are asked for.
            lines!() | immediate!() | looks!() | engine!() | messages!() => {
                self.answer(owner, Err(unknown(effect.name())))
            }
        }
    }

    /// Begins the effects on files that were performed since the last time.
    pub(super) fn begin_files(&mut self) {
        for job in self.disk.add(std::mem::take(&mut self.files)) {
            if let Some(running) = self.effects.remove(&job.ticket) {
                self.answer(running.owner, Err(no_threads("it has none left")));
            }
        }
    }

    fn extern_activity(&mut self, owner: Owner, args: &Data, revealed: Revealed) {
        let Some((name, call)) = externs::prepare(args) else {
            return self.answer(owner, Err(unknown("extern")));
        };
        match self.settings.externs.find(&name) {
            Some(provided) => {
                let span = match owner {
                    Owner::Activity(ticket) => self.spans.of(ticket),
                    Owner::Step(_) => tracing::Span::none(),
                };
                let run = externs::run(name, provided.clone(), call, span);
                self.spawn(owner, None, 0, async move { hidden(run.await, &revealed) });
            }
            // It stays open: a process that provides it goes on with it.
            None if self.settings.stays => {
                self.terminal
                    .log("error", &format!("`{name}` is an `extern activity` that is not provided here"));
            }
            None => self.not_provided = Some(name),
        }
    }

    /// Begins the span of an effect.
    fn opened(&mut self, ticket: u64, owner: &Owner, name: &str) {
        match owner {
            Owner::Step(step) => self.spans.begin(ticket, "effect", &step.owner, step.seq, name),
            Owner::Activity(activity) => self.spans.begin_within(ticket, *activity, name),
        }
    }

    /// Lets work go on beside; it has a span of that name, if any.
    fn spawn(
        &mut self,
        owner: Owner,
        name: Option<&str>,
        files: u32,
        work: impl Future<Output = Outcome> + Send + 'static,
    ) {
        let ticket = self.ticket();
        let sender = self.sender.clone();
        let open_files = self.open_files.clone();
        match self.runtime().map(|runtime| runtime.handle().clone()) {
            Ok(runtime) => {
                let task = runtime.spawn(async move {
                    // The semaphore is never closed.
                    let _turn = open_files.acquire_many(files).await;
                    let result = work.await;
                    let _ = sender.send(Message::Done { ticket, result });
                });
                if let Some(name) = name {
                    self.opened(ticket, &owner, name);
                }
                self.effects.insert(
                    ticket,
                    Running { owner, abort: Some(Abort::Task(task.abort_handle())), input: false },
                );
            }
            Err(error) => self.answer(owner, Err(error)),
        }
    }

    /// The threads for I/O, started when first needed.
    fn runtime(&mut self) -> Result<&Runtime, ErrorData> {
        if self.runtime.runtime.is_none() {
            let built = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                // They look up names.
                .max_blocking_threads(16)
                .thread_name("io")
                .enable_all()
                .build();
            self.runtime.runtime = Some(built.map_err(|error| no_threads(&error.to_string()))?);
            // What the store and the terminal need is left out.
            let limit = rlimit::increase_nofile_limit(MAX_FILES).unwrap_or(256);
            self.open_files.add_permits(usize::try_from(limit.saturating_sub(64).max(32)).unwrap_or(256));
        }
        self.runtime.runtime.as_ref().ok_or_else(|| no_threads("there are none"))
    }
}

/// Whether an effect gets the values of secrets, and not only their names.
fn takes_secrets(effect: Effect) -> bool {
    effect.is_on_files() || matches!(effect, Effect::Http | programs!())
}

fn no_threads(reason: &str) -> ErrorData {
    ErrorData::new("io_error", format!("the system gives no threads for I/O: {reason}"))
}
