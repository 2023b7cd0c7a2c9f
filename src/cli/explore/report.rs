//! What exploring has found, for people.

use std::io::IsTerminal;

use ariadne::ReportKind;

use crate::explore::schedule::{Line, Told};
use crate::explore::{Bound, Limits, Report};
use crate::machine::What;
use crate::model::instance::Trouble;
use crate::model::message::{Id, describe};
use crate::model::{Program, Stop, Subject, Violation};
use crate::syntax::Place;
use crate::syntax::tree::PropertyKind;

use super::super::problem::{Problem, coloured};
use super::super::render::show;
use super::super::{INTERNAL, INVALID};
use super::Exploration;

impl Exploration<'_> {
    /// A step of a schedule, and what it changes.
    pub(super) fn line(&self, number: usize, line: &Line) -> String {
        let place = line.shown.place.filter(|place| self.is_ours(*place));
        let place = place.map_or(String::new(), |place| self.shown.locate(place));
        let mut text = format!("{number:4}  {:<16} {}", line.shown.who, line.shown.what);
        if !place.is_empty() {
            text = format!("{text:<72}  {place}");
        }
        text.push('\n');
        for change in &line.changes {
            text.push_str(&format!("{:23}→ {change}\n", ""));
        }
        text
    }

    pub(super) fn is_ours(&self, place: Place) -> bool {
        let file = self.code.sources.files.get(place.source as usize);
        file.is_some_and(|file| !file.name.starts_with(crate::check::STD))
    }

    /// What is wrong: a line, and more.
    pub(super) fn violation(&self, program: &Program, violation: &Violation) -> (String, Vec<String>) {
        let at = |place: Place| self.shown.locate(place);
        match violation {
            Violation::Property { at: index, why } => {
                let property = &program.properties[*index];
                let what = match property.kind {
                    PropertyKind::Invariant => "the invariant",
                    PropertyKind::Eventually => "at the end,",
                };
                let headline = format!("{what} {:?} does not hold: {why}", property.name);
                (headline, vec![at(property.place)])
            }
            Violation::Trouble(Trouble::Lost { what, error }) => {
                let error = (**error).as_ref().err().map(|error| error.title()).unwrap_or_default();
                (format!("a message is lost: {what}"), vec![error])
            }
            Violation::Trouble(Trouble::Repeated { by, asked }) => (
                format!("{by} asks for {} again, with another idempotency key", describe(asked)),
                vec![
                    "the attempt before may have done its work although it gave no result".to_string(),
                    "let the activity be tried again `with {retry: {…}}`: each attempt then has the same key"
                        .to_string(),
                    at(asked.place),
                ],
            ),
            Violation::Trouble(Trouble::Broken { at: index, why }) => {
                let property = &program.properties[*index];
                (format!("the invariant {:?} does not hold: {why}", property.name), vec![at(property.place)])
            }
            Violation::Uncaught { id, error } => {
                let mut details = Vec::new();
                for entry in error.trace.entries.iter().filter(|entry| self.is_ours(entry.place)).take(3) {
                    details.push(format!("in {}, {}", entry.function, at(entry.place)));
                }
                (format!("{id} fails: {}", error.title()), details)
            }
            Violation::Deadlock { waits } => {
                let detail = |(id, what, place): &(Id, String, Option<Place>)| match place {
                    Some(place) => format!("{id} waits for {what}, {}", at(*place)),
                    None => format!("{id} waits {what}"),
                };
                (
                    "nothing can happen any more, and these still wait".to_string(),
                    waits.iter().map(detail).collect(),
                )
            }
            Violation::Leaked { entity, holder } => {
                (format!("{entity} is held at the end by {holder}, which has ended"), Vec::new())
            }
            Violation::Endless { at: index } => {
                let property = &program.properties[*index];
                let headline =
                    format!("the schedule can go on for ever, and {:?} never holds", property.name);
                (headline, vec![at(property.place)])
            }
        }
    }

    /// Why something can't be explored.
    pub(super) fn stopped(&self, subject: Subject, stop: Stop) -> Problem {
        let title = self.title(subject);
        match stop {
            Stop::NoMock { request } => {
                let name = match &request.what {
                    What::Effect("http") => "http.request".to_string(),
                    What::Effect(name) if name.starts_with("fs_") => name.replace("fs_", "fs."),
                    What::Effect(name) => name.to_string(),
                    _ => "it".to_string(),
                };
                let label = [(request.place, "asked for here".to_string())];
                let notes = ["what is outside is not touched when a program is explored".to_string()];
                let hint =
                    format!("say what can come of it: `mock {name} with fn(…) => …, fn(…) => throw {{…}}`");
                let headline = format!("`{name}` has no mock");
                let labels = if self.is_ours(request.place) { &label[..] } else { &[] };
                show(&self.shown.message(ReportKind::Error, &headline, labels, &notes, Some(&hint)));
                Problem::new(INVALID, format!("{title} can't be explored"))
            }
            Stop::Endless => Problem::new(INVALID, format!("{title} computes without an end"))
                .hint("somewhere it loops without asking for anything"),
            Stop::Nondeterminism { id } => {
                Problem::new(INTERNAL, format!("{title}: the replay of {id} asked for something else"))
            }
            Stop::LooksAtNames => Problem::new(INTERNAL, format!("{title}: names are needed")),
            Stop::Fault(reason) => Problem::new(INTERNAL, format!("{title}: {reason}")),
        }
    }
}

/// What everyone has come to.
pub(super) fn then(told: &Told) -> String {
    let mut out = "\n  then\n".to_string();
    for (name, text) in &told.states {
        out.push_str(&format!("    {name} {text}\n"));
    }
    out
}

/// What a search has covered.
pub(super) fn summary<S>(report: &Report<S>, limits: &Limits, faults: &str) -> String {
    let seconds = report.took.as_secs_f64();
    let rate = report.configurations as f64 / seconds.max(1e-6);
    let figures = format!(
        "{} in {seconds:.2} s, {} a second, {} MB",
        count(report.configurations as usize, "configuration"),
        grouped(rate as u64),
        report.memory >> 20
    );
    let deep = report.depth;
    let left = grouped(report.left);
    match (&report.found, report.bound) {
        (Some(_), _) => format!("something goes wrong; {figures}"),
        (None, None) => {
            format!("nothing goes wrong, under any schedule{faults}; {figures}, {deep} steps deep")
        }
        (None, Some(Bound::Depth)) => format!(
            "nothing goes wrong in any schedule of up to {} steps{faults}; {left} configurations lie beyond; {figures}",
            limits.depth
        ),
        (None, Some(bound)) => {
            let why = match bound {
                Bound::Memory => "the memory is used up",
                _ => "the limit of configurations is reached",
            };
            format!(
                "nothing goes wrong in any schedule of up to {deep} steps{faults}, nor in what was seen of longer ones; \
                 then {why}, and {left} configurations were not looked further from; {figures}"
            )
        }
    }
}

pub(super) fn count(n: usize, what: &str) -> String {
    let plural = match (n, what.ends_with("sh")) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{} {what}{plural}", grouped(n as u64))
}

/// `1,234,567`.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

pub(super) fn paint(text: &str) -> String {
    match std::io::stdout().is_terminal() && coloured() {
        true => format!("\x1b[31m{text}\x1b[0m"),
        false => text.to_string(),
    }
}
