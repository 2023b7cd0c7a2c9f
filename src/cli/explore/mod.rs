//! `durable explore`.

mod report;
mod unseen;

use std::cell::RefCell;
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Instant;

use crate::code::Code;
use crate::explore::schedule::{Saved, Told, name, tell};
use crate::explore::{Found, Limits, RealEngine, Report, Walk, endless, goals, search, walk};
use crate::machine::{Data, Value};
use crate::model::compute_storage::States;
use crate::model::record_replay::Histories;
use crate::model::{Faults, HighLevel, Model, Naming, Program, Stop, Storage, Subject};
use crate::render::Shown;

use super::arguments::{Explore, ModelName};
use super::problem::Problem;
use super::verdict::{count, grouped, violation};
use super::{FAILED, INVALID, STORE, UNKNOWN, USAGE, print, program};

use report::{paint, summary, then};
use unseen::Seen;

/// An exploration: the program, the options and the findings so far.
struct Exploration<'a> {
    asked: &'a Explore,
    code: Arc<Code>,
    shown: &'a Shown<'a>,
    file: &'a Path,
    limits: Limits,
    faults: Faults,
    /// The observations of each subject that was explored completely.
    seen: RefCell<Vec<Seen>>,
}

/// Explores everything that a program can do.
pub fn explore(asked: Explore) -> Result<u8, Problem> {
    let checked = program::read(&asked.file)?;
    program::report(&checked, &asked.file)?;
    let code = program::code(&checked, &asked.file)?;
    program::image(code.clone(), &asked.file)?;
    let shown = Shown::new(&code.sources, &asked.file);
    let saved = match &asked.replay {
        Some(path) => Some(saved(path)?),
        None => None,
    };
    let (crashes, slow, duplicates) = match &saved {
        Some(saved) => (saved.crashes, saved.slow, saved.duplicates),
        None => (asked.crashes.unwrap_or(1), asked.slow, asked.duplicates),
    };
    let exploration = Exploration {
        asked: &asked,
        code: code.clone(),
        shown: &shown,
        file: &asked.file,
        limits: limits(&asked)?,
        faults: Faults { crashes, slow, duplicates },
        seen: RefCell::default(),
    };
    if let Some(saved) = &saved {
        return exploration.replay(saved);
    }
    let subjects = subjects(&code, &asked)?;
    let (mut code_of_all, mut left_out) = (0, Vec::new());
    for subject in &subjects {
        match exploration.subject(*subject) {
            Ok(code) => code_of_all = code_of_all.max(code?),
            Err(stop) => match exploration.reason(&stop).filter(|_| subjects.len() > 1) {
                Some(reason) => left_out.push((*subject, stop, reason)),
                None => return Err(exploration.stopped(*subject, stop)),
            },
        }
    }
    if left_out.len() == subjects.len()
        && let Some((subject, stop, _)) = left_out.first()
    {
        return Err(exploration.stopped(*subject, stop.clone()));
    }
    if asked.model != ModelName::Engine && !asked.outcomes {
        let seen = exploration.seen.take();
        let all = asked.test.is_none() && seen.len() + left_out.len() == subjects.len();
        print(&exploration.unseen(&seen, all))?;
    }
    exploration.left_out(&left_out)?;
    Ok(code_of_all)
}

fn limits(asked: &Explore) -> Result<Limits, Problem> {
    let memory = match &asked.memory {
        None => Limits::default().memory,
        Some(text) => bytes(text).ok_or_else(|| {
            Problem::new(USAGE, format!("`--memory {text}` is no size"))
                .hint("a size is a number with a unit: 500MB, 4GB")
        })?,
    };
    Ok(Limits {
        depth: asked.depth.unwrap_or(usize::MAX),
        configurations: asked.configurations.unwrap_or(u64::MAX),
        memory,
        jobs: asked.jobs.unwrap_or(Limits::default().jobs).max(1),
        reduced: !asked.unreduced,
        collect: asked.outcomes,
    })
}

/// Reads a size such as `500MB`, in bytes.
fn bytes(text: &str) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let unit: u64 = match unit.trim().to_ascii_uppercase().as_str() {
        "KB" | "K" => 1 << 10,
        "MB" | "M" => 1 << 20,
        "GB" | "G" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// Returns the tests to explore, or the script of a file without tests.
fn subjects(code: &Code, asked: &Explore) -> Result<Vec<Subject>, Problem> {
    let Some(wanted) = &asked.test else {
        return Ok(match code.tests.len() {
            0 => vec![Subject::Script],
            n => (0..n).map(Subject::Test).collect(),
        });
    };
    match code.tests.iter().position(|test| test.name == *wanted) {
        Some(at) => Ok(vec![Subject::Test(at)]),
        None => {
            let near = crate::check::closest(wanted, code.tests.iter().map(|test| test.name.as_str()));
            let problem = Problem::new(UNKNOWN, format!("{} has no test {wanted:?}", asked.file.display()));
            Err(match (near, code.tests.is_empty()) {
                (Some(near), _) => problem.hint(format!("did you mean {near:?}?")),
                (None, true) => problem.hint("it has no tests; without `--test` its script is explored"),
                (None, false) => {
                    let names: Vec<String> =
                        code.tests.iter().map(|test| format!("{:?}", test.name)).collect();
                    problem.hint(format!("its tests are {}", names.join(", ")))
                }
            })
        }
    }
}

/// Reads a schedule that `--save` wrote.
fn saved(path: &Path) -> Result<Saved, Problem> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Problem::new(STORE, format!("{} can't be read: {}", path.display(), crate::os::reason(&error)))
    })?;
    serde_json::from_str(&text).map_err(|error| {
        Problem::new(INVALID, format!("{} is no schedule: {error}", path.display()))
            .hint("a schedule is what `durable explore FILE --save SCHEDULE` writes")
    })
}

impl Exploration<'_> {
    fn title(&self, subject: Subject) -> String {
        match subject {
            Subject::Script => self.file.display().to_string(),
            Subject::Test(at) => format!("test {:?}", self.code.tests[at].name),
        }
    }

    /// Describes the faults that a run of the model may have.
    fn faulty(&self) -> String {
        let Faults { crashes, slow, duplicates } = self.faults;
        if self.asked.model == ModelName::HighLevel {
            return String::new();
        }
        let mut faults = vec![count(crashes as usize, "crash")];
        if slow > 0 {
            faults.push(format!("{slow} overtaken"));
        }
        if duplicates > 0 {
            faults.push(format!(
                "{} that come{} twice",
                count(duplicates as usize, "message"),
                if duplicates == 1 { "s" } else { "" }
            ));
        }
        format!(" with up to {}", faults.join(", "))
    }

    fn program(&self, subject: Subject) -> Program {
        let args = Value::list(self.asked.args.iter().map(|arg| Value::str(arg.as_str())).collect());
        let args = Data::encode(&Value::list(vec![args])).unwrap_or_else(|_| Data::null());
        let mut program = Program::new(self.code.clone(), subject, args);
        program.observes = self.asked.outcomes;
        program
    }

    /// Explores a subject. A stop says why the subject cannot be explored.
    fn subject(&self, subject: Subject) -> Result<Result<u8, Problem>, Stop> {
        let mut program = self.program(subject);
        loop {
            let done = match self.asked.model {
                ModelName::HighLevel => self.explored(&HighLevel, &program, subject),
                ModelName::ComputeStorage => {
                    self.explored(&Storage { faults: self.faults, keep: States }, &program, subject)
                }
                ModelName::RecordReplay => {
                    self.explored(&Storage { faults: self.faults, keep: Histories }, &program, subject)
                }
                ModelName::Engine => {
                    self.explored(&RealEngine { crashes: self.faults.crashes }, &program, subject)
                }
            };
            match done {
                Err(Stop::LooksAtNames) if program.naming == Naming::ByPlace => {
                    program.naming = Naming::ByNumber;
                }
                done => return done,
            }
        }
    }

    fn explored<M: Model>(
        &self,
        model: &M,
        program: &Program,
        subject: Subject,
    ) -> Result<Result<u8, Problem>, Stop> {
        let title = self.title(subject);
        let begun = Instant::now();
        let last = Mutex::new(begun);
        let shows = std::io::stderr().is_terminal();
        let progress = |seen: u64, waiting: u64, depth: usize| {
            let Ok(mut last) = last.lock() else { return };
            if shows && last.elapsed().as_millis() > 300 {
                *last = Instant::now();
                let rate = seen as f64 / begun.elapsed().as_secs_f64().max(1e-3);
                let _ = write!(
                    std::io::stderr(),
                    "\r\x1b[K{title}: {} configurations, {} waiting, {depth} steps deep, {} a second",
                    grouped(seen),
                    grouped(waiting),
                    grouped(rate as u64)
                );
            }
        };
        let mut report = search(model, program, &self.limits, &progress)?;
        if shows {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        let notices = std::mem::take(&mut report.notices);
        let to_the_end = !self.asked.may_run_forever && !self.asked.outcomes;
        let mut known = report.bound.is_none();
        if report.found.is_none() && known && !self.asked.outcomes {
            let goals = goals(program, report.rounds, to_the_end);
            (report.found, known) = endless(model, program, &self.limits, &goals)?;
        }
        let engine = self.asked.model == ModelName::Engine;
        let mut out = format!("{title}: {}\n", summary(&report, &self.limits, &self.faulty(), engine));
        if engine && report.found.is_none() {
            out.push_str(
                "  that order is one of many that the models allow: the others were not looked at\n",
            );
        }
        if !known && report.found.is_none() && to_the_end {
            out.push_str("  whether every schedule comes to an end is not known: not all was seen\n");
        }
        if let Some(found) = &report.found {
            let found = self.shortest(model, program, &report, found)?;
            return self.violated(model, program, subject, &out, &found);
        }
        if report.bound.is_none() {
            self.seen.borrow_mut().push(Seen { subject, notices });
        }
        for outcome in &report.outcomes {
            out.push_str("  outcome\n");
            for (name, text) in outcome {
                out.push_str(&format!("    {name}: {text}\n"));
            }
        }
        if report.bound.is_some() && self.asked.walks > 0 {
            let mut steps = 0;
            for seed in self.asked.seed..self.asked.seed + self.asked.walks {
                let walked: Walk<M::Step> = walk(model, program, seed, 10_000)?;
                steps += walked.steps;
                if let Some(found) = walked.found {
                    out.push_str(&format!("  beyond that, the random schedule of seed {seed} went wrong\n"));
                    return self.violated(model, program, subject, &out, &found);
                }
            }
            out.push_str(&format!(
                "  beyond that: {} random schedules with {} steps, nothing wrong\n",
                grouped(self.asked.walks),
                grouped(steps as u64)
            ));
        }
        Ok(print(&out).map(|()| 0))
    }

    /// Returns the shortest schedule. The reduced search may miss it, so a search without reduction
    /// looks for it, within limits.
    fn shortest<M: Model>(
        &self,
        model: &M,
        program: &Program,
        report: &Report<M::Step>,
        found: &Found<M::Step>,
    ) -> Result<Found<M::Step>, Stop> {
        if !self.limits.reduced || !found.cycle.is_empty() {
            return Ok(found.clone());
        }
        let limits = Limits {
            reduced: false,
            configurations: report.configurations.saturating_mul(8).clamp(20_000, 1_000_000),
            depth: found.schedule.len(),
            ..self.limits.clone()
        };
        let again = search(model, program, &limits, &|_, _, _| ())?;
        Ok(again.found.unwrap_or_else(|| found.clone()))
    }

    /// Prints a violation with its schedule.
    fn violated<M: Model>(
        &self,
        model: &M,
        program: &Program,
        subject: Subject,
        said: &str,
        found: &Found<M::Step>,
    ) -> Result<Result<u8, Problem>, Stop> {
        let mut out = said.to_string();
        out.push('\n');
        let steps: Vec<String> = found.schedule.iter().chain(&found.cycle).map(name).collect();
        let turning = found.schedule.len();
        let mut lines = String::new();
        let told = tell(model, program, &steps, found.cycle.len(), &mut |number, line| {
            if number == turning + 1 {
                lines.push_str("  and then, again and again:\n");
            }
            lines.push_str(&self.line(number, line));
            true
        })?;
        let (headline, details) = violation(self.shown, program, &found.violation);
        out.push_str(&format!("  {}\n", paint(&headline)));
        for detail in details {
            out.push_str(&format!("    {detail}\n"));
        }
        out.push_str(&format!("\n  a schedule of {} that leads to it:\n", count(steps.len(), "step")));
        out.push_str(&lines);
        out.push_str(&then(&told));
        if let Err(problem) = self.save(model, program, subject, (steps, found.cycle.len()), &mut out) {
            return Ok(Err(problem));
        }
        Ok(print(&out).map(|()| FAILED))
    }

    fn save<M: Model>(
        &self,
        model: &M,
        program: &Program,
        subject: Subject,
        (steps, turns): (Vec<String>, usize),
        out: &mut String,
    ) -> Result<(), Problem> {
        let file = self.file.display();
        let Some(path) = &self.asked.save else {
            out.push_str(&format!(
                "\n  To keep the schedule: durable explore {file} --save SCHEDULE; to step through it: --replay SCHEDULE\n"
            ));
            return Ok(());
        };
        let Faults { crashes, slow, duplicates } = self.faults;
        let test = match subject {
            Subject::Script => None,
            Subject::Test(at) => Some(self.code.tests[at].name.clone()),
        };
        let (program, model) = (program.code.hash.to_string(), model.name().to_string());
        let saved = Saved { program, model, test, crashes, slow, duplicates, steps, turns };
        let text = serde_json::to_string_pretty(&saved)
            .map_err(|error| Problem::new(STORE, format!("the schedule can't be written: {error}")))?;
        std::fs::write(path, text + "\n").map_err(|error| {
            let reason = crate::os::reason(&error);
            Problem::new(STORE, format!("{} can't be written: {reason}", path.display()))
        })?;
        out.push_str(&format!("\n  Step through it: durable explore {file} --replay {}\n", path.display()));
        Ok(())
    }

    // ---- a schedule again

    fn replay(&self, saved: &Saved) -> Result<u8, Problem> {
        if saved.program != self.code.hash.to_string() {
            super::problem::note("the program has changed since this schedule was saved");
        }
        let subject = match &saved.test {
            None => Subject::Script,
            Some(wanted) => match self.code.tests.iter().position(|test| test.name == *wanted) {
                Some(at) => Subject::Test(at),
                None => {
                    let file = self.file.display();
                    return Err(Problem::new(UNKNOWN, format!("{file} has no test {wanted:?} any more")));
                }
            },
        };
        let mut program = self.program(subject);
        let mut told = self.retell_in(&program, saved);
        if matches!(told, Err(Stop::LooksAtNames)) {
            program.naming = Naming::ByNumber;
            told = self.retell_in(&program, saved);
        }
        let told = told.map_err(|stop| self.stopped(subject, stop))?;
        print(&then(&told))?;
        if told.taken < saved.steps.len() {
            let problem = format!("step {} of the schedule is not possible here", told.taken + 1);
            return Err(Problem::new(FAILED, problem).hint("the program has changed; explore it anew"));
        }
        match &told.violation {
            None if told.turned => {
                let last = count(saved.turns, "step");
                print(&format!(
                    "\n  the last {last} lead back to where they began: this can go on for ever\n"
                ))?;
                Ok(FAILED)
            }
            None => {
                print("\n  nothing is wrong now\n")?;
                Ok(0)
            }
            Some(found) => {
                let (headline, details) = violation(self.shown, &program, found);
                let mut out = format!("\n  {}\n", paint(&headline));
                for detail in details {
                    out.push_str(&format!("    {detail}\n"));
                }
                print(&out)?;
                Ok(FAILED)
            }
        }
    }

    /// Replays a schedule in the model that it was found in.
    fn retell_in(&self, program: &Program, saved: &Saved) -> Result<Told, Stop> {
        match saved.model.as_str() {
            "engine" => self.retell(&RealEngine { crashes: self.faults.crashes }, program, saved),
            "compute-storage" => self.retell(&Storage { faults: self.faults, keep: States }, program, saved),
            "record-replay" => self.retell(&Storage { faults: self.faults, keep: Histories }, program, saved),
            _ => self.retell(&HighLevel, program, saved),
        }
    }

    fn retell<M: Model>(&self, model: &M, program: &Program, saved: &Saved) -> Result<Told, Stop> {
        let steps = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let mut input = std::io::stdin().lock();
        let mut all = false;
        tell(model, program, &saved.steps, saved.turns, &mut |number, line| {
            if print(&self.line(number, line)).is_err() {
                return false;
            }
            if !steps || all {
                return true;
            }
            let _ = write!(std::io::stderr(), "      (Enter: next step, a: all, q: leave) ");
            let mut answer = String::new();
            match input.read_line(&mut answer) {
                Ok(0) | Err(_) => false,
                Ok(_) => {
                    all = answer.trim() == "a";
                    answer.trim() != "q"
                }
            }
        })
    }
}
