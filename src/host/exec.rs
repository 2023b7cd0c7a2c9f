//! Execution of programs of the system.
//!
//! A program leads a [process group](super::groups). The effect is done when the program has ended,
//! and its result is the output until then. Processes that the program leaves behind go on, and
//! find their outputs closed. An abandoned program ends with its whole group.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::machine::io_options::{Exec, exec};
use crate::machine::{Data, ErrorData, Value};
use crate::permissions::Capability;

use super::at::{At, Reach, Unfinished};
use super::groups::{Group, Groups};
use super::pipes::Patience;
use super::walk::Last;
use super::{EffectResult, data, text_or_bytes};

/// The largest size of each output of a program, in bytes.
const MAX_OUTPUT: u64 = 64 << 20;

/// A program that is ready to run, as plain data for any thread.
pub(crate) struct Call {
    pub(super) program: String,
    /// The file of the program, if the permissions determined it.
    path: Option<PathBuf>,
    /// The variables of this process that the program does not get.
    hidden: Vec<OsString>,
    arguments: Vec<String>,
    pub(super) options: Exec,
    reach: Reach,
}

/// Reads the arguments of `exec`, or those of `exec.each_line` for `what`. Returns an error if the
/// program may not run like this.
pub(crate) fn prepare(args: &Data, what: &str, reach: Reach) -> Result<Call, ErrorData> {
    let permissions = &reach.permissions;
    let args = args.items();
    let (Some(Value::Str(program)), Some(Value::List(list))) = (args.first(), args.get(1)) else {
        return Err(ErrorData::new("type_error", "`exec` takes a program and a list of strings"));
    };
    let words = list.as_slice().iter().filter_map(|word| match word {
        Value::Str(text) => Some(text.as_str().to_string()),
        _ => None,
    });
    let options = exec(args.get(2).unwrap_or(&Value::Null), what);
    let options =
        options.map_err(|fail| ErrorData::new("type_error", crate::machine::error::title(&fail.value)))?;
    let program = program.as_str().to_string();
    // A variable that is unset may choose another program as well.
    let named = |(name, value): &(String, Option<String>)| (name.clone(), value.clone().unwrap_or_default());
    let variables: Vec<(String, String)> = options.env.iter().map(named).collect();
    let path = permissions.program(&program, options.dir.as_deref(), &variables)?;
    let handed_on = |name: &OsString| name.to_str().is_some_and(|name| permissions.hands_on(name));
    let hidden = match permissions.is_whole(Capability::Env) {
        true => Vec::new(),
        false => std::env::vars_os().map(|(name, _)| name).filter(|name| !handed_on(name)).collect(),
    };
    Ok(Call { program, path, hidden, arguments: words.collect(), options, reach })
}

/// A program that runs, with the files that are its input and output.
pub(super) struct Running {
    pub child: Child,
    /// The file that gets the output, if there is one.
    output: Option<(Unfinished, File)>,
}

/// The reason why a program does not run.
pub(super) enum NotRun {
    Io(std::io::Error),
    Refused(ErrorData),
}

impl From<std::io::Error> for NotRun {
    fn from(error: std::io::Error) -> NotRun {
        NotRun::Io(error)
    }
}

impl Call {
    /// Runs the program to its end. Dropping the future ends the process group.
    pub(crate) async fn run(self, groups: Groups) -> EffectResult {
        let program = self.program.clone();
        let timeout = self.options.timeout;
        let mut group = None;
        let outcome = match timeout {
            None => self.output(&groups, &mut group).await,
            Some(nanos) => {
                let limit = Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
                match tokio::time::timeout(limit, self.output(&groups, &mut group)).await {
                    Ok(outcome) => outcome,
                    Err(_) => {
                        // The group ends first, so that nothing of it overlaps with the next step.
                        if let Some(group) = group {
                            group.end().await;
                        }
                        let after = crate::machine::format::duration(nanos);
                        return Err(too_slow(&program, &after));
                    }
                }
            }
        };
        outcome?
    }

    async fn output(self, groups: &Groups, group: &mut Option<Group>) -> Result<EffectResult, ErrorData> {
        let mut running = self.start(groups, group)?;
        let output = running.output.take();
        let (program, input) = (self.program.clone(), self.options.input.clone());
        let outcome = collect(&program, input, running.child, group).await;
        let outcome = outcome.map_err(|error| self.not_run(NotRun::Io(error)))?;
        if let (Some((unfinished, file)), Ok(_)) = (output, &outcome) {
            let path = self.options.output_file.clone().unwrap_or_default();
            // This waits for the disk, on one of the threads for I/O.
            let finished = tokio::task::spawn_blocking(move || {
                unfinished.finish(&file, None).map_err(|failure| failure.of_regular("write", &path))
            });
            finished.await.map_err(|error| self.not_run(NotRun::Io(std::io::Error::other(error))))??;
        }
        Ok(outcome)
    }

    /// Starts the program, as the leader of a group.
    pub(super) fn start(&self, groups: &Groups, group: &mut Option<Group>) -> Result<Running, ErrorData> {
        self.try_start(groups, group).map_err(|reason| self.not_run(reason))
    }

    /// Returns the error that the program could not be run.
    pub(super) fn not_run(&self, reason: NotRun) -> ErrorData {
        let program = &self.program;
        let error = match reason {
            NotRun::Refused(error) => return error,
            NotRun::Io(error) => error,
        };
        let is_missing = |dir: &&String| !std::path::Path::new(dir.as_str()).exists();
        if let Some(dir) = self.options.dir.as_ref().filter(is_missing) {
            let message = format!("could not run {program}: its folder {dir} does not exist (option `dir`)");
            return failed("io_error", message, program);
        }
        let reason = crate::os::reason(&error);
        let hint = match program.split_once(' ') {
            Some((name, rest)) => {
                let words: Vec<String> = rest.split_whitespace().map(|word| format!("{word:?}")).collect();
                format!("; arguments are a list: exec({name:?}, [{}])", words.join(", "))
            }
            None => String::new(),
        };
        failed("io_error", format!("could not run {program}: {reason}{hint}"), program)
    }

    fn try_start(&self, groups: &Groups, group: &mut Option<Group>) -> Result<Running, NotRun> {
        let mut command = match &self.path {
            None => Command::new(&self.program),
            Some(path) => {
                let mut command = Command::new(path);
                command.arg0(&self.program);
                command
            }
        };
        for name in &self.hidden {
            command.env_remove(name);
        }
        command.args(&self.arguments).process_group(0);
        for (name, value) in &self.options.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(path) = &self.options.input_file {
            let opened = At::of(path, &self.reach, Patience::None).open_regular();
            let file = opened.map_err(|failure| NotRun::Refused(failure.of_regular("read", path)))?;
            command.stdin(file);
        }
        let mut output = None;
        if let Some(path) = &self.options.output_file {
            let place = At::of(path, &self.reach, Patience::None).place(Capability::Write, Last::Followed);
            let begun = place.and_then(Unfinished::begin);
            let (unfinished, file) =
                begun.map_err(|failure| NotRun::Refused(failure.of_regular("write", path)))?;
            command.stdout(file.try_clone()?);
            output = Some((unfinished, file));
        }
        if let Some(dir) = &self.options.dir {
            command.current_dir(dir);
        }
        let child = command.spawn()?;
        *group = child.id().and_then(|leader| groups.begin(leader));
        Ok(Running { child, output })
    }
}

/// Waits for the end of a program, and collects its outputs.
async fn collect(
    program: &str,
    input: Vec<u8>,
    mut child: Child,
    group: &mut Option<Group>,
) -> std::io::Result<EffectResult> {
    let (stdin, mut stdout, mut stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // A program may end without reading all of its input.
            let _ = stdin.write_all(&input).await;
        }
        Ok(())
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = {
        let mut pumps = pin!(async {
            tokio::try_join!(feed, pump(&mut stdout, &mut out), pump(&mut stderr, &mut err)).map(|_| ())
        });
        tokio::select! {
            pumped = &mut pumps => match pumped {
                Ok(()) => child.wait().await?,
                Err(error) if error.kind() == ErrorKind::FileTooLarge => {
                    return Ok(Err(wrote_too_much(program)));
                }
                Err(error) => return Err(error),
            },
            status = child.wait() => status?,
        }
    };
    if let Some(group) = group.take() {
        group.leave();
    }
    // Processes left behind may have the outputs open, so the pipes need not end.
    drain(stdout.map(|pipe| pipe.into_owned_fd()), &mut out)?;
    drain(stderr.map(|pipe| pipe.into_owned_fd()), &mut err)?;
    if out.len() as u64 > MAX_OUTPUT || err.len() as u64 > MAX_OUTPUT {
        return Ok(Err(wrote_too_much(program)));
    }
    Ok(data(&Value::record([
        ("status", Value::Int(code_of(status))),
        ("stdout", text_or_bytes(out)),
        ("stderr", text_or_bytes(err)),
    ])))
}

/// Returns the number that a program ended with. As in shells, the status is 128 plus the number of
/// a signal.
pub(super) fn code_of(status: std::process::ExitStatus) -> i64 {
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    i64::from(status.code().or(signal.map(|signal| 128 + signal)).unwrap_or(-1))
}

/// Returns the error of a program that took too long.
pub(super) fn too_slow(program: &str, after: &str) -> ErrorData {
    failed("timeout", format!("{program} was not done within {after}"), program)
}

/// Reads a pipe to its end. Dropping the future keeps the bytes that were read.
async fn pump(pipe: &mut Option<impl AsyncReadExt + Unpin>, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    let Some(pipe) = pipe else { return Ok(()) };
    while pipe.read_buf(bytes).await? > 0 {
        if bytes.len() as u64 > MAX_OUTPUT {
            return Err(ErrorKind::FileTooLarge.into());
        }
    }
    Ok(())
}

/// Reads the bytes that are in a pipe, without waiting for more.
pub(super) fn drain(pipe: Option<std::io::Result<OwnedFd>>, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    let Some(pipe) = pipe.transpose()? else { return Ok(()) };
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    match File::from(pipe).take(MAX_OUTPUT + 1).read_to_end(bytes) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

fn wrote_too_much(program: &str) -> ErrorData {
    failed("limit", format!("{program} wrote more than 64 MiB"), program)
}

pub(super) fn failed(kind: &str, message: String, program: &str) -> ErrorData {
    ErrorData::with(kind, message, [("program", Value::str(program))])
}
