//! `durable replay`: the run of an instance, from its journal alone.

use std::path::Path;

use crate::builtins::Effect;
use crate::engine::{Entry, GRACE, Replayed, Status, replay as run_again};
use crate::machine::{Request, RequestKind, Value, format};
use crate::render::short;
use crate::render::{Shown, show};

use super::access::{Access, history};
use super::arguments::Replay;
use super::outcome::stuck;
use super::problem::{Problem, note, unreadable};
use super::table::time;
use super::{FAILED, print, program};

/// Replays an instance to the end of its history; nothing is executed, and nothing is written.
pub fn replay(replay: Replay) -> Result<u8, Problem> {
    let store = Access::open(&replay.store.store)?;
    let (record, history) = history(&store, &replay.id)?;
    if history.after.is_some() {
        note("what was before its last checkpoint is not kept: this begins there");
    }
    let image = program::stored(&store, record.program, &record.id, &record.file)?;
    let shown = Shown::new(&image.code.sources, Path::new(&record.file));
    let mut failure = Ok(());
    let mut out = String::new();
    let mut write = |text: String| {
        out.push_str(&text);
        if out.len() > 64 << 10 && failure.is_ok() {
            failure = print(&std::mem::take(&mut out));
        }
    };
    let mut watch = |entry: &Entry, request: Option<&Request>| match (entry, request) {
        (
            Entry::Answered { result: Ok(_), .. },
            Some(Request { what: RequestKind::Effect(Effect::Print), args, .. }),
        ) => {
            if let Value::List(args) = args.decode()
                && let Some(value) = args.as_slice().first()
            {
                let text = format::to_text(value).unwrap_or_default();
                write(if replay.trace { traced_print(&text) } else { format!("{text}\n") });
            }
        }
        (entry, request) if replay.trace => write(traced(entry, request, &shown)),
        _ => {}
    };
    let replayed = run_again(&image, record.clone(), history, &mut watch);
    failure?;
    print(&out)?;
    let code = match replayed {
        Replayed::Ended(Status::Failed(error)) => {
            show(&shown.error(&error));
            FAILED
        }
        Replayed::Ended(Status::Completed(value)) => {
            let value = value.decode();
            let result = if matches!(value, Value::Null) {
                String::new()
            } else {
                format!(": {}", format::brief(&value))
            };
            note(&format!("{} completed{result}", record.id));
            0
        }
        Replayed::Ended(Status::Terminated(_)) => {
            note(&format!("{} was terminated", record.id));
            0
        }
        Replayed::Incompatible(reason) => {
            return Err(unreadable(format!("{} can't be replayed: {reason}", record.id)));
        }
        Replayed::Ended(Status::Running | Status::Suspended | Status::Scheduled { .. })
        | Replayed::Computes => {
            note(&format!("{} stands where its history ends, computing", record.id));
            0
        }
        Replayed::Waits(_) if record.status.begins().is_some() => {
            note(&format!("{} has not begun", record.id));
            0
        }
        Replayed::Waits(open) => {
            note(&format!("{} stands where its history ends and waits for:", record.id));
            for open in open {
                if open.request.seq == GRACE {
                    note(&format!("  {}", open.describe()));
                    continue;
                }
                let place = open.request.place;
                note(&format!(
                    "  {} at {}: {}",
                    short(&open.describe(), 80),
                    shown.locate(place),
                    shown.line(place)
                ));
            }
            0
        }
        Replayed::Nondeterminism(mismatch) => {
            stuck(&store, &record, &mismatch)?;
            FAILED
        }
    };
    store.close()?;
    Ok(code)
}

fn traced_print(text: &str) -> String {
    text.lines().map(|line| format!("    | {line}\n")).collect()
}

fn traced(entry: &Entry, request: Option<&Request>, shown: &Shown<'_>) -> String {
    match (entry, request) {
        (Entry::Requested { seq, what, args, time: at, .. }, Some(request)) => {
            let call = format!("{}({})", what.shown(), short(&args.describe(), 60));
            let place = request.place;
            format!("{} #{seq} {call}\n    {}: {}\n", time(*at), shown.locate(place), shown.line(place))
        }
        (Entry::Answered { seq, result, time: at, .. }, _) => {
            let result = match result {
                Ok(value) => format::brief(&value.decode()),
                Err(error) => format!("error {}", error.title()),
            };
            format!("{} #{seq} → {}\n", time(*at), short(&result, 80))
        }
        (Entry::Retried { seq, error, again, time: at }, _) => {
            format!("{} #{seq} → error {}; again at {}\n", time(*at), short(&error.title(), 60), time(*again))
        }
        (Entry::Cancelled { seq, time: at }, _) => format!("{} #{seq} is cancelled\n", time(*at)),
        (Entry::Begun { seq, time: at }, _) => format!("{} #{seq} is tried again\n", time(*at)),
        (Entry::Ended { time: at }, _) => format!("{} the end\n", time(*at)),
        (Entry::Rewound { seq, time: at, .. }, _) => {
            format!("{} rewound: the next request is #{seq}\n", time(*at))
        }
        (Entry::Renewed { seq, time: at }, _) => format!("{} #{seq} is asked again\n", time(*at)),
        (Entry::Cancelling { what, time: at }, _) => format!("{} {what}\n", time(*at)),
        (Entry::Upgraded { from, time: at }, _) => format!("{} upgraded from {from}\n", time(*at)),
        (Entry::Terminated { time: at }, _) => format!("{} terminated\n", time(*at)),
        _ => String::new(),
    }
}
