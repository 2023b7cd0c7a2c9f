//! What a program says of time and of order when it is tried out: how long its mocks take, whose answers come in turn, and
//! whether a test has the clock in its hand.
//!
//! 1. Work takes any time. A mock that is said to answer `within` a time does; one that is a function answers within the
//!    time limit of its activity, since what it gives is all that can come of it, and so does in a test an activity whose
//!    own body has nothing to wait for. Where `never` is chosen, there is no answer. What stands for the world may take
//!    longer than a limit, as the world does.
//! 2. A test that calls `advance` has the clock in its hand: no time passes while anything else can happen. A function that
//!    is mocked, an effect, and an activity whose effects are all mocked answer at once then; other work takes the time that
//!    it takes.

use crate::builtins::Effect;
use crate::code::{Code, FunctionId, Mock, Op};
use crate::machine::options::policy;
use crate::machine::{Request, RequestKind};

use super::message::Name;
use super::program::{Program, Subject, is_of_the_world, is_of_users, reached_functions};

impl Program {
    /// The time within which what is asked for has its answer, if it has one.
    pub fn within(&self, asked: &Request) -> Option<i64> {
        let timeout = || match &asked.what {
            RequestKind::Activity { options, .. } => policy(&options.decode()).ok()?.timeout,
            _ => None,
        };
        self.within_limit(asked, timeout)
    }

    /// As `within`, with the time limit of an activity.
    pub fn within_limit(&self, asked: &Request, limit: impl FnOnce() -> Option<i64>) -> Option<i64> {
        let RequestKind::Activity { name, .. } = &asked.what else { return self.mock_of(asked)?.within };
        let heeds = match self.mock_of(asked) {
            Some(Mock { within: Some(within), .. }) => return Some(*within),
            Some(mock) => !is_of_the_world(mock),
            None => matches!(self.subject, Subject::Test(_)) && !self.facts.waits.contains(name),
        };
        if heeds { limit() } else { None }
    }

    /// Whether what is asked for is answered before any time passes, in a test that has the clock in its hand.
    pub fn is_prompt(&self, asked: &Request) -> bool {
        match (self.mock_of(asked), &asked.what) {
            (Some(mock), _) => mock.within.is_none() && !is_of_the_world(mock),
            (None, RequestKind::Effect(_)) => true,
            (None, RequestKind::Activity { name, .. }) => self.facts.prompt.contains(name),
            (None, _) => false,
        }
    }

    /// Who has the clock in his hand.
    pub fn has_the_clock(&self) -> Option<Name> {
        self.facts.takes_the_clock.then(|| Name::Instance(self.main.clone()))
    }

    /// The number of a mock among those whose outcomes come in turn.
    pub fn turn_of(&self, mock: &Mock) -> Option<usize> {
        let is_it = |other: &&Mock| other.target == mock.target && other.is_activity == mock.is_activity;
        match mock.in_turn {
            true => self.in_turn().position(|other| is_it(&other)),
            false => None,
        }
    }

    fn in_turn(&self) -> impl Iterator<Item = &Mock> {
        self.mocks().iter().filter(|mock| mock.in_turn)
    }

    /// How far mocks in turn are at the beginning.
    pub fn turns(&self) -> Vec<u8> {
        vec![0; self.in_turn().count()]
    }
}

/// Whether what a function does, and all that it calls, has the clock in its hand. `advance` becomes a sleep where it is
/// called, so its text tells it from one.
pub fn takes_the_clock(code: &Code, main: FunctionId) -> bool {
    let sleep = |op: &Op| matches!(op, Op::Apply { builtin, .. } if *builtin == Effect::Sleep.id().0);
    reached_functions(code, vec![main], None).into_iter().any(|id| {
        let function = &code.functions[id as usize];
        if !is_of_users(code, function) {
            return function.name == "advance";
        }
        function.ops.iter().enumerate().filter(|(_, op)| sleep(op)).any(|(at, _)| {
            let place = code.place(id, at);
            let file = code.sources.files.get(place.source as usize);
            let text =
                file.and_then(|file| file.text.get(place.span.start as usize..place.span.end as usize));
            text.is_some_and(|text| text.contains("advance"))
        })
    })
}
