//! Faults that the engine once had, and two of entities that it might have. A test puts each in, to
//! check that the simulator finds it.
//!
//! Only tests put faults in. The engine asks for each fault at the one place that applies its rule.

use std::cell::Cell;

/// A fault: a rule that the engine breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A purge leaves the children, and a call joins any instance that has its id.
    PurgeLeavesChildren,
    /// An instance takes an answer to an earlier life.
    AnswersReachOtherLives,
    /// Of several waiting events, the one with the earliest request is taken, not the earliest
    /// event.
    EventsByRequest,
    /// An event is taken before answers and timers that came before it.
    EventsBeforeTimers,
    /// Answers that come for a suspended instance are not written.
    SuspensionForgets,
    /// Answers that come for a failed instance are dropped.
    FailedDropsAnswers,
    /// After a rewind, the numbers of the requests that were cut are reused.
    NumbersAgain,
    /// A rewind cuts the successes after the failed answer.
    SuccessesCut,
    /// After a rewind, the old time limits still count.
    OldLimitsCount,
    /// `continue_as_new` leaves the children of the execution that it ends.
    ContinuationLeavesChildren,
    /// The messages of a turn are not sent if the next turn gives them up.
    GivenUpUnsent,
    /// The message of an operation stays in the store, so that the operation is executed again after
    /// a crash.
    OperationsTwice,
    /// The state that an operation leaves is not written.
    StatesForgotten,
    /// Turns are given in the order of requests for them, no matter how many an instance makes.
    OneRowForAll,
    /// Nothing is read from the store as long as enough instances can run.
    ReadsStarve,
    /// A turn lasts as long as there are answers or messages, no matter how much the program
    /// computes for each.
    TurnsOfManySlices,
    /// The withdrawal of a request for entities goes to each of their partitions directly.
    WithdrawalOvertakes,
}

impl Fault {
    /// All faults of a store of one partition.
    pub const ALL: [Fault; 16] = [
        Fault::PurgeLeavesChildren,
        Fault::AnswersReachOtherLives,
        Fault::EventsByRequest,
        Fault::EventsBeforeTimers,
        Fault::SuspensionForgets,
        Fault::FailedDropsAnswers,
        Fault::NumbersAgain,
        Fault::SuccessesCut,
        Fault::OldLimitsCount,
        Fault::ContinuationLeavesChildren,
        Fault::GivenUpUnsent,
        Fault::OperationsTwice,
        Fault::StatesForgotten,
        Fault::OneRowForAll,
        Fault::ReadsStarve,
        Fault::TurnsOfManySlices,
    ];
    /// The faults that only make others wait.
    pub const OF_TURNS: [Fault; 3] = [Fault::OneRowForAll, Fault::ReadsStarve, Fault::TurnsOfManySlices];
}

thread_local! {
    static PUT_IN: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// Runs `act` with a fault put in, on this thread.
pub fn with<T>(fault: Option<Fault>, act: impl FnOnce() -> T) -> T {
    /// Takes the fault out again, even if a test fails.
    struct Before(Option<Fault>);
    impl Drop for Before {
        fn drop(&mut self) {
            PUT_IN.set(self.0);
        }
    }
    let _before = Before(PUT_IN.replace(fault));
    act()
}

/// Whether a fault is put in.
pub(super) fn is_in(fault: Fault) -> bool {
    PUT_IN.get() == Some(fault)
}
