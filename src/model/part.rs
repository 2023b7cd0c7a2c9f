//! Parts of configurations: shared, and compared by their contents instead of their addresses.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use xxhash_rust::xxh3::xxh3_128;

/// A value with the hash of its contents. Two values with the same hash count as equal. Among a
/// thousand million different values, the chance that any two share 128 bits is below one in 10^20.
pub struct Part<T>(Arc<(u128, T)>);

impl<T: Hash> Part<T> {
    pub fn new(value: T) -> Part<T> {
        Part(Arc::new((fingerprint(&value), value)))
    }
}

impl<T> Part<T> {
    /// Returns the part of a value that these bytes represent.
    pub fn of(value: T, bytes: &[u8]) -> Part<T> {
        Part(Arc::new((xxh3_128(bytes), value)))
    }

    pub fn mark(&self) -> u128 {
        self.0.0
    }
}

impl<T> Clone for Part<T> {
    fn clone(&self) -> Part<T> {
        Part(self.0.clone())
    }
}

impl<T> Deref for Part<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.1
    }
}

impl<T> PartialEq for Part<T> {
    fn eq(&self, other: &Part<T>) -> bool {
        self.0.0 == other.0.0
    }
}

impl<T> Eq for Part<T> {}

impl<T> Hash for Part<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.0.0);
    }
}

impl<T: fmt::Debug> fmt::Debug for Part<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.1.fmt(f)
    }
}

/// A hasher that gathers bytes, so that they are hashed in one go.
struct Gather<'a>(&'a mut Vec<u8>);

impl Hasher for Gather<'_> {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

/// Returns a hash of 128 bits, the same in every run.
pub fn fingerprint(value: &impl Hash) -> u128 {
    thread_local! {
        static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    // A nested call has a buffer of its own.
    let mut bytes = BYTES.take();
    bytes.clear();
    value.hash(&mut Gather(&mut bytes));
    let hash = xxh3_128(&bytes);
    BYTES.set(bytes);
    hash
}

/// A map by hashes.
pub type ByHash<T> = HashMap<u128, T, BuildHasherDefault<Spread>>;

/// The hasher for keys that are hashes, and so are spread already.
#[derive(Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, n: u128) {
        self.0 = n as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A value that is shared until it is changed. The hash of its contents is computed on demand.
pub struct Shared<T>(Arc<Inner<T>>);

struct Inner<T> {
    mark: OnceLock<u128>,
    value: T,
}

impl<T: Hash + Clone> Shared<T> {
    pub fn new(value: T) -> Shared<T> {
        Shared(Arc::new(Inner { mark: OnceLock::new(), value }))
    }

    pub fn mark(&self) -> u128 {
        *self.0.mark.get_or_init(|| fingerprint(&self.0.value))
    }

    /// Whether both share one allocation.
    pub fn is(&self, other: &Shared<T>) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns the value for a change, after copying a value that is shared.
    pub fn edit(&mut self) -> &mut T {
        if Arc::get_mut(&mut self.0).is_none() {
            *self = Shared::new(self.0.value.clone());
        }
        // Nothing else shares the value now.
        let inner = Arc::get_mut(&mut self.0).unwrap_or_else(|| unreachable!("a copy is nobody else's"));
        inner.mark = OnceLock::new();
        &mut inner.value
    }
}

impl<T: Hash + Clone + Default> Default for Shared<T> {
    fn default() -> Shared<T> {
        Shared::new(T::default())
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Shared<T> {
        Shared(self.0.clone())
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: Hash + Clone> PartialEq for Shared<T> {
    fn eq(&self, other: &Shared<T>) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.mark() == other.mark()
    }
}

impl<T: Hash + Clone> Eq for Shared<T> {}

impl<T: Hash + Clone> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.mark());
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.value.fmt(f)
    }
}
