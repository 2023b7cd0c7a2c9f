//! Diagnostics and errors as text, with the source around them, by ariadne.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::path::Path;

use ariadne::{Color, Config, IndexType, Label, Report, ReportKind};

use crate::builtins::Context;
use crate::machine::{ErrorData, Value, format};
use crate::syntax::{Diagnostic, Place, Severity, Sources};

/// The length in bytes above which a line is not shown.
const LONG_LINE: usize = 400;

/// The sources of a program, with their paths as the user knows them.
pub struct Shown<'a> {
    pub sources: &'a Sources,
    pub names: Vec<String>,
    pub colours: bool,
}

impl<'a> Shown<'a> {
    /// Prepares the sources for display. `file` is the program's first file, as the user named it.
    pub fn new(sources: &'a Sources, file: &Path) -> Shown<'a> {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let name = |name: &str| match folder {
            Some(folder) if !name.starts_with(crate::check::STD) => folder.join(name).display().to_string(),
            _ => name.to_string(),
        };
        let names = sources.files.iter().map(|source| name(&source.name)).collect();
        Shown { sources, names, colours: coloured() }
    }

    fn name(&self, place: Place) -> &str {
        self.names.get(place.source as usize).map_or("?", String::as_str)
    }

    /// Returns `path:line:column` of a place.
    pub fn locate(&self, place: Place) -> String {
        let (line, column) = self.sources.line_column(place);
        format!("{}:{line}:{column}", self.name(place))
    }

    /// Returns the line of source at a place, without its indentation and at most 120 characters of
    /// it.
    pub fn line(&self, place: Place) -> String {
        let Some(file) = self.sources.files.get(place.source as usize) else { return String::new() };
        let start = (place.span.start as usize).min(file.text.len());
        let (from, to) = lines_around(&file.text, start, start);
        file.text[from..to].trim().chars().take(120).collect()
    }

    /// Returns whether a place is in a file of the user.
    pub fn is_ours(&self, place: Place) -> bool {
        let file = self.sources.files.get(place.source as usize);
        file.is_some_and(|file| !file.name.starts_with(crate::check::STD))
    }

    /// Returns whether the source around a place can be shown.
    fn is_showable(&self, place: Place) -> bool {
        let Some(file) = self.sources.files.get(place.source as usize) else { return false };
        let (start, end) = (place.span.start as usize, place.span.end as usize);
        let Some(inside) = file.text.get(start..end) else { return false };
        let (from, to) = lines_around(&file.text, start, end);
        to - from <= LONG_LINE + inside.len().min(LONG_LINE)
            && inside.lines().all(|line| line.len() <= LONG_LINE)
    }

    /// Returns the text of a message with its labels.
    pub fn message(
        &self,
        kind: ReportKind<'_>,
        title: &str,
        labels: &[(Place, String)],
        notes: &[String],
        hint: Option<&str>,
    ) -> String {
        let showable = labels.iter().all(|(place, _)| self.is_showable(*place));
        let Some((main, _)) = labels.first().filter(|_| showable) else {
            return self.plain(kind, title, labels, notes, hint);
        };
        let config = Config::default().with_index_type(IndexType::Byte).with_color(self.colours);
        let span = |place: &Place| {
            (self.name(*place).to_string(), place.span.start as usize..place.span.end as usize)
        };
        let colour = if matches!(kind, ReportKind::Warning) { Color::Yellow } else { Color::Red };
        let mut report = Report::build(kind, span(main)).with_config(config).with_message(title);
        // Labels come in the order of the text: ariadne would show text before the first label as
        // another excerpt.
        let mut ordered: Vec<(usize, &(Place, String))> = labels.iter().enumerate().collect();
        ordered.sort_by_key(|(_, (place, _))| (place.source != main.source, place.span.start));
        for (number, (place, text)) in ordered {
            let colour = if number == 0 { colour } else { Color::Cyan };
            report = report.with_label(Label::new(span(place)).with_message(text).with_color(colour));
        }
        for note in notes {
            report.add_note(note);
        }
        if let Some(hint) = hint {
            report = report.with_help(hint);
        }
        let mut out = Vec::new();
        let texts: HashMap<String, String> = labels
            .iter()
            .filter_map(|(place, _)| {
                self.sources
                    .files
                    .get(place.source as usize)
                    .map(|file| (self.name(*place).to_string(), file.text.clone()))
            })
            .collect();
        match report.finish().write(ariadne::sources(texts), &mut out) {
            Ok(()) => trimmed(&String::from_utf8_lossy(&out)),
            Err(_) => self.plain(kind, title, labels, notes, hint),
        }
    }

    fn plain(
        &self,
        kind: ReportKind<'_>,
        title: &str,
        labels: &[(Place, String)],
        notes: &[String],
        hint: Option<&str>,
    ) -> String {
        let mut out =
            format!("{}: {title}\n", if matches!(kind, ReportKind::Warning) { "Warning" } else { "Error" });
        for (place, text) in labels {
            out.push_str(&format!("  at {}: {text}\n", self.locate(*place)));
        }
        for note in notes {
            out.push_str(&format!("  Note: {note}\n"));
        }
        if let Some(hint) = hint {
            out.push_str(&format!("  Help: {hint}\n"));
        }
        out
    }

    /// Returns the text of a diagnostic of the front end.
    pub fn diagnostic(&self, diagnostic: &Diagnostic) -> String {
        let kind = match diagnostic.severity {
            Severity::Error => ReportKind::Error,
            Severity::Warning => ReportKind::Warning,
        };
        let labels: Vec<(Place, String)> =
            diagnostic.labels.iter().map(|label| (label.place, label.text.clone())).collect();
        let notes: Vec<String> = diagnostic.reason.iter().cloned().collect();
        self.message(kind, &diagnostic.title, &labels, &notes, diagnostic.hint.as_deref())
    }

    /// Returns the text of an uncaught error, with the calls that led to it.
    pub fn error(&self, error: &ErrorData) -> String {
        let ours = |place: Place| self.is_ours(place);
        let calls: Vec<_> = error.trace.entries.iter().filter(|entry| ours(entry.place)).collect();
        let mut labels: Vec<(Place, String)> =
            calls.first().map(|entry| (entry.place, "thrown here".to_string())).into_iter().collect();
        labels.extend(error.trace.also.iter().filter(|(place, _)| ours(*place)).cloned());
        let mut notes = Vec::new();
        let value = error.value.decode();
        match (sides(&value), rest(&value)) {
            (Some(sides), _) => notes.push(sides),
            (None, Some(rest)) => notes.push(format!("with {rest}")),
            (None, None) => {}
        }
        let mut chain: Vec<(String, u64)> = Vec::new();
        let mut add = |line: String| match chain.last_mut() {
            Some((last, times)) if *last == line => *times += 1,
            _ => chain.push((line, 1)),
        };
        for pair in calls.windows(2) {
            let what = match pair[0].boundary {
                None => "in",
                Some(Context::Orchestration) => "orchestration",
                Some(Context::Operation) => "operation",
                Some(_) => "activity",
            };
            add(format!("{what} {}, called at {}", pair[0].function, self.locate(pair[1].place)));
        }
        if error.trace.omitted > 0 {
            add(format!("and {} more calls between", error.trace.omitted));
        }
        let times = |(line, times): &(String, u64)| match times {
            1 => line.clone(),
            n => format!("{line}, {n} times"),
        };
        let chain: Vec<String> = chain.iter().map(times).collect();
        if !chain.is_empty() {
            notes.push(chain.join("\n"));
        }
        let title = short(&error.title(), 300);
        self.message(ReportKind::Error, &title, &labels, &notes, None)
    }
}

/// Returns the beginning of the line of `start` and the end of the line of `end`; both arguments
/// must be at character boundaries.
fn lines_around(text: &str, start: usize, end: usize) -> (usize, usize) {
    let from = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let to = text[end..].find('\n').map_or(text.len(), |at| end + at);
    (from, to)
}

/// Returns both sides of a comparison whose assertion failed.
fn sides(error: &Value) -> Option<String> {
    let Value::Record(record) = error else { return None };
    let field = |name: &str| match record.get_str(name) {
        Some(Value::Str(text)) => Some(short(text.as_str(), 500)),
        _ => None,
    };
    (field("kind")? == "assertion_failed").then_some(())?;
    Some(format!("left   {}\nright  {}", field("left")?, field("right")?))
}

/// Returns the fields of an error other than its kind and message.
fn rest(value: &Value) -> Option<String> {
    let Value::Record(record) = value else { return None };
    record.get_str("kind")?;
    let rest = record.without(|name| name == "kind" || name == "message");
    (!rest.is_empty()).then(|| short(&format::display(&Value::Record(std::rc::Rc::new(rest))), 500))
}

/// Removes spaces at the ends of lines.
fn trimmed(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Writes to standard error.
pub fn show(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Returns a text as one line of at most `most` characters.
pub fn short(text: &str, most: usize) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() <= most {
        return line;
    }
    line.chars().take(most - 1).chain(['…']).collect()
}

/// Returns whether standard error shows colours.
pub fn coloured() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
