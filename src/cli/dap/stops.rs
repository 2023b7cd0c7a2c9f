//! Breakpoints of all kinds.

use serde_json::{Value, json};

use crate::debug::{Breakpoint, Hits, On, Watch};
use crate::machine::{Value as Held, format};

use super::super::debug::read_hits;
use super::looking::Reference;
use super::{Client, Debuggee, Reply};

/// The numbers of breakpoints: those of lines, by source, and those of the other kinds. Each kind
/// is set anew as a whole.
const PER_SOURCE: u32 = 10_000;
const FUNCTIONS: u32 = 1;
const DATA: u32 = 5_000;
const THROWN: u32 = 9_001;
const UNCAUGHT: u32 = 9_002;

impl Debuggee {
    /// Replaces the breakpoints whose numbers lie in a range.
    fn replace(&mut self, from: u32, to: u32, new: Vec<Breakpoint>) {
        let all = &mut self.breakpoints.all;
        all.retain(|breakpoint| !(from..to).contains(&breakpoint.id));
        all.extend(new);
    }

    pub fn set_breakpoints(&mut self, arguments: &Value, client: &Client) -> Reply {
        let wanted = arguments["breakpoints"].as_array().cloned().unwrap_or_default();
        let Some(source) = self.files.find(&arguments["source"]) else {
            let message = "the program of this instance has no such source";
            let refused: Vec<Value> =
                wanted.iter().map(|_| json!({"verified": false, "message": message})).collect();
            return Ok(json!({"breakpoints": refused}));
        };
        let first = (source + 1) * PER_SOURCE;
        let (mut new, mut told) = (Vec::new(), Vec::new());
        for (number, wanted) in wanted.iter().enumerate().take(PER_SOURCE as usize) {
            let id = first + number as u32;
            let line = client.line(&wanted["line"])?;
            let found = self.session.statements_at(source, line);
            let (Some((line, statements)), Ok(hits)) = (found, hits(wanted)) else {
                let message = match hits(wanted) {
                    Err(reason) => reason,
                    Ok(_) => "there is no statement at or after this line".into(),
                };
                told.push(json!({"id": id, "verified": false, "message": message}));
                continue;
            };
            told.push(json!({
                "id": id,
                "verified": true,
                "line": client.to_line(line),
                "source": self.files.source(source),
            }));
            new.push(Breakpoint {
                id,
                on: On::Statements(statements),
                condition: text(&wanted["condition"]),
                hits,
                log: text(&wanted["logMessage"]),
            });
        }
        self.replace(first, first + PER_SOURCE, new);
        Ok(json!({"breakpoints": told}))
    }

    pub fn set_function_breakpoints(&mut self, arguments: &Value) -> Reply {
        let (mut new, mut told) = (Vec::new(), Vec::new());
        for (number, wanted) in arguments["breakpoints"].as_array().into_iter().flatten().enumerate() {
            let id = FUNCTIONS + number as u32;
            let name = wanted["name"].as_str().unwrap_or_default();
            let statements = self.session.statements_of(name);
            if statements.is_empty() {
                let message = format!("there is no function `{name}` with statements");
                told.push(json!({"id": id, "verified": false, "message": message}));
                continue;
            }
            told.push(json!({"id": id, "verified": true}));
            let (condition, hits) = (text(&wanted["condition"]), hits(wanted)?);
            new.push(Breakpoint { id, on: On::Statements(statements), condition, hits, log: None });
        }
        self.replace(FUNCTIONS, DATA, new);
        Ok(json!({"breakpoints": told}))
    }

    pub fn set_exception_breakpoints(&mut self, arguments: &Value) -> Reply {
        let named = arguments["filters"].as_array().into_iter().flatten();
        let plain = named.filter_map(|name| Some((name.as_str()?, None)));
        let options = arguments["filterOptions"].as_array().into_iter().flatten();
        let options =
            options.filter_map(|option| Some((option["filterId"].as_str()?, text(&option["condition"]))));
        let (mut new, mut told) = (Vec::new(), Vec::new());
        for (filter, condition) in plain.chain(options) {
            let (id, on) = match filter {
                "thrown" => (THROWN, On::Thrown(condition)),
                "uncaught" => (UNCAUGHT, On::Uncaught),
                other => {
                    let message = format!("there is no filter `{other}`");
                    told.push(json!({"verified": false, "message": message}));
                    continue;
                }
            };
            told.push(json!({"id": id, "verified": true}));
            new.push(Breakpoint { id, on, condition: None, hits: None, log: None });
        }
        self.replace(THROWN, UNCAUGHT + 1, new);
        Ok(json!({"breakpoints": told}))
    }

    /// Says whether a variable can be watched. Parts of values are watched with their variable.
    pub fn data_breakpoint_info(&mut self, arguments: &Value) -> Reply {
        let name = arguments["name"].as_str().unwrap_or_default();
        let of = match arguments["variablesReference"].as_u64() {
            Some(_) => match self.referred(&arguments["variablesReference"])? {
                Reference::Scope { task, call, .. } => Some((*task, *call)),
                Reference::Value(..) => None,
            },
            None => self.frame(&arguments["frameId"]).ok(),
        };
        let watch = of.and_then(|(task, call)| Watch::new(&self.session, task, call, name));
        let Some(watch) = watch else {
            let description = format!("`{name}` is not a variable; a variable is watched as a whole");
            return Ok(json!({"dataId": null, "description": description}));
        };
        let id = json!([watch.task, watch.call, watch.function, watch.name]);
        Ok(json!({
            "dataId": id.to_string(),
            "description": format!("changes of {name}"),
            "accessTypes": ["write"],
            "canPersist": false,
        }))
    }

    pub fn set_data_breakpoints(&mut self, arguments: &Value) -> Reply {
        let (mut new, mut told) = (Vec::new(), Vec::new());
        for (number, wanted) in arguments["breakpoints"].as_array().into_iter().flatten().enumerate() {
            let id = DATA + number as u32;
            let Some(watch) = wanted["dataId"].as_str().and_then(watched) else {
                told.push(json!({"id": id, "verified": false, "message": "this is not known any more"}));
                continue;
            };
            told.push(json!({"id": id, "verified": true}));
            new.push(Breakpoint { id, on: On::Change(watch), condition: None, hits: None, log: None });
        }
        self.replace(DATA, THROWN, new);
        Ok(json!({"breakpoints": told}))
    }

    pub fn breakpoint_locations(&mut self, arguments: &Value, client: &Client) -> Reply {
        let source = self.files.find(&arguments["source"]).ok_or("the program has no such source")?;
        let from = client.line(&arguments["line"])?;
        let to = match arguments["endLine"].is_null() {
            true => from,
            false => client.line(&arguments["endLine"])?,
        };
        let mut lines = Vec::new();
        let mut next = from;
        while let Some((line, _)) = self.session.statements_at(source, next).filter(|(line, _)| *line <= to) {
            lines.push(json!({"line": client.to_line(line)}));
            next = line + 1;
        }
        Ok(json!({"breakpoints": lines}))
    }

    /// Returns the reason of a stop, in the protocol's words.
    pub fn reason_of(&self, breakpoint: u32) -> &'static str {
        match breakpoint {
            FUNCTIONS..DATA => "function breakpoint",
            DATA..THROWN => "data breakpoint",
            THROWN | UNCAUGHT => "exception",
            _ => "breakpoint",
        }
    }

    /// Returns the error at which the run stopped: one that is about to be thrown, or the one that
    /// ended the instance.
    pub fn exception_info(&mut self) -> Reply {
        let is_failure = self.session.failure() == Some(self.session.position());
        let error = match (&self.error, &self.session.record.status) {
            (Some(error), _) => error.clone(),
            (None, crate::engine::Status::Failed(error)) if is_failure => error.value.decode(),
            _ => return Err("no error is about to be thrown".into()),
        };
        let kind = match &error {
            Held::Record(record) => record.get_str("kind").map(format::display),
            _ => None,
        };
        Ok(json!({
            "exceptionId": kind.unwrap_or_else(|| "error".into()),
            "description": format::title(&error),
            "breakMode": if is_failure { "unhandled" } else { "always" },
        }))
    }
}

/// Returns a text that is there and not empty.
fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_string)
}

fn hits(wanted: &Value) -> Result<Option<Hits>, String> {
    text(&wanted["hitCondition"]).map(|text| read_hits(&text)).transpose()
}

/// Returns the watch of a data breakpoint's id.
fn watched(id: &str) -> Option<Watch> {
    let id: Value = serde_json::from_str(id).ok()?;
    Some(Watch {
        task: id[0].as_u64()?,
        call: id[1].as_u64()? as usize,
        function: id[2].as_u64()? as u32,
        name: id[3].as_str()?.to_string(),
    })
}
