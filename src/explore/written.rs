//! A run as a test: a `test` block that calls the same function, with mocks that answer as the
//! journals of the run say.
//!
//! Invariant: a block that is returned has passed. So whatever a mock can't say (a time, another
//! order of answers, the state of an entity before the run) is a reason not to write one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::builtins::Effect;
use crate::check::{self, Program as Checked};
use crate::code::compile;
use crate::core::lower;
use crate::engine::{
    Args, Entry, History, InstanceRecord, Line, RecordedRequest, SCRIPT, Status, build_image,
};
use crate::machine::{Data, ErrorData, Value, format};
use crate::model::{Program, Subject};
use crate::syntax::tree::{Stmt, StmtKind};
use crate::syntax::{Severity, parse};

use super::engine::trial::trial;

/// The most characters of one value in a mock.
const MOST: usize = 20_000;

/// Returns a test block for an instance. `tree` has the instance and everything that it called or
/// started, with their histories; `modules` are its program's. The error says why there is none.
pub fn written(modules: &[(String, String)], tree: &[(InstanceRecord, History)]) -> Result<String, String> {
    let (record, history) = tree.first().ok_or("there is no such instance")?;
    if history.after.is_some() {
        return Err("its history is kept only since its last checkpoint".into());
    }
    if tree.iter().any(|(record, _)| !record.status.is_ended()) {
        return Err("it, or an instance that it called or started, has not ended".into());
    }
    let name = format!("{} as in {}", record.function, record.id);
    let text = modules.first().map(|(_, text)| text.as_str()).unwrap_or_default();
    let body = match record.function.as_str() {
        SCRIPT => script(record, text)?,
        function => call(record, history, function)?,
    };
    let mut block = format!("test {} {{\n", quoted(&name));
    for mock in mocks(tree) {
        block.push_str(&format!("  {mock}\n"));
    }
    block.push_str(&body);
    block.push_str("}\n");
    passes(modules, &block, &name, &lines(tree)?)?;
    Ok(block)
}

/// Runs the test, and compares the lines that it prints.
fn passes(
    modules: &[(String, String)],
    block: &str,
    name: &str,
    printed: &BTreeMap<String, usize>,
) -> Result<(), String> {
    let mut modules = modules.to_vec();
    if let Some((_, text)) = modules.first_mut() {
        text.push_str(&format!("\n{block}"));
    }
    let program: Checked = check::load_stored(&modules).ok_or("its program has no modules")?;
    if let Some(mistake) = program.diagnostics.iter().find(|found| found.severity == Severity::Error) {
        return Err(format!("a test can't say what happened: {}", mistake.title));
    }
    build_image(&program)?;
    let code = compile(&lower(&program), &program).map_err(|mistake| mistake.title)?;
    let at = code.tests.iter().position(|test| test.name == name).ok_or("the test is lost")?;
    let program = Program::new(Arc::new(code), Subject::Test(at), Data::null());
    let run = trial(&program, None)
        .map_err(|_| "it asks for something outside whose answer a mock can't give".to_string())?;
    if run.violation.is_some() {
        return Err("with mocks alone it ends otherwise: it depends on the states of entities, on times, \
                    or on the order of answers"
            .into());
    }
    let mut now: BTreeMap<String, usize> = BTreeMap::new();
    for line in run.printed {
        *now.entry(line).or_default() += 1;
    }
    match now == *printed {
        true => Ok(()),
        false => Err("with mocks alone it prints other lines".into()),
    }
}

/// Returns the lines that a run printed and logged, each with its number.
fn lines(tree: &[(InstanceRecord, History)]) -> Result<BTreeMap<String, usize>, String> {
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for entry in tree.iter().flat_map(|(_, history)| &history.entries) {
        let Entry::Requested { what, args, .. } = entry else { continue };
        let Some(effect) = what.effect().filter(|effect| effect.is_line()) else { continue };
        let Args::Whole(args) = args else {
            return Err("it printed a line that its history does not keep".into());
        };
        let line = match Line::of(effect, args) {
            Some(Ok(Line::Print(text))) => text,
            Some(Ok(Line::Log { level, text })) => format!("{level}: {text}"),
            _ => continue,
        };
        *lines.entry(line).or_default() += 1;
    }
    Ok(lines)
}

/// Returns the mocks: for each activity and each effect its outcomes, in the order of the attempts.
fn mocks(tree: &[(InstanceRecord, History)]) -> Vec<String> {
    let mut outcomes: BTreeMap<String, Vec<(i64, u64, String)>> = BTreeMap::new();
    let mut unsayable: BTreeSet<String> = BTreeSet::new();
    for (_, history) in tree {
        for entry in &history.entries {
            let Entry::Requested { seq, what, time, .. } = entry else { continue };
            let Some(name) = mocked(what) else { continue };
            let ends = history.entries.iter().filter(|entry| entry.seq() == Some(*seq));
            let mut said = Vec::new();
            for entry in ends {
                said.push(match entry {
                    Entry::Answered { result: Ok(value), .. } => {
                        literal(value).map(|value| format!("fn () => {value}"))
                    }
                    Entry::Answered { result: Err(error), .. } | Entry::Retried { error, .. } => {
                        thrown(error)
                    }
                    Entry::Cancelled { .. } => Some("never".to_string()),
                    _ => continue,
                });
            }
            if said.is_empty() {
                said.push(Some("never".to_string()));
            }
            for (number, outcome) in said.into_iter().enumerate() {
                match outcome {
                    Some(outcome) => {
                        let of = outcomes.entry(name.clone()).or_default();
                        of.push((*time, seq * 1000 + number as u64, outcome));
                    }
                    None => {
                        unsayable.insert(name.clone());
                    }
                }
            }
        }
    }
    let says = |(name, mut of): (String, Vec<(i64, u64, String)>)| {
        of.sort();
        let mut of: Vec<String> = of.into_iter().map(|(_, _, outcome)| outcome).collect();
        // The last outcome repeats.
        while of.len() > 1 && of[of.len() - 1] == of[of.len() - 2] {
            of.pop();
        }
        let turn = if of.len() > 1 { " in turn" } else { "" };
        format!("mock {name}{turn} with {}", of.join(", "))
    };
    outcomes.into_iter().filter(|(name, _)| !unsayable.contains(name)).map(says).collect()
}

/// Returns the name under which a request is mocked.
fn mocked(what: &RecordedRequest) -> Option<String> {
    match what {
        // The name of an activity of another module has the module.
        RecordedRequest::Activity(name) => Some(name.replace(':', ".")),
        RecordedRequest::Effect(_) => {
            what.effect().filter(|effect| effect.is_of_the_outside()).map(Effect::mocked_as)
        }
        _ => None,
    }
}

/// Returns the statements that call an orchestration, raise its events, and compare its result.
fn call(record: &InstanceRecord, history: &History, function: &str) -> Result<String, String> {
    let args: Option<Vec<String>> = record.args.items().iter().map(|arg| literal(&Data::of(arg))).collect();
    let args = args.ok_or("its arguments can't be written")?.join(", ");
    let mut out = String::new();
    let mut raised = Vec::new();
    let events: BTreeMap<u64, String> = history
        .entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Requested { seq, what, args: Args::Whole(args), .. }
                if what.effect() == Some(Effect::Receive) =>
            {
                Some((*seq, args.items().first().map(format::display)?))
            }
            _ => None,
        })
        .collect();
    for entry in &history.entries {
        if let Entry::Answered { seq, result: Ok(payload), .. } = entry
            && let Some(event) = events.get(seq)
        {
            let payload = literal(payload).ok_or("an event can't be written")?;
            raised.push(format!("  raise(run, {}, {payload})\n", quoted(event)));
        }
    }
    out.push_str(&format!("  let run = start {function}({args})\n"));
    out.push_str(&raised.concat());
    out.push_str(&ends(&record.status, "wait(run)")?);
    Ok(out)
}

/// Returns the statements of a script, which end as the script did.
fn script(record: &InstanceRecord, text: &str) -> Result<String, String> {
    let args = record.args.items();
    let args =
        args.first().and_then(|args| literal(&Data::of(args))).ok_or("its arguments can't be written")?;
    let parsed = parse(text, 0);
    let is_step = |stmt: &&Stmt| {
        !matches!(
            stmt.kind,
            StmtKind::Import { .. }
                | StmtKind::Const(..)
                | StmtKind::Activity(_)
                | StmtKind::Orchestration(_)
                | StmtKind::Entity(_)
                | StmtKind::Schedule(_)
                | StmtKind::Test(..)
                | StmtKind::Mock(_)
                | StmtKind::Property(_)
        )
    };
    let steps = parsed.module.items.iter().filter(is_step);
    let steps: String =
        steps.map(|stmt| format!("{}\n", &text[stmt.span.start as usize..stmt.span.end as usize])).collect();
    let args = if text.contains("args") { format!("  let args = {args}\n") } else { String::new() };
    match &record.status {
        Status::Completed(_) => Ok(format!("{args}{steps}")),
        Status::Failed(_) => {
            let ends = ends(&record.status, &format!("do {{\n{steps}}}"))?;
            Ok(format!("{args}{ends}"))
        }
        _ => Err("it was ended from outside".into()),
    }
}

/// Returns the statements that compare the end of an expression with a status.
fn ends(status: &Status, of: &str) -> Result<String, String> {
    match status {
        Status::Completed(value) => {
            let value = literal(value).ok_or("its result can't be written")?;
            Ok(format!("  assert({of} == {value})\n"))
        }
        Status::Failed(error) => {
            let kind = error.kind().ok_or("its error has no kind")?;
            Ok(format!(
                "  let failed = try {{ {of}; null }} catch error {{ error }}\n  assert(failed.kind == {})\n",
                quoted(&kind)
            ))
        }
        _ => Err("it was ended from outside".into()),
    }
}

/// Returns data as a program writes it, if it can.
fn literal(data: &Data) -> Option<String> {
    let value = data.decode();
    if !is_sayable(&value) {
        return None;
    }
    let (text, whole) = format::write(&value, MOST);
    whole.then_some(text)
}

/// Whether a program can write a value.
fn is_sayable(value: &Value) -> bool {
    match value {
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Float(_)
        | Value::Duration(_)
        | Value::Str(_) => true,
        Value::List(list) => list.as_slice().iter().all(is_sayable),
        Value::Record(record) => record.iter().all(|(_, value)| is_sayable(value)),
        _ => false,
    }
}

fn thrown(error: &ErrorData) -> Option<String> {
    literal(&error.value).map(|value| format!("fn () => throw {value}"))
}

fn quoted(text: &str) -> String {
    format::write(&Value::str(text), MOST).0
}
