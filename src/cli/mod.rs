//! The command line.
//!
//! Invariant: messages are rendered and exit codes are chosen only here. Standard output carries
//! the output of programs and the results that a command was asked for. Everything else goes to
//! standard error.

mod access;
mod arguments;
mod asks;
mod call;
mod check;
mod clients;
mod cluster;
mod dap;
mod database;
mod debug;
mod document;
mod entities;
mod explain;
mod explore;
mod export;
mod fork;
mod format;
mod guest;
mod import;
mod inspect;
mod junit;
mod lsp;
mod new;
mod operations;
mod outcome;
mod pending;
mod permissions;
mod place;
mod private;
mod problem;
mod program;
mod programs;
mod repl;
mod replay;
mod run;
mod script;
mod serve;
mod sources;
mod store;
mod table;
mod telemetry;
mod test;
mod upgrade;
mod verdict;
mod verify_run;
mod wanted;
mod worker;

use std::io::Write;

use clap::{CommandFactory, Parser};

use arguments::{Arguments, Command, StoreCommand};
use problem::Problem;

/// The exit codes, as `durable --help` lists them.
pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;
pub const INVALID: u8 = 3;
pub const STORE: u8 = 4;
pub const UNKNOWN: u8 = 5;
pub const INTERNAL: u8 = 70;
pub const INTERRUPTED: u8 = 130;

/// Runs the command line of this process, and returns the exit code.
pub fn main() -> u8 {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            if let Some(file) = forgotten_run(&error) {
                Problem::new(USAGE, format!("`{file}` is a file, not a command"))
                    .hint(format!("to run it: durable run {file}"))
                    .show();
                return USAGE;
            }
            let _ = error.print();
            return if error.use_stderr() { USAGE } else { 0 };
        }
    };
    match dispatch(arguments.command) {
        Ok(code) => code,
        Err(problem) => {
            problem.show();
            problem.code
        }
    }
}

/// Returns the file that was given instead of a command.
fn forgotten_run(error: &clap::Error) -> Option<&str> {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(name))) => {
            Some(name.as_str()).filter(|name| name.ends_with(".df") || std::path::Path::new(name).is_file())
        }
        _ => None,
    }
}

fn dispatch(command: Command) -> Result<u8, Problem> {
    match command {
        Command::Run(run) => match place::url(&run.store.store)? {
            Some(url) => private::run(&url, run),
            None => run::run(run),
        },
        Command::Resume(resume) => run::resume(resume),
        Command::Check(check) => check::check(check),
        Command::Lsp => lsp::lsp(),
        Command::New(asked) => new::new(asked),
        Command::Doc(asked) => document::doc(asked),
        Command::Explain(kind) => explain::explain(kind),
        Command::Fmt(files) => format::format(files),
        Command::Repl(asked) => repl::repl(asked),
        Command::Test(asked) => test::test(asked),
        Command::Explore(asked) => explore::explore(asked),
        Command::Start(start) => clients::start(start),
        Command::Wait(one) => run::wait(one),
        Command::Raise(raise) => clients::raise(raise),
        Command::Signal(signal) => clients::signal(signal),
        Command::Call(asked) => call::call(asked),
        Command::Status(one) => clients::status(one),
        Command::Suspend(one) => clients::suspend(one),
        Command::Unsuspend(one) => clients::unsuspend(one),
        Command::Cancel(cancel) => clients::cancel(cancel),
        Command::Terminate(terminate) => clients::terminate(terminate),
        Command::Rewind(one) => clients::rewind(one),
        Command::Fork(asked) => fork::fork(asked),
        Command::VerifyRun(asked) => verify_run::verify_run(asked),
        Command::Upgrade(asked) => upgrade::upgrade(asked),
        Command::Restart(restart) => clients::restart(restart),
        Command::Serve(serve) => match place::url(&serve.store.store)? {
            Some(url) => worker::serve(&url, &serve),
            None => serve::serve(serve),
        },
        Command::Deploy(deploy) => serve::deploy(deploy),
        Command::Open(open) => serve::open(open),
        Command::Cluster(view) => cluster::cluster(view),
        Command::Entities(list) => entities::entities(list),
        Command::Entity(one) => entities::entity(one),
        Command::Locks(list) => entities::locks(list),
        Command::Programs(list) => programs::programs(list),
        Command::List(list) => inspect::list(list),
        Command::Show(show) => inspect::show(show),
        Command::History(history) => inspect::history(history),
        Command::Replay(replay) => replay::replay(replay),
        Command::Dap => dap::dap(),
        Command::Debug(asked) => debug::debug(asked),
        Command::Purge(purge) => store::purge(purge),
        Command::Store(StoreCommand::Init(asked)) => database::init(asked),
        Command::Store(StoreCommand::Adopt(asked)) => database::adopt(asked),
        Command::Store(StoreCommand::Verify(verify)) => store::verify(verify),
        Command::Store(StoreCommand::Export(export)) => export::export(export),
        Command::Store(StoreCommand::Import(import)) => import::import(import),
        Command::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "durable", &mut out);
            print(&String::from_utf8_lossy(&out))?;
            Ok(0)
        }
    }
}

/// Writes to standard output; a closed pipe is not an error.
fn print(text: &str) -> Result<(), Problem> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Problem::new(STORE, format!("standard output can't be written: {error}")))
        }
        _ => Ok(()),
    }
}
