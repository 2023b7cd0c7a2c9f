//! Events that no schedule showed. A program in which something never happens is not proven right
//! about it.

use std::collections::{BTreeMap, BTreeSet};

use crate::builtins::Effect;
use crate::check::closest;
use crate::code::{FunctionId, Mock, Op, Property};
use crate::model::notices::Notices;
use crate::model::program::reached_functions;
use crate::model::{Program, Subject};
use crate::syntax::Place;

use super::Exploration;

/// The largest number of lines that are listed.
const MOST: usize = 8;

/// A subject whose schedules were all explored, and the observations.
pub(super) struct Seen {
    pub subject: Subject,
    pub notices: Notices,
}

impl Exploration<'_> {
    /// Describes what no schedule showed. `all` means that all tests of the file were explored
    /// completely; only then can notes cover all tests together.
    pub(super) fn unseen(&self, seen: &[Seen], all: bool) -> String {
        let mut together = Notices::default();
        for one in seen {
            together.add(one.notices.clone());
        }
        let mut notes: BTreeSet<(Place, String)> = BTreeSet::new();
        for Seen { subject, notices } in seen {
            let Subject::Test(at) = subject else { continue };
            let own = &self.code.tests[*at].trials;
            self.mocks(&own.mocks, notices, &mut notes);
            self.properties(&own.properties, notices, &mut notes);
            self.raised(notices, &mut notes);
        }
        if all && !seen.is_empty() {
            self.mocks(&self.code.trials.mocks, &together, &mut notes);
            self.properties(&self.code.trials.properties, &together, &mut notes);
            self.raised(&together, &mut notes);
            for (name, place) in
                together.received.iter().filter(|(name, _)| !together.raised.contains_key(*name))
            {
                let near = closest(name, together.raised.keys().map(String::as_str));
                notes.insert((*place, format!("nobody raises the event {name:?}{}", meant(near))));
            }
            self.lines(seen, &together, &mut notes);
        }
        if notes.is_empty() {
            return String::new();
        }
        let mut out = String::from("\nnot seen, under any schedule:\n");
        for (place, note) in notes.iter().take(MOST) {
            out.push_str(&format!("  {}: {note}\n", self.shown.locate(*place)));
        }
        if notes.len() > MOST {
            out.push_str(&format!("  and {} more\n", notes.len() - MOST));
        }
        out
    }

    fn mocks(&self, mocks: &[Mock], notices: &Notices, notes: &mut BTreeSet<(Place, String)>) {
        for mock in mocks.iter().filter(|mock| !notices.mocks.contains(&mock.place)) {
            notes.insert((mock.place, format!("the mock of `{}` is never called", name_of(mock))));
        }
    }

    fn properties(&self, properties: &[Property], notices: &Notices, notes: &mut BTreeSet<(Place, String)>) {
        for property in properties {
            let of = notices.looked.iter().filter(|((place, _), _)| *place == property.place);
            for ((_, what), _) in of.filter(|(_, there)| !**there) {
                let note = match what.starts_with("the instance ") {
                    true => format!("{:?} looks at {what}, which there never is", property.name),
                    false => format!("{:?} looks at {what}, whose state nothing ever changes", property.name),
                };
                notes.insert((property.place, note));
            }
        }
    }

    fn raised(&self, notices: &Notices, notes: &mut BTreeSet<(Place, String)>) {
        for (name, place) in notices.raised.iter().filter(|(name, _)| !notices.received.contains_key(*name)) {
            let near = closest(name, notices.received.keys().map(String::as_str));
            notes.insert((*place, format!("nobody receives the event {name:?}{}", meant(near))));
        }
    }

    fn text(&self, place: Place) -> &str {
        let file = self.code.sources.files.get(place.source as usize);
        let span = place.span.start as usize..place.span.end as usize;
        file.and_then(|file| file.text.get(span)).unwrap_or_default()
    }

    /// Notes the lines of the tests, and of the functions that they may call, that were never
    /// reached.
    fn lines(&self, seen: &[Seen], together: &Notices, notes: &mut BTreeSet<(Place, String)>) {
        let code = &self.code;
        let programs: Vec<Program> = seen.iter().map(|one| self.program(one.subject)).collect();
        // The body of an activity that is always mocked does not count.
        let mocked = |name: &str| programs.iter().all(|program| program.mock(name, true).is_some());
        let bodies: Vec<FunctionId> =
            code.isolated.iter().filter(|item| mocked(&item.name)).map(|item| item.body).collect();
        let roots: Vec<FunctionId> = programs.iter().map(Program::function).collect();
        let executed = |id: FunctionId| {
            let ops = 0..code.functions[id as usize].ops.len();
            ops.into_iter().any(|pc| together.executed.has(id, pc))
        };
        let mut functions: BTreeSet<FunctionId> =
            reached_functions(code, roots, bodies).into_iter().collect();
        functions.extend((0..code.functions.len() as FunctionId).filter(|id| executed(*id)));
        // A stub stands for an activity or an orchestration at a call. A call that only starts an
        // instance does not run the stub.
        for item in &code.isolated {
            functions.remove(&item.stub);
        }
        // By source and line: the place where the line begins, and whether any of it was executed.
        let mut lines: BTreeMap<(u32, usize), (Place, bool)> = BTreeMap::new();
        for id in functions {
            for (pc, op) in code.functions[id as usize].ops.iter().enumerate() {
                let place = code.place(id, pc);
                let was = together.executed.has(id, pc);
                let own = !matches!(
                    op,
                    Op::Jump { .. }
                        | Op::Repeat { .. }
                        | Op::Null { .. }
                        | Op::Return { .. }
                        | Op::EndTry
                        | Op::NoMatch { .. }
                );
                // An expression of several lines is covered by its parts.
                let spans = self.text(place).contains('\n');
                if !self.shown.is_ours(place) || !(own && !spans || was) {
                    continue;
                }
                let (line, _) = code.sources.line_column(place);
                let known = lines.entry((place.source, line)).or_insert((place, false));
                known.1 |= was;
            }
        }
        let missing = lines.iter().filter(|(_, (_, was))| !was);
        let mut last: Option<(u32, usize)> = None;
        for ((source, line), (place, _)) in missing {
            let text = self.shown.line(*place);
            // The author of this assertion expects that it is never reached.
            if text.contains("assert(false") {
                continue;
            }
            let asserts = text.contains("assert");
            // Consecutive lines make one note.
            let follows = last == Some((*source, line - 1)) && !asserts;
            last = Some((*source, *line));
            if !follows {
                let what = if asserts { "never evaluated" } else { "never reached" };
                notes.insert((*place, format!("{what}: {text}")));
            }
        }
    }
}

fn meant(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default()
}

/// A mock's name, as it is written.
fn name_of(mock: &Mock) -> String {
    let effect = Effect::find(&mock.target).filter(|_| !mock.is_activity);
    effect.map_or_else(|| mock.target.clone(), Effect::mocked_as)
}
