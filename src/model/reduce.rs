//! Which steps of a high-level configuration are enough to look at: partial-order reduction.
//!
//! A set of steps is enough when whatever the others do first neither takes its steps away nor changes what they
//! lead to, nor adds to them, and when no property can see the difference. Then every run of the others commutes
//! with the set, and what is reached without looking at the others' steps first is all that can be reached (D. Peled,
//! *All from one, one for all*, 1993; the conditions are named after it). The search adds the last condition: if all
//! that a set leads to is known already, it looks at all steps.
//!
//! Three kinds of sets are used:
//!
//! 1. **The beginning of a child** that the program didn't name, where it can't see the names that are made: nobody but its
//!    caller can send it anything before, and what the caller sends comes after.
//! 2. **The turn of an entity.** What an entity takes next is the head of its queue, or of its holder's lane; nothing
//!    but its own step removes that, and arrivals only add behind it. A withdrawal may remove a waiting request of a
//!    critical section; taken first, that request is granted and then released, along the way that the withdrawal
//!    goes too, and the ends are the same. The step is visible if it changes a state that an invariant can look at.
//! 3. **All steps of an instance that nobody else can wake**: each of its requests is a task in flight, or its answer
//!    is on its way. Others may wait for its end; they learn it, whether they ask before it or after.
//!
//! An instance that its caller may end, because it waits for others too, is one of the third kind as long as its steps
//! are its own affair: it sends nothing but the answer to its caller. What it has done by then, nobody can see when it is
//! ended: the same configurations are reached as if it had been ended before. Where the outcomes of all instances are
//! observed, its last step is no such step.
//!
//! Steps that set timers depend on the passing of time, so they are no part of such a set; so are steps that look at
//! others (`status`), that change the world of a mock, or that take the next outcome of a mock in turn. Where a test has
//! the clock in its hand, time stands still for an answer, so work that takes time is no part of one either.
//!
//! Where an instance may take the place of another, it matters to others whether one has begun or ended. Then only turns of
//! entities are such sets.
//!
//! `tests/models.rs` compares the outcomes with those of the search without reduction, program by program.

use crate::builtins::Effect;
use crate::machine::RequestKind;
use crate::syntax::tree::PropertyKind;

use super::high_level::{Channel, Config, HighLevel, Step};
use super::instance::{Instance, Open, State};
use super::lives::LifeId;
use super::message::{Id, Message, Name};
use super::{Eval, Evaluator, Model, Stop};

type Steps = super::Steps<HighLevel>;

/// Steps that it is enough to look at, if there are such and they are not all.
pub fn ample_set(evaluator: &mut Evaluator<'_>, c: &Config) -> Result<Option<Steps>, Stop> {
    if let Some(steps) = beginning_of_a_child(evaluator, c)? {
        return Ok(Some(steps));
    }
    if let Some(steps) = turn_of_an_entity(evaluator, c)? {
        return Ok(Some(steps));
    }
    steps_of_an_instance(evaluator, c)
}

fn beginning_of_a_child(evaluator: &mut Evaluator<'_>, c: &Config) -> Result<Option<Steps>, Stop> {
    let facts = &evaluator.program.facts;
    if facts.sees_names || facts.watches_instances || facts.mocks_look || facts.replaces {
        return Ok(None);
    }
    for ((from, to), queue) in c.mail.iter() {
        let (Name::Instance(caller), Name::Instance(id)) = (from, to) else { continue };
        let begins = matches!(queue.front().map(|mail| &**mail), Some(Message::Begin { .. }));
        if !begins || c.instances.contains_key(id) || !is_of(id, caller) {
            continue;
        }
        let step = Step::Deliver { from: from.clone(), to: to.clone() };
        if let Some(steps) = without_timers(evaluator, c, [step].into_iter())? {
            return Ok(Some(steps));
        }
    }
    Ok(None)
}

/// Whether an id was made for a child of an instance.
fn is_of(id: &Id, caller: &Id) -> bool {
    id.strip_prefix(&**caller).is_some_and(|rest| rest.starts_with([':', '.']) && rest.contains(':'))
}

fn turn_of_an_entity(evaluator: &mut Evaluator<'_>, c: &Config) -> Result<Option<Steps>, Stop> {
    let facts = &evaluator.program.facts;
    let (reads_clock, world) = (facts.reads_clock, facts.has_world || facts.mocks_look || facts.in_turn);
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
                let all = entity.operations(id, evaluator, &c.moment(evaluator))?;
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
    if facts.replaces
        || facts.reads_clock
        || facts.interferes
        || facts.watches_instances
        || facts.mocks_look
        || facts.in_turn
    {
        return Ok(None);
    }
    let may_be_ended = !facts.sees_names;
    for (id, instance) in c.instances.iter() {
        if !is_left_alone(evaluator, c, id, instance) {
            continue;
        }
        let safe = is_safe(c, instance);
        let by_its_caller =
            may_be_ended && instance.parent.as_ref().is_some_and(|caller| is_of(id, &caller.id));
        if !(safe || by_its_caller) {
            continue;
        }
        let me = Name::Instance(id.clone());
        let mut steps: Vec<Step> = Vec::new();
        for ((from, to), _) in c.mail.iter().filter(|((_, to), queue)| *to == me && is_answers(queue)) {
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
        let Some(steps) = without_timers(evaluator, c, steps.into_iter())? else { continue };
        let own = |(_, next): &(Step, Config)| is_own_affair(evaluator.program.observes, c, id, next);
        if safe || steps.iter().all(own) {
            return Ok(Some(steps));
        }
    }
    Ok(None)
}

/// Whether nobody can tell a step of an instance from none, once that has been ended: it has sent nothing but answers to
/// who waits for its end.
fn is_own_affair(observes: bool, c: &Config, id: &Id, next: &Config) -> bool {
    let me = Name::Instance(id.clone());
    let answers = next.mail.iter().filter(|((from, _), _)| *from == me).all(|(channel, queue)| {
        let before = c.mail.get(channel).map_or(0, |before| before.len());
        queue.iter().skip(before).all(|mail| matches!(**mail, Message::Answer { .. }))
    });
    let printed = |config: &Config| config.instances.get(id).map_or(0, |instance| instance.printed.len());
    let shows =
        next.instances.get(id).is_none_or(|instance| instance.has_ended()) || printed(c) != printed(next);
    answers && next.trouble == c.trouble && next.orphans == c.orphans && !(observes && shows)
}

/// Whether all messages of a channel are answers.
fn is_answers(queue: &Channel) -> bool {
    queue.iter().all(|mail| matches!(**mail, Message::Answer { .. }))
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
    let channels = || c.mail.iter().filter(|((_, to), _)| *to == me).map(|(_, queue)| queue);
    let is_waits = |queue: &Channel| queue.iter().all(|mail| matches!(**mail, Message::Wait(_)));
    if !channels().all(|queue| is_answers(queue) || is_waits(queue)) {
        return false;
    }
    let mail = || channels().flat_map(|queue| queue.iter());
    let holds_time = evaluator.program.facts.takes_the_clock;
    if holds_time
        && c.tasks.iter().any(|((owner, _), task)| owner == id && !evaluator.program.is_prompt(&task.asked))
    {
        return false;
    }
    let on_its_way = |open: &Open| {
        mail().any(|mail| {
            matches!(&**mail, Message::Answer { seq, execution, .. }
                if *seq == open.name && *execution == instance.execution)
        })
    };
    instance.open.values().all(|open| match &open.asked.what {
        RequestKind::Effect(Effect::Receive) => false,
        RequestKind::Activity { name, .. } if evaluator.program.changes_the_world(name) => false,
        _ => c.tasks.contains_key(&(id.clone(), open.name)) || on_its_way(open),
    })
}

/// Whether nobody can end it: it has no caller, or each of its callers waits for nothing else.
fn is_safe(c: &Config, instance: &Instance<Eval>) -> bool {
    let mut parent = instance.parent.clone();
    while let Some(LifeId { id, .. }) = parent {
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
