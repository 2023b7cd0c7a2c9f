//! Validation of what happened: the journals of a store against the rules of the high-level model.
//!
//! Each rule of `docs/models.md` says what a configuration may come to. What a store holds of many
//! steps (histories, messages under way, holders, records) must be a part of some run that these
//! rules allow. The checks are conditions that every such run meets. A breach is a fault of the
//! engine or damage to the store, and never a fault of a program.
//!
//! What no journal has can't be checked: who raised an event, the signals of clients, operations
//! that the store does not keep, histories before a checkpoint that replaced them, and arrivals in
//! histories of earlier versions. A check that needs such knowledge is left out, and the report says
//! so where it can.

mod arrivals;
mod detached;
mod journals;
mod messages;
mod operate;
mod operations;
mod sections;
mod trees;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use crate::code::ProgramHash;
use crate::engine::{
    Address, Entry, InstanceRecord, LifeId, Mismatch, ReadError, Replayed, Status, StoredMail, keys,
    known_image, read_history, read_holds, read_life, read_mail, replay,
};
use crate::kv::Read;
use crate::machine::{Image, Request, RequestKind};

/// A breach of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The rule of the model.
    pub rule: &'static str,
    /// The instance or the entity.
    pub of: String,
    /// The entry of the instance's history, numbered from 1.
    pub entry: Option<u64>,
    pub what: String,
}

/// The outcome of a validation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traced {
    pub instances: u64,
    pub entries: u64,
    /// The kept operations of entities.
    pub operations: u64,
    pub findings: Vec<Finding>,
    /// What could not be checked, as text for people.
    pub unknown: Vec<String>,
}

/// A request of an instance.
struct Asked {
    /// The position of its entry; `None` if it was made before the checkpoint of a trimmed history.
    at: Option<usize>,
    request: Request,
    time: i64,
}

/// An instance with its history.
struct Run {
    record: InstanceRecord,
    entries: Vec<Entry>,
    /// Whether the history before a checkpoint is gone.
    is_trimmed: bool,
    /// Whether requests were forgotten or asked again.
    is_rewound: bool,
    /// The requests by number, as the program made them in a replay. Those of the rest of a turn
    /// that was not recorded to its end are not among them.
    requests: BTreeMap<u64, Asked>,
    /// The positions of the last answers to requests, by the requests' numbers.
    answers: HashMap<u64, usize>,
    /// The requests that were given up.
    given_up: HashSet<u64>,
    /// Whether the program could follow the history, so that all requests are known.
    is_known: bool,
    /// The functions whose calls the program may detach; `None` if that is not known.
    detached: Option<HashSet<String>>,
}

/// Everything that a store holds of runs.
struct Store {
    runs: BTreeMap<String, Run>,
    /// The messages under way, by receiver.
    mail: HashMap<Address, Vec<StoredMail>>,
    holds: Vec<(crate::machine::EntityId, crate::engine::Hold)>,
    /// The life of instances that begin now. It grows with each purge.
    life: u64,
}

/// Validates the runs of a store. `only` restricts the findings to one instance and its children.
pub fn trace(store: &dyn Read, only: Option<&str>) -> Result<Traced, ReadError> {
    let mut traced = Traced::default();
    let mut images: HashMap<ProgramHash, Rc<Image>> = HashMap::new();
    let all = Store::read(store, &mut images, &mut traced)?;
    for run in all.runs.values() {
        journals::check(run, &mut traced.findings);
        arrivals::check(run, &mut traced.findings);
        messages::check(&all, run, &mut traced.findings);
        trees::check(&all, run, &mut traced);
    }
    let held = sections::held(&all);
    sections::check(&all, &held, &mut traced.findings);
    operations::check(store, &all, &held, &mut images, &mut traced)?;
    if let Some(id) = only {
        let is_of = |found: &str| found == id || all.runs.get(found).is_some_and(|run| run.record.root == id);
        traced.findings.retain(|finding| is_of(&finding.of));
        traced.unknown.retain(|unknown| unknown.split(": ").next().is_some_and(is_of));
    }
    Ok(traced)
}

/// Whether a request may be answered in the turn that makes it, before anything else that has come.
fn is_answered_at_once(what: &RequestKind) -> bool {
    match what {
        RequestKind::Effect(effect) => !effect.is_sleep(),
        RequestKind::Activity { .. } => false,
        RequestKind::Orchestration { start, .. } => *start,
        RequestKind::Operation { signal, .. } => signal.is_some(),
    }
}

impl Store {
    fn read(
        store: &dyn Read,
        images: &mut HashMap<ProgramHash, Rc<Image>>,
        traced: &mut Traced,
    ) -> Result<Store, ReadError> {
        let mut runs = BTreeMap::new();
        for (_, bytes) in store.all(keys::INSTANCES)? {
            let record = InstanceRecord::decode(&bytes).ok_or("the record of an instance is not readable")?;
            let run = Run::read(store, record, images, traced)?;
            traced.instances += 1;
            traced.entries += run.entries.len() as u64;
            runs.insert(run.record.id.clone(), run);
        }
        let mut mail: HashMap<Address, Vec<StoredMail>> = HashMap::new();
        for (to, _, stored) in read_mail(store)? {
            mail.entry(to).or_default().push(stored);
        }
        Ok(Store { runs, mail, holds: read_holds(store)?, life: read_life(store)? })
    }

    /// Returns the messages under way to an instance.
    fn mail_to(&self, id: &str) -> &[StoredMail] {
        self.mail.get(&Address::instance(id)).map_or(&[], Vec::as_slice)
    }

    /// Returns the run of an instance in that life.
    fn run_of(&self, of: &LifeId) -> Option<&Run> {
        self.runs.get(&of.id).filter(|run| run.record.life == of.life)
    }

    /// Whether no id became free since a life began, so that nothing of it can have been purged.
    fn is_unpurged_since(&self, life: u64) -> bool {
        self.life == life
    }
}

impl Run {
    fn read(
        store: &dyn Read,
        record: InstanceRecord,
        images: &mut HashMap<ProgramHash, Rc<Image>>,
        traced: &mut Traced,
    ) -> Result<Run, ReadError> {
        let history = read_history(store, &record)?;
        let is_trimmed = history.after.is_some();
        let answered = |(at, entry): (usize, &Entry)| match entry {
            Entry::Answered { seq, .. } => Some((*seq, at)),
            _ => None,
        };
        let given_up = |entry: &Entry| match entry {
            Entry::Cancelled { seq, .. } => Some(*seq),
            _ => None,
        };
        let rewinds = |entry: &Entry| matches!(entry, Entry::Rewound { .. } | Entry::Renewed { .. });
        let mut run = Run {
            is_rewound: !record.rewound.is_empty() || history.entries.iter().any(rewinds),
            entries: history.entries.clone(),
            is_trimmed,
            requests: BTreeMap::new(),
            answers: history.entries.iter().enumerate().filter_map(answered).collect(),
            given_up: history.entries.iter().filter_map(given_up).collect(),
            is_known: false,
            detached: None,
            record,
        };
        let id = run.record.id.clone();
        if is_trimmed {
            traced.unknown.push(format!("{id}: its history before its last checkpoint is not kept"));
        }
        let image = match known_image(images, run.record.program, store) {
            Ok(image) => image,
            Err(reason) => {
                traced.unknown.push(format!("{id}: {reason}"));
                return Ok(run);
            }
        };
        // An earlier execution may have run another program.
        let is_upgraded = history.entries.iter().any(|entry| matches!(entry, Entry::Upgraded { .. }));
        run.detached = detached::functions(&image.code).filter(|_| !is_upgraded);
        for asked in history.after.as_ref().map(|saved| saved.requests()).unwrap_or_default() {
            let (request, time) = asked;
            run.requests.insert(request.seq, Asked { at: None, request, time });
        }
        let (mut at, mut requests) = (0, std::mem::take(&mut run.requests));
        let mut watch = |entry: &Entry, request: Option<&Request>| {
            if let (Entry::Requested { seq, time, .. }, Some(request)) = (entry, request) {
                requests.insert(*seq, Asked { at: Some(at), request: request.clone(), time: *time });
            }
            at += 1;
        };
        let replayed = replay(&image, run.record.clone(), history, &mut watch);
        run.requests = requests;
        run.is_known = !matches!(replayed, Replayed::Nondeterminism(_) | Replayed::Incompatible(_));
        run.judge(replayed, traced);
        Ok(run)
    }

    /// Compares the outcome of a replay with the record.
    fn judge(&self, replayed: Replayed, traced: &mut Traced) {
        let status = &self.record.status;
        let mut found = |entry: Option<usize>, what: String| {
            traced.findings.push(self.finding("take", entry, what));
        };
        match replayed {
            Replayed::Ended(_) if matches!(status, Status::Terminated(_)) => {}
            Replayed::Ended(replayed) if status.is_ended() && replayed != *status => {
                let (now, then) = (replayed.word(), status.word());
                found(None, format!("its program ends otherwise than recorded: {now} instead of {then}"));
            }
            Replayed::Waits(_) if status.is_ended() => {
                found(None, format!("it is {}, and its history has no end", status.word()));
            }
            Replayed::Nondeterminism(Mismatch { recorded, found: made }) => {
                let side = |side: Option<(String, _)>| side.map_or("nothing".to_string(), |(text, _)| text);
                let what =
                    format!("its program does {} where the history holds {}", side(made), side(recorded));
                found(None, what);
            }
            Replayed::Incompatible(reason) => {
                traced.unknown.push(format!("{}: {reason}", self.record.id));
            }
            Replayed::Ended(_) | Replayed::Waits(_) | Replayed::Computes => {}
        }
    }

    fn finding(&self, rule: &'static str, at: Option<usize>, what: String) -> Finding {
        Finding { rule, of: self.record.id.clone(), entry: at.map(|at| at as u64 + 1), what }
    }

    /// Returns the position of a request's answer, and the answer.
    fn answer(&self, seq: u64) -> Option<(usize, &Entry)> {
        self.answers.get(&seq).map(|at| (*at, &self.entries[*at]))
    }

    /// Whether the instance still waits for the answer to a request, and is not about to ask again.
    fn waits_for(&self, seq: u64) -> bool {
        let goes_on = !self.record.status.is_ended() || matches!(self.record.status, Status::Failed(_));
        goes_on
            && !self.answers.contains_key(&seq)
            && !self.given_up.contains(&seq)
            && !self.record.rewound.contains(&seq)
    }
}
