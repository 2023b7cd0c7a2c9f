//! What is wrong with a program, as data. Rendering belongs to the command line.

use super::source::Place;

/// Mistakes of one text that are told, at most.
pub(super) const MOST_MISTAKES: usize = 200;

/// How bad it is: an error stops the program from running, a warning doesn't.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

/// A place with what is to be said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    pub place: Place,
    pub text: String,
}

/// One message: a title, the places (the first is the main one), the reason, a hint.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub title: String,
    pub labels: Vec<Label>,
    pub reason: Option<String>,
    pub hint: Option<String>,
    /// Whether a program that a store has goes on in spite of it: it was no mistake when the program began.
    pub tolerated: bool,
}

impl Diagnostic {
    /// An error at a place; `text` says what is seen there.
    pub fn error(title: impl Into<String>, place: Place, text: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            title: title.into(),
            labels: vec![Label { place, text: text.into() }],
            reason: None,
            hint: None,
            tolerated: false,
        }
    }

    /// A warning at a place.
    pub fn warning(title: impl Into<String>, place: Place, text: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(title, place, text) }
    }

    /// Adds a further place.
    pub fn and(mut self, place: Place, text: impl Into<String>) -> Diagnostic {
        self.labels.push(Label { place, text: text.into() });
        self
    }

    /// Says why it is so.
    pub fn because(mut self, reason: impl Into<String>) -> Diagnostic {
        self.reason = Some(reason.into());
        self
    }

    /// Lets a program that a store has go on in spite of it.
    pub fn tolerated(mut self) -> Diagnostic {
        self.tolerated = true;
        self
    }

    /// Says what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// Says what to do, when there is something to say.
    pub fn maybe_hint(mut self, hint: Option<String>) -> Diagnostic {
        self.hint = self.hint.or(hint);
        self
    }
}
