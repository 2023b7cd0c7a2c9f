//! Which steps of a high-level configuration are enough to look at: partial-order reduction.
//!
//! A set of steps is enough when whatever the others do first neither takes its steps away nor changes what they
//! lead to, nor adds to them, and when no property can see the difference. Then every run of the others commutes
//! with the set, and what is reached without looking at the others' steps first is all that can be reached (D. Peled,
//! *All from one, one for all*, 1993; the conditions are named after it). The search adds the last condition: if all
//! that a set leads to is known already, it looks at all steps.
//!
//! Two kinds of sets are used:
//!
//! 1. **The turn of an entity.** What an entity takes next is the head of its queue, or of its holder's lane; nothing
//!    but its own step removes that, and arrivals only add behind it. A withdrawal may remove a waiting request of a
//!    critical section; taken first, that request is granted and then released, along the way that the withdrawal
//!    goes too, and the ends are the same. The step is visible if it changes a state that an invariant can look at.
//! 2. **All steps of an instance that nobody else can wake**: each of its requests is a task in flight, or its answer
//!    is on its way. Others may send it events, waits and starts, which it keeps without heeding; only these.
//!
//! Steps that set timers depend on the passing of time, so they are no part of such a set; so are steps that look at
//! others (`status`), that change the world of a mock, or of an instance that somebody may end.
//!
//! `tests/models.rs` compares the outcomes with those of the search without reduction, program by program.

use crate::machine::What;
use crate::syntax::tree::PropertyKind;

use super::high_level::{Config, HighLevel, Step};
use super::instance::{Instance, Open, State};
use super::message::{Id, Message, Name};
use super::{Eval, Evaluator, Model, Stop};

type Steps = super::Steps<HighLevel>;

/// Steps that it is enough to look at, if there are such and they are not all.
pub fn enough(evaluator: &mut Evaluator<'_>, c: &Config) -> Result<Option<Steps>, Stop> {
    if let Some(steps) = turn_of_an_entity(evaluator, c)? {
        return Ok(Some(steps));
    }
    steps_of_an_instance(evaluator, c)
}

fn turn_of_an_entity(evaluator: &mut Evaluator<'_>, c: &Config) -> Result<Option<Steps>, Stop> {
    let facts = &evaluator.program.facts;
    let (reads_clock, world) = (facts.reads_clock, facts.has_world || facts.mocks_look);
    let watched = evaluator.program.properties.iter().any(|p| p.kind == PropertyKind::Invariant);
    for (id, entity) in c.entities.iter() {
        match entity.next() {
            None => {}
            Some(Message::Lock { .. }) => {
                let step = Step::Acquire { entity: id.clone() };
                let next = HighLevel.apply(evaluator, c, &step)?;
                return Ok(Some(vec![(step, next)]));
            }
            Some(_) if reads_clock || world => {}
            Some(_) => {
                let all = entity.operations(id, evaluator, &c.clock(evaluator))?;
                if watched && all.iter().any(|done| done.state.is_some()) {
                    continue;
                }
                let steps = (0..all.len()).map(|outcome| Step::Operate { entity: id.clone(), outcome });
                if let Some(steps) = without_timers(evaluator, c, steps)? {
                    return Ok(Some(steps));
                }
            }
        }
    }
    Ok(None)
}

fn steps_of_an_instance(evaluator: &mut Evaluator<'_>, c: &Config) -> Result<Option<Steps>, Stop> {
    let facts = &evaluator.program.facts;
    if facts.reads_clock || facts.meddles || facts.watches_instances || facts.mocks_look {
        return Ok(None);
    }
    for (id, instance) in c.instances.iter() {
        if !is_left_alone(evaluator, c, id, instance) || !is_safe(c, instance) {
            continue;
        }
        let me = Name::Instance(id.clone());
        let mut steps: Vec<Step> = Vec::new();
        for (from, to) in c.mail.keys().filter(|(_, to)| *to == me) {
            steps.push(Step::Deliver { from: from.clone(), to: to.clone() });
        }
        for (_, seq) in c.tasks.keys().filter(|(owner, _)| owner == id) {
            let count = c.outcomes(evaluator, id, *seq)?.len();
            steps.extend((0..count).map(|outcome| Step::Perform {
                instance: id.clone(),
                seq: *seq,
                outcome,
            }));
        }
        if steps.is_empty() {
            continue;
        }
        if let Some(steps) = without_timers(evaluator, c, steps.into_iter())? {
            return Ok(Some(steps));
        }
    }
    Ok(None)
}

/// The steps with where they lead, if none of them sets a timer.
fn without_timers(
    evaluator: &mut Evaluator<'_>,
    c: &Config,
    steps: impl Iterator<Item = Step>,
) -> Result<Option<Steps>, Stop> {
    let mut all = Vec::new();
    for step in steps {
        let next = HighLevel.apply(evaluator, c, &step)?;
        if next.timers != c.timers {
            return Ok(None);
        }
        all.push((step, next));
    }
    Ok(Some(all))
}

/// Whether nobody else can wake it: all that it waits for is a task in flight, or on its way to it.
fn is_left_alone(evaluator: &Evaluator<'_>, c: &Config, id: &Id, instance: &Instance<Eval>) -> bool {
    if !matches!(instance.state, State::Running(_)) || instance.suspended || instance.has_stale() {
        return false;
    }
    let me = Name::Instance(id.clone());
    if c.timers.has(&me) {
        return false;
    }
    let mail = || c.mail.iter().filter(|((_, to), _)| *to == me).flat_map(|(_, queue)| queue.iter());
    if mail().any(|mail| !matches!(**mail, Message::Answer { .. })) {
        return false;
    }
    let on_its_way = |open: &Open| {
        mail().any(|mail| {
            matches!(&**mail, Message::Answer { seq, execution, .. }
                if *seq == open.name && *execution == instance.execution)
        })
    };
    instance.open.values().all(|open| match &open.asked.what {
        What::Effect("receive") => false,
        What::Activity { name, .. } if evaluator.program.changes_the_world(name) => false,
        _ => c.tasks.contains_key(&(id.clone(), open.name)) || on_its_way(open),
    })
}

/// Whether nobody can end it: it has no caller, or each of its callers waits for nothing else.
fn is_safe(c: &Config, instance: &Instance<Eval>) -> bool {
    let mut parent = instance.parent.clone();
    while let Some(id) = parent {
        let Some(caller) = c.instances.get(&id) else { return false };
        let me = Name::Instance(id.clone());
        let timed = c.timers.has(&me);
        if !matches!(caller.state, State::Running(_)) || caller.open.len() != 1 || timed {
            return false;
        }
        parent = caller.parent.clone();
    }
    true
}
