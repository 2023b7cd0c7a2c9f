//! The beginning of a session, steps, and stops.

use std::path::Path;

use serde_json::{Value, json};

use crate::debug::{Breakpoints, Direction, Position, Session, Step, Stepped, Stop};
use crate::engine::Line;
use crate::machine::format;
use crate::store::postgres::Url;

use super::super::debug::{operation_of, places, places::PASSED};
use super::sources::Files;
use super::{Client, Debuggee, Reply, Target};

/// The events that follow a response.
type Events = Vec<(&'static str, Value)>;

impl Debuggee {
    /// Opens the instance that the arguments of a launch name.
    pub fn open(arguments: &Value) -> Result<Debuggee, String> {
        let text = |name: &str| arguments[name].as_str();
        let id = text("id").ok_or("a launch has the `id` of an instance")?;
        let folder = Path::new(text("cwd").unwrap_or("."));
        let store = Path::new(text("store").unwrap_or(".durable"));
        // A URL is no path below the folder.
        let is_url = store.to_str().is_some_and(Url::is_meant);
        let store = if is_url { store.to_path_buf() } else { folder.join(store) };
        let target = Target::open(&store).map_err(|problem| problem.title)?;
        let operation = arguments["operation"].as_u64();
        let session = Session::find(&target, id, operation).map_err(|error| error.to_string())?;
        let mut debuggee = Debuggee {
            files: Files::of(&session, folder),
            session,
            target,
            breakpoints: Breakpoints::default(),
            arguments: arguments.clone(),
            references: Vec::new(),
            frames: Vec::new(),
            targets: Vec::new(),
            error: None,
            shown_until: 0,
        };
        if let Some(at) = text("at") {
            let position: Position =
                at.parse().map_err(|_| format!("`{at}` is not a position: write 147 or 147.12"))?;
            debuggee.session.seek(position);
        }
        Ok(debuggee)
    }

    /// Stops at the moment with which the session begins.
    pub fn begin(&mut self, events: &mut Events) -> Reply {
        let at_start = self.arguments["stopOnEntry"].as_bool().unwrap_or(false);
        let mut reason = "entry";
        if self.arguments["at"].is_null() && !at_start && self.session.seek_interest() {
            reason = "exception";
        }
        self.stopped(events, json!({"reason": reason}));
        Ok(Value::Null)
    }

    /// Adds the lines that were printed up to here, and the event of a stop.
    fn stopped(&mut self, events: &mut Events, mut body: Value) {
        self.references.clear();
        self.frames.clear();
        self.targets.clear();
        let until = self.session.position().entry;
        for (entry, line) in self.session.output_so_far() {
            if *entry <= self.shown_until {
                continue;
            }
            let (category, text) = match line {
                Line::Print(text) => ("stdout", text.clone()),
                Line::Log { level, text } => ("stderr", format!("[{level}] {text}")),
            };
            events.push(("output", json!({"category": category, "output": format!("{text}\n")})));
        }
        self.shown_until = until;
        body["threadId"] = json!(self.session.task() + 1);
        body["allThreadsStopped"] = json!(true);
        if body["description"].is_null() {
            body["description"] = json!(places::whereabouts(&self.session));
        }
        events.push(("stopped", body));
    }

    /// Takes a step or goes on to a stop.
    pub fn go(&mut self, command: &str, arguments: &Value, client: &Client, events: &mut Events) -> Reply {
        self.error = None;
        if let Some(thread) = arguments["threadId"].as_u64()
            && matches!(command, "next" | "stepIn" | "stepOut" | "stepBack")
        {
            self.session.follow(thread.saturating_sub(1));
        }
        let body = match command {
            "continue" => return self.resume(Direction::Forward, events),
            "reverseContinue" => return self.resume(Direction::Backward, events),
            "pause" => json!({"reason": "pause"}),
            "stepBack" => {
                self.session.back(Step::Over);
                json!({"reason": "step"})
            }
            step => {
                let step = match step {
                    "stepIn" => Step::Into,
                    "stepOut" => Step::Out,
                    _ => Step::Over,
                };
                match self.session.step(step) {
                    Stepped::Child(id) => self.offer(&id, None, client, events),
                    Stepped::Operation(entity, from) => match operation_of(&self.target, &entity, &from) {
                        Ok(number) => self.offer(&entity.to_string(), Some(number), client, events),
                        Err(reason) => {
                            self.session.step(step);
                            say(events, &format!("stepped over {entity}: {reason}"));
                        }
                    },
                    _ => {}
                }
                if let Some(name) = self.session.passed() {
                    say(events, &format!("stepped over {name}: {PASSED}"));
                }
                json!({"reason": "step"})
            }
        };
        self.stopped(events, body);
        Ok(Value::Null)
    }

    fn resume(&mut self, direction: Direction, events: &mut Events) -> Reply {
        let stop = self.session.resume(direction, &mut self.breakpoints);
        for said in std::mem::take(&mut self.breakpoints.said) {
            events.push(("output", json!({"category": "console", "output": format!("{said}\n")})));
        }
        let body = match stop {
            Stop::At { breakpoint, error: Some(error) } => {
                let text = format::title(&error);
                self.error = Some(error);
                json!({"reason": "exception", "text": text, "hitBreakpointIds": [breakpoint]})
            }
            Stop::At { breakpoint, error: None } => {
                let reason = self.reason_of(breakpoint);
                json!({"reason": reason, "hitBreakpointIds": [breakpoint]})
            }
            Stop::Start => json!({"reason": "entry", "description": "the beginning of the run"}),
            Stop::End(_) => json!({"reason": "pause"}),
        };
        self.stopped(events, body);
        match direction {
            Direction::Forward => Ok(json!({"allThreadsContinued": true})),
            Direction::Backward => Ok(Value::Null),
        }
    }

    /// Asks the client to debug a child or an operation in a session of its own, or says how.
    fn offer(&mut self, id: &str, operation: Option<u64>, client: &Client, events: &mut Events) {
        let name = operation.map_or_else(|| id.to_string(), |number| format!("{id} #{number}"));
        if !client.starts_sessions {
            let with = operation.map_or(String::new(), |number| format!(" and the operation {number}"));
            say(events, &format!("{name} has a run of its own: debug it by a launch with the id {id}{with}"));
            return;
        }
        let mut configuration = self.arguments.clone();
        if let Some(fields) = configuration.as_object_mut() {
            fields.remove("operation");
        }
        if let Some(number) = operation {
            configuration["operation"] = json!(number);
        }
        configuration["type"] = json!("durable");
        configuration["name"] = json!(name);
        configuration["id"] = json!(id);
        configuration["at"] = json!("0.0");
        events.push(("startDebugging", json!({"request": "launch", "configuration": configuration})));
    }

    // ---- going elsewhere

    /// Returns the moments at which a line was executed, those nearest to the present.
    pub fn goto_targets(&mut self, arguments: &Value, client: &Client) -> Reply {
        const MOST: usize = 50;
        let source = self.files.find(&arguments["source"]).ok_or("the program has no such source")?;
        let line = client.line(&arguments["line"])?;
        let Some((line, statements)) = self.session.statements_at(source, line) else {
            return Ok(json!({"targets": []}));
        };
        let here = self.session.position();
        let hits = self.session.hits(&statements);
        let nearest = hits.partition_point(|hit| *hit < here);
        let from = nearest.saturating_sub(MOST / 2).min(hits.len().saturating_sub(MOST));
        let mut targets = Vec::new();
        for (number, hit) in hits.iter().enumerate().skip(from).take(MOST) {
            self.targets.push(*hit);
            targets.push(json!({
                "id": self.targets.len(),
                "label": format!("hit {} of {}, at {hit}", number + 1, hits.len()),
                "line": client.to_line(line),
            }));
        }
        Ok(json!({"targets": targets}))
    }

    pub fn goto(&mut self, arguments: &Value, events: &mut Events) -> Reply {
        let id = arguments["targetId"].as_u64().unwrap_or(0) as usize;
        let target = id.checked_sub(1).and_then(|at| self.targets.get(at).copied());
        let target = target.ok_or("this target is not known any more")?;
        self.session.seek(target);
        self.stopped(events, json!({"reason": "goto"}));
        Ok(Value::Null)
    }

    pub fn restart_frame(&mut self, arguments: &Value, events: &mut Events) -> Reply {
        let (task, call) = self.frame(&arguments["frameId"])?;
        if !self.session.restart(task, call) {
            return Err("the beginning of this call is not known".into());
        }
        self.stopped(events, json!({"reason": "restart"}));
        Ok(Value::Null)
    }

    pub fn restart(&mut self, events: &mut Events) -> Reply {
        self.session.seek_start();
        self.stopped(events, json!({"reason": "entry"}));
        Ok(Value::Null)
    }
}

/// Adds a line for the console of the client.
fn say(events: &mut Events, text: &str) {
    events.push(("output", json!({"category": "console", "output": format!("{text}\n")})));
}

impl Client {
    /// Returns a line that the client names, from 1.
    pub fn line(&self, line: &Value) -> Result<usize, String> {
        let line = line.as_u64().ok_or("a line is a number")? as usize;
        Ok(line + usize::from(!self.lines_from_one))
    }

    /// Returns a line as the client counts.
    pub fn to_line(&self, line: usize) -> usize {
        line.saturating_sub(usize::from(!self.lines_from_one))
    }

    /// Returns a column as the client counts.
    pub fn to_column(&self, column: usize) -> usize {
        column.saturating_sub(usize::from(!self.columns_from_one))
    }
}
