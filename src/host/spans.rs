//! Spans of what is under way, for whoever subscribes to `tracing`: each instance from its first step in
//! this process to its end, each activity and external effect within it, each commit.
//!
//! Without a subscriber nothing is kept.

use std::collections::HashMap;

use tracing::{Level, Span, field};

use crate::engine::{Address, Outcome as Ending};

use super::Outcome;

/// The spans that are open.
#[derive(Default)]
pub(super) struct Spans {
    owners: HashMap<String, Span>,
    tickets: HashMap<u64, Span>,
}

impl Spans {
    /// An activity or an effect begins, for an instance or an entity.
    pub(super) fn begin(&mut self, ticket: u64, kind: &'static str, owner: &Address, seq: u64, name: &str) {
        if !tracing::enabled!(Level::INFO) {
            return;
        }
        let id = owner.to_string();
        // An entity has no end; what it asks for stands by itself.
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

    /// An effect of an activity begins.
    pub(super) fn begin_within(&mut self, ticket: u64, activity: u64, name: &str) {
        if let Some(parent) = self.tickets.get(&activity) {
            let span = tracing::info_span!(
                parent: parent, "effect", otel.name = name, kind = "effect", name,
                error = field::Empty, otel.status_code = field::Empty
            );
            self.tickets.insert(ticket, span);
        }
    }

    /// The span of a ticket, in which others may open theirs.
    pub(super) fn of(&self, ticket: u64) -> Span {
        self.tickets.get(&ticket).cloned().unwrap_or_else(Span::none)
    }

    /// It is done; without a result it was broken off.
    pub(super) fn end(&mut self, ticket: u64, result: Option<&Outcome>) {
        let Some(span) = self.tickets.remove(&ticket) else { return };
        match result {
            Some(Ok(_)) => {}
            Some(Err(error)) => fail(&span, &error.title()),
            None => fail(&span, "it was broken off"),
        }
    }

    /// An instance has ended.
    pub(super) fn ended(&mut self, instance: &str, outcome: &Ending) {
        let word = match outcome {
            Ending::Completed(_) => "completed",
            Ending::Failed(_) => "failed",
            Ending::Terminated(_) => "terminated",
            Ending::Nondeterminism(_) => "stuck",
            Ending::Incompatible(_) => "unfit",
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
