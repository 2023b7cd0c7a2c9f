//! `durable dap`: the Debug Adapter Protocol, over standard input and output.
//!
//! An adapter has one run of one instance. A child instance into which a step goes is a session of
//! its own, which the client starts.

mod looking;
mod moving;
mod sources;
mod stops;

use serde_json::{Value, json};

use crate::debug::{Breakpoints, Session};

use super::STORE;
use super::debug::Target;
use super::lsp::wire::{self, Incoming, Reader};
use super::problem::Problem;

use looking::Reference;
use sources::Files;

/// Serves a debugging client until the client ends the session.
pub fn dap() -> Result<u8, Problem> {
    let broken = |error: std::io::Error| {
        let reason = crate::os::reason(&error);
        Problem::new(STORE, format!("the client can't be spoken to: {reason}"))
    };
    let mut adapter = Adapter::default();
    let mut reader = Reader::new(std::io::stdin().lock());
    loop {
        match reader.next().map_err(broken)? {
            Incoming::End => return Ok(0),
            Incoming::Broken(reason) => adapter.say("console", &format!("{reason}\n")),
            Incoming::Message(message) if message["type"] == "request" => adapter.take(&message),
            // Responses to what the adapter asked for need no answer.
            Incoming::Message(_) => {}
        }
        for message in std::mem::take(&mut adapter.out) {
            wire::write(std::io::stdout().lock(), &message).map_err(broken)?;
        }
        if adapter.is_done {
            return Ok(0);
        }
    }
}

/// The run that is debugged.
struct Debuggee {
    session: Session,
    target: Target,
    breakpoints: Breakpoints,
    files: Files,
    /// The arguments with which the client started the session.
    arguments: Value,
    /// The references to scopes and values that the client was given since the last stop.
    references: Vec<Reference>,
    /// The calls that the client was given since the last stop: their tasks and numbers.
    frames: Vec<(u64, usize)>,
    /// The positions to which the client can go.
    targets: Vec<crate::debug::Position>,
    /// The error that is about to be thrown, at a stop because of one.
    error: Option<crate::machine::Value>,
    /// The entry up to which lines were shown as output.
    shown_until: u64,
}

#[derive(Default)]
struct Adapter {
    sent: u64,
    out: Vec<Value>,
    debuggee: Option<Debuggee>,
    client: Client,
    is_done: bool,
}

/// What the client can do, and how it counts.
struct Client {
    lines_from_one: bool,
    columns_from_one: bool,
    starts_sessions: bool,
}

impl Default for Client {
    fn default() -> Client {
        Client { lines_from_one: true, columns_from_one: true, starts_sessions: false }
    }
}

/// The body of a response, or the reason why the request failed.
type Reply = Result<Value, String>;

impl Adapter {
    /// Answers a request, with the events that follow it.
    fn take(&mut self, request: &Value) {
        let command = request["command"].as_str().unwrap_or_default();
        let arguments = &request["arguments"];
        let mut events: Vec<(&'static str, Value)> = Vec::new();
        let reply = self.answer(command, arguments, &mut events);
        let mut response = json!({
            "type": "response",
            "request_seq": request["seq"].as_u64().unwrap_or(0),
            "command": command,
            "success": reply.is_ok(),
        });
        match reply {
            Ok(Value::Null) => {}
            Ok(body) => response["body"] = body,
            Err(reason) => {
                response["body"] = json!({"error": {"id": 1, "format": reason, "showUser": true}});
                response["message"] = json!(reason);
            }
        }
        self.send(response);
        for (event, body) in events {
            match event {
                // A request to the client, in the place of an event.
                "startDebugging" => {
                    self.send(json!({"type": "request", "command": event, "arguments": body}));
                }
                event => self.send(json!({"type": "event", "event": event, "body": body})),
            }
        }
    }

    fn send(&mut self, mut message: Value) {
        self.sent += 1;
        message["seq"] = json!(self.sent);
        self.out.push(message);
    }

    fn say(&mut self, category: &str, text: &str) {
        let body = json!({"category": category, "output": text});
        self.send(json!({"type": "event", "event": "output", "body": body}));
    }

    fn answer(&mut self, command: &str, arguments: &Value, events: &mut Vec<(&'static str, Value)>) -> Reply {
        match command {
            "initialize" => {
                self.client = Client {
                    lines_from_one: arguments["linesStartAt1"].as_bool().unwrap_or(true),
                    columns_from_one: arguments["columnsStartAt1"].as_bool().unwrap_or(true),
                    starts_sessions: arguments["supportsStartDebuggingRequest"].as_bool().unwrap_or(false),
                };
                return Ok(capabilities());
            }
            "disconnect" => {
                self.is_done = true;
                return Ok(Value::Null);
            }
            "launch" | "attach" => {
                self.debuggee = Some(Debuggee::open(arguments)?);
                events.push(("initialized", json!({})));
                return Ok(Value::Null);
            }
            _ => {}
        }
        let Some(debuggee) = &mut self.debuggee else {
            return Err(format!("`{command}` comes after `launch`"));
        };
        match command {
            "configurationDone" => debuggee.begin(events),
            "threads" => debuggee.threads(),
            "stackTrace" => debuggee.stack_trace(arguments, &self.client),
            "scopes" => debuggee.scopes(arguments),
            "variables" => debuggee.variables(arguments),
            "evaluate" => debuggee.evaluate(arguments),
            "completions" => debuggee.completions(arguments, &self.client),
            "loadedSources" => debuggee.loaded_sources(),
            "source" => debuggee.source(arguments),
            "setBreakpoints" => debuggee.set_breakpoints(arguments, &self.client),
            "setFunctionBreakpoints" => debuggee.set_function_breakpoints(arguments),
            "setExceptionBreakpoints" => debuggee.set_exception_breakpoints(arguments),
            "dataBreakpointInfo" => debuggee.data_breakpoint_info(arguments),
            "setDataBreakpoints" => debuggee.set_data_breakpoints(arguments),
            "breakpointLocations" => debuggee.breakpoint_locations(arguments, &self.client),
            "exceptionInfo" => debuggee.exception_info(),
            "gotoTargets" => debuggee.goto_targets(arguments, &self.client),
            "goto" => debuggee.goto(arguments, events),
            "restartFrame" => debuggee.restart_frame(arguments, events),
            "restart" => debuggee.restart(events),
            "continue" | "reverseContinue" | "next" | "stepIn" | "stepOut" | "stepBack" | "pause" => {
                debuggee.go(command, arguments, &self.client, events)
            }
            other => Err(format!("`{other}` is not supported")),
        }
    }
}

/// Returns what the adapter can do.
fn capabilities() -> Value {
    json!({
        "supportsConfigurationDoneRequest": true,
        "supportsFunctionBreakpoints": true,
        "supportsConditionalBreakpoints": true,
        "supportsHitConditionalBreakpoints": true,
        "supportsEvaluateForHovers": true,
        "supportsStepBack": true,
        "supportsRestartFrame": true,
        "supportsGotoTargetsRequest": true,
        "supportsCompletionsRequest": true,
        "supportsRestartRequest": true,
        "supportsExceptionOptions": false,
        "supportsExceptionInfoRequest": true,
        "supportsExceptionFilterOptions": true,
        "supportsLogPoints": true,
        "supportsDataBreakpoints": true,
        "supportsBreakpointLocationsRequest": true,
        "supportsLoadedSourcesRequest": true,
        "supportsDelayedStackTraceLoading": true,
        "supportsSetVariable": false,
        "supportedChecksumAlgorithms": ["SHA256"],
        "exceptionBreakpointFilters": [
            {
                "filter": "thrown",
                "label": "Thrown errors",
                "description": "Stops where an error is thrown, whether or not it is caught.",
                "supportsCondition": true,
                "conditionDescription": "the kind of the error, such as not_found",
                "default": false
            },
            {
                "filter": "uncaught",
                "label": "The error that ended the instance",
                "description": "Stops where the error was thrown that ended the instance.",
                "default": true
            }
        ]
    })
}
