//! Instances that clients remove, each with all that it called or started under automatic ids.

use std::collections::HashSet;
use std::sync::Arc;

use crate::engine::{Address, Event, Message as Sent, Tree, read_record, unused_programs};
use crate::machine::{Data, Value};

use super::Answer;
use super::command::Reply;
use super::commit::AwaitingCommit;
use super::run::Host;
use super::settings::HostError;

/// Instances that are to be removed once all of their trees have ended, and who is told when it is done.
pub(super) struct Purging {
    ids: Vec<String>,
    /// Those that were terminated and have not ended.
    left: HashSet<String>,
    /// Those that can't be ended, and are removed all the same.
    given_up: HashSet<String>,
    reply: Answer,
}

impl Host {
    pub(super) fn client_purge(
        &mut self,
        ids: Vec<String>,
        force: bool,
        to: Answer,
    ) -> Result<(), HostError> {
        for id in &ids {
            if read_record(&self.view(), id)?.is_none() {
                self.hold(AwaitingCommit::Reply { to, reply: Reply::Unknown });
                return Ok(());
            }
        }
        let purging = Purging { ids, left: HashSet::new(), given_up: HashSet::new(), reply: to };
        self.purge_or_wait(purging, force)
    }

    /// Removes instances if all of their trees have ended. What has not is terminated, and waited for, or is the reason
    /// why nothing is removed.
    fn purge_or_wait(&mut self, mut purging: Purging, force: bool) -> Result<(), HostError> {
        self.gather();
        let tree = Tree::read(&self.view(), &purging.ids)?;
        let mut running = self.engine.unfinished(&tree);
        running.retain(|id| !purging.given_up.contains(id));
        if running.is_empty() {
            let removed = tree.records.len() as u64;
            self.feed(Event::Purge { tree });
            self.gather();
            self.collect()?;
            self.hold(AwaitingCommit::Reply { to: purging.reply, reply: Reply::Removed(removed) });
            return Ok(());
        }
        if !force {
            let reply = Reply::Refused(has_not_ended(&running));
            self.hold(AwaitingCommit::Reply { to: purging.reply, reply });
            return Ok(());
        }
        for id in running {
            if purging.left.insert(id.clone()) {
                let why = Data::of(&Value::str("it was purged"));
                let message = Sent::Terminate { why, children: true, by: None };
                self.client_message(Address::instance(&id), message);
            }
        }
        self.purging.push(purging);
        Ok(())
    }

    /// An instance has ended, or can't go on; it may be one that is to be removed.
    pub(super) fn purge_ended(&mut self, id: &Arc<str>, can_go_on: bool) -> Result<(), HostError> {
        let mut rest = Vec::new();
        for mut purging in std::mem::take(&mut self.purging) {
            let was_left = purging.left.remove(&**id);
            if was_left && !can_go_on {
                purging.given_up.insert(id.to_string());
            }
            match was_left && purging.left.is_empty() {
                true => self.purge_or_wait(purging, true)?,
                false => rest.push(purging),
            }
        }
        self.purging.extend(rest);
        Ok(())
    }

    /// Removes programs that nobody needs any more.
    pub(super) fn collect(&mut self) -> Result<(), HostError> {
        let batch = unused_programs(&self.view())?;
        self.engine.forget_programs(&batch);
        self.pending.add(batch);
        Ok(())
    }
}

/// What is said of instances that are in the way.
pub(super) fn has_not_ended(running: &[String]) -> String {
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
