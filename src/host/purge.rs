//! The removal of instances for clients, each with everything that it called or started under
//! automatic ids.
//!
//! Invariant: an instance is removed only when each instance of its tree has ended or can't be
//! ended.

use std::collections::HashSet;

use crate::engine::{Address, Event, InstanceRecord, Message as Sent, Tree, read_record, unused_programs};
use crate::machine::{Data, Value};

use super::Answer;
use super::clients::Purging;
use super::command::Reply;
use super::serve::Serving;
use super::settings::HostError;

impl Serving<'_> {
    /// Purges instances. The reply leaves when they are gone.
    pub(super) fn purge(&mut self, ids: Vec<String>, force: bool, to: Answer) -> Result<(), HostError> {
        for id in &ids {
            if read_record(&self.committer.view(), id)?.is_none() {
                self.reply(to, Reply::Unknown);
                return Ok(());
            }
        }
        let purging = Purging { ids, left: HashSet::new(), given_up: HashSet::new(), reply: to };
        self.purge_or_wait(purging, force)
    }

    /// Removes instances if their trees have ended. With `force`, terminates the instances that
    /// have not ended and waits for them; without, refuses.
    fn purge_or_wait(&mut self, mut purging: Purging, force: bool) -> Result<(), HostError> {
        self.gather();
        let mut tree = Tree::read(&self.committer.view(), &purging.ids)?;
        let mut terminated = Vec::new();
        let mut running = self.engine.unfinished(&tree);
        if force {
            // Instances of other partitions are not waited for. They stay, and can be purged by
            // their own ids.
            for id in running.iter().filter(|id| !self.engine.is_here(id)) {
                if purging.given_up.insert(id.clone()) {
                    terminated.push(id.clone());
                }
            }
        }
        for id in terminated {
            self.terminate_to_purge(&id);
        }
        running.retain(|id| !purging.given_up.contains(id));
        if running.is_empty() {
            let here = |record: &&InstanceRecord| self.engine.is_here(&record.id);
            let removed = tree.records.iter().filter(here).count() as u64;
            if self.engine.placement.is_some() {
                tree.read_sections(&self.committer.view())?;
            }
            self.feed(Event::Purge { tree });
            self.gather();
            self.collect()?;
            self.reply(purging.reply, Reply::Removed(removed));
            return Ok(());
        }
        if !force {
            self.reply(purging.reply, Reply::Refused(has_not_ended(&running)));
            return Ok(());
        }
        for id in running {
            if purging.left.insert(id.clone()) {
                self.terminate_to_purge(&id);
            }
        }
        self.clients.purge_later(purging);
        Ok(())
    }

    fn terminate_to_purge(&mut self, id: &str) {
        let why = Data::of(&Value::str("it was purged"));
        self.send_to(Address::instance(id), Sent::Terminate { why, children: true, by: None });
    }

    /// Goes on with the purges that waited for an instance, which has ended or can't go on.
    pub(super) fn purge_after(&mut self, id: &str, can_go_on: bool) -> Result<(), HostError> {
        for purging in self.clients.purges_after(id, can_go_on) {
            self.purge_or_wait(purging, true)?;
        }
        Ok(())
    }

    /// Removes the programs that nobody needs any more. In a store of several partitions, others
    /// may need them.
    fn collect(&mut self) -> Result<(), HostError> {
        if self.engine.placement.is_some() {
            return Ok(());
        }
        let unused = unused_programs(&self.committer.view())?;
        self.feed(Event::Collect { unused });
        Ok(())
    }
}

/// Returns the reason why a purge with running instances is refused.
fn has_not_ended(running: &[String]) -> String {
    match running {
        [one] => format!("{one} has not ended"),
        all => {
            let shown = all.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
            let more = all.len().saturating_sub(10);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{shown}{more} have not ended")
        }
    }
}
