//! Schedules. Each is an orchestration of its own, which the library's `schedule.run` does.

use std::rc::Rc;

use crate::builtins::Context;
use crate::check::Global;
use crate::syntax::Span;
use crate::syntax::tree::*;

use super::super::{Arg, Form, Item, Key, Prim};
use super::Lower;

impl Lower<'_, '_> {
    /// Lowers a schedule to an orchestration of its state: a call of `schedule.run` with the
    /// schedule's rules, the state, and a function that starts what is scheduled, given the options
    /// of the start.
    pub(super) fn schedule(&mut self, schedule: &Schedule, span: Span) -> Item {
        let program = self.program();
        let is_it = |g: &Global| program.modules[g.module].std == Some("schedule") && &*g.name == "run";
        let (Some(run), ExprKind::Call(callee, args)) =
            (program.globals.iter().position(is_it), &schedule.call.kind)
        else {
            return Item::Const(self.nothing(span));
        };
        let text = |text: &str| Form::Const(Literal::Str(text.into()));
        let name = schedule.name.name.strip_prefix(SCHEDULES).unwrap_or_default();
        let rules = [
            ("name", name),
            ("cron", &*schedule.cron.name),
            ("zone", schedule.zone.as_ref().map_or("UTC", |zone| &*zone.name)),
            ("catch_up", schedule.option("catch_up").map_or("last", |text| &**text)),
            ("overlap", schedule.option("overlap").map_or("skip", |text| &**text)),
        ];
        let keys = rules.iter().map(|(key, _)| Key::Named((*key).into())).collect();
        let values = rules.iter().map(|(_, value)| self.node(text(value), span)).collect();
        let rules = self.node(Form::Prim(Prim::Record(keys), values), span);
        let (state, options) = (self.fresh("state"), self.fresh("options"));
        let given = self.node(Form::Var(state), span);
        let missing = self.node(Form::Prim(Prim::IsMissing, vec![given.clone()]), span);
        let none = self.null(span);
        let state_or_none = self.node(Form::If(Box::new(missing), Box::new(none), Box::new(given)), span);
        let callee = self.expr(callee);
        let list = self.argument_list(args, span);
        let options_node = self.node(Form::Var(options), span);
        let start = self.apply("start", vec![callee, list, options_node], schedule.call.span);
        let begin = self.function("begin".into(), vec![options], 1, start, span);
        let begin = self.node(Form::Lambda(Rc::new(begin)), span);
        let run = self.global(run, span);
        let args = vec![Arg::Item(rules), Arg::Item(state_or_none), Arg::Item(begin)];
        let body = self.node(Form::Call(Box::new(run), args), span);
        let body = self.function(schedule.name.name.to_string(), vec![state], 0, body, span);
        let stub = self.nothing(span);
        Item::Isolated { stub, body, context: Context::Orchestration }
    }
}
