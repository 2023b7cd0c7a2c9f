//! The rules of children: **begin**, **replace** and **purge**. What is called or started begins
//! under its id, belongs to its caller's life, and is removed with it.

use crate::engine::{Entry, InstanceRecord, Message, Status};
use crate::machine::{RequestKind, options};

use super::{Asked, Finding, Run, Store, Traced, is_answered_at_once};

pub fn check(all: &Store, run: &Run, traced: &mut Traced) {
    owner(all, run, &mut traced.findings);
    left_behind(all, run, &mut traced.findings);
    for (seq, asked) in &run.requests {
        called(all, run, *seq, asked, traced);
    }
}

/// An instance is purged with its owner, and has the number of the request that made it.
fn owner(all: &Store, run: &Run, findings: &mut Vec<Finding>) {
    let Some(owner) = &run.record.owner else { return };
    let Some(by) = all.run_of(owner) else {
        let what = format!("{}, which called or started it, was purged, and it was not", owner.id);
        return findings.push(run.finding("purge", None, what));
    };
    let mut requests = by.requests.iter();
    let made = requests.find(|(seq, _)| by.record.child_id(**seq) == run.record.id);
    let is_by_it = |asked: &Asked| match &asked.request.what {
        RequestKind::Orchestration { name, .. } => *name == run.record.function,
        _ => false,
    };
    let Some((seq, asked)) = made else { return };
    if is_by_it(asked) && asked.at.is_some() && run.record.created < asked.time {
        let what = format!("it began before request {seq} of {}, which has its number", owner.id);
        return findings.push(run.finding("rewind", None, what));
    }
    if !is_by_it(asked) {
        let what = format!("request {seq} of {} made it, and is another request now", owner.id);
        findings.push(run.finding("rewind", None, what));
    }
}

/// A child that nobody waits for any more is cancelled, unless it is detached. So it takes no answer
/// to what it asked for later.
fn left_behind(all: &Store, run: &Run, findings: &mut Vec<Finding>) {
    let record = &run.record;
    let Some(parent) = &record.parent else { return };
    let Some(by) = all.run_of(parent) else { return };
    let of_before = |execution: u32| execution < by.record.execution;
    let waits =
        record.waiters.iter().filter(|waiter| (&waiter.instance, waiter.life) == (&parent.id, parent.life));
    if !waits.clone().any(|waiter| of_before(waiter.execution))
        || waits.clone().any(|waiter| !of_before(waiter.execution))
    {
        return;
    }
    let is_cancelled = run.entries.iter().any(|entry| matches!(entry, Entry::Cancelling { .. }));
    let ends = |message: &Message| matches!(message, Message::Cancel { .. } | Message::Terminate { .. });
    let is_under_way = all.mail_to(&record.id).iter().any(|mail| ends(&mail.message));
    // A detached child goes on. Its options are in the history of the execution before, which is
    // gone.
    let is_detached = by.detached.as_ref().is_none_or(|detached| detached.contains(&record.function));
    let began = by.entries.first().filter(|_| !by.is_trimmed).map(Entry::time);
    let goes_on = match record.status.is_ended() {
        true => began.is_some_and(|began| takes_after(run, began)),
        false => !is_under_way,
    };
    if goes_on && !is_cancelled && !run.is_trimmed && !is_detached {
        let what = format!("{} began anew, and it goes on although nobody waits for it", parent.id);
        findings.push(run.finding("take", None, what));
    }
}

/// Whether an instance took an answer to a request that it made after a time.
fn takes_after(run: &Run, time: i64) -> bool {
    let is_late = |asked: &Asked| asked.time > time && !is_answered_at_once(&asked.request.what);
    run.requests.iter().any(|(seq, asked)| is_late(asked) && run.answers.contains_key(seq))
}

/// What an instance calls or starts begins, and its answer is its result.
fn called(all: &Store, run: &Run, seq: u64, asked: &Asked, traced: &mut Traced) {
    let RequestKind::Orchestration { name, options, start } = &asked.request.what else { return };
    let child = options::recorded_child(options);
    let id = child.id.clone().unwrap_or_else(|| run.record.child_id(seq));
    let answer = run.answer(seq);
    let begins = all.mail_to(&id).iter().any(|mail| matches!(mail.message, Message::Begin(..)));
    let Some(known) = all.runs.get(&id) else {
        let is_refused = matches!(answer, Some((_, Entry::Answered { result: Err(_), .. })));
        if begins || is_refused || run.record.rewound.contains(&seq) || child.id.is_some() {
            return;
        }
        // A child can be purged alone.
        match all.is_unpurged_since(run.record.life) {
            true => {
                let what = format!("`{name}` was called as {id}, which has never begun");
                traced.findings.push(run.finding("begin", asked.at, what));
            }
            false => {
                traced.unknown.push(format!("{}: whether {id} began before it was purged", run.record.id))
            }
        }
        return;
    };
    let Some((at, Entry::Answered { result, time, .. })) = answer else { return };
    let is_its_own = child.id.is_none() && is_of(&known.record, &run.record);
    if *start || !is_its_own {
        return;
    }
    match (result, &known.record.status) {
        (Ok(value), Status::Completed(own)) if value == own => {
            if known.record.ended.is_some_and(|ended| ended > *time) {
                let what = format!("{id} answers before its end");
                traced.findings.push(run.finding("deliver", Some(at), what));
            }
        }
        (Ok(_), status) => {
            let what = format!("an answer of {id} that is not its result: it is {}", status.word());
            traced.findings.push(run.finding("deliver", Some(at), what));
        }
        // The caller may have given up before, and a failed child may have been rewound since.
        (Err(_), _) => {}
    }
}

/// Whether a child belongs to this life of its caller.
fn is_of(child: &InstanceRecord, caller: &InstanceRecord) -> bool {
    child.owner.as_ref().or(child.parent.as_ref()).is_some_and(|by| *by == caller.life_id())
}
