//! The engine's state, and its steps: events in; writes and outputs out.

use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashSet;

use crate::builtins::{Effect, Route};
use crate::kv::Batch;
use crate::machine::{Data, EntityId};
use crate::permissions::Permissions;
use crate::syntax::tree::SCHEDULES;

use super::address::Address;
use super::calls::Calls;
use super::checkpoint::Checkpoints;
use super::courier::Courier;
use super::entity::Entities;
use super::events::{Event, Leaving, Output, StepId};
use super::functions;
use super::gate::Gated;
use super::history::History;
use super::keys;
use super::outbox::Outbox;
use super::placement::Placement;
use super::post::Post;
use super::programs::Programs;
use super::quotas::{Quotas, Uses};
use super::record::InstanceRecord;
use super::residents::Residents;
use super::scheduler::{Ready, Scheduler};
use super::versions::Versions;
use super::wanted::Wanted;

/// The number of waiting instances that are kept in memory. Beyond it, those that have waited
/// longest are dropped, and read from the store again when something comes for them.
const RESIDENT: usize = 4096;

/// All instances and entities under way.
pub struct Engine {
    pub(super) scheduler: Scheduler,
    pub(super) residents: Residents,
    pub(super) entities: Entities,
    pub(super) wanted: Wanted,
    pub(super) post: Post,
    pub(super) outbox: Outbox,
    pub(super) calls: Calls,
    pub(super) programs: Programs,
    /// The place among the partitions of the store; `None` if there is only one. It is set before
    /// the first event.
    pub placement: Option<Placement>,
    pub(super) courier: Courier,
    pub(super) versions: Versions,
    /// The life of instances that begin now.
    pub(super) life: u64,
    /// Whether instances go on. Otherwise the engine handles only control messages and operations
    /// of entities.
    pub(super) goes_on: bool,
    /// Instances that do more than wait for others.
    pub(super) active: HashSet<Arc<str>>,
    /// The instances under way, in memory or not, and the resources that each root uses.
    pub(super) uses: Uses,
    /// The limits of one root.
    pub quotas: Quotas,
    /// The number of waiting instances that are kept in memory.
    pub resident: usize,
    /// The policy for checkpoints.
    pub checkpoints: Checkpoints,
    /// The size in bytes up to which the last chunk of a history grows at most.
    pub growth: usize,
    /// Whether operations of entities are kept from now on; `None` leaves that to the store. It is
    /// set before the first event.
    pub keep_operations: Option<bool>,
    /// Whether an attempt at an activity counts that the end of a process broke off. Only tests
    /// that look for the reason of a difference say no.
    pub costs_attempts: bool,
    /// Instances that are replaced once their trees are read.
    pub(super) replacing: HashSet<Arc<str>>,
    /// Ended instances whose mail is handled again when the next writes are taken.
    pub(super) ending: Vec<Arc<str>>,
    /// Purged instances, whose removal is among the next writes.
    pub(super) purged: HashSet<Arc<str>>,
    /// Instances and entities that are not evaluated.
    pub(super) suspects: HashSet<Arc<str>>,
    /// Instances that have stopped without an end.
    pub(super) set_aside: HashSet<Arc<str>>,
    /// Instances with something to write.
    pub(super) changed: Vec<Arc<str>>,
    pub(super) batch: Batch,
    pub(super) outputs: Vec<Output>,
    /// The number of times that writes were taken.
    pub(super) writes_taken: u64,
}

impl Default for Engine {
    fn default() -> Engine {
        Engine::new()
    }
}

impl Engine {
    pub fn new() -> Engine {
        Engine {
            scheduler: Scheduler::default(),
            residents: Residents::default(),
            entities: Entities::default(),
            wanted: Wanted::default(),
            post: Post::default(),
            outbox: Outbox::default(),
            calls: Calls::default(),
            programs: Programs::default(),
            placement: None,
            courier: Courier::default(),
            versions: Versions::default(),
            life: keys::FIRST_LIFE,
            goes_on: true,
            active: HashSet::new(),
            uses: Uses::default(),
            quotas: Quotas::default(),
            resident: RESIDENT,
            checkpoints: Checkpoints::default(),
            growth: usize::MAX,
            keep_operations: None,
            costs_attempts: true,
            replacing: HashSet::new(),
            ending: Vec::new(),
            purged: HashSet::new(),
            suspects: HashSet::new(),
            set_aside: HashSet::new(),
            changed: Vec::new(),
            batch: Batch::default(),
            outputs: Vec::new(),
            writes_taken: 0,
        }
    }

    /// Returns an engine for clients alone: operations of entities run and control messages are
    /// handled, but no instance goes on.
    pub fn for_clients() -> Engine {
        Engine { goes_on: false, ..Engine::new() }
    }

    /// Whether an instance or entity can run, so that an [`Event::Run`] does something.
    pub fn is_ready(&self) -> bool {
        !self.scheduler.ready.is_empty()
    }

    /// Lets the `nth` of the ready instances and entities be the next. Any order among them is
    /// right; simulations try many.
    pub fn prefer(&mut self, nth: usize) {
        self.scheduler.ready.prefer(nth);
    }

    /// Whether nothing goes on by itself: all instances under way wait for events that only a
    /// client can send, or are schedules, which go on for ever.
    pub fn is_quiet(&self) -> bool {
        !self.is_ready()
            && self.wanted.is_empty()
            && !self.programs.are_awaited()
            && self.active.iter().all(|id| id.starts_with(SCHEDULES))
            && self.entities.busy == 0
            && self.outbox.is_empty()
            && self.outputs.is_empty()
    }

    /// Whether an instance is under way.
    pub fn is_under_way(&self, id: &str) -> bool {
        self.uses.is_under_way(id)
    }

    /// Returns the root of an instance in memory.
    pub fn root_of(&self, id: &str) -> Option<Arc<str>> {
        self.residents.get(id).map(|instance| instance.root.clone())
    }

    /// Returns the root of the message that an entity works on.
    pub fn root_of_entity(&mut self, entity: &Rc<EntityId>) -> Arc<str> {
        self.entities.root(entity)
    }

    /// Returns the instance of a run of lines that are not out.
    pub fn instance_of_lines(&self, run: u64) -> Option<Arc<str>> {
        self.outbox.instance_of(run)
    }

    /// Returns when the next timer is due, in nanoseconds since 1970.
    pub fn next_due(&self) -> Option<i64> {
        self.scheduler.next_due()
    }

    /// Returns the greatest time of any event. Time never goes back: an event with an earlier time
    /// happens at this time.
    pub fn time(&self) -> i64 {
        self.scheduler.now
    }

    /// Returns the fuel that all turns have used.
    pub fn fuel(&self) -> u64 {
        self.scheduler.fuel
    }

    /// Whether instances go on, and not only the requests of clients.
    pub fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// Handles an event; `now` is in nanoseconds since 1970. Its consequences are in the next
    /// [`Engine::take_outputs`] and [`Engine::take_writes`].
    pub fn handle(&mut self, event: Event, now: i64) {
        let now = self.scheduler.reach(now);
        // Timers that were due before the event come before it.
        self.fire(now);
        match event {
            Event::Recover { mail, holds, lines, answers, life, time, versions, keeps, root } => {
                self.calls.recover(answers);
                self.life = life;
                self.scheduler.recover(time);
                self.keep_operations(keeps);
                self.versions.recover(versions);
                self.recover_lines(lines, root.as_deref());
                self.recover(mail, holds, root.as_deref());
            }
            Event::Arrive { incoming } => self.take_in(incoming),
            Event::Rekey { moves } => {
                self.batch.writes.extend(moves.writes);
                self.wanted.wait_for_writes();
            }
            Event::LinesOut { run, count } => {
                if let Some(id) = self.outbox.out(run, count, &mut self.batch) {
                    self.lines_are_out(&id);
                }
            }
            Event::Begin { record, image } => {
                self.deploy(&image, &record.permissions);
                self.add(InstanceRecord { created: now, ..record }, History::default(), image, true);
            }
            Event::Deploy { image, file, permissions } => {
                self.deploy(&image, &permissions);
                functions::deploy(&image, &file, &permissions, now, &mut self.batch);
            }
            Event::Load { record, .. } if self.purged.contains(record.id.as_str()) => {
                self.wanted.came(&Address::instance(&record.id));
                self.absent(&record.id, None, now);
            }
            Event::Load { record, history, image } => self.load(record, history, image),
            Event::Absent { id, record } => {
                self.wanted.came(&Address::instance(&id));
                let record = record.filter(|_| !self.purged.contains(id.as_str()));
                self.absent(&id, record, now);
            }
            Event::Entity { entity, state, version, deployed, kept } => {
                self.wanted.came(&Address::entity(entity.clone()));
                self.entity_fetched(entity, (state, version), deployed, kept);
            }
            Event::Program { image } => {
                let hash = image.code.hash;
                self.programs.is_stored(hash);
                self.programs.replace(&image);
                for id in self.programs.take_unbegun(hash) {
                    self.absent(&id, None, now);
                }
            }
            Event::Status { step, record } => {
                let record = record.filter(|record| !self.purged.contains(record.id.as_str()));
                self.status(step, record.as_ref(), now);
            }
            Event::Wake { id } => {
                if !self.residents.contains(&id) {
                    self.fetch(Address::instance(&id));
                }
            }
            Event::WakeAt { id, root, due } => self.waits_until(&id, &root, due),
            Event::Rewind(rewinding) => self.rewind(rewinding),
            Event::Undo(undo) => self.undo(undo),
            Event::Upgrade(upgrade) => self.upgrade(*upgrade, now),
            Event::Branch(branch) => self.branch(*branch),
            Event::Restrict { record } => self.restrict(&record),
            Event::Send { to, from, message } => {
                let root = Arc::from(from.as_str());
                self.send(to, from, root, None, message);
            }
            Event::Call { id, from, call } => self.client_calls(&id, from, call),
            Event::ActivityCall { caller, step, entity, operation, args, permissions } => {
                self.activity_calls(caller, &step, entity, operation, args, permissions);
            }
            Event::Answer { step, result, sends } => match step.owner.clone() {
                Address::Instance(_) => self.answer(step, result, sends, now),
                Address::Entity(entity) => self.entity_answer(&entity, &step, result),
            },
            Event::Purge { tree } => self.purge(tree),
            Event::Collect { unused } => self.collect(unused),
            Event::Forget { entity, kept } => {
                self.entities.forget_kept(&Rc::new(entity), kept, &mut self.batch);
            }
            Event::Tree { id, tree } => self.replace(&id, tree, now),
            Event::Release { owner } => self.release(&owner),
            Event::Tick => {}
            Event::Run => {
                self.wanted.had_a_turn();
                match self.scheduler.ready.pop() {
                    Some(Ready::Instance(id)) => self.run_instance(&id, now),
                    Some(Ready::Entity(entity)) => self.run_entity(&entity, now),
                    None => {}
                }
            }
        }
    }

    /// Fires the timers and the delayed signals that are due.
    pub(super) fn fire(&mut self, now: i64) {
        while let Some((due, (instance, seq), (life, timer))) = self.scheduler.timers.take(now) {
            self.due(&instance, life, seq, timer, due);
        }
        while let Some((_, (entity, _), mail)) = self.scheduler.delayed.take(now) {
            self.entities.arrive(&entity, mail);
            self.wake_entity(&entity);
        }
    }

    /// Decides whether operations of entities are kept, and notes the decision in the store.
    /// `keeps` is what the store says.
    fn keep_operations(&mut self, keeps: bool) {
        let wanted = self.keep_operations.unwrap_or(keeps);
        self.entities.keeps = wanted;
        match wanted {
            true if !keeps => {
                let since = self.scheduler.now.to_be_bytes().to_vec();
                self.batch.put(keys::KEEPS_OPERATIONS.to_vec(), since);
            }
            false if keeps => self.batch.delete(keys::KEEPS_OPERATIONS.to_vec()),
            _ => {}
        }
    }

    // ---- outputs

    /// Marks an item that must not leave before the writes that are taken next are durable.
    pub fn gated<T>(&self, item: T) -> Gated<T> {
        Gated::new(item, self.writes_taken + 1)
    }

    /// Outputs an effect: at once or after the commit, by its route.
    pub(super) fn ask_effect(&mut self, step: StepId, effect: Effect, args: Data, permissions: Permissions) {
        match effect.route() {
            Route::AfterCommit => self.emit(Leaving::Effect { step, effect, args, permissions }),
            // The host refuses effects that can't be requested.
            _ => self.outputs.push(Output::Effect { step, effect, args, permissions }),
        }
    }

    /// Outputs something that leaves after the commit.
    pub(super) fn emit(&mut self, leaving: Leaving) {
        let gated = self.gated(leaving);
        self.outputs.push(Output::Gated(gated));
    }

    /// Returns up to `most` instances and entities that the next outputs will ask for, unless they
    /// change before.
    pub fn upcoming_reads(&self, most: usize) -> Vec<Address> {
        self.wanted.upcoming().take(most).cloned().collect()
    }

    /// Takes the outputs since the last call.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        while let Some(address) = self.wanted.next(self.scheduler.ready.len()) {
            let kept = self.entities.keeps && matches!(address, Address::Entity(_));
            self.outputs.push(Output::Fetch { address, kept });
        }
        std::mem::take(&mut self.outputs)
    }
}
