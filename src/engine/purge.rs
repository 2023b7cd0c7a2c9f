//! Removing what nobody needs any more.

use std::collections::HashSet;

use super::address::Address;
use super::fetch::read_lines;
use super::message::{Message, StoredMail};
use super::record::InstanceRecord;
use super::{Batch, Read, StoredProgram, keys};

/// The writes that remove an instance that has ended, with its history. Errors are reasons in words.
pub fn purge_writes(store: &dyn Read, id: &str) -> Result<Batch, String> {
    let mut batch = Batch::default();
    for (key, _) in store.all(&keys::history(id))? {
        batch.delete(key);
    }
    if store.get(&keys::checkpoint(id))?.is_some() {
        batch.delete(keys::checkpoint(id));
    }
    for (number, run) in read_lines(store)? {
        if run.instance == id {
            batch.delete(keys::lines(number));
        }
    }
    // What was kept for the case that it is rewound.
    for (key, bytes) in store.all(&keys::mail_of(&Address::instance(id)))? {
        let mail = StoredMail::decode(&bytes).ok_or("a message in the store is not readable")?;
        if matches!(mail.message, Message::Answer { .. } | Message::Event { .. }) {
            batch.delete(key);
        }
    }
    batch.delete(keys::instance(id));
    Ok(batch)
}

/// The writes that remove programs without instances and without entities, and texts without programs. Errors are
/// reasons in words.
pub fn unused_programs(store: &dyn Read) -> Result<Batch, String> {
    let mut used: HashSet<Vec<u8>> = HashSet::new();
    for (_, bytes) in store.all(keys::INSTANCES)? {
        let record = InstanceRecord::decode(&bytes).ok_or("the record of an instance is not readable")?;
        used.insert(keys::program(&record.program.0));
    }
    for (_, hash) in store.all(keys::DEPLOYED)? {
        used.insert([keys::PROGRAMS, &hash].concat());
    }
    for (_, mail) in super::read_mail(store)?.into_iter().map(|(to, _, mail)| (to, mail)) {
        if let super::Message::Begin(record) = mail.message {
            used.insert(keys::program(&record.program.0));
        }
    }
    let mut batch = Batch::default();
    let mut texts: HashSet<Vec<u8>> = HashSet::new();
    for (key, bytes) in store.all(keys::PROGRAMS)? {
        if !used.contains(&key) {
            batch.delete(key);
        } else if let Some(program) = StoredProgram::decode(&bytes) {
            texts.extend(program.modules.iter().map(|(_, text)| keys::text(text)));
        }
    }
    for (key, _) in store.all(keys::TEXTS)? {
        if !texts.contains(&key) {
            batch.delete(key);
        }
    }
    Ok(batch)
}
