//! The declaration of an entity, for forms in which people fill in the arguments of an operation.

use crate::syntax::Span;
use crate::syntax::parse;
use crate::syntax::tree::{Entity, Member, Param, StmtKind};

/// An entity as its text declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    pub doc: String,
    /// The initial state as it is written; `None` means null.
    pub state: Option<String>,
    /// The operations in the order of their declarations.
    pub operations: Vec<Operation>,
}

/// An operation that others can call.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    pub name: String,
    pub doc: String,
    pub params: Vec<Parameter>,
}

/// A parameter, which is a name or a pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    pub name: String,
    /// The default as it is written. A parameter without one needs an argument.
    pub default: Option<String>,
}

/// Returns the declaration of an entity in a text, or `None` if the text has none.
pub fn declared(text: &str, entity: &str) -> Option<Declared> {
    let items = parse(text, 0).module.items;
    items.iter().find_map(|item| match &item.kind {
        StmtKind::Entity(found) if *found.name.name == *entity => Some(read(found, text)),
        _ => None,
    })
}

fn read(entity: &Entity, text: &str) -> Declared {
    let written =
        |span: Span| text.get(span.start as usize..span.end as usize).unwrap_or_default().to_string();
    let doc = |doc: &Option<_>| doc.as_ref().map(ToString::to_string).unwrap_or_default();
    let parameter = |param: &Param| Parameter {
        name: written(param.pattern.span),
        default: param.default.as_ref().map(|default| written(default.span)),
    };
    let mut declared = Declared { doc: doc(&entity.doc), state: None, operations: Vec::new() };
    for member in &entity.members {
        match member {
            Member::State(initial, _) => declared.state = Some(written(initial.span)),
            Member::Operation(f) => declared.operations.push(Operation {
                name: f.name.name.to_string(),
                doc: doc(&f.doc),
                params: f.params.iter().map(parameter).collect(),
            }),
            Member::Migration(..) | Member::Function(_) | Member::Error => {}
        }
    }
    declared
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
fn limit() => 100
/// Money of a customer.
entity Account {
  state {balance: 0}
  /// Pays in.
  on deposit(n, {note, by} = {note: "", by: null}) { state.balance += checked(n) }
  on balance() => state.balance
  fn checked(n) => min(n, limit())
}
entity Bare { on add(n) { state = n } }
"#;

    #[test]
    fn operations_have_their_parameters_defaults_and_docs() {
        let account = declared(TEXT, "Account").expect("it is declared");
        assert_eq!(account.doc, "Money of a customer.");
        assert_eq!(account.state.as_deref(), Some("{balance: 0}"));
        let [deposit, balance] = &account.operations[..] else {
            panic!("private functions are no operations")
        };
        assert_eq!((deposit.name.as_str(), deposit.doc.as_str()), ("deposit", "Pays in."));
        let param = |name: &str, default: Option<&str>| Parameter {
            name: name.to_string(),
            default: default.map(str::to_string),
        };
        assert_eq!(deposit.params, [param("n", None), param("{note, by}", Some(r#"{note: "", by: null}"#))]);
        assert_eq!((balance.name.as_str(), balance.params.len()), ("balance", 0));
    }

    #[test]
    fn an_entity_is_found_by_its_name() {
        assert_eq!(declared(TEXT, "Bare").expect("it is declared").state, None);
        assert_eq!(declared(TEXT, "limit"), None);
        assert_eq!(declared("entity {", "Account"), None);
    }
}
