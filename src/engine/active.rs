//! The index of active instances: those that have more to do than to wait for others.
//!
//! An instance that only waits for a time is in the index with that time. So it is not read before,
//! however often the process ends meanwhile.
//!
//! Invariant: the time in the index is never later than that at which the instance goes on by
//! itself. It may be earlier, since a time that is soon over is not worth a write.

/// What an instance does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// Nothing: it waits for others, or has ended.
    Nothing,
    /// Something that the process must go on with.
    Something,
    /// Nothing before this time, in nanoseconds since 1970.
    Waiting(i64),
}

/// The time, in nanoseconds, from which on a wait is worth a write to the index.
const LONG: i64 = 10_000_000_000;

impl Doing {
    /// Whether an entry in the index is right for what the instance does, and not much too early.
    pub fn is_served_by(self, entry: Doing, now: i64) -> bool {
        match (entry, self) {
            (Doing::Nothing, Doing::Nothing) | (Doing::Something, Doing::Something) => true,
            // The time has come, so a process that begins goes on with the instance.
            (Doing::Waiting(at), Doing::Something) => at <= now,
            (Doing::Something, Doing::Waiting(due)) => due.saturating_sub(now) < LONG,
            (Doing::Waiting(at), Doing::Waiting(due)) => at <= due && due.saturating_sub(at.max(now)) < LONG,
            (Doing::Nothing, _) | (_, Doing::Nothing) => false,
        }
    }
}

/// An entry of the index: the root of the instance, and the time before which the instance does
/// nothing by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Active {
    pub root: String,
    pub due: Option<i64>,
}

impl Active {
    /// Encodes the id of the root, which follows a zero byte and the time if there is one.
    pub fn encode(&self) -> Vec<u8> {
        let root = self.root.as_bytes();
        match self.due {
            None => root.to_vec(),
            Some(due) => [&[0], &due.to_be_bytes()[..], root].concat(),
        }
    }

    pub fn decode(bytes: &[u8]) -> Option<Active> {
        let (due, root) = match bytes.split_first() {
            Some((0, rest)) => {
                let (due, root) = rest.split_first_chunk()?;
                (Some(i64::from_be_bytes(*due)), root)
            }
            _ => (None, bytes),
        };
        Some(Active { root: String::from_utf8(root.to_vec()).ok()?, due })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_a_round_trip_and_one_without_a_time_is_the_root() {
        for due in [None, Some(0), Some(-1), Some(i64::MAX)] {
            let active = Active { root: "order-1".into(), due };
            assert_eq!(Active::decode(&active.encode()), Some(active));
        }
        assert_eq!(Active::decode(b"order-1"), Some(Active { root: "order-1".into(), due: None }));
        assert_eq!(Active::decode(&[0, 1, 2]), None);
    }

    #[test]
    fn an_entry_is_never_later_than_what_the_instance_does() {
        let now = 100 * LONG;
        let all = [Doing::Nothing, Doing::Something, Doing::Waiting(now - 1), Doing::Waiting(now + 5 * LONG)];
        for (entry, doing) in all.iter().flat_map(|entry| all.map(|doing| (*entry, doing))) {
            let from = |doing: Doing| match doing {
                Doing::Nothing => None,
                Doing::Something => Some(now),
                Doing::Waiting(due) => Some(due.max(now)),
            };
            if doing.is_served_by(entry, now) {
                let (entry, wanted) = (from(entry), from(doing));
                assert!(entry.is_some() == wanted.is_some() && entry <= wanted, "{entry:?} for {wanted:?}");
            }
        }
        assert!(Doing::Waiting(now + 1).is_served_by(Doing::Something, now), "it is not worth a write");
        assert!(!Doing::Waiting(now + LONG).is_served_by(Doing::Something, now));
        assert!(!Doing::Something.is_served_by(Doing::Waiting(now + 1), now), "it was woken early");
    }
}
