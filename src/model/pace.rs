//! The rules for time and order in tests: how long mocks take, which outcomes come in turn, and
//! whether a test controls the clock.
//!
//! 1. Work takes any time, with these exceptions. A mock with `within` answers within that time. A
//!    mock that is a function answers within the time limit of its activity, because its outcomes
//!    are all that can happen. In a test, an activity whose own body never waits does so too. An
//!    outcome `never` gives no answer. Work that stands for the world may take longer than a limit,
//!    as the world does.
//! 2. A test that calls `advance` controls the clock: no time passes while anything else can
//!    happen. Then a mock that is a function, an effect, and an activity whose effects are all
//!    mocked answer at once. Other work takes its time.

use crate::code::Mock;
use crate::machine::options::policy;
use crate::machine::{Request, RequestKind};

use super::message::Name;
use super::program::{Program, Subject, is_of_the_world};

impl Program {
    /// Returns the time within which a request is answered, if there is a limit.
    pub fn within(&self, asked: &Request) -> Option<i64> {
        let timeout = || match &asked.what {
            RequestKind::Activity { options, .. } => policy(&options.decode()).ok()?.timeout,
            _ => None,
        };
        self.within_limit(asked, timeout)
    }

    /// Like `within`, with a given time limit of the activity.
    pub fn within_limit(&self, asked: &Request, limit: impl FnOnce() -> Option<i64>) -> Option<i64> {
        let RequestKind::Activity { name, .. } = &asked.what else { return self.mock_of(asked)?.within };
        let heeds = match self.mock_of(asked) {
            Some(Mock { within: Some(within), .. }) => return Some(*within),
            Some(mock) => !is_of_the_world(mock),
            None => matches!(self.subject, Subject::Test(_)) && !self.facts.waits.contains(name),
        };
        if heeds { limit() } else { None }
    }

    /// Whether a request is answered before any time passes, in a test that controls the clock.
    pub fn is_prompt(&self, asked: &Request) -> bool {
        match (self.mock_of(asked), &asked.what) {
            (Some(mock), _) => mock.within.is_none() && !is_of_the_world(mock),
            (None, RequestKind::Effect(_)) => true,
            (None, RequestKind::Activity { name, .. }) => self.facts.prompt.contains(name),
            (None, _) => false,
        }
    }

    /// Returns the instance that controls the clock, if there is one.
    pub fn has_the_clock(&self) -> Option<Name> {
        self.facts.takes_the_clock.then(|| Name::Instance(self.main.clone()))
    }

    /// Returns the number of a mock among those whose outcomes come in turn.
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

    /// Returns the positions of mocks at the beginning.
    pub fn turns(&self) -> Vec<u8> {
        vec![0; self.in_turn().count()]
    }
}
