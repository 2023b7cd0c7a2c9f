//! The rule **deliver**: a message is under way until its receiver has taken it. So each open
//! request that is a message is with its receiver, or its answer is under way.

use crate::builtins::Effect;
use crate::engine::{Address, Message, StoredMail, Waiter};
use crate::machine::{RequestKind, format};

use super::{Finding, Run, Store};

pub fn check(all: &Store, run: &Run, findings: &mut Vec<Finding>) {
    told(all, run, findings);
    if !run.is_known || run.record.status.begins().is_some() {
        return;
    }
    for (seq, asked) in run.requests.iter().filter(|(seq, _)| run.waits_for(**seq)) {
        let us = run.record.waiter(*seq);
        if is_answered(all, &us) {
            continue;
        }
        let is_there = match &asked.request.what {
            RequestKind::Operation { entity, signal: None, .. } => {
                let to = Address::entity(entity.clone());
                let waits = |mail: &StoredMail| matches!(&mail.message, Message::Call { caller, .. } if *caller == us);
                all.mail.get(&to).is_some_and(|mail| mail.iter().any(waits))
            }
            RequestKind::Effect(Effect::Lock) => {
                let asks =
                    |mail: &StoredMail| matches!(&mail.message, Message::Lock { owner, .. } if *owner == us);
                all.mail.values().flatten().any(asks)
            }
            RequestKind::Effect(Effect::Wait) => {
                let id = asked.request.args.items().first().map(format::display).unwrap_or_default();
                let waits =
                    |mail: &StoredMail| matches!(&mail.message, Message::Wait(waiter) if *waiter == us);
                all.mail_to(&id).iter().any(waits)
                    || all.runs.get(&id).is_some_and(|target| target.record.waiters.contains(&us))
            }
            _ => true,
        };
        if !is_there {
            let what = format!("request {seq} is with nobody, and no answer to it is under way");
            findings.push(run.finding("deliver", asked.at, what));
        }
    }
}

/// An instance that has ended has told all that wait for it.
fn told(all: &Store, run: &Run, findings: &mut Vec<Finding>) {
    if !run.record.status.is_ended() {
        return;
    }
    for waiter in &run.record.waiters {
        let Some(waits) = all.runs.get(&waiter.instance) else { continue };
        let record = &waits.record;
        let is_present = (record.life, record.execution) == (waiter.life, waiter.execution);
        if is_present
            && waits.requests.contains_key(&waiter.seq)
            && waits.waits_for(waiter.seq)
            && !is_answered(all, waiter)
        {
            let (id, seq) = (&waiter.instance, waiter.seq);
            let what = format!("it has ended, and request {seq} of {id} was not told");
            findings.push(run.finding("deliver", None, what));
        }
    }
}

/// Whether an answer to a request is under way.
fn is_answered(all: &Store, us: &Waiter) -> bool {
    let answers = |mail: &StoredMail| {
        matches!(&mail.message, Message::Answer { life, execution, seq, .. }
            if (*life, *execution, *seq) == (us.life, us.execution, us.seq))
    };
    all.mail_to(&us.instance).iter().any(answers)
}
