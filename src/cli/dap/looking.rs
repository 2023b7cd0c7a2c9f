//! Tasks, calls, variables and values.

use serde_json::{Value as Json, json};

use crate::debug::view;
use crate::machine::inspect::Variable;
use crate::machine::{Value, format};

use super::{Client, Debuggee, Reply};

/// Something with parts that the client can ask for.
pub enum Reference {
    /// The variables of a call: its own ones, or those of enclosing functions.
    Scope { task: u64, call: usize, captured: bool },
    /// A value, and the expression that has it, if there is one.
    Value(Value, Option<String>),
}

/// The length in characters at which a value is cut off in a list.
const WIDTH: usize = 200;

impl Debuggee {
    pub fn threads(&self) -> Reply {
        let tasks = self.session.tasks();
        let mut threads: Vec<Json> = tasks
            .iter()
            .map(|task| {
                let name = match task.id {
                    0 => "main".to_string(),
                    id => format!("task {id}"),
                };
                json!({"id": task.id + 1, "name": format!("{name}: {}", task.does)})
            })
            .collect();
        if threads.is_empty() {
            threads.push(json!({"id": 1, "name": "main: has ended"}));
        }
        Ok(json!({"threads": threads}))
    }

    pub fn stack_trace(&mut self, arguments: &Json, client: &Client) -> Reply {
        let task = arguments["threadId"].as_u64().unwrap_or(1).saturating_sub(1);
        let calls = self.session.frames(task);
        let from = arguments["startFrame"].as_u64().unwrap_or(0) as usize;
        let most = match arguments["levels"].as_u64().unwrap_or(0) {
            0 => usize::MAX,
            levels => levels as usize,
        };
        let mut frames = Vec::new();
        for (at, call) in calls.iter().enumerate().skip(from).take(most) {
            self.frames.push((task, call.number));
            let statement = (at == 0 && task == self.session.task()).then(|| self.session.place()).flatten();
            let place = statement.unwrap_or(call.place);
            let sources = &self.session.image.code.sources;
            let (line, column) = sources.line_column(place);
            let mut end = place;
            end.span.start = end.span.end;
            let (end_line, end_column) = sources.line_column(end);
            let mut frame = json!({
                "id": self.frames.len(),
                "name": call.function,
                "source": self.files.source(place.source),
                "line": client.to_line(line),
                "column": client.to_column(column),
                "endLine": client.to_line(end_line),
                "endColumn": client.to_column(end_column),
                "canRestart": call.is_own,
            });
            if !call.is_own {
                frame["presentationHint"] = json!("subtle");
            }
            frames.push(frame);
        }
        Ok(json!({"stackFrames": frames, "totalFrames": calls.len()}))
    }

    /// Returns the task and the call of a frame that the client names.
    pub fn frame(&self, id: &Json) -> Result<(u64, usize), String> {
        let at = id.as_u64().and_then(|id| (id as usize).checked_sub(1));
        at.and_then(|at| self.frames.get(at).copied())
            .ok_or_else(|| "this frame is not known any more".into())
    }

    /// Returns the frame that the client names, or the innermost one of the program's own.
    fn frame_or_innermost(&self, id: &Json) -> (u64, usize) {
        let task = self.session.task();
        let innermost = || (task, self.session.own_frame(task).map_or(0, |call| call.number));
        self.frame(id).unwrap_or_else(|_| innermost())
    }

    pub fn scopes(&mut self, arguments: &Json) -> Reply {
        let (task, call) = self.frame(&arguments["frameId"])?;
        let variables = self.session.variables(task, call);
        let shown =
            |captured: bool| variables.iter().filter(|v| v.is_captured == captured && !v.is_function).count();
        let mut scopes = Vec::new();
        for (captured, name) in [(false, "Locals"), (true, "Captured")] {
            if captured && shown(captured) == 0 {
                continue;
            }
            let mut scope = json!({
                "name": name,
                "variablesReference": self.refer(Reference::Scope { task, call, captured }),
                "namedVariables": shown(captured),
                "expensive": false,
            });
            if !captured {
                scope["presentationHint"] = json!("locals");
            }
            scopes.push(scope);
        }
        Ok(json!({"scopes": scopes}))
    }

    fn refer(&mut self, reference: Reference) -> usize {
        self.references.push(reference);
        self.references.len()
    }

    /// Returns the scope or value that the client names.
    pub fn referred(&self, id: &Json) -> Result<&Reference, String> {
        let at = id.as_u64().and_then(|id| (id as usize).checked_sub(1));
        at.and_then(|at| self.references.get(at)).ok_or_else(|| "this is not known any more".into())
    }

    pub fn variables(&mut self, arguments: &Json) -> Reply {
        let from = arguments["start"].as_u64().unwrap_or(0) as usize;
        let most = match arguments["count"].as_u64().unwrap_or(0) {
            0 => view::MOST_PARTS,
            count => count as usize,
        };
        let variables = match self.referred(&arguments["variablesReference"])? {
            Reference::Scope { task, call, captured } => {
                let captured = *captured;
                let all = self.session.variables(*task, *call).into_iter();
                let shown = all.filter(|v| v.is_captured == captured && !v.is_function);
                let shown: Vec<Variable> = shown.skip(from).take(most).collect();
                shown.into_iter().map(|variable| self.of_call(variable)).collect::<Vec<Json>>()
            }
            Reference::Value(value, of) => {
                let (value, of) = (value.clone(), of.clone());
                let parts = view::parts(&value, from, most).into_iter();
                parts
                    .map(|(name, part)| {
                        let expression = of.as_ref().map(|of| part_of(of, &name));
                        self.variable(&name, &part, expression)
                    })
                    .collect()
            }
        };
        Ok(json!({"variables": variables}))
    }

    fn of_call(&mut self, variable: Variable) -> Json {
        match variable.value.value() {
            Some(value) => self.variable(&variable.name, value, Some(variable.name.clone())),
            None => json!({
                "name": variable.name,
                "value": view::held(&variable.value, WIDTH),
                "variablesReference": 0,
                "presentationHint": {"attributes": ["readOnly"]},
            }),
        }
    }

    fn variable(&mut self, name: &str, value: &Value, expression: Option<String>) -> Json {
        let mut shown = self.value(value, expression.clone());
        shown["name"] = json!(name);
        shown["value"] = shown["result"].take();
        if let Some(shown) = shown.as_object_mut() {
            shown.shift_remove("result");
        }
        if let Some(expression) = expression {
            shown["evaluateName"] = json!(expression);
        }
        shown["presentationHint"] = json!({"attributes": ["readOnly"]});
        shown
    }

    /// Returns the fields of a value that evaluation has too.
    fn value(&mut self, value: &Value, expression: Option<String>) -> Json {
        let parts = view::count_parts(value);
        let reference = match parts {
            0 => 0,
            _ => self.refer(Reference::Value(value.clone(), expression)),
        };
        let mut shown = json!({
            "result": view::brief(value, WIDTH),
            "type": value.kind(),
            "variablesReference": reference,
        });
        let count = if matches!(value, Value::List(_)) { "indexedVariables" } else { "namedVariables" };
        if parts > 0 {
            shown[count] = json!(parts);
        }
        shown
    }

    pub fn evaluate(&mut self, arguments: &Json) -> Reply {
        let (task, call) = self.frame_or_innermost(&arguments["frameId"]);
        let text = arguments["expression"].as_str().unwrap_or_default();
        let value = self.session.evaluate(task, call, text)?;
        let mut shown = self.value(&value, Some(text.to_string()));
        if matches!(arguments["context"].as_str(), Some("repl" | "clipboard")) {
            shown["result"] = json!(format::write(&value, 100_000).0);
        }
        Ok(shown)
    }

    pub fn completions(&mut self, arguments: &Json, client: &Client) -> Reply {
        let (task, call) = self.frame_or_innermost(&arguments["frameId"]);
        let text = arguments["text"].as_str().unwrap_or_default();
        let column = arguments["column"].as_u64().unwrap_or(0) as usize;
        let until = column.saturating_sub(usize::from(client.columns_from_one));
        let before: String = text.chars().take(until).collect();
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let word: String =
            before.chars().rev().take_while(|c| is_part(*c)).collect::<Vec<_>>().into_iter().rev().collect();
        let rest = &before[..before.len() - word.len()];
        let names = match rest.strip_suffix('.') {
            // The fields of a value.
            Some(owner) => match self.session.evaluate(task, call, owner) {
                Ok(value @ Value::Record(_)) => {
                    view::parts(&value, 0, view::MOST_PARTS).into_iter().map(|(name, _)| name).collect()
                }
                _ => Vec::new(),
            },
            None => self.session.names_at(task, call),
        };
        let start = until - word.chars().count();
        let fitting = names.into_iter().filter(|name| name.starts_with(&word));
        let targets =
            fitting.map(|name| json!({"label": name, "start": start, "length": word.chars().count()}));
        Ok(json!({"targets": targets.collect::<Vec<_>>()}))
    }
}

/// Returns the expression of a part of an expression's value.
fn part_of(of: &str, name: &str) -> String {
    match name.starts_with('[') {
        true => format!("{of}{name}"),
        false if format::is_word(name) => format!("{of}.{name}"),
        false => format!("{of}[{}]", json!(name)),
    }
}
