//! Programs of the system.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::machine::options::{Exec, exec};
use crate::machine::{Data, ErrorData, Value};

use super::{Outcome, data, text_or_bytes};

/// What one program may write to each of its outputs, in bytes.
const MAX_OUTPUT: u64 = 64 << 20;

/// A program that is ready to be run: plain data, for any thread.
pub(crate) struct Call {
    program: String,
    arguments: Vec<String>,
    options: Exec,
}

/// Reads the arguments of `exec`.
pub(crate) fn prepare(args: &Data) -> Result<Call, ErrorData> {
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
    Ok(Call { program: program.as_str().to_string(), arguments: words.collect(), options })
}

impl Call {
    /// Runs the program to its end. It is killed when this is dropped.
    pub(crate) async fn run(self) -> Outcome {
        let program = self.program.clone();
        let timeout = self.options.timeout;
        let outcome = match timeout {
            None => self.output().await,
            Some(nanos) => {
                let limit = Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
                match tokio::time::timeout(limit, self.output()).await {
                    Ok(outcome) => outcome,
                    Err(_) => {
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

    async fn output(self) -> std::io::Result<Outcome> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.options.env).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(dir) = &self.options.dir {
            command.current_dir(dir);
        }
        let mut child = command.spawn()?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let input = self.options.input;
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // A program may end without reading all of its input.
                let _ = stdin.write_all(&input).await;
            }
        };
        let (_, out, err) = tokio::join!(feed, read(stdout), read(stderr));
        let (out, err) = (out?, err?);
        let status = child.wait().await?;
        if out.len() as u64 > MAX_OUTPUT || err.len() as u64 > MAX_OUTPUT {
            return Ok(Err(failed(
                "limit",
                format!("{} wrote more than 64 MiB", self.program),
                &self.program,
            )));
        }
        // As shells have it: 128 and the number of the signal.
        #[cfg(unix)]
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        #[cfg(not(unix))]
        let signal = None;
        let code = status.code().or(signal.map(|signal| 128 + signal)).unwrap_or(-1);
        Ok(data(&Value::record([
            ("status", Value::Int(i64::from(code))),
            ("stdout", text_or_bytes(out)),
            ("stderr", text_or_bytes(err)),
        ])))
    }
}

async fn read(stream: Option<impl AsyncReadExt + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(MAX_OUTPUT + 1).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

fn failed(kind: &str, message: String, program: &str) -> ErrorData {
    ErrorData::with(kind, message, [("program", Value::str(program))])
}
