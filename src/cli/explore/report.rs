//! Reports of an exploration, for people.

use std::io::IsTerminal;

use crate::explore::schedule::{Line, Told};
use crate::explore::{Bound, Limits, Report};
use crate::model::{Stop, Subject};
use crate::render::{coloured, show};

use super::super::problem::Problem;
use super::super::verdict::{count, grouped, no_mock, outside};
use super::super::{INTERNAL, INVALID, print};
use super::Exploration;

impl Exploration<'_> {
    /// Returns a step of a schedule with its changes, as text.
    pub(super) fn line(&self, number: usize, line: &Line) -> String {
        let place = line.shown.place.filter(|place| self.shown.is_ours(*place));
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

    /// Returns the reason why one of several subjects cannot be explored, in a line. Returns `None`
    /// if the exploration of the others must stop too.
    pub(super) fn reason(&self, stop: &Stop) -> Option<String> {
        let (what, place) = match stop {
            Stop::NoMock { request } => (format!("`{}` has no mock", outside(request)), request.place),
            Stop::Looks { request } => ("it looks at states".to_string(), request.place),
            _ => return None,
        };
        let place = Some(place).filter(|place| self.shown.is_ours(*place));
        Some(place.map_or(what.clone(), |place| format!("{what}, {}", self.shown.locate(place))))
    }

    /// Prints which of several subjects could not be explored.
    pub(super) fn left_out(&self, left_out: &[(Subject, Stop, String)]) -> Result<(), Problem> {
        if left_out.is_empty() {
            return Ok(());
        }
        let mut out = String::from("\nleft out, since they can't be explored:\n");
        for (subject, _, reason) in left_out {
            out.push_str(&format!("  {}: {reason}\n", self.title(*subject)));
        }
        print(&out)
    }

    /// Returns the problem that a subject cannot be explored.
    pub(super) fn stopped(&self, subject: Subject, stop: Stop) -> Problem {
        let title = self.title(subject);
        match stop {
            Stop::NoMock { request } => {
                show(&no_mock(self.shown, &request, "explored"));
                Problem::new(INVALID, format!("{title} can't be explored"))
            }
            Stop::Looks { request } => {
                let label =
                    [(request.place, "what this gives differs from schedule to schedule".to_string())];
                let hint = "`durable test` runs it; to explore, look in a property: `eventually \"…\" { state_of(…) == … }`";
                show(&self.shown.message(
                    ariadne::ReportKind::Error,
                    "a test that looks at states",
                    &label,
                    &[],
                    Some(hint),
                ));
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

/// Returns the final states of a schedule, as text.
pub(super) fn then(told: &Told) -> String {
    let mut out = "\n  then\n".to_string();
    for (name, text) in &told.states {
        out.push_str(&format!("    {name} {text}\n"));
    }
    out
}

/// Summarises the coverage of a search.
pub(super) fn summary<S>(report: &Report<S>, limits: &Limits, faults: &str, engine: bool) -> String {
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
            let under = match engine {
                true => " in the engine's own order, whatever comes of what is outside,",
                false => ", under any schedule",
            };
            format!("nothing goes wrong{under}{faults}; {figures}, {deep} steps deep")
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

pub(super) fn paint(text: &str) -> String {
    match std::io::stdout().is_terminal() && coloured() {
        true => format!("\x1b[31m{text}\x1b[0m"),
        false => text.to_string(),
    }
}
