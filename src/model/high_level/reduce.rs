//! Partial-order reduction: ample sets of the steps of a high-level configuration.
//!
//! A set of steps is ample if it is enough to explore these steps. Whatever other steps do first,
//! they must not disable the steps of the set, change what these lead to, or add to the set. And no
//! property may see the difference. Then every run of the other steps commutes with the set, so
//! exploring only the set reaches everything that can be reached (D. Peled, *All from one, one for
//! all*, 1993, which gives these conditions their name). The search adds the last condition: if a
//! step of the set leads back to a configuration that is not deeper, the search explores all steps.
//!
//! There are three kinds of ample sets:
//!
//! 1. **The beginning of a child** that the program didn't name, if the program can't see automatic
//!    ids. Before the child begins, only its caller can send it anything, and the caller's messages
//!    come after the beginning.
//! 2. **The turn of an entity.** An entity next takes the head of its queue, or of its holder's
//!    lane. Only its own step removes that message, and arrivals only add behind it. A withdrawal
//!    may remove a waiting request of a critical section. If the request is taken first, it is
//!    granted and then released by the withdrawal, which goes the same way, and the ends are the
//!    same. The step is visible if it changes a state that an invariant can look at.
//! 3. **All steps of an instance that nobody else can wake**: each of its requests is a task in
//!    flight, or its answer is on its way. Others may wait for its end. They are told of it whether
//!    they ask before or after the end.
//!
//! The caller of an instance may cancel it if the caller waits for other things too. If no
//! orchestration of the program does anything after its cancellation, such an instance
//! is of the third kind as long as its steps are its own affair: it sends nothing but the answer to
//! its caller. Once the instance is ended, nobody can see what it did before, so the same
//! configurations are reached as if it had been ended earlier. If the outcomes of all instances are
//! observed, the last step of the instance is excluded.
//!
//! Steps that set timers depend on the passing of time, so they are in no ample set. The same holds
//! for steps that look at others (`status`), change the world of a mock, or take the next outcome
//! of a mock in turn. If a test controls the clock, time stands still for an answer, so work that
//! takes time is in no ample set either.
//!
//! If an instance may replace another, it matters to others whether one has begun or ended. Then
//! only turns of entities are ample sets.
//!
//! `tests/models.rs` compares the outcomes with those of a search without reduction, program by
//! program.

use crate::builtins::Effect;
use crate::machine::RequestKind;
use crate::syntax::tree::PropertyKind;

use super::super::instance::{Instance, Open, State};
use super::super::lives::LifeId;
use super::super::message::{Id, Message, Name};
use super::super::{self as model, Eval, Evaluator, Model, Stop};
use super::{Channel, Config, HighLevel, HighLevelStep};

type Steps = model::Steps<HighLevel>;

/// Returns an ample set of steps, or `None` if all steps have to be explored.
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
        let step = HighLevelStep::Deliver { from: from.clone(), to: to.clone() };
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
                let step = HighLevelStep::Acquire { entity: id.clone() };
                let next = HighLevel.apply(evaluator, c, &step)?;
                return Ok(Some(vec![(step, next)]));
            }
            Some(_) if reads_clock || world => {}
            Some(_) => {
                let all = entity.operations(id, evaluator, &c.moment(evaluator))?;
                if watched && all.iter().any(|done| done.state.is_some()) {
                    continue;
                }
                let steps =
                    (0..all.len()).map(|outcome| HighLevelStep::Operate { entity: id.clone(), outcome });
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
    let may_be_ended = !facts.sees_names && !facts.cleans_up;
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
        let mut steps: Vec<HighLevelStep> = Vec::new();
        for ((from, to), _) in c.mail.iter().filter(|((_, to), queue)| *to == me && is_answers(queue)) {
            steps.push(HighLevelStep::Deliver { from: from.clone(), to: to.clone() });
        }
        for (_, seq) in c.tasks.keys().filter(|(owner, _)| owner == id) {
            let count = c.outcomes(evaluator, id, *seq)?.len();
            steps.extend((0..count).map(|outcome| HighLevelStep::Perform {
                instance: id.clone(),
                seq: *seq,
                outcome,
            }));
        }
        if steps.is_empty() {
            continue;
        }
        let Some(steps) = without_timers(evaluator, c, steps.into_iter())? else { continue };
        let own =
            |(_, next): &(HighLevelStep, Config)| is_own_affair(evaluator.program.observes, c, id, next);
        if safe || steps.iter().all(own) {
            return Ok(Some(steps));
        }
    }
    Ok(None)
}

/// Whether nobody can notice a step of an instance once the instance is ended: it has sent nothing
/// but answers to those who wait for its end.
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

/// Returns the steps with the configurations that they lead to, if none of them changes the timers.
fn without_timers(
    evaluator: &mut Evaluator<'_>,
    c: &Config,
    steps: impl Iterator<Item = HighLevelStep>,
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

/// Whether nobody else can wake an instance: everything that it waits for is in flight or on its
/// way.
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

/// Whether nobody can end an instance: it has no caller, or each of its callers waits for nothing
/// else.
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
