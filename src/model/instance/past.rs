//! What a rewinding needs to know of an instance: what it was given, step by step, and what that led to.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use crate::builtins::Effect;
use crate::machine::{Data, RequestKind, child_id, format, later_child_id, options};

use super::super::evaluate::{Evaluated, Evaluator, Stop};
use super::super::lives::Execution;
use super::super::message::{Answer, Asked, Id};
use super::super::part::Part;
use super::{Instance, Step};

/// What an instance was given in its execution. It is empty unless the operator may rewind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// With which arguments the execution began; none when it is the first.
    pub(super) args: Option<Data>,
    pub(super) given: Vec<Part<Given>>,
    /// At its end it asked for a critical section, or held one.
    pub(super) in_section: bool,
}

// Nothing is added to the hash of what can't be rewound.
impl Hash for Past {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if *self != Past::default() {
            (u64::MAX, &self.args, &self.given, self.in_section).hash(state);
        }
    }
}

/// An answer that an instance evaluated with, and what followed from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Given {
    /// The request that it answers.
    pub seq: u64,
    pub result: Answer,
    /// The number of the next request then.
    pub first: u64,
    pub asked: Vec<(u64, Asked)>,
    pub withdrawn: Vec<u64>,
}

/// The steps that an instance asks again when it goes back, and those of its requests that are for other instances.
pub struct FailedSteps {
    /// Those whose errors ended it.
    pub fatal: BTreeSet<u64>,
    /// Those and all others whose errors it did not handle.
    pub all: BTreeSet<u64>,
    /// Whom they call or wait for.
    pub again: Vec<(u64, Target)>,
    /// Whom the requests call or wait for that have no success.
    pub open: Vec<(u64, Target)>,
}

/// The instance that a request calls or waits for.
pub struct Target {
    pub id: Id,
    pub is_called: bool,
    pub is_detached: bool,
}

impl<E> Instance<E> {
    /// The arguments with which its execution began.
    pub(super) fn args_of_execution(&self) -> Data {
        self.past.args.clone().unwrap_or_else(|| self.args.clone())
    }

    /// All that it asked for, by number.
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

    /// The steps that it failed by, by provenance; none if it failed by itself, or in a critical section.
    pub fn failed_steps(&self, evaluator: &mut Evaluator<'_>, id: &Id) -> Result<Option<FailedSteps>, Stop> {
        let (mut fatal, mut all) = (BTreeSet::new(), BTreeSet::new());
        if self.has_failed() {
            let machine = self.with_numbers(evaluator, id)?;
            fatal.extend(machine.failed_by().iter().copied());
            all.extend(fatal.iter().copied().chain(machine.unhandled()));
        }
        let requests = self.requests(evaluator, id)?;
        let is_lock =
            |seq: &u64| requests.get(seq).is_some_and(|it| it.what == RequestKind::Effect(Effect::Lock));
        if self.past.in_section || all.iter().any(is_lock) || (self.has_failed() && fatal.is_empty()) {
            return Ok(None);
        }
        let target = |seq: u64| Some((seq, self.target(id, seq, requests.get(&seq)?)?));
        let again = all.iter().filter_map(|seq| target(*seq)).collect();
        let is_open = |seq: &u64| !self.came(*seq).is_some_and(|came| came.is_ok());
        let open = self.open.values().map(|open| open.name).filter(is_open).filter_map(target).collect();
        Ok(Some(FailedSteps { fatal, all, again, open }))
    }

    /// The machine that was given what it was, its requests by their numbers.
    pub(super) fn with_numbers(
        &self,
        evaluator: &mut Evaluator<'_>,
        id: &Id,
    ) -> Result<crate::machine::Machine, Stop> {
        let given = self.past.given.iter().map(|given| (given.first, given.seq, &given.result));
        evaluator.run_through(&self.function, &self.args_of_execution(), id, self.attempt, given)
    }

    /// Whom a request calls or waits for.
    pub(super) fn target(&self, id: &Id, seq: u64, asked: &Asked) -> Option<Target> {
        match &asked.what {
            RequestKind::Orchestration { options, start: false, .. } => {
                let child = options::child(&options.decode()).unwrap_or_default();
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

/// The automatic id of a child.
pub(super) fn automatic(id: &Id, execution: Execution, number: u64) -> Id {
    match execution.number {
        0 => child_id(id, number).into(),
        execution => later_child_id(id, execution, number).into(),
    }
}

impl Step<'_, '_> {
    /// Notes what it evaluates with, before that is taken in.
    pub(super) fn note(&mut self, seq: u64, result: &Answer, evaluated: &Evaluated) {
        if self.evaluator.program.interventions.rewinds == 0 {
            return;
        }
        let first = self.me.next;
        let given = given(&self.me, first, seq, result, evaluated);
        self.me.past.given.push(Part::new(given));
    }
}

/// What followed from an answer when requests are numbered from `first`.
pub(super) fn given<E>(
    me: &Instance<E>,
    first: u64,
    seq: u64,
    result: &Answer,
    evaluated: &Evaluated,
) -> Given {
    let asked = evaluated.requests.iter().map(|(_, offset, asked)| (first + offset, asked.clone()));
    let withdrawn = evaluated.withdrawn.iter().filter_map(|fiber| Some(me.open.get(fiber)?.name));
    Given { seq, result: result.clone(), first, asked: asked.collect(), withdrawn: withdrawn.collect() }
}
