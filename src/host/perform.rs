//! The begin of each effect. The terminal answers at once; files, programs and requests take
//! threads.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::builtins::{Effect, databases, engine, files, immediate, lines, looks, messages, programs};
use crate::machine::{Data, Value, format};
use crate::permissions::Permissions;

use super::at::Reach;
use super::disk::FileJob;
use super::effect_call::{Answered, EffectCall, Owner};
use super::effects::{Revealed, hidden, reveal, unique, unknown};
use super::performers::Performers;
use super::running::{Abort, Running};
use super::{EffectResult, Message, Terminal, data, exec, externs, http, sql, streams};

/// The files that a request opens: its connection, and one file while a name is looked up.
const HTTP_FILES: u32 = 2;
/// The files that a program takes in this process: both ends of its three streams while it starts,
/// and its handle.
const EXEC_FILES: u32 = 8;

impl Performers {
    /// Begins an effect, within its permissions. `time` is the time of the store. Returns the
    /// answer to a step, if there is one at once.
    pub(super) fn perform(
        &mut self,
        call: EffectCall,
        time: i64,
        terminal: &mut Terminal,
    ) -> Option<Answered> {
        let EffectCall { owner, effect, args, permissions } = call;
        let revealed = match takes_secrets(effect) {
            true => reveal(args, &permissions),
            false => Ok((args, Revealed::new())),
        };
        let (args, revealed) = match revealed {
            Ok(revealed) => revealed,
            Err(error) => return self.answer(owner, Err(error)),
        };
        match effect {
            Effect::Sleep => self.sleep(owner, &args, time),
            Effect::Input => self.input(owner, &args, terminal),
            Effect::Http | Effect::HttpDownload => {
                let is_download = effect == Effect::HttpDownload;
                match http::prepare(&args, is_download, self.reach(permissions)) {
                    Ok(call) => {
                        let files = HTTP_FILES + call.files();
                        let sent = call.send(self.http.clone());
                        let sent = async move { hidden(sent.await, &revealed) };
                        self.spawn(owner, Some(effect.name()), files, sent)
                    }
                    Err(error) => self.answer(owner, hidden(Err(error), &revealed)),
                }
            }
            Effect::Extern => self.extern_activity(owner, &args, revealed, terminal),
            Effect::Exec => match exec::prepare(&args, "`exec`", self.reach(permissions)) {
                Ok(call) => {
                    let programs = self.threads.programs.clone();
                    let run = async move { hidden(call.run(programs).await, &revealed) };
                    self.spawn(owner, Some(effect.name()), EXEC_FILES, run)
                }
                Err(error) => self.answer(owner, hidden(Err(error), &revealed)),
            },
            Effect::ExecStart => match exec::prepare(&args, "`exec.each_line`", self.reach(permissions)) {
                Ok(call) => self.start_stream(owner, call, revealed),
                Err(error) => self.answer(owner, hidden(Err(error), &revealed)),
            },
            Effect::ExecNext => {
                let (handle, program, number) = streams::asked(&args);
                match self.streams.next(&handle, number) {
                    Some(next) => self.spawn(owner, Some(effect.name()), 0, next),
                    None => self.answer(owner, Err(streams::interrupted(&program))),
                }
            }
            Effect::ExecStop => {
                let (handle, ..) = streams::asked(&args);
                self.streams.stop(&handle);
                self.answer(owner, Ok(Data::null()))
            }
            files!() => {
                let ticket = self.ticket();
                self.opened(ticket, &owner, effect.name());
                let over = Arc::new(AtomicBool::new(false));
                let abort = Some(Abort::Flag(over.clone()));
                self.effects.begin(ticket, Running { owner, abort, reads_input: false });
                let reach = self.reach(permissions);
                self.files.push(FileJob { ticket, effect, args, reach, over });
                None
            }
            databases!() => {
                let reach = self.reach(permissions);
                match self.databases.work(effect, &args, &owner, reach) {
                    Ok(work) => {
                        let work = async move { hidden(work.await, &revealed) };
                        self.spawn(owner, Some(effect.name()), sql::FILES, work)
                    }
                    Err(error) => self.answer(owner, hidden(Err(error), &revealed)),
                }
            }
            // Lines take their turn at the gate, and the engine or the caller answers the others.
            lines!() | immediate!() | looks!() | engine!() | messages!() => {
                self.answer(owner, Err(unknown(effect.name())))
            }
        }
    }

    /// Returns what an effect may use, given its permissions.
    fn reach(&self, permissions: Permissions) -> Reach {
        Reach { permissions, store: self.folder.clone() }
    }

    /// Starts a program whose lines are read while it runs. The answer is its handle, or the error
    /// that it could not be started.
    fn start_stream(&mut self, owner: Owner, call: exec::Call, revealed: Revealed) -> Option<Answered> {
        if !self.streams.has_room() {
            return self.answer(owner, Err(streams::too_many()));
        }
        let (source, pieces, started) = streams::stream();
        let programs = self.threads.programs.clone();
        let task = match self.threads.spawn(EXEC_FILES, streams::run(call, programs, source)) {
            Ok(task) => task,
            Err(error) => return self.answer(owner, Err(error)),
        };
        let handle = unique();
        self.streams.add(&handle, &owner, pieces, task);
        let begun = async move {
            match started.await {
                Ok(Ok(())) => data(&Value::str(handle)),
                Ok(Err(error)) => hidden(Err(error), &revealed),
                Err(_) => Err(unknown("exec_start")),
            }
        };
        self.spawn(owner, Some(Effect::ExecStart.name()), 0, begun)
    }

    /// Lets an activity sleep. The engine has the sleeps of steps.
    fn sleep(&mut self, owner: Owner, args: &Data, time: i64) -> Option<Answered> {
        let Owner::Activity(ticket) = owner else {
            return self.answer(owner, Err(unknown(Effect::Sleep.name())));
        };
        let now = self.clock.now_after(time);
        let due = match &args.items()[..] {
            [Value::Duration(duration)] => now.saturating_add(*duration),
            _ => now,
        };
        self.activities.sleep(ticket, due);
        None
    }

    fn input(&mut self, owner: Owner, args: &Data, terminal: &mut Terminal) -> Option<Answered> {
        let prompt = args.items().first().map(format::display).unwrap_or_default();
        let ticket = self.ticket();
        match terminal.input(ticket, &prompt, &self.messages) {
            Some(result) => self.answer(owner, result),
            None => {
                self.effects.begin(ticket, Running { owner, abort: None, reads_input: true });
                None
            }
        }
    }

    fn extern_activity(
        &mut self,
        owner: Owner,
        args: &Data,
        revealed: Revealed,
        terminal: &mut Terminal,
    ) -> Option<Answered> {
        let Some((name, call)) = externs::prepare(args) else {
            return self.answer(owner, Err(unknown("extern")));
        };
        match self.externs.find(&name) {
            Some(provided) => {
                let span = match owner {
                    Owner::Activity(ticket) => self.spans.of(ticket),
                    Owner::Step(_) => tracing::Span::none(),
                };
                let run = externs::run(name, provided.clone(), call, span);
                self.spawn(owner, None, 0, async move { hidden(run.await, &revealed) })
            }
            // The call stays open for a process that provides the activity.
            None if self.stays => {
                terminal.log("error", &format!("`{name}` is an `extern activity` that is not provided here"));
                None
            }
            None => {
                self.not_provided = Some(name);
                None
            }
        }
    }

    /// Opens the span of an effect.
    fn opened(&mut self, ticket: u64, owner: &Owner, name: &'static str) {
        self.watches.begin(ticket, name);
        match owner {
            Owner::Step(step) => {
                self.note_attempt(step);
                self.spans.begin(ticket, "effect", &step.owner, step.seq, name);
            }
            Owner::Activity(activity) => self.spans.begin_within(ticket, *activity, name),
        }
    }

    /// Runs the work of an effect on a thread, in a span of that name if there is one.
    fn spawn(
        &mut self,
        owner: Owner,
        name: Option<&'static str>,
        files: u32,
        work: impl Future<Output = EffectResult> + Send + 'static,
    ) -> Option<Answered> {
        let ticket = self.ticket();
        let messages = self.messages.clone();
        let task = self.threads.spawn(files, async move {
            let result = work.await;
            let _ = messages.send(Message::Done { ticket, result });
        });
        match task {
            Ok(task) => {
                if let Some(name) = name {
                    self.opened(ticket, &owner, name);
                }
                let abort = Some(Abort::Task(task));
                self.effects.begin(ticket, Running { owner, abort, reads_input: false });
                None
            }
            Err(error) => self.answer(owner, Err(error)),
        }
    }
}

/// Returns whether an effect gets the values of secrets, and not only their names.
fn takes_secrets(effect: Effect) -> bool {
    effect.is_on_files() || matches!(effect, Effect::Http | programs!() | databases!() | Effect::HttpDownload)
}
