//! The engine's state, and its steps: events in; writes and outputs out.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::builtins::{Effect, Route};
use crate::code::ProgramHash;
use crate::kv::Batch;
use crate::machine::{Data, EntityId, Image};
use crate::permissions::Permissions;

use super::address::{Address, LifeId};
use super::checkpoint::Checkpoints;
use super::entity::{Entities, Hold};
use super::entry::Entry;
use super::events::{Event, Leaving, Outcome, Output, StepId};
use super::fault::{self, Fault};
use super::gate::{Gated, Writes};
use super::history::History;
use super::instance::Instance;
use super::mailbox::Mailbox;
use super::message::{Mail, Message, StoredMail};
use super::outbox::{Outbox, StoredLines};
use super::quotas::{Quotas, Uses};
use super::reads::Deployed;
use super::record::InstanceRecord;
use super::rewind::{Back, Rewinding};
use super::timers::{Timer, Timers};
use super::turns::Turns;
use super::{keys, program_writes};

/// Who can run.
pub(super) enum Ready {
    Instance(Arc<str>),
    Entity(Rc<EntityId>),
}

/// Instances that wait are kept in memory up to this many; then those that have waited longest are dropped, and read
/// from the store again when something comes for them.
const RESIDENT: usize = 4096;
/// As long as this many can run, little more is read from the store: who is there comes first, and may have ended when
/// the next one comes, so that many that begin together are neither in memory together nor written half done. One is read
/// in so many turns all the same, since those who can run may never end.
const READ_AHEAD: usize = 64;

/// So many instances that write together are few.
const FEW: usize = 16;

/// All instances and entities under way.
pub struct Engine {
    pub(super) instances: HashMap<Arc<str>, Box<Instance>>,
    /// Mail for instances that are not in memory.
    pub(super) mailboxes: HashMap<Arc<str>, Mailbox>,
    pub(super) entities: Entities,
    pub(super) ready: Turns<Ready>,
    /// Of requests of instances, each with the life whose it is.
    pub(super) timers: Timers<(Arc<str>, u64), (u64, Timer)>,
    /// Timers that were due when they were set, with when that was.
    pub(super) overdue: Vec<(i64, Arc<str>, u64, Timer)>,
    /// Signals that are held back by time.
    pub(super) delayed: Timers<(Rc<EntityId>, u64), Rc<Mail>>,
    /// Instances with something to write.
    pub(super) changed: Vec<Arc<str>>,
    /// Mail that may have to be written.
    fresh_mail: Vec<(Address, Rc<Mail>)>,
    next_mail: u64,
    pub(super) outbox: Outbox,
    /// The life of instances that begin now.
    pub(super) life: u64,
    /// When what is happening happens, in nanoseconds since 1970.
    pub(super) now: i64,
    /// Whether the store knows of that time.
    is_time_written: bool,
    /// What is needed from the store.
    pub(super) fetching: HashSet<Address>,
    /// Those of them that were not asked for yet.
    unasked: Turns<Address>,
    /// How many had a turn since something was last read from the store.
    unread: usize,
    /// Nothing is read before the writes are taken: they change what is read.
    reads_wait: bool,
    /// Fuel that all turns have used.
    pub(super) fuel: u64,
    /// Whether instances go on; else only what ends them or holds them up is seen to, and entities' operations.
    pub(super) goes_on: bool,
    /// Instances that have more to do than to wait for others.
    pub(super) active: HashSet<Arc<str>>,
    /// Instances under way, in memory or not, and what their roots have.
    pub(super) uses: Uses,
    /// What one root may have.
    pub quotas: Quotas,
    /// Those that wait, the one that has waited longest first, each with when it began to, by count; some may have gone
    /// on since.
    parked: VecDeque<(u64, Arc<str>)>,
    next_parked: u64,
    /// How many of those are kept in memory.
    pub resident: usize,
    /// When checkpoints are written.
    pub checkpoints: Checkpoints,
    pub(super) images: HashMap<ProgramHash, Rc<Image>>,
    /// Instances that begin once their program is there.
    pub(super) unbegun: HashMap<ProgramHash, Vec<String>>,
    /// Instances that are replaced once their trees are read.
    pub(super) replacing: HashSet<Arc<str>>,
    /// Instances whose mail is looked at again when what is to be written is taken: they have ended.
    pub(super) ending: Vec<Arc<str>>,
    /// Instances that were purged, and that the store still has until what is to be written is.
    pub(super) purged: HashSet<Arc<str>>,
    /// Instances and entities that are not evaluated.
    pub(super) suspects: HashSet<Arc<str>>,
    /// Instances that have stopped without an end.
    pub(super) set_aside: HashSet<Arc<str>>,
    stored_programs: HashSet<ProgramHash>,
    deployments: BTreeMap<String, Deployed>,
    pub(super) batch: Batch,
    pub(super) outputs: Vec<Output>,
    /// How often writes were taken.
    writes_taken: u64,
}

impl Default for Engine {
    fn default() -> Engine {
        Engine::new()
    }
}

impl Engine {
    pub fn new() -> Engine {
        Engine {
            instances: HashMap::new(),
            mailboxes: HashMap::new(),
            entities: Entities::default(),
            ready: Turns::default(),
            timers: Timers::default(),
            overdue: Vec::new(),
            delayed: Timers::default(),
            changed: Vec::new(),
            fresh_mail: Vec::new(),
            next_mail: 0,
            outbox: Outbox::default(),
            life: keys::FIRST_LIFE,
            now: 0,
            fetching: HashSet::new(),
            unasked: Turns::default(),
            unread: 0,
            reads_wait: false,
            fuel: 0,
            goes_on: true,
            active: HashSet::new(),
            uses: Uses::default(),
            quotas: Quotas::default(),
            parked: VecDeque::new(),
            next_parked: 0,
            resident: RESIDENT,
            checkpoints: Checkpoints::default(),
            images: HashMap::new(),
            unbegun: HashMap::new(),
            replacing: HashSet::new(),
            ending: Vec::new(),
            purged: HashSet::new(),
            suspects: HashSet::new(),
            set_aside: HashSet::new(),
            is_time_written: true,
            stored_programs: HashSet::new(),
            deployments: BTreeMap::new(),
            batch: Batch::default(),
            outputs: Vec::new(),
            writes_taken: 0,
        }
    }

    /// An engine for clients alone: entities' operations run, and instances are ended and held up, but none goes on.
    pub fn for_clients() -> Engine {
        Engine { goes_on: false, ..Engine::new() }
    }

    /// Whether somebody can run: an [`Event::Run`] would do something.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Lets the `nth` of those who can run be the next. Any order among them is right; simulations try many.
    pub fn prefer(&mut self, nth: usize) {
        self.ready.prefer(nth);
    }

    /// Whether nothing goes on by itself: all instances under way wait for events that only a client can send.
    pub fn is_quiet(&self) -> bool {
        self.ready.is_empty()
            && self.fetching.is_empty()
            && self.unbegun.is_empty()
            && self.active.is_empty()
            && self.entities.busy == 0
            && self.outbox.is_empty()
            && self.outputs.is_empty()
    }

    /// Whether an instance is under way.
    pub fn is_under_way(&self, id: &str) -> bool {
        self.uses.is_under_way(id)
    }

    /// When the next timer is due, in nanoseconds since 1970.
    pub fn next_due(&self) -> Option<i64> {
        [self.timers.next(), self.delayed.next()].into_iter().flatten().min()
    }

    /// The greatest time that anything happened at. It never goes back: an event that says that it is earlier happens then.
    pub fn time(&self) -> i64 {
        self.now
    }

    fn reach(&mut self, time: i64) -> i64 {
        if time > self.now {
            (self.now, self.is_time_written) = (time, false);
        }
        self.now
    }

    /// Whether instances go on, and not only what clients ask for.
    pub fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// Takes in an event; `now` is in nanoseconds since 1970. What follows from it is in the next
    /// [`Engine::take_outputs`] and [`Engine::take_writes`].
    pub fn handle(&mut self, event: Event, now: i64) {
        let now = self.reach(now);
        // What was due before this comes before it.
        self.fire(now);
        match event {
            Event::Recover { mail, holds, lines, life, time, root } => {
                self.life = life;
                self.reach(time);
                self.is_time_written = self.now == time;
                self.recover_lines(lines, root.as_deref());
                self.recover(mail, holds, root.as_deref());
            }
            Event::LinesOut { run, count } => {
                if let Some(id) = self.outbox.out(run, count, &mut self.batch)
                    && self.instances.get(&id).is_some_and(|instance| instance.is_ending())
                {
                    self.wake(&id);
                }
            }
            Event::Begin { record, image } => {
                self.deploy(&image, &record.permissions);
                self.add(InstanceRecord { created: now, ..record }, History::default(), image, true);
            }
            Event::Load { record, .. } if self.purged.contains(record.id.as_str()) => {
                self.fetching.remove(&Address::instance(&record.id));
                self.absent(&record.id, None, now);
            }
            Event::Load { record, history, image } => {
                // A history that was imported may be of a later time.
                let last = history.entries.last().map_or(record.created, Entry::time);
                self.reach(last);
                self.stored_programs.insert(record.program);
                self.fetching.remove(&Address::instance(&record.id));
                self.add(record, history, image, false);
            }
            Event::Absent { id, record } => {
                self.fetching.remove(&Address::instance(&id));
                let record = record.filter(|_| !self.purged.contains(id.as_str()));
                self.absent(&id, record, now);
            }
            Event::Entity { entity, state, deployed } => {
                self.fetching.remove(&Address::entity(entity.clone()));
                self.entity_fetched(entity, state, deployed);
            }
            Event::Program { image } => {
                let hash = image.code.hash;
                self.stored_programs.insert(hash);
                self.images.insert(hash, image.clone());
                for id in self.unbegun.remove(&hash).unwrap_or_default() {
                    self.absent(&id, None, now);
                }
            }
            Event::Status { step, record } => {
                let record = record.filter(|record| !self.purged.contains(record.id.as_str()));
                self.status(step, record.as_ref(), now);
            }
            Event::Wake { id } => {
                if !self.instances.contains_key(id.as_str()) {
                    self.fetch(Address::instance(&id));
                }
            }
            Event::Rewind(rewinding) => self.rewind(rewinding),
            Event::Restrict { record } => self.restrict(&record),
            Event::Send { to, from, message } => {
                let root = Arc::from(from.as_str());
                self.send(to, from, root, None, message);
            }
            Event::Answer { step, result, sends } => match step.owner.clone() {
                Address::Instance(_) => self.answer(step, result, sends, now),
                Address::Entity(entity) => self.entity_answer(&entity, &step, result),
            },
            Event::Purge { tree } => self.purge(tree),
            Event::Collect { unused } => self.collect(unused),
            Event::Tree { id, tree } => self.replace(&id, tree, now),
            Event::Release { owner } => self.release(&owner),
            Event::Tick => {}
            Event::Run => {
                self.unread += 1;
                match self.ready.pop() {
                    Some(Ready::Instance(id)) => self.run_instance(&id, now),
                    Some(Ready::Entity(entity)) => self.run_entity(&entity, now),
                    None => {}
                }
            }
        }
    }

    /// Wakes what is due.
    fn fire(&mut self, now: i64) {
        while let Some((due, (instance, seq), (life, timer))) = self.timers.take(now) {
            self.due(&instance, life, seq, timer, due);
        }
        while let Some((_, (entity, _), mail)) = self.delayed.take(now) {
            self.entities.arrive(&entity, mail);
            self.wake_entity(&entity);
        }
    }

    /// Marks what must not leave before the writes that are taken next are durable.
    pub fn gated<T>(&self, item: T) -> Gated<T> {
        Gated::new(item, self.writes_taken + 1)
    }

    /// An effect is carried out: at once, or once it may leave.
    pub(super) fn ask_effect(&mut self, step: StepId, effect: Effect, args: Data, permissions: Permissions) {
        match effect.route() {
            Route::AfterCommit => self.emit(Leaving::Effect { step, effect, args, permissions }),
            // The host says of what can't be asked for that it can't be.
            _ => self.outputs.push(Output::Effect { step, effect, args, permissions }),
        }
    }

    /// Something leaves once it may.
    pub(super) fn emit(&mut self, leaving: Leaving) {
        let gated = self.gated(leaving);
        self.outputs.push(Output::Gated(gated));
    }

    /// What it wants done since the last call.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        while self.has_room_to_read()
            && let Some(address) = self.unasked.pop()
        {
            self.unread = 0;
            self.outputs.push(Output::Fetch { address });
        }
        std::mem::take(&mut self.outputs)
    }

    fn has_room_to_read(&self) -> bool {
        if self.reads_wait {
            return false;
        }
        let starves = self.unread >= READ_AHEAD && !fault::is_in(Fault::ReadsStarve);
        starves || self.ready.len() + self.fetching.len() - self.unasked.len() < READ_AHEAD
    }

    /// The fuel that all turns have used.
    pub fn fuel(&self) -> u64 {
        self.fuel
    }

    /// Whether [`Engine::take_writes`] would give something.
    pub fn has_writes(&self) -> bool {
        !self.batch.is_empty()
            || !self.changed.is_empty()
            || !self.fresh_mail.is_empty()
            || !self.deployments.is_empty()
            || self.outbox.has_writes()
            || self.entities.has_writes()
            || !self.ending.is_empty()
    }

    /// How many changes what it wants written has, about.
    pub fn changes(&self) -> usize {
        self.changed.len() + self.fresh_mail.len() + self.outbox.changes()
    }

    /// What it wants written since the last call, to be written together.
    pub fn take_writes(&mut self) -> Writes {
        self.writes_taken += 1;
        self.reads_wait = false;
        let number = self.writes_taken;
        let mut batch = std::mem::take(&mut self.batch);
        batch.writes.reserve(2 * self.changed.len());
        for (name, deployed) in std::mem::take(&mut self.deployments) {
            batch.put(keys::deployed(&name), deployed.encode());
        }
        for (to, mail) in std::mem::take(&mut self.fresh_mail) {
            if let Some(bytes) = mail.write() {
                batch.put(keys::mail(&to, mail.number), bytes);
            }
        }
        // What few instances write is small. Of a large batch a chunk that grows would be written again as a whole.
        let grows = self.changed.len() <= FEW;
        let mut over = Vec::new();
        for id in std::mem::take(&mut self.changed) {
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            let mark = batch.writes.len();
            let before = instance.take_chunks(grows, &mut batch);
            let bytes: usize =
                batch.writes[mark..].iter().filter_map(|(_, value)| Some(value.as_ref()?.len())).sum();
            if self.uses.writes(&id, bytes as u64, &self.quotas) && instance.record.ended.is_none() {
                over.push(id.clone());
            }
            match instance.record.ended {
                None => instance.take_checkpoint(&self.checkpoints, mark, before, &mut batch),
                Some(_) => instance.drop_checkpoint(&mut batch),
            }
            if std::mem::take(&mut instance.record_changed) {
                batch.put(keys::instance(&id), instance.record.encode());
            }
            let ended = instance.record.ended.is_some();
            let active = !ended && instance.is_active();
            if instance.indexed != Some(active) {
                match active {
                    true => batch.put(keys::active(&id), instance.record.root.clone().into_bytes()),
                    false => batch.delete(keys::active(&id)),
                }
                instance.indexed = Some(active);
            }
            if ended {
                self.instances.remove(&id);
            }
        }
        self.entities.take_writes(&mut batch);
        self.outbox.take_writes(&mut batch);
        if !batch.is_empty() && !std::mem::replace(&mut self.is_time_written, true) {
            batch.put(keys::TIME.to_vec(), self.now.to_be_bytes().to_vec());
        }
        if !self.purged.is_empty() {
            // A key may be deleted and written again.
            self.purged.clear();
            batch.settle();
        }
        self.drop_parked();
        for id in over {
            self.has_too_much(&id);
        }
        for id in std::mem::take(&mut self.ending) {
            self.fetch(Address::Instance(id));
        }
        Writes::new(batch, number)
    }

    /// Stores a program, if it is not known to be there, and makes it the newest for its entities. Their operations may do
    /// outside what whoever deploys it may.
    pub(super) fn deploy(&mut self, image: &Rc<Image>, permissions: &Permissions) {
        let hash = image.code.hash;
        if self.stored_programs.insert(hash) {
            program_writes(hash, &image.code.sources, &mut self.batch);
        }
        self.images.insert(hash, image.clone());
        for name in image.code.entities() {
            if self.entities.deploy(name, image, permissions) {
                let deployed = Deployed { program: hash, permissions: permissions.clone() };
                self.deployments.insert(name.to_string(), deployed);
            }
        }
    }

    /// Puts an instance into memory, with the mail that waits for it.
    pub(super) fn add(
        &mut self,
        mut record: InstanceRecord,
        history: History,
        image: Rc<Image>,
        fresh: bool,
    ) {
        let id: Arc<str> = record.id.as_str().into();
        if self.instances.contains_key(&id) {
            return;
        }
        if fresh {
            record.life = self.life;
        }
        self.release_lives(&id, Some(record.life));
        self.images.entry(image.code.hash).or_insert_with(|| image.clone());
        let mut instance = match Instance::new(&image, record, history) {
            Ok(instance) => Box::new(instance),
            Err(reason) => {
                self.emit(Leaving::Ended {
                    instance: id,
                    outcome: Outcome::Incompatible(reason),
                    told: false,
                });
                return;
            }
        };
        instance.record_changed = fresh;
        if fresh {
            instance.indexed = Some(false);
        }
        self.uses.enter(&id, &instance.record.root);
        self.active.insert(id.clone());
        if fresh {
            self.changed.push(id.clone());
        }
        let mail = self.mailboxes.remove(&id).unwrap_or_default();
        self.instances.insert(id.clone(), instance);
        for mail in { mail }.drain() {
            self.arrive(&id, mail);
        }
        if !self.holds_back(&id, self.now) {
            self.wake(&id);
        }
    }

    /// Takes an instance out of those that are under way.
    pub(super) fn left(&mut self, id: &str) {
        self.active.remove(id);
        self.uses.leave(id);
    }

    /// An instance waits, and may be dropped from memory for others.
    pub(super) fn park(&mut self, id: &Arc<str>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        self.next_parked += 1;
        instance.parked = self.next_parked;
        self.parked.push_back((self.next_parked, id.clone()));
    }

    fn drop_parked(&mut self) {
        while self.instances.len() > self.resident
            && let Some((since, id)) = self.parked.pop_front()
        {
            let waits = self
                .instances
                .get(&id)
                .is_some_and(|instance| instance.parked == since && instance.can_be_dropped());
            if waits
                && let Some(instance) = self.instances.remove(&id)
                && !instance.mail.is_empty()
            {
                self.mailboxes.insert(id, instance.mail);
            }
        }
        // Those that have gone on since are in the queue more than once.
        if self.parked.len() > 64 + 2 * self.instances.len() {
            let instances = &self.instances;
            let waits = |since: u64, id: &Arc<str>| {
                instances.get(id).is_some_and(|instance| instance.parked == since)
            };
            self.parked.retain(|(since, id)| waits(*since, id));
        }
    }

    pub(super) fn wake(&mut self, id: &Arc<str>) {
        if let Some(instance) = self.instances.get_mut(id)
            && !std::mem::replace(&mut instance.queued, true)
        {
            let root = self.uses.root(id).unwrap_or(id);
            self.ready.push(root, Ready::Instance(id.clone()));
        }
    }

    pub(super) fn wake_entity(&mut self, entity: &Rc<EntityId>) {
        if self.entities.queue(entity) {
            let root = self.entities.root(entity);
            self.ready.push(&root, Ready::Entity(entity.clone()));
        }
    }

    /// Asks for an instance or an entity from the store, once, when there is room for it.
    pub(super) fn fetch(&mut self, address: Address) {
        if let Address::Instance(id) = &address
            && (self.set_aside.contains(id) || self.waits_for_its_end(id))
        {
            return; // it would only stop again
        }
        if self.fetching.insert(address.clone()) {
            let root = match &address {
                Address::Instance(id) => {
                    let mail = self.mailboxes.get(id).and_then(|mailbox| mailbox.iter().next());
                    let root = self.uses.root(id).or(mail.map(|mail| &mail.root));
                    root.unwrap_or(id).clone()
                }
                Address::Entity(entity) => self.entities.root(entity),
            };
            self.unasked.push(&root, address);
        }
    }

    /// Whether it is not evaluated, and nobody has ended it.
    fn waits_for_its_end(&self, id: &Arc<str>) -> bool {
        let is_end = |mail: &Mail| matches!(mail.message, Message::Terminate { .. });
        self.suspects.contains(id)
            && !self.mailboxes.get(id).is_some_and(|mailbox| mailbox.iter().any(|mail| is_end(mail)))
    }

    /// Sends a message. It is written with the next commit, unless it is taken in before.
    pub(super) fn send(
        &mut self,
        to: Address,
        from: String,
        root: Arc<str>,
        ack: Option<super::Waiter>,
        message: Message,
    ) {
        self.send_at(self.now, to, from, root, ack, message);
    }

    /// Sends a message of something that was so at a time.
    pub(super) fn send_at(
        &mut self,
        time: i64,
        to: Address,
        from: String,
        root: Arc<str>,
        ack: Option<super::Waiter>,
        message: Message,
    ) {
        let number = self.take_mail_number();
        self.post(to, Mail::fresh(number, from, root, ack, time, message, Permissions::default()));
    }

    /// As `send`, for somebody who may do only so much outside.
    pub(super) fn send_permitted(
        &mut self,
        permissions: Permissions,
        to: Address,
        from: String,
        root: Arc<str>,
        ack: Option<super::Waiter>,
        message: Message,
    ) {
        let number = self.take_mail_number();
        self.post(to, Mail::fresh(number, from, root, ack, self.now, message, permissions));
    }

    fn take_mail_number(&mut self) -> u64 {
        let number = self.next_mail;
        self.next_mail += 1;
        number
    }

    /// A message leaves: it is to be written, and is where its receiver finds it.
    fn post(&mut self, to: Address, mail: Rc<Mail>) {
        self.fresh_mail.push((to.clone(), mail.clone()));
        self.put(to, mail);
    }

    /// Stores a message anew whose sender was answered.
    pub(super) fn store(&mut self, to: Address, mail: &Mail) {
        let Mail { from, root, time, message, permissions, .. } = mail;
        let (from, root, permissions) = (from.clone(), root.clone(), permissions.clone());
        let copy = Mail::fresh(self.next_mail, from, root, None, *time, message.clone(), permissions);
        self.next_mail += 1;
        if let Some(bytes) = copy.write() {
            self.batch.put(keys::mail(&to, copy.number), bytes);
        }
    }

    /// Instances go back, which are read from the store then.
    fn rewind(&mut self, rewinding: Rewinding) {
        self.batch.writes.extend(rewinding.batch.writes);
        self.reads_wait = true;
        for back in rewinding.instances {
            self.goes_back(back);
        }
    }

    /// An instance goes on that was rewound.
    fn goes_back(&mut self, back: Back) {
        let Back { steps, life, mail, children } = back;
        let id: Arc<str> = steps.id.as_str().into();
        for old in self.mailboxes.remove(&id).unwrap_or_default().drain() {
            // What comes in its place is written with it.
            old.take();
        }
        let caller = LifeId { id: steps.id, life };
        for child in children {
            let child: Arc<str> = child.as_str().into();
            let instance = self.instances.get_mut(&child).map(|instance| &mut instance.mail);
            let Some(mailbox) = instance.or_else(|| self.mailboxes.get_mut(&child)) else { continue };
            for mail in mailbox.take_ends_by(&caller) {
                self.taken(&Address::Instance(child.clone()), &mail);
            }
        }
        let to = Address::Instance(id.clone());
        for StoredMail { from, root, ack, time, message, .. } in mail {
            self.send_at(time, to.clone(), from, root.into(), ack, message);
        }
        self.set_aside.remove(&id);
        self.fetch(to);
    }

    /// An instance that is read from the store later may do less outside.
    fn restrict(&mut self, record: &InstanceRecord) {
        assert!(!self.instances.contains_key(record.id.as_str()), "it is not in memory");
        self.batch.put(keys::instance(&record.id), record.encode());
        self.reads_wait = true;
    }

    /// Removes programs from the store. They are written anew when they are needed again.
    fn collect(&mut self, unused: Batch) {
        self.stored_programs.retain(|hash| {
            let key = keys::program(&hash.0);
            !unused.writes.iter().any(|(deleted, _)| *deleted == key)
        });
        self.batch.writes.extend(unused.writes);
    }

    /// Puts a message where its receiver finds it.
    fn put(&mut self, to: Address, mail: Rc<Mail>) {
        match to {
            Address::Instance(id) => match self.instances.contains_key(&id) {
                true => self.arrive(&id, mail),
                false => {
                    let fetched = self.goes_on || mail.message.is_control();
                    if mail.message.is_control() {
                        self.set_aside.remove(&id);
                    }
                    self.mailboxes.entry(id.clone()).or_default().put(mail);
                    if fetched {
                        self.fetch(Address::Instance(id));
                    }
                }
            },
            Address::Entity(entity) => {
                if let Message::Signal { due, .. } = &mail.message
                    && *due > self.now
                {
                    self.delayed.set(*due, (entity, mail.number), mail);
                } else {
                    self.entities.arrive(&entity, mail);
                    self.wake_entity(&entity);
                }
            }
        }
    }

    /// A message has been taken in, or is of no use any more.
    pub(super) fn taken(&mut self, to: &Address, mail: &Mail) {
        if mail.take() {
            self.batch.delete(keys::mail(to, mail.number));
        }
    }

    /// Lines of before that may not be out: those of that root leave, before anything else.
    fn recover_lines(&mut self, runs: Vec<(u64, StoredLines)>, root: Option<&str>) {
        for (run, stored) in runs {
            let is_ours = self.goes_on && root.is_none_or(|root| root == stored.root);
            self.outbox.recover(run, &stored, is_ours);
            if is_ours {
                for line in stored.lines {
                    self.emit(Leaving::Line { run, line });
                }
            }
        }
    }

    fn recover(
        &mut self,
        mut mail: Vec<(Address, u64, StoredMail)>,
        holds: Vec<(EntityId, Hold)>,
        root: Option<&str>,
    ) {
        for (entity, hold) in holds {
            self.entities.recover(entity, hold);
        }
        // A signal whose time came while nobody was there to see it came then.
        let now = self.now;
        let came = |stored: &StoredMail| match stored.message {
            Message::Signal { due, .. } if due > 0 && due <= now => due,
            _ => stored.time,
        };
        mail.sort_by_key(|(_, number, stored)| (came(stored), *number));
        for (to, number, stored) in mail {
            self.next_mail = self.next_mail.max(number + 1);
            let mail = Mail::stored(number, stored);
            match to {
                Address::Instance(id) => {
                    let ours = self.goes_on && root.is_none_or(|root| *root == *mail.root);
                    self.mailboxes.entry(id.clone()).or_default().put(mail);
                    if ours {
                        self.fetch(Address::Instance(id));
                    }
                }
                entity => self.put(entity, mail),
            }
        }
    }
}
