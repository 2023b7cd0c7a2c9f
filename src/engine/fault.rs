//! Faults that the engine once had, each put back by a test to see that the simulator finds it.
//!
//! Nothing but a test puts one in; the engine asks for each at the one place where its rule is applied.

use std::cell::Cell;

/// A rule that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A purge leaves the children, and a call takes whatever has its id.
    PurgeLeavesChildren,
    /// An answer to an earlier life is taken.
    AnswersReachOtherLives,
    /// Of events that wait together the one is taken that was asked for first.
    EventsByRequest,
    /// An event is taken before what was due before it.
    EventsBeforeTimers,
    /// What comes for a suspended instance is not written.
    SuspensionForgets,
    /// What comes for a failed instance is dropped.
    FailedDropsAnswers,
    /// After a rewinding the numbers of what was cut are given again.
    NumbersAgain,
    /// What succeeded after the failed answer is cut.
    SuccessesCut,
    /// After a rewinding the time limits of before count.
    OldLimitsCount,
    /// `continue_as_new` leaves the children of the execution that it ends.
    ContinuationLeavesChildren,
    /// What a turn asks of others is not sent when the next turn gives it up.
    GivenUpUnsent,
    /// Turns are taken in the order asked for, whoever asks how often.
    OneRowForAll,
    /// Nothing is read from the store as long as enough can run.
    ReadsStarve,
    /// A turn lasts as long as there are answers or messages, whatever the program does with each.
    TurnsOfManySlices,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 14] = [
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
        Fault::OneRowForAll,
        Fault::ReadsStarve,
        Fault::TurnsOfManySlices,
    ];
    /// Those that make others wait, and do nothing else.
    pub const OF_TURNS: [Fault; 3] = [Fault::OneRowForAll, Fault::ReadsStarve, Fault::TurnsOfManySlices];
}

thread_local! {
    static PUT_IN: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// Does something with a fault put in, on this thread.
pub fn with<T>(fault: Option<Fault>, act: impl FnOnce() -> T) -> T {
    /// Takes the fault out again, also when a test fails.
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
