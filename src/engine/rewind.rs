//! Rewinding: a failed instance asks its failed steps again, and keeps everything else.
//!
//! An instance goes back together with the instances that it needs: children whose errors failed
//! it, children that were ended by its failure, and instances that it waited for. All writes are in
//! one batch, so a crash comes before or after all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::builtins::Effect;
use crate::kv::{Batch, Read};
use crate::machine::options;
use crate::machine::{Data, ErrorData, Image, RequestKind};

use super::active::Active;
use super::address::Address;
use super::arrivals::first_text;
use super::entry::{Entry, GRACE};
use super::history::{Chunk, History, pieces};
use super::keys;
use super::message::{Message, StoredMail};
use super::open::{Open, described};
use super::reads::{Images, read_history, read_record};
use super::record::{InstanceRecord, Status};
use super::refit::{Later, Original, Refit, Wish};

/// The changes that rewinding makes to one instance: requests by number, and as texts for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Steps {
    pub id: String,
    /// The requests that the instance asks again.
    pub again: Vec<(u64, String)>,
    /// The requests that no longer fit, and are gone.
    pub cut: Vec<(u64, String)>,
}

/// An instance that goes back.
pub struct Back {
    pub steps: Steps,
    /// The life of the instance's id.
    pub life: u64,
    /// The messages that wait for the instance from now on, in order.
    pub mail: Vec<StoredMail>,
    /// The children that the instance waits for again. Its former end does not end them any more.
    pub children: Vec<String>,
}

/// The result of planning a rewind: the instances that go back, the requested one last, and the
/// writes.
pub struct Rewinding {
    pub instances: Vec<Back>,
    pub batch: Batch,
}

/// Plans the rewind of an instance, without changing anything. Errors are reasons in words.
pub fn rewind(store: &dyn Read, images: Images<'_>, id: &str, now: i64) -> Result<Rewinding, String> {
    let record = read_record(store, id)?.ok_or_else(|| format!("there is no instance `{id}`"))?;
    if !matches!(record.status, Status::Failed(_)) {
        return Err(format!("{id} has not failed: it is {}", record.status.word()));
    }
    let mut tree = Tree { store, images, now, planned: BTreeMap::new(), begun: BTreeSet::new() };
    tree.plan(record);
    tree.gathered(id).map_err(|refusal| match refusal.id == id {
        true => refusal.why,
        false => format!("{id} failed by {}, and {}", refusal.id, refusal.why),
    })
}

/// The reason why an instance can't go back, and the instance that is to blame: itself, or one that
/// it needs.
#[derive(Clone, Debug)]
struct Refusal {
    id: String,
    why: String,
}

impl Refusal {
    fn of(id: &str, why: impl Into<String>) -> Refusal {
        Refusal { id: id.to_string(), why: why.into() }
    }
}

/// The plan for one instance that goes back, and the others that must go back with it.
struct Planned {
    back: Back,
    batch: Batch,
    needs: Vec<String>,
}

/// Instances that may go back together. The instances that one may need are planned before it. So
/// nothing recurses, however deep the calls are.
struct Tree<'a> {
    store: &'a dyn Read,
    images: Images<'a>,
    now: i64,
    planned: BTreeMap<String, Result<Planned, Refusal>>,
    /// The instances whose plan was begun.
    begun: BTreeSet<String>,
}

/// An instance that is about to go back.
struct One {
    record: InstanceRecord,
    image: Rc<Image>,
    history: History,
    original: Original,
    /// Whether the instance goes on as if it had not been cancelled: it goes back with its caller.
    undoes: bool,
    /// The instances that go back with this one.
    needs: Vec<String>,
}

/// The treatment of an open request.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// The request stays: its answer is here, or its receiver goes on.
    Stays,
    /// The request is sent once more. A receiver that has it already ignores the second one.
    Sent,
    /// The request is asked again, or its child goes on. Its time begins anew.
    Again,
}

impl Tree<'_> {
    /// Plans an instance and all instances that it may need.
    fn plan(&mut self, record: InstanceRecord) {
        let mut stack = Vec::new();
        let mut next = Some(record);
        loop {
            if let Some(record) = next.take() {
                self.begun.insert(record.id.clone());
                let id = record.id.clone();
                match self.begin(record, !stack.is_empty()) {
                    Ok(one) => {
                        let candidates = one.candidates();
                        stack.push((one, candidates));
                    }
                    Err(why) => {
                        let refusal = Refusal::of(&id, format!("{id} can't be rewound: {why}"));
                        self.planned.insert(id, Err(refusal));
                    }
                }
            }
            let Some((_, candidates)) = stack.last_mut() else { return };
            match candidates.pop() {
                Some(id) if self.begun.contains(&id) => {}
                // Read errors show up when the instance is needed.
                Some(id) => next = read_record(self.store, &id).ok().flatten().filter(goes_back),
                None => {
                    let Some((mut one, _)) = stack.pop() else { return };
                    let planned = self.plan_one(&mut one);
                    self.planned.insert(one.record.id, planned);
                }
            }
        }
    }

    /// Collects the plans of an instance and of all instances that go back with it.
    fn gathered(mut self, id: &str) -> Result<Rewinding, Refusal> {
        let mut rewinding = Rewinding { instances: Vec::new(), batch: Batch::default() };
        let mut open = vec![id.to_string()];
        while let Some(id) = open.pop() {
            match self.planned.remove(&id) {
                Some(Ok(Planned { back, batch, needs })) => {
                    rewinding.instances.push(back);
                    rewinding.batch.writes.extend(batch.writes);
                    open.extend(needs.into_iter().rev());
                }
                Some(Err(refusal)) => return Err(refusal),
                // Two instances may need the same one.
                None => {}
            }
        }
        rewinding.instances.reverse();
        Ok(rewinding)
    }

    fn begin(&mut self, record: InstanceRecord, undoes: bool) -> Result<One, String> {
        let image = (self.images)(record.program)?;
        let history = read_history(self.store, &record)?;
        let original = Original::of(&image, &record, &history)?;
        Ok(One { record, image, history, original, undoes, needs: Vec::new() })
    }

    fn plan_one(&mut self, one: &mut One) -> Result<Planned, Refusal> {
        let id = one.record.id.clone();
        let mut again = self.failed_steps(one)?;
        let mut refit = one.fit(&again, self.now)?;
        // The entities of a critical section are not held any more. So the section has to begin
        // anew, if it has not called them yet.
        while let Some(section) = refit.section() {
            let lock = section.map_err(|()| {
                let why =
                    format!("{id} ended within a critical section that had called its entities already");
                Refusal::of(&id, why)
            })?;
            if !again.insert(lock) {
                return Err(Refusal::of(&id, format!("{id} can't be rewound within its critical section")));
            }
            refit = one.fit(&again, self.now)?;
        }
        one.check_kept(&again, &refit)?;
        self.writes(one, &again, refit)
    }

    /// Returns the failed requests of an instance that are asked again. The instances that failed
    /// them go back too.
    fn failed_steps(&mut self, one: &mut One) -> Result<BTreeSet<u64>, Refusal> {
        let id = one.record.id.clone();
        let fatal = one.original.failed_by.clone();
        let fails_again = !(one.undoes && one.original.was_cancelled());
        if matches!(one.record.status, Status::Failed(_)) && fatal.is_empty() && fails_again {
            let why =
                format!("{id} failed in its own code, not in a step; it would fail again in the same way");
            return Err(Refusal::of(&id, why));
        }
        let mut again: BTreeSet<u64> = fatal.iter().chain(&one.original.unhandled).copied().collect();
        for seq in again.clone() {
            let Some(target) = one.target_of(seq) else { continue };
            if let Err(refusal) = self.go_back(one, &target) {
                // With a fatal error that stays, the instance would fail again. Other errors may
                // stay.
                if fatal.contains(&seq) {
                    return Err(refusal);
                }
                again.remove(&seq);
            }
        }
        Ok(again)
    }

    fn record(&self, id: &str) -> Result<Option<InstanceRecord>, Refusal> {
        read_record(self.store, id).map_err(|why| Refusal::of(id, why))
    }

    /// Lets an instance that another called or waits for go back, if it has ended without a result.
    fn go_back(&mut self, one: &mut One, target: &Target) -> Result<(), Refusal> {
        let Some(record) = self.record(&target.id)?.filter(goes_back) else { return Ok(()) };
        let id = &record.id;
        if matches!(record.status, Status::Terminated(_)) && !target.is_called {
            return Err(Refusal::of(id, format!("{id} was terminated: it would fail again in the same way")));
        }
        if record.root != one.record.root && record.parent.as_ref() != Some(&one.record.life_id()) {
            return Err(Refusal::of(id, format!("{id} is not its own: rewind that first")));
        }
        match self.planned.get(id) {
            Some(Err(refusal)) => Err(refusal.clone()),
            // The instance is planned, or needs this one in turn.
            _ => {
                one.needs.push(record.id);
                Ok(())
            }
        }
    }

    /// Returns the fate of an open request, given the answer that came for it after the end.
    fn fate(
        &mut self,
        one: &mut One,
        open: &Open,
        came: Option<&Result<Data, ErrorData>>,
    ) -> Result<Fate, Refusal> {
        let request = &open.request;
        let is_lock = request.what == RequestKind::Effect(Effect::Lock);
        if matches!(came, Some(Ok(_))) && !is_lock {
            return Ok(Fate::Stays);
        }
        let Some(target) = one.target(&request.what, &request.args, request.seq) else {
            let goes_on = came.is_none() && !is_lock && !open.is_broken_off();
            return Ok(if goes_on { Fate::Stays } else { Fate::Again });
        };
        let record = self.record(&target.id)?;
        let is_child =
            record.as_ref().is_some_and(|record| record.parent.as_ref() == Some(&one.record.life_id()));
        match record.map(|record| record.status) {
            Some(Status::Failed(_)) => match (self.go_back(one, &target), came) {
                (Ok(()), _) => Ok(Fate::Again),
                (Err(_), Some(_)) => Ok(Fate::Stays),
                (Err(_), None) => Ok(Fate::Sent),
            },
            // A child goes on if its caller's end has ended it. An instance that somebody else
            // ended does not.
            Some(Status::Terminated(_)) if is_child && !target.is_detached => {
                self.go_back(one, &target).map(|()| Fate::Again)
            }
            Some(Status::Terminated(_)) if came.is_some() => Ok(Fate::Stays),
            _ => Ok(Fate::Sent),
        }
    }

    /// Plans the writes of an instance that goes back.
    fn writes(&mut self, one: &mut One, again: &BTreeSet<u64>, refit: Refit) -> Result<Planned, Refusal> {
        let unreadable = |why: super::ReadError| Refusal::of(&one.record.id, why);
        let to = Address::instance(&one.record.id);
        let stored = self.store.all(&keys::mail_of(&to)).map_err(|error| unreadable(error.into()))?;
        let mut batch = Batch::default();
        let mut came: BTreeMap<u64, StoredMail> = BTreeMap::new();
        let mut others = Vec::new();
        for (key, bytes) in stored {
            let mail = StoredMail::decode(&bytes)
                .ok_or_else(|| unreadable("a message in the store is not readable".into()))?;
            batch.delete(key);
            match &mail.message {
                Message::Answer { life, execution, seq, result } => {
                    let is_of = (*life, *execution) == (one.record.life, one.record.execution);
                    // The first success counts if there are several answers.
                    let known = came.get(seq);
                    let counts = known.is_none_or(|known| known.is_error() && result.is_ok());
                    if is_of && counts && refit.open.contains_key(seq) {
                        came.insert(*seq, mail);
                    }
                }
                _ => others.push(mail),
            }
        }
        let waits: BTreeSet<u64> = refit.later.iter().filter_map(Later::seq).collect();
        let (mut resent, mut renewed) = (Vec::new(), Vec::new());
        for (seq, open) in &refit.open {
            if *seq == GRACE {
                came.remove(seq);
                continue;
            }
            if waits.contains(seq) {
                came.remove(seq);
                continue;
            }
            let answer = came.get(seq).and_then(StoredMail::answer);
            let fate = match self.fate(one, open, answer.as_ref())? {
                _ if answer.is_none() && again.contains(seq) => Fate::Again,
                fate => fate,
            };
            if fate != Fate::Stays {
                came.remove(seq);
                resent.push(*seq);
            }
            if fate == Fate::Again {
                renewed.push(*seq);
            }
        }
        let steps = renewed.clone();
        let limits = refit.limits(&steps);
        renewed.extend(limits.into_iter().filter(|seq| !steps.contains(seq)));
        renewed.extend(refit.open.contains_key(&GRACE).then_some(GRACE));
        let mail = one.mail(refit.later, came, others);
        let described = |seq: &u64| Some((*seq, refit.open.get(seq)?.describe()));
        // A child that only goes on is not asked again.
        let is_again = |seq: &&u64| {
            let what = refit.open.get(*seq).map(|open| &open.request.what);
            again.contains(*seq) || !matches!(what, Some(RequestKind::Orchestration { .. }))
        };
        let steps = Steps {
            id: one.record.id.clone(),
            again: steps.iter().filter(is_again).filter_map(described).collect(),
            cut: refit.cut.iter().filter_map(cut).collect(),
        };
        let open = refit.open.iter();
        let called = open.filter_map(|(seq, open)| one.target(&open.request.what, &open.request.args, *seq));
        let children = called.filter(|target| target.is_called).map(|target| target.id).collect();
        let mut entries = refit.entries;
        entries.extend(renewed.iter().map(|seq| Entry::Renewed { seq: *seq, time: self.now }));
        one.writes(entries, resent, &mut batch);
        let back = Back { steps, life: one.record.life, mail, children };
        Ok(Planned { back, batch, needs: std::mem::take(&mut one.needs) })
    }
}

/// Whether an instance has ended without a result.
fn goes_back(record: &InstanceRecord) -> bool {
    matches!(record.status, Status::Failed(_) | Status::Terminated(_))
}

/// Returns a request that is gone, as text for people.
fn cut(entry: &Entry) -> Option<(u64, String)> {
    match entry {
        Entry::Requested { seq, .. } => Some((*seq, described(entry))),
        _ => None,
    }
}

/// The instance that a request calls or waits for.
struct Target {
    id: String,
    is_called: bool,
    is_detached: bool,
}

impl One {
    /// Returns the instances that may have to go back with this one: those whose errors failed it,
    /// and those that had not answered.
    fn candidates(&self) -> Vec<String> {
        let open = self.original.unanswered();
        let failed = self.original.failed_by.iter().chain(&self.original.unhandled).copied();
        open.chain(failed).filter_map(|seq| self.target_of(seq)).map(|target| target.id).collect()
    }

    /// Returns the instance that a recorded request calls or waits for.
    fn target_of(&self, seq: u64) -> Option<Target> {
        let request = self.original.request(seq)?;
        self.target(&request.what, &request.args, seq)
    }

    fn target(&self, what: &RequestKind, args: &Data, seq: u64) -> Option<Target> {
        match what {
            RequestKind::Orchestration { options, start: false, .. } => {
                let child = options::recorded_child(options);
                let id = child.id.unwrap_or_else(|| self.record.child_id(seq));
                Some(Target { id, is_called: true, is_detached: child.detached })
            }
            RequestKind::Effect(Effect::Wait) => {
                Some(Target { id: first_text(args), is_called: false, is_detached: true })
            }
            _ => None,
        }
    }

    fn fit(&self, again: &BTreeSet<u64>, now: i64) -> Result<Refit, Refusal> {
        let id = &self.record.id;
        let wish = Wish { again, undoes: self.undoes };
        Refit::of(&self.image, &self.record, &self.history, &self.original, wish, now)
            .map_err(|why| Refusal::of(id, format!("{id} can't be rewound: {why}")))
    }

    /// Checks that the failed steps can be asked again. A step from before the checkpoint of a
    /// trimmed history can't.
    fn check_kept(&self, again: &BTreeSet<u64>, refit: &Refit) -> Result<(), Refusal> {
        let is_gone = |seq: &&u64| {
            again.contains(seq) && self.original.request(**seq).is_none() && !refit.open.contains_key(seq)
        };
        match self.original.failed_by.iter().find(is_gone) {
            Some(_) => {
                let id = &self.record.id;
                let why = "keeps its history only since its last checkpoint, and its failed step was before";
                Err(Refusal::of(id, format!("{id} {why}")))
            }
            None => Ok(()),
        }
    }

    /// Returns the mail of the rewound instance, in order: what it consumes again, then all other
    /// mail by time.
    fn mail(
        &self,
        later: Vec<Later>,
        came: BTreeMap<u64, StoredMail>,
        others: Vec<StoredMail>,
    ) -> Vec<StoredMail> {
        let InstanceRecord { life, execution, root, .. } = &self.record;
        let again = later.into_iter().enumerate().map(|(number, later)| {
            let (time, message) = match later {
                Later::Answer { seq, result, time } => {
                    (time, Message::Answer { life: *life, execution: *execution, seq, result })
                }
                Later::Event { name, payload, time } => (time, Message::Event { name, payload }),
                Later::Cancel { what, time } => (time, Message::Cancel { what, of: None }),
            };
            let from = format!("{}.rewound-{number}", self.record.step_key(u64::MAX));
            StoredMail { from, root: root.clone(), ack: None, time, message, permissions: Default::default() }
        });
        let mut mail: Vec<StoredMail> = came.into_values().chain(others).collect();
        mail.sort_by_key(|mail| mail.time);
        again.chain(mail).collect()
    }

    /// Writes the new history and the new record.
    fn writes(&self, entries: Vec<Entry>, rewound: Vec<u64>, batch: &mut Batch) {
        let id = &self.record.id;
        let mut record = self.record.clone();
        (record.status, record.ended, record.rewound) = (Status::Running, None, rewound);
        // The chunks of a trimmed history are numbered on from its checkpoint. A whole history gets
        // new numbers.
        let (first, mut checksum, old) = match &self.history.after {
            Some(checkpoint) => (checkpoint.chunks, checkpoint.checksum, checkpoint.chunks),
            None => (record.chunks, 0, record.first),
        };
        let mut number = first;
        for piece in pieces(entries) {
            let (bytes, next) = Chunk::encode(piece, checksum);
            batch.put(keys::chunk(id, number), bytes);
            (number, checksum) = (number + 1, next);
        }
        for gone in (old..record.chunks).filter(|gone| !(first..number).contains(gone)) {
            batch.delete(keys::chunk(id, gone));
        }
        if self.history.after.is_none() {
            record.first = first;
        }
        batch.put(keys::instance(id), record.encode());
        batch.put(keys::active(id), Active { root: record.root.clone(), due: None }.encode());
    }
}

impl StoredMail {
    fn answer(&self) -> Option<Result<Data, ErrorData>> {
        match &self.message {
            Message::Answer { result, .. } => Some(result.clone()),
            _ => None,
        }
    }

    fn is_error(&self) -> bool {
        matches!(&self.message, Message::Answer { result: Err(_), .. })
    }
}

impl Later {
    fn seq(&self) -> Option<u64> {
        match self {
            Later::Answer { seq, .. } => Some(*seq),
            Later::Event { .. } | Later::Cancel { .. } => None,
        }
    }
}
