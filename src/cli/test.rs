//! `durable test`.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ariadne::ReportKind;

use crate::api::Queries;
use crate::check::{GlobalKind, reference};
use crate::code::Code;
use crate::explore::{Crash, Trial, trial, written};
use crate::machine::{Data, Value, format};
use crate::model::{Program, Stop, Subject, Violation};
use crate::render::Shown;
use crate::syntax::parse;
use crate::syntax::tree::{ExprKind, StmtKind, UnaryOp};

use super::access::{Access, history};
use super::arguments::Test;
use super::junit::{Case, document};
use super::problem::{Problem, note};
use super::verdict::{count, no_mock, violation};
use super::{FAILED, INTERNAL, INVALID, STORE, print, program, sources};

/// The pause between two checks for changed files.
const LOOK: Duration = Duration::from_millis(250);

/// Runs the tests of programs.
pub fn test(asked: Test) -> Result<u8, Problem> {
    if let Some(id) = &asked.from {
        return from(id, &asked);
    }
    if asked.watch {
        return watch(&asked);
    }
    let mut round = Round::new(&asked);
    round.run()?;
    round.end()
}

/// Prints what an instance did as a test.
fn from(id: &str, asked: &Test) -> Result<u8, Problem> {
    let store = Access::open(&asked.store.store)?;
    let (record, history) = history(&store, id)?;
    let modules = store.modules(record.program)?;
    let mut tree = vec![(record, history)];
    for member in store.tree(id)?.unwrap_or_default() {
        if member.id != id {
            tree.extend(store.history(&member.id)?);
        }
    }
    store.close()?;
    let block = written(&modules, &tree).map_err(|why| {
        Problem::new(FAILED, format!("{id} can't be written as a test: {why}"))
            .hint("`durable fork` goes through its history without a test")
    })?;
    print(&block)?;
    note(&format!(
        "this test passes beside the text of {}: durable test --from {id} >> {}",
        tree[0].0.file, tree[0].0.file
    ));
    Ok(0)
}

/// Runs the tests now and after each change, until the process is ended.
fn watch(asked: &Test) -> Result<u8, Problem> {
    loop {
        let mut round = Round::new(asked);
        let seen = match round.run().and_then(|()| round.end().map(|_| ())) {
            Ok(()) => &round.seen,
            Err(problem) => {
                problem.show();
                &round.seen
            }
        };
        note(&format!("{} watched; the tests run again when one changes", count(seen.len(), "file")));
        let before = stamps(&asked.files, seen);
        while stamps(&asked.files, seen) == before {
            std::thread::sleep(LOOK);
        }
        print("\n")?;
    }
}

/// Returns the files with the times of their last changes.
fn stamps(named: &[PathBuf], seen: &[PathBuf]) -> Vec<(PathBuf, Option<SystemTime>)> {
    let mut files = sources::find(named).unwrap_or_default().files;
    files.extend(seen.iter().cloned());
    files.sort();
    files.dedup();
    let stamp = |file: &PathBuf| std::fs::metadata(file).and_then(|data| data.modified()).ok();
    files.into_iter().map(|file| (file.clone(), stamp(&file))).collect()
}

/// One run of all tests.
struct Round<'a> {
    asked: &'a Test,
    cases: Vec<Case>,
    /// The number of files with mistakes.
    bad: usize,
    /// The number of files and folders that cannot be read.
    unread: usize,
    /// The number of tests that the filter left out.
    left_out: usize,
    /// All files that were read.
    seen: Vec<PathBuf>,
    crashes: u64,
    begun: Instant,
}

impl<'a> Round<'a> {
    fn new(asked: &'a Test) -> Round<'a> {
        let begun = Instant::now();
        Round {
            asked,
            cases: Vec::new(),
            bad: 0,
            unread: 0,
            left_out: 0,
            seen: Vec::new(),
            crashes: 0,
            begun,
        }
    }

    /// Returns whether the only file or folder cannot be read, which was reported already.
    fn has_nothing(&self) -> bool {
        self.asked.files.len() == 1 && self.unread > 0 && self.cases.is_empty() && self.bad == 0
    }

    fn run(&mut self) -> Result<(), Problem> {
        let found = sources::find(&self.asked.files)?;
        found.problems.iter().for_each(Problem::show);
        self.unread = found.problems.len();
        for file in found.files {
            self.file(&file)?;
        }
        Ok(())
    }

    fn end(&self) -> Result<u8, Problem> {
        if let Some(path) = &self.asked.junit {
            std::fs::write(path, document(&self.cases)).map_err(|error| {
                let reason = crate::os::reason(&error);
                Problem::new(STORE, format!("{} can't be written: {reason}", path.display()))
            })?;
        }
        if self.has_nothing() {
            return Ok(STORE);
        }
        let failed = self.cases.iter().filter(|case| case.failure.is_some()).count();
        let mut said = vec![format!("{} passed", self.cases.len() - failed)];
        if failed > 0 {
            said.push(format!("{failed} failed"));
        }
        if self.left_out > 0 {
            said.push(format!("{} left out", self.left_out));
        }
        if self.asked.crash.is_some() {
            said.push(count(self.crashes as usize, "crash"));
        }
        let seconds = self.begun.elapsed().as_secs_f64();
        print(&format!("{}, in {seconds:.2} s\n", said.join(", ")))?;
        if self.cases.is_empty() && self.bad + self.unread + self.left_out == 0 {
            note("there are no tests; a test is written `test \"what it shows\" { assert(1 + 1 == 2) }`");
        }
        match (self.bad, failed) {
            _ if self.unread > 0 => {
                Err(Problem::new(STORE, format!("{} that can't be read", count(self.unread, "file"))))
            }
            (1.., _) => Err(Problem::new(INVALID, format!("{} with mistakes", count(self.bad, "file")))),
            (0, 1..) => Ok(FAILED),
            _ => Ok(0),
        }
    }

    fn file(&mut self, file: &Path) -> Result<(), Problem> {
        self.seen.push(file.to_path_buf());
        let checked = match program::read_as(file, with_examples) {
            Ok(checked) => checked,
            Err(problem) => {
                problem.show();
                self.unread += 1;
                return Ok(());
            }
        };
        let names = Shown::new(&checked.sources, file).names;
        self.seen.extend(names.into_iter().map(PathBuf::from).filter(|path| path != file && path.exists()));
        if checked.is_sound() && !checked.globals.iter().any(|global| global.kind == GlobalKind::Test) {
            return Ok(());
        }
        let code = match program::report(&checked, file).and_then(|()| program::code(&checked, file)) {
            Ok(code) => code,
            Err(_) => {
                self.bad += 1;
                return Ok(());
            }
        };
        if program::image(code.clone(), file).is_err() {
            self.bad += 1;
            return Ok(());
        }
        let mut shows_file = true;
        for at in 0..code.tests.len() {
            let name = code.tests[at].name.clone();
            if self.asked.filter.as_ref().is_some_and(|wanted| !name.contains(wanted.as_str())) {
                self.left_out += 1;
                continue;
            }
            if std::mem::take(&mut shows_file) {
                print(&format!("{}\n", file.display()))?;
            }
            self.test(&code, file, at, name)?;
        }
        Ok(())
    }

    fn test(&mut self, code: &Arc<Code>, file: &Path, at: usize, name: String) -> Result<(), Problem> {
        let begun = Instant::now();
        let shown = Shown { colours: false, ..Shown::new(&code.sources, file) };
        let program = Program::new(code.clone(), Subject::Test(at), Data::null());
        let mut printed = Vec::new();
        let mut lasted = 0;
        let failure = match trial(&program, None) {
            Err(stop) => Some(stopped(&shown, stop)),
            Ok(run) => {
                (printed, lasted) = (run.printed.clone(), run.lasted);
                match &run.violation {
                    Some(found) => Some(wrong(&shown, &program, found)),
                    None => match self.asked.crash {
                        Some(most) => self.crashes(&shown, &program, &run, most),
                        None => None,
                    },
                }
            }
        };
        let took = begun.elapsed();
        let virtual_time = match lasted {
            0 => String::new(),
            lasted => format!(", {} in its own time", format::about(lasted)),
        };
        let milliseconds = took.as_secs_f64() * 1e3;
        let figures = format!("({milliseconds:.1} ms{virtual_time})");
        match &failure {
            None => print(&format!("  {} {name} {figures}\n", painted("ok    ", 32)))?,
            Some((_, text)) => {
                print(&format!("  {} {name} {figures}\n", painted("FAILED", 31)))?;
                let mut out = String::new();
                if !printed.is_empty() {
                    out.push_str("it printed\n");
                    printed.iter().for_each(|line| out.push_str(&format!("  {line}\n")));
                }
                out.push_str(text);
                let indented: String = out.lines().map(|line| format!("    {line}\n")).collect();
                print(&indented.replace("    \n", "\n"))?;
            }
        }
        self.cases.push(Case {
            file: file.display().to_string(),
            name,
            seconds: took.as_secs_f64(),
            failure,
            printed,
        });
        Ok(())
    }

    /// Repeats a test that passed, with a crash at each point at which its process could die, or at
    /// `most` of these points.
    fn crashes(
        &mut self,
        shown: &Shown<'_>,
        program: &Program,
        whole: &Trial,
        most: u32,
    ) -> Option<(String, String)> {
        let mut first: Option<(u32, String)> = None;
        let mut wrong_at = 0;
        // A run goes through all points, so the number of runs is limited to keep the total below
        // minutes.
        let most = most.min(MOST_COMMITS / whole.points.max(1)).max(1);
        // The step is odd, since every second point is before a commit.
        let step = whole.points.div_ceil(most) as usize | 1;
        for point in (1..=whole.points).step_by(step) {
            self.crashes += 1;
            let why = match trial(program, Some(Crash { at: point, costs_attempt: true })) {
                Err(stop) => Some(stopped(shown, stop).1),
                Ok(run) => {
                    let why = match &run.violation {
                        Some(found) => Some(wrong(shown, program, found).1),
                        None => differences(whole, &run),
                    };
                    why.filter(|_| !is_only_an_attempt(program, point, whole, &run))
                }
            };
            if let Some(why) = why {
                wrong_at += 1;
                first.get_or_insert((point, why));
            }
        }
        let (point, why) = first?;
        let when = if point % 2 == 1 { "before" } else { "after" };
        let number = point.div_ceil(2);
        let commits = whole.points / 2;
        let title = format!(
            "killed {when} commit {number} of {commits} and gone on with, it does not come to the same"
        );
        let mut text = format!("{title}\n{why}");
        if wrong_at > 1 {
            text.push_str(&format!("the same or other is wrong at {} more\n", count(wrong_at - 1, "point")));
        }
        Some((title, text))
    }
}

/// Returns whether a run with a crash differs from the whole run only in what follows from the
/// attempt that the crash cost, as a later time. An activity that fails because it has no other
/// attempt is more than that.
fn is_only_an_attempt(program: &Program, at: u32, whole: &Trial, broken: &Trial) -> bool {
    if !broken.failed.is_subset(&whole.failed) {
        return false;
    }
    match trial(program, Some(Crash { at, costs_attempt: false })) {
        Ok(run) => run.violation.is_none() && run.observed == whole.observed,
        Err(_) => false,
    }
}

/// The largest number of commits that the runs with crashes of one test make together.
const MOST_COMMITS: u32 = 2_000_000;

/// Returns a program with a test for each example in its doc comments. A line of code is a
/// condition, and so is a comparison between fences that is a statement of its own.
fn with_examples(mut text: String) -> String {
    let entries = reference::of("", &text);
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut add = |name: String, body: &str| {
        // One example may occur in two places.
        let count = known.entry(name.clone()).or_default();
        *count += 1;
        let name = if *count > 1 { format!("{name} ({count})") } else { name };
        let name = format::write(&Value::str(name), 1_000).0;
        text.push_str(&format!("\ntest {name} {{ {body} }}"));
    };
    for entry in &entries {
        for example in entry.examples() {
            let example = example.trim();
            add(format!("doc of {}: {example}", entry.name), &format!("assert({example})"));
        }
        for code in entry.fenced() {
            let first = code.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
            add(format!("doc of {}: {first} …", entry.name), &format!("\n{}\n", asserted(&code)));
        }
    }
    text
}

/// Returns code with its comparisons asserted that are statements of their own.
fn asserted(code: &str) -> String {
    let mut out = String::new();
    let mut at = 0;
    for item in &parse(code, 0).module.items {
        let StmtKind::Expr(expr) = &item.kind else { continue };
        let is_condition = match &expr.kind {
            ExprKind::Binary(op, ..) => op.compares(),
            ExprKind::Unary(op, _) => *op == UnaryOp::Not,
            ExprKind::And(..) | ExprKind::Or(..) => true,
            _ => false,
        };
        let (start, end) = (expr.span.start as usize, expr.span.end as usize);
        if let (true, Some(before), Some(condition)) =
            (is_condition, code.get(at..start), code.get(start..end))
        {
            out.push_str(&format!("{before}assert({condition})"));
            at = end;
        }
    }
    out.push_str(code.get(at..).unwrap_or_default());
    out
}

/// Describes the differences between the observations of two runs, or returns `None` if there are
/// none.
fn differences(whole: &Trial, broken: &Trial) -> Option<String> {
    if whole.observed == broken.observed {
        return None;
    }
    let mut out = String::new();
    let names: std::collections::BTreeSet<&String> =
        whole.observed.keys().chain(broken.observed.keys()).collect();
    for name in names {
        let (a, b) = (whole.observed.get(name), broken.observed.get(name));
        if a != b {
            let of = |text: Option<&String>| text.map_or("nothing", String::as_str).to_string();
            out.push_str(&format!(
                "  {name}\n    without a crash: {}\n    with it:         {}\n",
                of(a),
                of(b)
            ));
        }
    }
    Some(out)
}

/// Returns the description of a failed run: a line, and the whole text.
fn wrong(shown: &Shown<'_>, program: &Program, found: &Violation) -> (String, String) {
    let (title, details) = violation(shown, program, found);
    match found {
        Violation::Uncaught { id, error } if *id == program.main => (error.title(), shown.error(error)),
        Violation::Uncaught { id, error } => {
            (title, format!("{id} failed, and nobody awaited it\n{}", shown.error(error)))
        }
        Violation::Property { at, .. } => {
            let label = [(program.properties[*at].place, "this does not hold".to_string())];
            let text = shown.message(ReportKind::Error, &title, &label, &[], None);
            (title, text)
        }
        _ => {
            let details: String = details.iter().map(|detail| format!("  {detail}\n")).collect();
            (title.clone(), format!("{title}\n{details}"))
        }
    }
}

/// Returns the reason why a run could not continue: a line, and the whole text.
fn stopped(shown: &Shown<'_>, stop: Stop) -> (String, String) {
    match stop {
        Stop::NoMock { request } => {
            let text = no_mock(shown, &request, "tested");
            (text.lines().next().unwrap_or_default().to_string(), text)
        }
        Stop::Endless => {
            let title = "it does not come to an end".to_string();
            (title.clone(), format!("{title}\n  somewhere it goes round for ever\n"))
        }
        other => {
            let title = format!("a fault of durable ({INTERNAL}): {other:?}");
            (title.clone(), title)
        }
    }
}

fn painted(text: &str, colour: u8) -> String {
    match std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        true => format!("\x1b[{colour}m{text}\x1b[0m"),
        false => text.to_string(),
    }
}
