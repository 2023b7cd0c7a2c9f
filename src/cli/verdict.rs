//! Violations in a run of a program under mocks, as text for people.

use ariadne::ReportKind;

use crate::builtins::Effect;
use crate::machine::RequestKind;
use crate::model::instance::Anomaly;
use crate::model::message::{Asked, Id, describe};
use crate::model::{Program, Violation};
use crate::syntax::Place;
use crate::syntax::tree::PropertyKind;

use crate::render::Shown;

/// Returns the headline of a violation, and its details.
pub fn violation(shown: &Shown<'_>, program: &Program, violation: &Violation) -> (String, Vec<String>) {
    let at = |place: Place| shown.locate(place);
    let detail = |(id, what, place): &(Id, String, Option<Place>)| match place {
        Some(place) => format!("{id} waits for {what}, {}", at(*place)),
        None => format!("{id} waits {what}"),
    };
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
        Violation::Anomaly(Anomaly::Lost { what, error }) => {
            let error = (**error).as_ref().err().map(|error| error.title()).unwrap_or_default();
            (format!("a message is lost: {what}"), vec![error])
        }
        Violation::Anomaly(Anomaly::Repeated { by, asked }) => (
            format!("{by} asks for {} again, with another idempotency key", describe(asked)),
            vec![
                "the attempt before may have done its work although it gave no result".to_string(),
                "let the activity be tried again `with {retry: {…}}`: each attempt then has the same key"
                    .to_string(),
                at(asked.place),
            ],
        ),
        Violation::Anomaly(Anomaly::Broken { at: index, why }) => {
            let property = &program.properties[*index];
            (format!("the invariant {:?} does not hold: {why}", property.name), vec![at(property.place)])
        }
        Violation::Uncaught { id, error } => {
            let mut details = Vec::new();
            for entry in error.trace.entries.iter().filter(|entry| shown.is_ours(entry.place)).take(3) {
                details.push(format!("in {}, {}", entry.function, at(entry.place)));
            }
            (format!("{id} fails: {}", error.title()), details)
        }
        Violation::Deadlock { waits } => {
            let waits = waits.iter().map(detail).collect();
            ("nothing can happen any more, and these still wait".to_string(), waits)
        }
        Violation::NeverEnds { stuck, waits } => {
            let headline = match stuck {
                true => "main can't end any more: the schedule goes on for ever",
                false => "main may never end: the schedule can go on for ever",
            };
            let mut details: Vec<String> = waits.iter().map(detail).collect();
            details.push("if it is to go on for ever: `--may-run-forever`".to_string());
            (headline.to_string(), details)
        }
        Violation::Leaked { entity, holder } => {
            (format!("{entity} is held at the end by {holder}, which has ended"), Vec::new())
        }
        Violation::Endless { at: index } => {
            let property = &program.properties[*index];
            let headline = format!("the schedule can go on for ever, and {:?} never holds", property.name);
            (headline, vec![at(property.place)])
        }
    }
}

/// Returns the name of an external effect, as a mock names it.
pub fn outside(request: &Asked) -> String {
    match &request.what {
        RequestKind::Effect(Effect::Extern) => {
            request.args.items().first().map(crate::machine::format::display).unwrap_or_default()
        }
        RequestKind::Effect(effect) => effect.mocked_as(),
        RequestKind::Activity { name, .. } => name.clone(),
        _ => "it".to_string(),
    }
}

/// Returns the message that an external effect has no mock, in a program that is `explored`.
pub fn no_mock(shown: &Shown<'_>, request: &Asked, explored: &str) -> String {
    let name = outside(request);
    let label = [(request.place, "asked for here".to_string())];
    let notes = [match request.what {
        RequestKind::Activity { .. } => {
            format!("it calls an entity, and when a program is {explored}, an activity is a single step")
        }
        _ => format!("what is outside is not touched when a program is {explored}"),
    }];
    let hint = format!("say what can come of it: `mock {name} with fn (…) => …, fn (…) => throw {{…}}`");
    let labels = if shown.is_ours(request.place) { &label[..] } else { &[] };
    shown.message(ReportKind::Error, &format!("`{name}` has no mock"), labels, &notes, Some(&hint))
}

/// Returns a count with its noun, such as `3 crashes`.
pub fn count(n: usize, what: &str) -> String {
    let plural = match (n, what.ends_with("sh")) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{} {what}{plural}", grouped(n as u64))
}

/// Returns a number with separators, such as `1,234,567`.
pub fn grouped(n: u64) -> String {
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
