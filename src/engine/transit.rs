//! The form of what partitions send to one another: a body is a sequence of items, each with its
//! length, so that two bodies can be joined.
//!
//! Invariant: a body that was written here is read here in the same order. A body that can't be
//! read is an error, and never something else than was sent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::internal::sure;
use crate::kv::{Arrival, Partition, Receipt, Source};
use crate::machine::EntityId;

use super::address::{Address, LifeId, Waiter};
use super::message::StoredMail;
use super::placement::Placement;
use super::read_error::ReadError;
use super::stored;
use super::versions::Known;
use super::waits::Sent;

/// The kinds of items. A new form gets a new number.
const VERSIONS: u8 = 1;
const MAIL: u8 = 2;
const RELEASE: u8 = 3;
const WITHDRAW: u8 = 4;
const WAITS: u8 = 5;

/// Something that one partition sends to another.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    /// The deployments that the sender knows. They come before everything that relies on them.
    Versions(Known),
    /// A message to an instance or an entity.
    Mail(Address, StoredMail),
    /// A critical section that was granted is left. These are its entities at the receiver.
    Release { owner: LifeId, entities: Vec<EntityId> },
    /// The request of a critical section is withdrawn. The withdrawal is at the entity `at`, as it
    /// follows the request.
    Withdraw { owner: Waiter, set: Vec<EntityId>, at: u64 },
    /// Instances that wait, for one another or for the instance `id`. They may be in a circle.
    Waits { waits: Vec<Sent>, id: String },
}

/// The stored form of an address.
#[derive(Serialize, Deserialize)]
enum To {
    Instance(String),
    Entity(EntityId),
}

impl To {
    fn of(address: &Address) -> To {
        match address {
            Address::Instance(id) => To::Instance(id.to_string()),
            Address::Entity(entity) => To::Entity((**entity).clone()),
        }
    }

    fn address(self) -> Address {
        match self {
            To::Instance(id) => Address::instance(&id),
            To::Entity(entity) => Address::entity(entity),
        }
    }
}

/// Appends an item to a body.
fn append(body: &mut Vec<u8>, kind: u8, content: &[u8]) {
    let length = sure(u32::try_from(content.len() + 1), "an item has less than four gigabytes");
    body.extend(length.to_be_bytes());
    body.push(kind);
    body.extend(content);
}

/// Appends a message to a body. `mail` is an encoded [`StoredMail`].
pub(super) fn append_mail(body: &mut Vec<u8>, to: &Address, mail: &[u8]) {
    let mut content = stored::append(Vec::with_capacity(stored::MOST + mail.len()), &To::of(to));
    content.extend(mail);
    append(body, MAIL, &content);
}

/// Appends any item to a body.
pub(super) fn append_item(body: &mut Vec<u8>, item: &Item) {
    let new = Vec::new;
    match item {
        Item::Versions(known) => append(body, VERSIONS, &stored::append(new(), known)),
        Item::Mail(to, mail) => append_mail(body, to, &mail.encode()),
        Item::Release { owner, entities } => {
            append(body, RELEASE, &stored::append(new(), &(owner, entities)));
        }
        Item::Withdraw { owner, set, at } => {
            append(body, WITHDRAW, &stored::append(new(), &(owner, set, at)));
        }
        Item::Waits { waits, id } => append(body, WAITS, &stored::append(new(), &(waits, id))),
    }
}

fn item(kind: u8, content: &[u8]) -> Option<Item> {
    match kind {
        VERSIONS => stored::read(content).map(Item::Versions),
        MAIL => {
            let (to, mail) = stored::take::<To>(content)?;
            Some(Item::Mail(to.address(), StoredMail::decode(mail)?))
        }
        RELEASE => stored::read(content).map(|(owner, entities)| Item::Release { owner, entities }),
        WITHDRAW => stored::read(content).map(|(owner, set, at)| Item::Withdraw { owner, set, at }),
        WAITS => stored::read(content).map(|(waits, id)| Item::Waits { waits, id }),
        _ => None,
    }
}

/// Reads the items of a body; `None` if they can't be read.
fn items(mut body: &[u8]) -> Option<Vec<Item>> {
    let mut all = Vec::new();
    while !body.is_empty() {
        let (length, rest) = body.split_first_chunk()?;
        let (one, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        let (kind, content) = one.split_first()?;
        all.push(item(*kind, content)?);
        body = rest;
    }
    Some(all)
}

/// What has come from another partition.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub receipt: Receipt,
    pub(super) items: Vec<Item>,
}

impl Incoming {
    /// Reads an arrival from another partition. The error says that this version can't read it.
    pub fn read(arrival: &Arrival) -> Result<Incoming, ReadError> {
        let Arrival { receipt, body } = arrival;
        let from = match receipt.source {
            Source::Partition(partition) => format!("partition {partition}"),
            Source::Client => "a client".to_string(),
        };
        let items = match receipt.source {
            Source::Partition(_) => items(body),
            Source::Client => None,
        };
        let unreadable = || ReadError::from(format!("message {} of {from} is not readable", receipt.number));
        Ok(Incoming { receipt: *receipt, items: items.ok_or_else(unreadable)? })
    }
}

/// Divides a body between the partitions of a placement, in the order of its items, for a partition
/// that is split. The receivers learn all deployments that the sender knew.
pub fn divide(placement: &Placement, body: &[u8]) -> Result<BTreeMap<Partition, Vec<u8>>, ReadError> {
    let mut bodies: BTreeMap<Partition, Vec<u8>> = BTreeMap::new();
    let mut known: Option<Known> = None;
    for item in items(body).ok_or_else(|| ReadError::from("a message is not readable".to_string()))? {
        let mut add = |to: Partition, item: &Item| {
            let body = bodies.entry(to).or_default();
            if let Some(known) = &known {
                append_item(body, &Item::Versions(known.clone()));
            }
            append_item(body, item);
        };
        match &item {
            Item::Versions(_) => {}
            Item::Mail(to, _) => add(placement.partition_of(to), &item),
            Item::Release { owner, entities } => {
                for entity in entities {
                    let one = Item::Release { owner: owner.clone(), entities: vec![entity.clone()] };
                    add(placement.partition_of_entity(entity), &one);
                }
            }
            Item::Waits { id, .. } => add(placement.partition_of_id(id), &item),
            Item::Withdraw { set, at, .. } => {
                if let Some(entity) = usize::try_from(*at).ok().and_then(|at| set.get(at)) {
                    add(placement.partition_of_entity(entity), &item);
                }
            }
        }
        if let Item::Versions(more) = item {
            known = Some(more);
        }
    }
    Ok(bodies)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{InstanceRecord, Message};
    use crate::machine::{Data, IfExists, Value};
    use crate::permissions::Permissions;

    fn mail(message: Message) -> StoredMail {
        let root = "root".to_string();
        StoredMail {
            from: "x-1-0".into(),
            root,
            ack: None,
            time: 7,
            message,
            permissions: Permissions::default(),
        }
    }

    fn entity(key: &str) -> EntityId {
        EntityId::new("Account", &Value::str(key)).expect("a key")
    }

    fn examples() -> Vec<Item> {
        let owner = Waiter { instance: "x".into(), life: 1, execution: 0, seq: 3 };
        let record =
            InstanceRecord::new("x", crate::code::ProgramHash([7; 32]), "x.df", "f", Data::null(), 1);
        let begin = Message::Begin(Box::new(record), IfExists::Join);
        let set = vec![entity("ada"), entity("bob")];
        let lock = Message::Lock { owner: owner.clone(), set: set.clone(), at: 0, since: 5 };
        vec![
            Item::Versions(Known::from([(3, 5), (4, 9)])),
            Item::Mail(Address::instance("x"), mail(begin)),
            Item::Mail(Address::entity(entity("ada")), mail(lock)),
            Item::Release { owner: owner.life_id(), entities: set.clone() },
            Item::Withdraw { owner, set, at: 1 },
            Item::Waits {
                waits: vec![("x".into(), 1, 0, "root".into(), vec![(5, 3, "y".into())])],
                id: "y".into(),
            },
        ]
    }

    fn arrival(body: Vec<u8>) -> Arrival {
        Arrival { receipt: Receipt { source: Source::Partition(1), number: 1 }, body }
    }

    #[test]
    fn a_body_says_what_was_sent_and_bodies_can_be_joined() {
        let (mut body, all) = (Vec::new(), examples());
        all.iter().for_each(|item| append_item(&mut body, item));
        assert_eq!(Incoming::read(&arrival(body.clone())).expect("a body").items, all);
        let twice = [body.clone(), body].concat();
        assert_eq!(Incoming::read(&arrival(twice)).expect("two bodies").items, [all.clone(), all].concat());
    }

    #[test]
    fn a_body_that_is_cut_or_changed_is_an_error_or_another_body() {
        let mut body = Vec::new();
        examples().iter().for_each(|item| append_item(&mut body, item));
        let bounds: Vec<usize> = (0..=examples().len())
            .map(|count| {
                let mut part = Vec::new();
                examples()[..count].iter().for_each(|item| append_item(&mut part, item));
                part.len()
            })
            .collect();
        for end in 0..body.len() {
            let read = Incoming::read(&arrival(body[..end].to_vec()));
            assert_eq!(read.is_ok(), bounds.contains(&end), "cut at {end}");
        }
        body[4] = 99;
        assert!(Incoming::read(&arrival(body)).is_err(), "an unknown kind");
        let client = Arrival { receipt: Receipt { source: Source::Client, number: 1 }, body: Vec::new() };
        assert!(Incoming::read(&client).is_err(), "what clients send has another form");
    }

    #[test]
    fn a_body_is_divided_by_receivers_in_its_order() {
        let placement = Placement::even(0, 16).expect("partitions");
        let mut body = Vec::new();
        examples().iter().for_each(|item| append_item(&mut body, item));
        let divided = divide(&placement, &body).expect("a body");
        let of = |item: &Item| match item {
            Item::Mail(to, _) => Some(placement.partition_of(to)),
            Item::Release { entities, .. } => Some(placement.partition_of_entity(&entities[0])),
            Item::Withdraw { set, at, .. } => Some(placement.partition_of_entity(&set[*at as usize])),
            Item::Waits { id, .. } => Some(placement.partition_of_id(id)),
            Item::Versions(_) => None,
        };
        let mut count = 0;
        for (to, body) in divided {
            for item in items(&body).expect("a part") {
                assert!(of(&item).is_none_or(|of| of == to), "{item:?} is at its receiver");
                count += usize::from(of(&item).is_some());
            }
        }
        assert_eq!(count, 6, "the release has two entities");
    }
}
