//! `durable fork`: what a run would have done with other answers, other mocks or another text.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::api::{Command, Forking, Queries, Reply};
use crate::archive::forms;
use crate::check::{self, Program as Checked};
use crate::code::Code;
use crate::engine::{History, InstanceRecord, Status};
use crate::explore::{
    CannotFork, ForkAnswer, ForkEnd, ForkStep, Forked, Given, Source, fork as go_on, shown,
};
use crate::machine::{Data, ErrorData, format, json as values};
use crate::model::{Program, Subject};
use crate::os::read_text;
use crate::render::{Shown, short};

use super::access::{Access, history, own_id, taken, unknown};
use super::arguments::Fork;
use super::problem::{Problem, note};
use super::verdict::no_mock;
use super::{FAILED, STORE, USAGE, print, program};

/// Lets a run go on from an entry in memory, or begins a new instance there.
pub fn fork(asked: Fork) -> Result<u8, Problem> {
    let at = position(&asked.at)?;
    if let Some(id) = &asked.start {
        own_id(id)?;
        return start(&asked, at, id.clone());
    }
    let given = asked.answer.iter().map(|text| answer(text)).collect::<Result<Vec<_>, _>>()?;
    let store = Access::open(&asked.store.store)?;
    let (record, history) = history(&store, &asked.id)?;
    let (code, file) = code(&asked, &store, &record)?;
    store.close()?;
    check(&record, &history, at)?;
    let program = Program::new(code.clone(), Subject::Script, Data::null());
    let sources = Shown::new(&code.sources, &file);
    let forked = go_on(&program, &record, &history, at as usize, &given)
        .map_err(|why| cannot(&sources, &asked, why))?;
    match asked.json {
        true => print(&lines(&forked).iter().map(|line| format!("{line}\n")).collect::<String>())?,
        false => print(&told(&sources, &record, at, &forked))?,
    }
    for request in &forked.unused {
        note(&format!("no request is `{request}`, so its answer was not used"));
    }
    Ok(0)
}

/// Reads a position. A statement after the entry is not looked at.
fn position(text: &str) -> Result<u64, Problem> {
    let entry = text.split_once('.').map_or(text, |(entry, _)| entry);
    entry.parse().map_err(|_| {
        Problem::new(USAGE, format!("`{text}` is not a position"))
            .hint("a position is the number of entries that have happened, such as `--at 147`")
    })
}

/// Reads an answer: a request, `=`, and JSON.
fn answer(text: &str) -> Result<Given, Problem> {
    let wrong = |why: String| {
        Problem::new(USAGE, format!("`{}` is not an answer: {why}", short(text, 60)))
            .hint("an answer is like 'charge=10', '#3={\"total\": 5}' or 'charge={\"$error\": {\"kind\": \"down\"}}'")
    };
    let (request, json) = text.rsplit_once('=').ok_or_else(|| wrong("it has no `=`".into()))?;
    let failure = serde_json::from_str::<Json>(json).ok().and_then(|json| json.get("$error").cloned());
    let json = failure.as_ref().map_or_else(|| json.to_string(), Json::to_string);
    let value = values::to_value(&json).map_err(|fail| wrong(crate::machine::error::message(&fail.value)))?;
    let data = Data::encode(&value).map_err(|fail| wrong(crate::machine::error::title(&fail.value)))?;
    let result = match failure {
        None => Ok(data),
        Some(_) => Err(ErrorData { value: data, ..ErrorData::new("", "") }),
    };
    Ok(Given { request: request.trim().to_string(), result })
}

/// Returns the program that goes on, with the mocks, and the name of its file.
fn code(asked: &Fork, store: &Access, record: &InstanceRecord) -> Result<(Arc<Code>, PathBuf), Problem> {
    let mocks = match &asked.mock {
        None => String::new(),
        Some(file) => read_text(file)
            .map_err(|reason| Problem::new(STORE, format!("{} can't be read: {reason}", file.display())))?,
    };
    let with_mocks = |text: String| if mocks.is_empty() { text } else { format!("{text}\n{mocks}\n") };
    let (checked, file): (Checked, PathBuf) = match &asked.program {
        Some(file) => (program::read_as(file, with_mocks)?, file.clone()),
        None => {
            let mut modules = store.modules(record.program)?;
            if let Some((_, text)) = modules.first_mut() {
                *text = with_mocks(std::mem::take(text));
            }
            let checked = check::load_stored(&modules)
                .ok_or_else(|| Problem::new(STORE, format!("the program of {} is not there", record.id)))?;
            (checked, PathBuf::from(&record.file))
        }
    };
    program::report(&checked, &file)?;
    let code = program::code(&checked, &file)?;
    program::image(code.clone(), &file)?;
    Ok((code, file))
}

/// Checks that a run can go on from a position.
fn check(record: &InstanceRecord, history: &History, at: u64) -> Result<(), Problem> {
    if history.after.is_some() {
        let title = format!("the history of {} is kept only since its last checkpoint", record.id);
        return Err(Problem::new(FAILED, title));
    }
    let last = history.entries.len() as u64;
    if at > last {
        let title = format!("the history of {} has {last} entries, so there is no position {at}", record.id);
        return Err(Problem::new(FAILED, title));
    }
    Ok(())
}

fn cannot(shown: &Shown<'_>, asked: &Fork, why: CannotFork) -> Problem {
    match why {
        CannotFork::Diverges { after, sides } => {
            let side = |side: Option<(String, _)>| side.map_or("nothing".to_string(), |(text, _)| text);
            let title = format!(
                "the text diverges at entry {}: it does {} where the history holds {}",
                after + 1,
                side(sides.found),
                side(sides.recorded)
            );
            Problem::new(FAILED, title).hint(format!("it can go on from an earlier position: `--at {after}`"))
        }
        CannotFork::Unfit(reason) => Problem::new(FAILED, format!("{} can't go on: {reason}", asked.id)),
        CannotFork::Stopped(stop) => {
            let why = match stop {
                crate::model::Stop::NoMock { request } => no_mock(shown, &request, "forked"),
                crate::model::Stop::Endless => "it computes without an end in sight".to_string(),
                crate::model::Stop::Fault(reason) => reason,
                other => format!("{other:?}"),
            };
            Problem::new(FAILED, format!("{} can't go on: {why}", asked.id))
        }
    }
}

/// Describes a run that went on, for people.
fn told(shown_as: &Shown<'_>, record: &InstanceRecord, at: u64, forked: &Forked) -> String {
    let mut out = format!("{} after entry {at}, in memory:\n", record.id);
    for step in &forked.steps {
        match step {
            ForkStep::Asked { seq, what, place, is_same } => {
                let mark = if *is_same { "  " } else { "+ " };
                out.push_str(&format!("{mark}#{seq} {}\n", short(what, 100)));
                if !is_same {
                    out.push_str(&format!("     {}: {}\n", shown_as.locate(*place), shown_as.line(*place)));
                }
            }
            ForkStep::Answered(answer) => {
                let ForkAnswer { seq, result, source, happened, .. } = &**answer;
                let differs = happened.as_ref().is_some_and(|happened| !equal(happened, result));
                let mark = if differs { "≠ " } else { "  " };
                let by = match source {
                    Source::Given => ", given",
                    Source::Mock => ", by a mock",
                    Source::Happened | Source::Engine => "",
                };
                out.push_str(&format!("{mark}#{seq} → {}{by}", short(&shown(result), 80)));
                if let (true, Some(happened)) = (differs, happened) {
                    out.push_str(&format!("; happened: {}", short(&shown(happened), 80)));
                }
                out.push('\n');
            }
            ForkStep::GivenUp { seq, .. } => out.push_str(&format!("  #{seq} is given up\n")),
        }
    }
    for (seq, what) in &forked.missing {
        out.push_str(&format!("- #{seq} {}, which happened\n", short(what, 100)));
    }
    out.push_str(&match &forked.end {
        ForkEnd::Completed(value) => format!("it completes: {}\n", format::write(&value.decode(), 200).0),
        ForkEnd::Failed(error) => format!("it fails: {}\n", error.title()),
        ForkEnd::ContinuesAsNew(args) => {
            format!("it continues as new: {}\n", format::write(&args.decode(), 200).0)
        }
        ForkEnd::Endless => "it goes on without an end in sight\n".to_string(),
        ForkEnd::Waits(open) => {
            let mut text = "it waits for answers that nobody has given:\n".to_string();
            for (seq, what, place) in open {
                text.push_str(&format!("  #{seq} {} at {}\n", short(what, 100), shown_as.locate(*place)));
            }
            text
        }
    });
    let happened = match &record.status {
        Status::Completed(value) => format!("completed: {}", format::write(&value.decode(), 200).0),
        Status::Failed(error) => format!("failed: {}", error.title()),
        other => other.word().to_string(),
    };
    out.push_str(&format!("what happened: it is {happened}\n"));
    out
}

fn equal(a: &Result<Data, ErrorData>, b: &Result<Data, ErrorData>) -> bool {
    match (a, b) {
        (Ok(a), Ok(b)) => a == b,
        (Err(a), Err(b)) => a.value == b.value,
        _ => false,
    }
}

/// Returns a run that went on, as lines of JSON.
fn lines(forked: &Forked) -> Vec<Json> {
    let result = |result: &Result<Data, ErrorData>| match result {
        Ok(value) => json!({"value": forms::data(value)}),
        Err(error) => json!({"error": forms::data(&error.value)}),
    };
    let step = |step: &ForkStep| match step {
        ForkStep::Asked { seq, what, is_same, .. } => {
            json!({"kind": "asked", "seq": seq, "what": what, "happened": is_same})
        }
        ForkStep::Answered(answered) => {
            let ForkAnswer { seq, result: answer, source, happened, .. } = &**answered;
            let source = match source {
                Source::Given => "given",
                Source::Mock => "mock",
                Source::Happened => "happened",
                Source::Engine => "engine",
            };
            let happened = happened.as_ref().map(result);
            json!({"kind": "answered", "seq": seq, "answer": result(answer), "source": source, "happened": happened})
        }
        ForkStep::GivenUp { seq, .. } => json!({"kind": "given up", "seq": seq}),
    };
    let end = match &forked.end {
        ForkEnd::Completed(value) => json!({"kind": "completed", "result": forms::data(value)}),
        ForkEnd::Failed(error) => json!({"kind": "failed", "error": forms::data(&error.value)}),
        ForkEnd::ContinuesAsNew(args) => json!({"kind": "continued", "args": forms::data(args)}),
        ForkEnd::Endless => json!({"kind": "endless"}),
        ForkEnd::Waits(open) => {
            let open: Vec<Json> =
                open.iter().map(|(seq, what, _)| json!({"seq": seq, "what": what})).collect();
            json!({"kind": "waits", "for": open})
        }
    };
    let missing =
        forked.missing.iter().map(|(seq, what)| json!({"kind": "missing", "seq": seq, "what": what}));
    forked.steps.iter().map(step).chain(missing).chain([end]).collect()
}

/// Begins an instance with a part of the history of another one.
fn start(asked: &Fork, at: u64, new: String) -> Result<u8, Problem> {
    if !asked.answer.is_empty() || asked.mock.is_some() {
        return Err(Problem::new(USAGE, "a real instance takes no given answers and no mocks")
            .hint("without `--start`, the run goes on in memory"));
    }
    let (file, modules) = match &asked.program {
        None => (None, Vec::new()),
        Some(file) => {
            let checked = program::read(file)?;
            program::report(&checked, file)?;
            let code = program::code(&checked, file)?;
            (Some(file.display().to_string()), code.sources.texts())
        }
    };
    let mut store = Access::open(&asked.store.store)?;
    let forking = |dry_run: bool| {
        Command::Fork(Box::new(Forking {
            id: asked.id.clone(),
            at,
            new: new.clone(),
            file: file.clone(),
            modules: modules.clone(),
            dry_run,
        }))
    };
    let command = forking(asked.dry_run);
    match store.ask(command)? {
        Reply::Forked { kept, again } => {
            for (seq, what) in &kept {
                note(&format!("not repeated: {} #{seq}", short(what, 100)));
            }
            for (seq, what) in &again {
                note(&format!("made again under {new}: {} #{seq}", short(what, 100)));
            }
        }
        Reply::Unknown => return Err(unknown(&asked.id)),
        Reply::Taken { error, .. } => return Err(taken(&error)),
        Reply::Refused(reason) => return Err(Problem::new(FAILED, reason)),
        _ => return Err(Problem::new(FAILED, format!("{new} could not be begun"))),
    }
    let here = matches!(store, Access::Here(_));
    store.close()?;
    if asked.dry_run {
        note("nothing was changed");
        return Ok(0);
    }
    print(&format!("{new}\n"))?;
    if here {
        note(&format!("it runs when a process has the store: `durable resume {new}`, or `durable serve`"));
    }
    Ok(0)
}
