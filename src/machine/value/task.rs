//! Tasks as values. The waits for them are the machine's.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::{Charge, Failure, Value};

/// A task. Its number is that of its fiber.
#[derive(Debug)]
pub struct Task {
    pub(crate) id: u64,
    pub(crate) outcome: RefCell<Outcome>,
    /// Whether the task was awaited or cancelled, so that its failure is not the instance's.
    pub(crate) observed: Cell<bool>,
    /// The fibers that wait for the task, each with the task's index in that wait.
    pub(crate) waiters: RefCell<Vec<(u64, usize)>>,
    /// The request whose error an `all` has thrown, so that nobody gets the error of this task.
    pub(crate) useless_by: Cell<Option<u64>>,
    _charge: Charge,
}

/// The approximate number of bytes of a task while anybody can refer to it.
const BYTES: usize = 144;

#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Running,
    Value(Value),
    Failed(Failure),
}

impl Task {
    pub(crate) fn new(id: u64) -> Rc<Task> {
        Rc::new(Task {
            id,
            outcome: RefCell::new(Outcome::Running),
            observed: Cell::new(false),
            waiters: RefCell::new(Vec::new()),
            useless_by: Cell::new(None),
            _charge: Charge::new(BYTES),
        })
    }

    pub(crate) fn is_settled(&self) -> bool {
        !matches!(&*self.outcome.borrow(), Outcome::Running)
    }
}
