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
use tokio::process::Command;

use crate::machine::options::{Exec, exec};
use crate::machine::{Data, ErrorData, Value};
use crate::permissions::{Capability, Permissions};

use super::groups::{Group, Groups};
use super::{EffectResult, data, text_or_bytes};

/// The largest size of each output of a program, in bytes.
const MAX_OUTPUT: u64 = 64 << 20;

/// A program that is ready to run, as plain data for any thread.
pub(crate) struct Call {
    program: String,
    /// The file of the program, if the permissions determined it.
    path: Option<PathBuf>,
    /// The variables of this process that the program does not get.
    hidden: Vec<OsString>,
    arguments: Vec<String>,
    options: Exec,
}

/// Reads the arguments of `exec`. Returns an error if the program may not run like this.
pub(crate) fn prepare(args: &Data, permissions: &Permissions) -> Result<Call, ErrorData> {
    let args = args.items();
    let (Some(Value::Str(program)), Some(Value::List(list))) = (args.first(), args.get(1)) else {
        return Err(ErrorData::new("type_error", "`exec` takes a program and a list of strings"));
    };
    let words = list.as_slice().iter().filter_map(|word| match word {
        Value::Str(text) => Some(text.as_str().to_string()),
        _ => None,
    });
    let options = exec(args.get(2).unwrap_or(&Value::Null));
    let options =
        options.map_err(|fail| ErrorData::new("type_error", crate::machine::error::title(&fail.value)))?;
    let program = program.as_str().to_string();
    let path = permissions.program(&program, options.dir.as_deref(), &options.env)?;
    let handed_on = |name: &OsString| name.to_str().is_some_and(|name| permissions.hands_on(name));
    let hidden = match permissions.is_whole(Capability::Env) {
        true => Vec::new(),
        false => std::env::vars_os().map(|(name, _)| name).filter(|name| !handed_on(name)).collect(),
    };
    Ok(Call { program, path, hidden, arguments: words.collect(), options })
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
                        return Err(failed(
                            "timeout",
                            format!("{program} was not done within {after}"),
                            &program,
                        ));
                    }
                }
            }
        };
        outcome.map_err(|error| {
            let reason = crate::os::reason(&error);
            let hint = match program.split_once(' ') {
                Some((name, rest)) => {
                    let words: Vec<String> =
                        rest.split_whitespace().map(|word| format!("{word:?}")).collect();
                    format!("; arguments are a list: exec({name:?}, [{}])", words.join(", "))
                }
                None => String::new(),
            };
            failed("io_error", format!("could not run {program}: {reason}{hint}"), &program)
        })?
    }

    async fn output(self, groups: &Groups, group: &mut Option<Group>) -> std::io::Result<EffectResult> {
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
        command.args(&self.arguments).envs(self.options.env).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(dir) = &self.options.dir {
            command.current_dir(dir);
        }
        let mut child = command.spawn()?;
        *group = child.id().and_then(|leader| groups.begin(leader));
        let (stdin, mut stdout, mut stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let input = self.options.input;
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
                        return Ok(Err(wrote_too_much(&self.program)));
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
            return Ok(Err(wrote_too_much(&self.program)));
        }
        // As in shells, the status is 128 plus the number of the signal.
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        let code = status.code().or(signal.map(|signal| 128 + signal)).unwrap_or(-1);
        Ok(data(&Value::record([
            ("status", Value::Int(i64::from(code))),
            ("stdout", text_or_bytes(out)),
            ("stderr", text_or_bytes(err)),
        ])))
    }
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
fn drain(pipe: Option<std::io::Result<OwnedFd>>, bytes: &mut Vec<u8>) -> std::io::Result<()> {
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

fn failed(kind: &str, message: String, program: &str) -> ErrorData {
    ErrorData::with(kind, message, [("program", Value::str(program))])
}
