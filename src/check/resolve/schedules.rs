//! Schedules: what they start, when, and by which rules.
//!
//! A schedule is known when the program is deployed, before any of its code runs. So its options are
//! texts.

use crate::builtins::Context;
use crate::cron::{self, Cron};
use crate::syntax::tree::*;
use crate::syntax::{Diagnostic, Span};

use super::super::GlobalKind;
use super::Resolver;

/// The options of a schedule, and what each may be. A name may be anything.
const OPTIONS: [(&str, &[&str]); 3] =
    [("catch_up", &["last", "all", "skip"]), ("overlap", &["skip", "queue", "allow"]), ("name", &[])];
/// The greatest length of a name, in bytes. The ids of what the schedule starts begin with it.
const LONGEST: usize = 100;

impl Resolver<'_> {
    pub(super) fn schedule(&mut self, schedule: &Schedule, span: Span) {
        if let Err(reason) = Cron::parse(&schedule.cron.name) {
            let place = self.place(schedule.cron.span);
            let error = Diagnostic::error("not a cron expression", place, reason);
            self.report(error.hint("`0 2 * * 1-5` is two o'clock on each weekday from Monday to Friday"));
        }
        if let Some(zone) = &schedule.zone
            && let Err(reason) = cron::zone(&zone.name)
        {
            let place = self.place(zone.span);
            let error = Diagnostic::error(format!("unknown time zone `{}`", zone.name), place, reason);
            self.report(error.hint("without `in`, the zone is UTC"));
        }
        if let Some(options) = &schedule.options {
            self.option_fields(options, &OPTIONS.map(|(name, _)| name));
            self.options_of_a_schedule(options);
        }
        self.name_of_a_schedule(schedule);
        let globals = &self.program.globals;
        let own = globals.iter().position(|g| g.module == self.module && g.span == schedule.name.span);
        self.isolated(own, Some(Context::Orchestration), |me| {
            me.level += 2;
            let start = Start { call: schedule.call.clone(), begins: None };
            me.outside_section(|me| me.start(&start, span));
            me.level -= 2;
        });
    }

    fn options_of_a_schedule(&mut self, options: &Expr) {
        let ExprKind::Record(fields) = &options.kind else { return };
        for field in fields {
            let (name, value) = match field {
                Field::Named(name, value) => (name, value),
                Field::Short(name) => {
                    self.text_was_expected(name.span);
                    continue;
                }
                Field::Computed(_, value) | Field::Spread(value) => {
                    self.text_was_expected(value.span);
                    continue;
                }
            };
            let Some((_, known)) = OPTIONS.iter().find(|(known, _)| **known == *name.name) else { continue };
            match &value.kind {
                ExprKind::Str(text) if known.is_empty() || known.contains(&&**text) => {}
                ExprKind::Str(_) => {
                    let all: Vec<String> = known.iter().map(|known| format!("{known:?}")).collect();
                    let title = format!("option `{}` is one of {}", name.name, all.join(", "));
                    let place = self.place(value.span);
                    self.report(Diagnostic::error(title, place, "this is not"));
                }
                _ => self.text_was_expected(value.span),
            }
        }
    }

    fn text_was_expected(&mut self, span: Span) {
        let place = self.place(span);
        self.report(
            Diagnostic::error("the options of a schedule are texts", place, "not a text")
                .because("a schedule is known before any code of the program runs")
                .hint("write it out, like {catch_up: \"last\"}"),
        );
    }

    fn name_of_a_schedule(&mut self, schedule: &Schedule) {
        let Ident { name, span } = &schedule.name;
        let bare = name.strip_prefix(SCHEDULES).unwrap_or(name);
        let is_odd = |c: char| c.is_whitespace() || c.is_control() || c == ':';
        if schedule.option("name").is_some()
            && (bare.is_empty() || bare.len() > LONGEST || bare.contains(is_odd))
        {
            let title = "the name of a schedule is text of 1 to 100 bytes, without spaces and without `:`";
            let place = self.place(*span);
            self.report(Diagnostic::error(title, place, "this schedule has another"));
        }
        let is_same = |g: &&super::super::Global| {
            g.kind == GlobalKind::Schedule
                && g.module == self.module
                && g.name == *name
                && g.span.start < span.start
        };
        if let Some(first) = self.program.globals.iter().find(is_same).map(|global| global.span) {
            let error = Diagnostic::error(
                format!("two schedules are named `{bare}`"),
                self.place(*span),
                "declared again here",
            );
            let error = error.and(self.place(first), "declared here first");
            self.report(error.hint("give one of them a name: `with {name: \"another\"}`"));
        }
    }
}
