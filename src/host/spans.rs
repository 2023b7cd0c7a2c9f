//! The spans for subscribers of `tracing`. Each instance has one from its first step in this
//! process to its end. Within it are the activities and the external effects, each with its own.
//! Commits have spans too.
//!
//! Without a subscriber nothing is kept.

use std::collections::HashMap;

use tracing::{Level, Span, field};

use crate::engine::{Address, Ending};

use super::EffectResult;

/// The open spans.
#[derive(Default)]
pub(super) struct Spans {
    owners: HashMap<String, Span>,
    tickets: HashMap<u64, Span>,
}

impl Spans {
    /// Begins the span of an activity or an effect, of an instance or an entity.
    pub(super) fn begin(&mut self, ticket: u64, kind: &'static str, owner: &Address, seq: u64, name: &str) {
        if !tracing::enabled!(Level::INFO) {
            return;
        }
        let id = owner.to_string();
        // An entity has no end, so its requests have no parent.
        let parent = match owner {
            Address::Entity(_) => None,
            Address::Instance(_) => {
                let span = self.owners.entry(id.clone()).or_insert_with(|| {
                    tracing::info_span!(
                        parent: None, "instance", otel.name = id.as_str(), id = id.as_str(),
                        outcome = field::Empty, error = field::Empty, otel.status_code = field::Empty
                    )
                });
                span.id()
            }
        };
        let span = tracing::info_span!(
            parent: parent, "step", otel.name = name, kind, name, seq, owner = id.as_str(),
            error = field::Empty, otel.status_code = field::Empty
        );
        self.tickets.insert(ticket, span);
    }

    /// Begins the span of an effect within an activity.
    pub(super) fn begin_within(&mut self, ticket: u64, activity: u64, name: &str) {
        if let Some(parent) = self.tickets.get(&activity) {
            let span = tracing::info_span!(
                parent: parent, "effect", otel.name = name, kind = "effect", name,
                error = field::Empty, otel.status_code = field::Empty
            );
            self.tickets.insert(ticket, span);
        }
    }

    /// Returns the span of a ticket, as the parent for others.
    pub(super) fn of(&self, ticket: u64) -> Span {
        self.tickets.get(&ticket).cloned().unwrap_or_else(Span::none)
    }

    /// Ends the span of a ticket. Without a result, the work was abandoned.
    pub(super) fn end(&mut self, ticket: u64, result: Option<&EffectResult>) {
        let Some(span) = self.tickets.remove(&ticket) else { return };
        match result {
            Some(Ok(_)) => {}
            Some(Err(error)) => fail(&span, &error.title()),
            None => fail(&span, "it was broken off"),
        }
    }

    /// Ends the span of an instance.
    pub(super) fn ended(&mut self, instance: &str, outcome: &Ending) {
        let word = match outcome {
            Ending::Completed(_) => "completed",
            Ending::Failed(_) => "failed",
            Ending::Terminated(_) => "terminated",
            Ending::Nondeterminism(_) => "nondeterminism",
            Ending::Incompatible(_) => "incompatible",
        };
        tracing::info!(id = instance, outcome = word, "an instance has ended");
        let Some(span) = self.owners.remove(instance) else { return };
        span.record("outcome", word);
        match outcome {
            Ending::Failed(error) => fail(&span, &error.title()),
            Ending::Incompatible(reason) => fail(&span, reason),
            _ => {}
        }
    }
}

fn fail(span: &Span, why: &str) {
    span.record("error", why);
    span.record("otel.status_code", "ERROR");
}
