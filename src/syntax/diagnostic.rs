//! Diagnostics: the mistakes in a program, as data. Rendering is not done here.

use super::source::Place;

/// The largest number of mistakes that are reported for one text.
pub(super) const MOST_MISTAKES: usize = 200;

/// The severity of a diagnostic: an error stops the program from running, a warning does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

/// A place with a text about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    pub place: Place,
    pub text: String,
}

/// A message: a title, places (the first is the main one), the reason, and a hint.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub title: String,
    pub labels: Vec<Label>,
    pub reason: Option<String>,
    pub hint: Option<String>,
    /// Whether a program that is already in a store may run in spite of the diagnostic, because it
    /// was no mistake when the program began.
    pub tolerated: bool,
}

impl Diagnostic {
    /// Returns an error at a place; `text` says what is wrong there.
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

    /// Returns a warning at a place.
    pub fn warning(title: impl Into<String>, place: Place, text: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(title, place, text) }
    }

    /// Adds a further place.
    pub fn and(mut self, place: Place, text: impl Into<String>) -> Diagnostic {
        self.labels.push(Label { place, text: text.into() });
        self
    }

    /// Adds the reason.
    pub fn because(mut self, reason: impl Into<String>) -> Diagnostic {
        self.reason = Some(reason.into());
        self
    }

    /// Lets a program that is already in a store run in spite of the diagnostic.
    pub fn tolerated(mut self) -> Diagnostic {
        self.tolerated = true;
        self
    }

    /// Adds a hint that says what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a hint, if there is one and the diagnostic has none yet.
    pub fn maybe_hint(mut self, hint: Option<String>) -> Diagnostic {
        self.hint = self.hint.or(hint);
        self
    }
}
