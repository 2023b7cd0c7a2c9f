//! The past that a rewind needs: the answers that an instance got, step by step, and their
//! consequences.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use crate::builtins::Effect;
use crate::machine::{Cancellation, Data, RequestKind, child_id, format, later_child_id, options};

use super::super::evaluate::{Evaluated, Evaluator, Stop};
use super::super::lives::Execution;
use super::super::message::{Answer, Asked, Id};
use super::super::part::Part;
use super::{Instance, Step};

/// The past of an instance in its execution. It is empty unless the operator may rewind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// The arguments with which the execution began; `None` for the first execution.
    pub(super) args: Option<Data>,
    pub(super) given: Vec<Part<Given>>,
    /// Whether the instance asked for a critical section or held one at its end.
    pub(super) in_section: bool,
}

// An empty past adds nothing to the hash.
impl Hash for Past {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if *self != Past::default() {
            (u64::MAX, &self.args, &self.given, self.in_section).hash(state);
        }
    }
}

/// Something that an instance evaluated with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The answer to a request.
    Answer(u64, Answer),
    Cancel(Part<Cancellation>),
}

/// An input of an instance, and its consequences.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Given {
    pub input: Input,
    /// The number of the next request at that time.
    pub first: u64,
    pub asked: Vec<(u64, Asked)>,
    pub withdrawn: Vec<u64>,
}

/// The steps that a rewind repeats, and those requests that are for other instances.
pub struct FailedSteps {
    /// The steps whose errors ended the instance.
    pub fatal: BTreeSet<u64>,
    /// These steps, and all others whose errors the instance did not handle.
    pub all: BTreeSet<u64>,
    /// The instances that these steps call or wait for.
    pub again: Vec<(u64, Target)>,
    /// The instances that open requests without a success call or wait for.
    pub open: Vec<(u64, Target)>,
}

/// The instance that a request calls or waits for.
pub struct Target {
    pub id: Id,
    pub is_called: bool,
    pub is_detached: bool,
}

impl<E> Instance<E> {
    /// Returns the arguments with which the execution began.
    pub(super) fn args_of_execution(&self) -> Data {
        self.past.args.clone().unwrap_or_else(|| self.args.clone())
    }

    /// Returns all requests of the execution, by number.
    pub(super) fn requests(
        &self,
        evaluator: &mut Evaluator<'_>,
        id: &Id,
    ) -> Result<BTreeMap<u64, Asked>, Stop> {
        let first = evaluator.begin(&self.function, &self.args_of_execution(), id, self.attempt)?;
        let first = first.requests.iter().map(|(_, number, asked)| (*number, asked.clone()));
        let later = self.past.given.iter().flat_map(|given| given.asked.iter().cloned());
        Ok(first.chain(later).collect())
    }

    /// Returns the steps by which the instance failed, by provenance. Returns `None` if it failed
    /// by itself, or if a critical section is involved.
    /// With `undoes`, it goes back as if it had not been cancelled.
    pub fn failed_steps(
        &self,
        evaluator: &mut Evaluator<'_>,
        id: &Id,
        undoes: bool,
    ) -> Result<Option<FailedSteps>, Stop> {
        let (mut fatal, mut all) = (BTreeSet::new(), BTreeSet::new());
        let was_cancelled = self.past.given.iter().any(|given| matches!(given.input, Input::Cancel(_)));
        let fails_again = !(undoes && was_cancelled);
        if self.has_failed() {
            let machine = self.with_numbers(evaluator, id)?;
            fatal.extend(machine.failed_by().iter().copied());
            all.extend(fatal.iter().copied().chain(machine.unhandled()));
        }
        let requests = self.requests(evaluator, id)?;
        let is_lock =
            |seq: &u64| requests.get(seq).is_some_and(|it| it.what == RequestKind::Effect(Effect::Lock));
        if self.past.in_section
            || all.iter().any(is_lock)
            || (self.has_failed() && fatal.is_empty() && fails_again)
        {
            return Ok(None);
        }
        let target = |seq: u64| Some((seq, self.target(id, seq, requests.get(&seq)?)?));
        let again = all.iter().filter_map(|seq| target(*seq)).collect();
        let is_open = |seq: &u64| !self.came(*seq).is_some_and(|came| came.is_ok());
        let open = self.open.values().map(|open| open.name).filter(is_open).filter_map(target).collect();
        Ok(Some(FailedSteps { fatal, all, again, open }))
    }

    /// Returns the machine after all answers of the past, with its requests by their numbers.
    pub(super) fn with_numbers(
        &self,
        evaluator: &mut Evaluator<'_>,
        id: &Id,
    ) -> Result<crate::machine::Machine, Stop> {
        let given = self.past.given.iter().map(|given| (given.first, &given.input));
        evaluator.run_through(&self.function, &self.args_of_execution(), id, self.attempt, given)
    }

    /// Returns the instance that a request calls or waits for, if there is one.
    pub(super) fn target(&self, id: &Id, seq: u64, asked: &Asked) -> Option<Target> {
        match &asked.what {
            RequestKind::Orchestration { options, start: false, .. } => {
                let child = options::recorded_child(options);
                let id = child.id.map_or_else(|| automatic(id, self.execution, seq), Id::from);
                Some(Target { id, is_called: true, is_detached: child.detached })
            }
            RequestKind::Effect(Effect::Wait) => {
                let id = asked.args.items().first().map(format::display).unwrap_or_default();
                Some(Target { id: id.into(), is_called: false, is_detached: true })
            }
            _ => None,
        }
    }
}

/// Returns the automatic id of a child.
pub(super) fn automatic(id: &Id, execution: Execution, number: u64) -> Id {
    match execution.number {
        0 => child_id(id, number).into(),
        execution => later_child_id(id, execution, number).into(),
    }
}

impl Step<'_, '_> {
    /// Notes an input of the evaluation, before its consequences are applied.
    pub(super) fn note(&mut self, input: &Input, evaluated: &Evaluated) {
        if self.evaluator.program.interventions.rewinds == 0 {
            return;
        }
        let first = self.me.next;
        let given = given(&self.me, first, input, evaluated);
        self.me.past.given.push(Part::new(given));
    }
}

/// Returns the record of an input, if requests are numbered from `first`.
pub(super) fn given<E>(me: &Instance<E>, first: u64, input: &Input, evaluated: &Evaluated) -> Given {
    let asked = evaluated.requests.iter().map(|(_, offset, asked)| (first + offset, asked.clone()));
    let withdrawn = evaluated.withdrawn.iter().filter_map(|fiber| Some(me.open.get(fiber)?.name));
    Given { input: input.clone(), first, asked: asked.collect(), withdrawn: withdrawn.collect() }
}
