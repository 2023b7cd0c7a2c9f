//! The state of a debugging terminal or script: sessions of an instance and its children, and their
//! breakpoints.

use crate::api::Queries;
use crate::debug::{Breakpoints, DebugError, Position, Session};
use crate::engine::Status;
use crate::machine::EntityId;
use crate::syntax::Place;

use super::super::access::unknown;
use super::super::problem::{Problem, unreadable};
use super::super::{UNKNOWN, USAGE};
use super::places;
use super::target::Target;

/// What a command did, in words.
#[derive(Debug, Default)]
pub struct Reply {
    pub text: String,
    pub quits: bool,
}

impl From<String> for Reply {
    fn from(text: String) -> Reply {
        Reply { text, quits: false }
    }
}

/// A session with its breakpoints and the call that is looked at.
pub struct Opened {
    pub session: Session,
    pub breakpoints: Breakpoints,
    /// The number of the call whose variables are shown, from the outermost one on; `None` for the
    /// innermost.
    pub call: Option<usize>,
}

/// Sessions of an instance and of the children into which the user went.
pub struct Debugger {
    target: Target,
    /// The sessions, the current one last.
    opened: Vec<Opened>,
    pub(super) last_step: String,
    pub(super) next_breakpoint: u32,
}

impl Debugger {
    /// Opens an instance, or a kept operation of an entity.
    pub fn open(target: Target, id: &str, operation: Option<u64>) -> Result<Debugger, Problem> {
        let session = open(&target, id, operation)?;
        let opened = vec![Opened { session, breakpoints: Breakpoints::default(), call: None }];
        Ok(Debugger { target, opened, last_step: "step".into(), next_breakpoint: 1 })
    }

    /// Returns the current session.
    pub fn session(&mut self) -> &mut Session {
        &mut self.current().session
    }

    /// Returns the current session with its breakpoints.
    pub fn current(&mut self) -> &mut Opened {
        let last = self.opened.len() - 1;
        &mut self.opened[last]
    }

    /// Returns the current session, to look at it.
    pub fn shown(&self) -> &Opened {
        &self.opened[self.opened.len() - 1]
    }

    /// Goes into the run of a child, or into an operation of an entity. The error says why there is
    /// none.
    pub fn enter(&mut self, id: &str, operation: Option<u64>) -> Result<(), String> {
        let session = open(&self.target, id, operation).map_err(|problem| problem.title)?;
        self.opened.push(Opened { session, breakpoints: Breakpoints::default(), call: None });
        Ok(())
    }

    /// Goes into the operation that a step called. The error says why there is none.
    pub fn enter_operation(&mut self, entity: &EntityId, from: &str) -> Result<(), String> {
        let number = operation_of(&self.target, entity, from)?;
        self.enter(&entity.to_string(), Some(number))
    }

    /// Returns the number of runs into which the user went.
    pub fn depth(&self) -> usize {
        self.opened.len() - 1
    }

    /// Goes back to the run of the parent. Returns whether there is one.
    pub fn leave(&mut self) -> bool {
        let is_child = self.opened.len() > 1;
        if is_child {
            self.opened.pop();
        }
        is_child
    }

    /// Returns the position and the statement in one line.
    pub fn whereabouts(&self) -> String {
        let session = &self.shown().session;
        let line = places::whereabouts(session);
        match self.opened.len() {
            1 => line,
            _ => format!("{}  {line}", session.record.id),
        }
    }

    /// Returns the call that is looked at.
    pub fn call(&self) -> usize {
        let opened = self.shown();
        let innermost = || {
            let frames = opened.session.frames(opened.session.task());
            let own = frames.iter().find(|call| call.is_own).or(frames.first());
            own.map_or(0, |call| call.number)
        };
        opened.call.unwrap_or_else(innermost)
    }

    /// Returns the place of the call that is looked at.
    pub fn place(&self) -> Option<Place> {
        let Opened { session, call, .. } = self.shown();
        let Some(call) = call else { return session.place() };
        let frames = session.frames(session.task());
        frames.iter().find(|frame| frame.number == *call).map(|frame| frame.place)
    }

    /// Reads a position: one with numbers, or `start`, `end` or `failure`.
    pub fn seek(&mut self, wanted: &str) -> Result<(), String> {
        let session = self.session();
        match wanted {
            "start" => session.seek_start(),
            "end" => session.seek_end(),
            "failure" => match session.failure() {
                Some(position) => {
                    session.seek(position);
                }
                None if matches!(session.record.status, Status::Failed(_)) => {
                    return Err("where the error was thrown is not known".into());
                }
                None => return Err("the instance has not failed".into()),
            },
            text => {
                let position: Position = text.parse().map_err(|_| {
                    format!("`{text}` is not a position; write 147, 147.12, start, end or failure")
                })?;
                session.seek(position);
            }
        }
        self.current().call = None;
        Ok(())
    }
}

/// Returns the number of the kept operation that a step called. The error says that it is not kept.
pub fn operation_of(target: &dyn Queries, entity: &EntityId, from: &str) -> Result<u64, String> {
    let mut found = None;
    let page = target.each_operations(entity, 1, &mut |page| {
        // A step that was asked again has several operations, and its answer is that of the last one.
        found = page.iter().rev().find(|view| view.operation.from == from).map(|view| view.number).or(found);
        true
    });
    let page = page.map_err(|error| error.to_string())?;
    found.ok_or_else(|| match page.map_or(0, |page| page.count) {
        0 => {
            format!("no operations are kept of {entity}; --journal-entities of `run` and `serve` keeps them")
        }
        _ => format!("this operation of {entity} is not kept"),
    })
}

fn open(target: &Target, id: &str, operation: Option<u64>) -> Result<Session, Problem> {
    Session::find(target, id, operation).map_err(|error| match error {
        DebugError::Unknown(id) => unknown(&id),
        DebugError::Query(error) => error.into(),
        DebugError::NoEntity(_) => Problem::new(USAGE, error.to_string()),
        DebugError::NotKept { ref entity, kept, .. } => {
            let problem = Problem::new(UNKNOWN, error.to_string());
            match kept {
                0 => problem.hint("`run`, `resume` and `serve` keep operations with --journal-entities"),
                _ => problem.hint(format!("`durable entity {entity} --history` lists those that are")),
            }
        }
        DebugError::Unfit(reason) => unreadable(format!("{id} can't be debugged: {reason}")),
    })
}
