//! Programs whose lines are read while they run.
//!
//! Invariant: a program that was started here ends with its owner at the latest. The lines come in
//! numbered pieces. The last piece is kept, so a request for it that is made again gets the same.

use std::sync::Arc;

use hashbrown::HashMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::engine::Address;
use crate::machine::{Data, ErrorData, Value};

use super::effect_call::Owner;
use super::exec::{Call, NotRun, code_of, drain, failed, too_slow};
use super::groups::{Group, Groups};
use super::{EffectResult, data, text_or_bytes};

/// The number of pieces that wait for the program's reader. When there are as many, the program
/// waits.
const MOST_PIECES: usize = 4;
/// The size of a read, and so about the size of a piece.
const PIECE: usize = 64 << 10;
/// The largest size of a line.
const MOST_LINE: usize = 64 << 20;
/// The size of the end of the messages on standard error that is kept.
const MOST_ERRORS: usize = 64 << 10;
/// The largest number of programs that are read at once.
const MOST_PROGRAMS: usize = 256;

/// The programs, by their handles.
#[derive(Default)]
pub(super) struct Streams {
    programs: HashMap<String, Stream>,
}

struct Stream {
    owner: Holder,
    feed: Arc<Mutex<Feed>>,
    task: AbortHandle,
}

/// Whoever reads a program.
#[derive(Clone, PartialEq)]
enum Holder {
    /// An execution of an instance, or an entity.
    Instance(Address, u32),
    Activity(u64),
}

impl From<&Owner> for Holder {
    fn from(owner: &Owner) -> Holder {
        match owner {
            Owner::Step(step) => Holder::Instance(step.owner.clone(), step.execution),
            Owner::Activity(ticket) => Holder::Activity(*ticket),
        }
    }
}

/// The pieces of a program's lines.
struct Feed {
    pieces: mpsc::Receiver<EffectResult>,
    last: Option<(i64, EffectResult)>,
}

/// The end of the program that a stream is made of.
pub(super) struct Source {
    pieces: mpsc::Sender<EffectResult>,
    started: oneshot::Sender<Result<(), ErrorData>>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        // The group of the program ends with the task.
        self.task.abort();
    }
}

impl Streams {
    /// Returns whether another program may be started.
    pub(super) fn has_room(&self) -> bool {
        self.programs.len() < MOST_PROGRAMS
    }

    /// Adds a program, which the task runs. An earlier execution of its owner reads no more.
    pub(super) fn add(
        &mut self,
        handle: &str,
        owner: &Owner,
        pieces: mpsc::Receiver<EffectResult>,
        task: AbortHandle,
    ) {
        let owner = Holder::from(owner);
        if let Holder::Instance(address, now) = &owner {
            let is_old = |holder: &Holder| matches!(holder, Holder::Instance(known, execution) if known == address && execution < now);
            self.programs.retain(|_, stream| !is_old(&stream.owner));
        }
        let feed = Arc::new(Mutex::new(Feed { pieces, last: None }));
        self.programs.insert(handle.to_string(), Stream { owner, feed, task });
    }

    /// Returns the work that waits for a piece, or `None` if there is no such program here.
    pub(super) fn next(
        &self,
        handle: &str,
        number: i64,
    ) -> Option<impl Future<Output = EffectResult> + Send + 'static> {
        let feed = self.programs.get(handle)?.feed.clone();
        Some(async move {
            let mut feed = feed.lock().await;
            if let Some((known, piece)) = &feed.last
                && *known == number
            {
                return piece.clone();
            }
            let ended = || Err(ErrorData::new("io_error", "the program has no more lines"));
            let piece = feed.pieces.recv().await.unwrap_or_else(ended);
            feed.last = Some((number, piece.clone()));
            piece
        })
    }

    /// Ends a program.
    pub(super) fn stop(&mut self, handle: &str) {
        self.programs.remove(handle);
    }

    /// Ends the programs of an activity.
    pub(super) fn activity_ended(&mut self, ticket: u64) {
        self.programs.retain(|_, stream| stream.owner != Holder::Activity(ticket));
    }

    /// Ends the programs of an instance.
    pub(super) fn instance_ended(&mut self, instance: &str) {
        let is_its = |holder: &Holder| matches!(holder, Holder::Instance(Address::Instance(id), _) if **id == *instance);
        self.programs.retain(|_, stream| !is_its(&stream.owner));
    }
}

/// Returns the error of a program that this process does not run.
pub(super) fn interrupted(program: &str) -> ErrorData {
    let text = format!(
        "{program} ended with the process that ran it; in an activity with `retry`, it is run once more"
    );
    failed("interrupted", text, program)
}

/// Returns the error of too many programs.
pub(super) fn too_many() -> ErrorData {
    ErrorData::new("limit", format!("more than {MOST_PROGRAMS} programs are read line by line at once"))
}

/// Returns the two ends of a stream, and the receiver of the news that the program has started.
pub(super) fn stream() -> (Source, mpsc::Receiver<EffectResult>, oneshot::Receiver<Result<(), ErrorData>>) {
    let (pieces, receiver) = mpsc::channel(MOST_PIECES);
    let (started, news) = oneshot::channel();
    (Source { pieces, started }, receiver, news)
}

/// Runs a program, and sends its lines. Dropping the future ends the process group.
pub(super) async fn run(call: Call, groups: Groups, source: Source) {
    let mut group = None;
    let running = match call.start(&groups, &mut group) {
        Ok(running) => running,
        Err(error) => return drop(source.started.send(Err(error))),
    };
    if source.started.send(Ok(())).is_err() {
        return;
    }
    let program = call.program.clone();
    let input = call.options.input.clone();
    let piped = pipe(&program, running.child, input, &mut group, &source.pieces);
    let outcome = match call.options.timeout {
        None => piped.await,
        Some(nanos) => {
            let limit = Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
            match tokio::time::timeout(limit, piped).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    if let Some(group) = group.take() {
                        group.end().await;
                    }
                    Ok(Err(too_slow(&program, &crate::machine::format::duration(nanos))))
                }
            }
        }
    };
    let outcome = outcome.unwrap_or_else(|error| Err(call.not_run(NotRun::Io(error))));
    let _ = source.pieces.send(outcome).await;
}

/// Sends the lines of a program, and returns its last piece when it has ended.
async fn pipe(
    program: &str,
    mut child: Child,
    input: Vec<u8>,
    group: &mut Option<Group>,
    pieces: &mpsc::Sender<EffectResult>,
) -> std::io::Result<EffectResult> {
    let (stdin, mut stdout, mut stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // A program may end without reading all of its input.
            let _ = stdin.write_all(&input).await;
        }
    };
    let mut lines = Lines::default();
    let mut errors = Vec::new();
    let reading = async {
        let mut piece = Vec::with_capacity(PIECE);
        // What was read goes on without waiting, so nothing is lost where this is broken off.
        let mut room = pieces.reserve().await.ok();
        while let (Some(stdout), Some(permit)) = (&mut stdout, room.take()) {
            piece.clear();
            if stdout.read_buf(&mut piece).await? == 0 {
                break;
            }
            match lines.add(&piece) {
                None => return Ok(Some(wrote_too_much(program))),
                Some(whole) if whole.is_empty() => room = Some(permit),
                Some(whole) => {
                    permit.send(whole_piece(whole));
                    room = pieces.reserve().await.ok();
                }
            }
        }
        Ok::<_, std::io::Error>(None)
    };
    let complaints = async {
        let mut piece = Vec::with_capacity(PIECE);
        while let Some(stderr) = &mut stderr {
            piece.clear();
            if stderr.read_buf(&mut piece).await? == 0 {
                break;
            }
            keep(&mut errors, &piece);
        }
        Ok::<_, std::io::Error>(())
    };
    let status = {
        let mut pumps = std::pin::pin!(async {
            let ((), read, ()) = tokio::try_join!(
                async {
                    feed.await;
                    Ok(())
                },
                reading,
                complaints
            )?;
            Ok::<_, std::io::Error>(read)
        });
        tokio::select! {
            pumped = &mut pumps => match pumped? {
                None => child.wait().await?,
                Some(error) => return Ok(Err(error)),
            },
            status = child.wait() => status?,
        }
    };
    if let Some(group) = group.take() {
        group.leave();
    }
    // Processes left behind may have the outputs open, so the pipes need not end.
    let (mut rest, mut more) = (Vec::new(), Vec::new());
    drain(stdout.map(|pipe| pipe.into_owned_fd()), &mut rest)?;
    drain(stderr.map(|pipe| pipe.into_owned_fd()), &mut more)?;
    keep(&mut errors, &more);
    let Some(mut last) = lines.add(&rest) else { return Ok(Err(wrote_too_much(program))) };
    last.extend(lines.end());
    Ok(data(&Value::record([
        ("lines", listed(last)),
        ("status", Value::Int(code_of(status))),
        ("stderr", text_or_bytes(errors)),
    ])))
}

fn wrote_too_much(program: &str) -> ErrorData {
    failed("limit", format!("{program} wrote a line of more than 64 MiB"), program)
}

/// Keeps the end of what was written.
fn keep(kept: &mut Vec<u8>, more: &[u8]) {
    kept.extend_from_slice(more);
    if kept.len() > MOST_ERRORS {
        kept.drain(..kept.len() - MOST_ERRORS);
    }
}

fn whole_piece(lines: Vec<Vec<u8>>) -> EffectResult {
    data(&Value::record([("lines", listed(lines)), ("status", Value::Null)]))
}

fn listed(lines: Vec<Vec<u8>>) -> Value {
    Value::list(lines.into_iter().map(text_or_bytes).collect())
}

/// The lines in a stream of bytes.
#[derive(Default)]
struct Lines {
    /// The bytes of the line that has no end yet.
    begun: Vec<u8>,
}

impl Lines {
    /// Adds bytes, and returns the lines that have ended. Returns `None` if a line is too long.
    fn add(&mut self, bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
        let mut whole = Vec::new();
        let mut rest = bytes;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            self.begun.extend_from_slice(&rest[..at]);
            if self.begun.len() > MOST_LINE {
                return None;
            }
            whole.push(self.take());
            rest = &rest[at + 1..];
        }
        self.begun.extend_from_slice(rest);
        (self.begun.len() <= MOST_LINE).then_some(whole)
    }

    /// Returns the last line, if it has no end.
    fn end(&mut self) -> Option<Vec<u8>> {
        (!self.begun.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> Vec<u8> {
        let mut line = std::mem::take(&mut self.begun);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        line
    }
}

/// Reads the arguments of a request for a piece: the handle, the program, and the number.
pub(super) fn asked(args: &Data) -> (String, String, i64) {
    let args = args.items();
    let words = |at: usize| match args.get(at) {
        Some(Value::Str(text)) => text.as_str().to_string(),
        _ => String::new(),
    };
    let number = match args.get(2) {
        Some(Value::Int(number)) => *number,
        _ => 0,
    };
    (words(0), words(1), number)
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn lines_may_come_in_any_pieces() {
        let text = b"a\r\nb\n\nc";
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            let mut all: Vec<Vec<u8>> = Vec::new();
            for piece in text.chunks(size) {
                all.extend(lines.add(piece).expect("no long line"));
            }
            all.extend(lines.end());
            assert_eq!(all, [b"a".to_vec(), b"b".to_vec(), b"".to_vec(), b"c".to_vec()]);
        }
    }
}
