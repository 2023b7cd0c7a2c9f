//! Tests, mocks and properties.

use crate::syntax::Span;
use crate::syntax::tree::{Block, ExprKind, Ident, Mock, Property, Stmt, StmtKind};

use super::super::{Form, Item, Node, Outcome, Trials};
use super::{Lower, Place};

impl Lower<'_, '_> {
    pub(super) fn test(&mut self, name: &Ident, body: &Block) -> Item {
        let mut trials = Trials::default();
        for stmt in &body.stmts {
            self.trial(stmt, &mut trials);
        }
        let lowered = self.block(body);
        // Nobody uses the value of a test, so it is null.
        let span = body.span;
        let lowered = self.node(Form::Seq(vec![lowered, self.null(span)]), span);
        let title = format!("test {:?}", &*name.name);
        Item::Test {
            name: name.name.to_string(),
            body: self.function(title, Vec::new(), 0, lowered, span),
            trials,
        }
    }

    /// Lowers a statement if it is a mock or a property.
    pub(super) fn trial(&mut self, stmt: &Stmt, trials: &mut Trials) {
        match &stmt.kind {
            StmtKind::Mock(mock) => trials.mocks.extend(self.mock(mock)),
            StmtKind::Property(property) => trials.properties.push(self.property(property)),
            _ => {}
        }
    }

    fn mock(&mut self, mock: &Mock) -> Option<super::super::Mock> {
        let first = mock.target.first()?;
        let target = *self.program().modules[self.module].mocked.get(&first.span.start)?;
        let name: Vec<&str> = mock.target.iter().map(|name| &*name.name).collect();
        let name = format!("mock {}", name.join("."));
        let outcome = |me: &mut Self, outcome: &crate::syntax::tree::Expr| match &outcome.kind {
            ExprKind::Lambda(lambda) => {
                Some(Outcome::Function(me.lambda(name.clone(), &lambda.params, &lambda.body, outcome.span)))
            }
            ExprKind::Field(entity, operation) => {
                let body = me.expr(entity);
                let entity = me.function(name.clone(), Vec::new(), 0, body, outcome.span);
                Some(Outcome::Operation(entity, operation.name.to_string()))
            }
            ExprKind::Name(_) => Some(Outcome::Never),
            _ => None,
        };
        let outcomes = mock.outcomes.iter().filter_map(|expr| outcome(self, expr)).collect();
        let (in_turn, within, place) = (mock.in_turn, mock.within, self.at(mock.span));
        Some(super::super::Mock { target, in_turn, outcomes, within, place })
    }

    fn property(&mut self, property: &Property) -> super::super::Property {
        let name = property.name.name.to_string();
        let body: Node = self.block(&property.body);
        let body = self.function(name.clone(), Vec::new(), 0, body, property.body.span);
        super::super::Property { kind: property.kind, name, body, place: self.at(property.name.span) }
    }

    fn at(&self, span: Span) -> Place {
        Place { source: self.program().modules[self.module].source, span }
    }
}
