//! The debugger as a screen of panes: source, variables, calls and tasks, entries, output.

mod draw;
mod rows;

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::super::STORE;
use super::super::problem::Problem;
use super::debugger::Debugger;

/// The panes that can have the focus, in the order of the Tab key.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pane {
    Source,
    Variables,
    Calls,
    Entries,
    Output,
}

const PANES: [Pane; 5] = [Pane::Source, Pane::Variables, Pane::Calls, Pane::Entries, Pane::Output];

/// A line that is being typed at the bottom, and what it is for.
struct Prompt {
    /// The words of the command that the line completes.
    before: &'static str,
    label: &'static str,
    text: String,
}

/// The screen beside the debugger's own state.
struct Screen {
    focus: Pane,
    /// The variables whose parts are shown, by their paths.
    expanded: BTreeSet<String>,
    /// The selected row of each pane, in the order of `PANES`. In the source, it is a line's
    /// distance from the current one; among the entries, the distance from the present.
    selected: [isize; PANES.len()],
    prompt: Option<Prompt>,
    /// What the last command said.
    said: String,
    helps: bool,
}

/// Shows the debugger until the user quits.
pub fn run(debugger: &mut Debugger) -> Result<u8, Problem> {
    let broken = |error: io::Error| {
        let reason = crate::os::reason(&error);
        Problem::new(STORE, format!("the terminal can't be used: {reason}"))
    };
    let mut terminal = ratatui::try_init().map_err(broken)?;
    let result = show(&mut terminal, debugger);
    ratatui::restore();
    result.map_err(broken)?;
    Ok(0)
}

fn show(terminal: &mut DefaultTerminal, debugger: &mut Debugger) -> io::Result<()> {
    let mut screen = Screen {
        focus: Pane::Source,
        expanded: BTreeSet::new(),
        selected: [0; PANES.len()],
        prompt: None,
        said: "? for help".into(),
        helps: false,
    };
    loop {
        terminal.draw(|frame| draw::draw(frame, debugger, &screen))?;
        // A wait with a limit, so that a terminal that is gone ends the loop by an error.
        while !event::poll(Duration::from_secs(60))? {}
        if let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
            && screen.press(key, debugger)
        {
            return Ok(());
        }
    }
}

impl Screen {
    /// Handles a key. Returns whether the user quits.
    fn press(&mut self, key: KeyEvent, debugger: &mut Debugger) -> bool {
        if key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return true;
        }
        if self.helps {
            self.helps = false;
            return false;
        }
        if self.prompt.is_some() {
            return self.type_key(key, debugger);
        }
        let command = match key.code {
            KeyCode::Char('q') => return true,
            KeyCode::Char('?') | KeyCode::F(1) => {
                self.helps = true;
                return false;
            }
            KeyCode::Char('n') | KeyCode::Right => "step",
            KeyCode::Char('i') => "into",
            KeyCode::Char('o') => "out",
            KeyCode::Char('p') | KeyCode::Left => "back",
            KeyCode::Char('I') => "back into",
            KeyCode::Char('O') => "back out",
            KeyCode::Char('c') => "continue",
            KeyCode::Char('r') => "reverse",
            KeyCode::Char(']') => "entry",
            KeyCode::Char('[') => "back entry",
            KeyCode::Char('g') | KeyCode::Home => "seek start",
            KeyCode::Char('G') | KeyCode::End => "seek end",
            KeyCode::Char('f') => "seek failure",
            KeyCode::Char('t') => return self.next_task(debugger),
            KeyCode::Char('b') => return self.toggle_breakpoint(debugger),
            KeyCode::Char('w') => return self.watch(debugger),
            KeyCode::Char('W') => return self.who(debugger),
            KeyCode::Char('/') => return self.ask("seek", "position"),
            KeyCode::Char('e') => return self.ask("print", "expression"),
            KeyCode::Char(':') => return self.ask("", "command"),
            KeyCode::Tab => return self.turn_focus(1),
            KeyCode::BackTab => return self.turn_focus(PANES.len() - 1),
            KeyCode::Up | KeyCode::Char('k') => return self.select(-1),
            KeyCode::Down | KeyCode::Char('j') => return self.select(1),
            KeyCode::PageUp => return self.select(-10),
            KeyCode::PageDown => return self.select(10),
            KeyCode::Enter | KeyCode::Char(' ') => return self.enter(debugger),
            _ => return false,
        };
        self.execute(command, debugger)
    }

    /// Executes a command. Returns whether the user quits.
    fn execute(&mut self, command: &str, debugger: &mut Debugger) -> bool {
        let before = debugger.whereabouts();
        let reply = debugger.execute(command);
        if debugger.whereabouts() != before {
            self.selected = [0; PANES.len()];
        }
        self.said = reply.text;
        reply.quits
    }

    fn ask(&mut self, before: &'static str, label: &'static str) -> bool {
        self.prompt = Some(Prompt { before, label, text: String::new() });
        false
    }

    /// Handles a key while a line is being typed.
    fn type_key(&mut self, key: KeyEvent, debugger: &mut Debugger) -> bool {
        let Some(prompt) = &mut self.prompt else { return false };
        match key.code {
            KeyCode::Esc => self.prompt = None,
            KeyCode::Backspace if prompt.text.is_empty() => self.prompt = None,
            KeyCode::Backspace => {
                prompt.text.pop();
            }
            KeyCode::Char(c) => prompt.text.push(c),
            KeyCode::Enter => {
                let line = format!("{} {}", prompt.before, prompt.text);
                let is_empty = prompt.text.trim().is_empty();
                self.prompt = None;
                return !is_empty && self.execute(line.trim(), debugger);
            }
            _ => {}
        }
        false
    }

    fn turn_focus(&mut self, by: usize) -> bool {
        let at = PANES.iter().position(|pane| *pane == self.focus).unwrap_or(0);
        self.focus = PANES[(at + by) % PANES.len()];
        false
    }

    fn selected(&self, pane: Pane) -> isize {
        PANES.iter().position(|known| *known == pane).map_or(0, |at| self.selected[at])
    }

    /// Returns the selected one of so many rows of a pane.
    fn selected_row(&self, pane: Pane, count: usize) -> usize {
        (self.selected(pane).max(0) as usize).min(count.saturating_sub(1))
    }

    fn select(&mut self, by: isize) -> bool {
        if let Some(at) = PANES.iter().position(|pane| *pane == self.focus) {
            let least = if matches!(self.focus, Pane::Source | Pane::Entries) { isize::MIN / 2 } else { 0 };
            self.selected[at] = (self.selected[at] + by).max(least);
        }
        false
    }

    /// Acts on the selected row of the focused pane.
    fn enter(&mut self, debugger: &mut Debugger) -> bool {
        match self.focus {
            Pane::Variables => {
                let rows = rows::variables(debugger, &self.expanded);
                let at = self.selected_row(Pane::Variables, rows.len());
                if let Some(row) = rows.get(at).filter(|row| row.has_parts)
                    && !self.expanded.remove(&row.path)
                {
                    self.expanded.insert(row.path.clone());
                }
                false
            }
            Pane::Calls => {
                let rows = rows::calls(debugger);
                let at = self.selected_row(Pane::Calls, rows.len());
                match rows.get(at) {
                    Some(row) => {
                        let command = row.command.clone();
                        self.execute(&command, debugger)
                    }
                    None => false,
                }
            }
            Pane::Entries => {
                let here = debugger.shown().session.position().entry as isize;
                let last = debugger.shown().session.history.len() as isize;
                let wanted = (here + self.selected(Pane::Entries)).clamp(0, last);
                self.execute(&format!("seek {wanted}"), debugger)
            }
            Pane::Source | Pane::Output => false,
        }
    }

    fn next_task(&mut self, debugger: &mut Debugger) -> bool {
        let session = &debugger.shown().session;
        let tasks = session.tasks();
        let at = tasks.iter().position(|task| task.id == session.task()).unwrap_or(0);
        let Some(next) = tasks.get((at + 1) % tasks.len().max(1)).map(|task| task.id) else {
            self.said = "no task is running".into();
            return false;
        };
        self.execute(&format!("task {next}"), debugger)
    }

    /// Sets a breakpoint at the selected line of the source, or removes the one that is there.
    fn toggle_breakpoint(&mut self, debugger: &mut Debugger) -> bool {
        let Some((file, line)) = rows::selected_line(debugger, self.selected(Pane::Source)) else {
            self.said = "no statement is running".into();
            return false;
        };
        let there = rows::breakpoint_at(debugger, &file, line);
        let command = match there {
            Some(id) => format!("delete {id}"),
            None => format!("break {file}:{line}"),
        };
        self.execute(&command, debugger)
    }

    /// Returns the name of the variable to which the selected row belongs.
    fn variable(&self, debugger: &Debugger) -> Option<String> {
        let rows = rows::variables(debugger, &self.expanded);
        let at = self.selected_row(Pane::Variables, rows.len());
        rows.get(at).map(|row| row.variable.clone())
    }

    fn watch(&mut self, debugger: &mut Debugger) -> bool {
        match self.variable(debugger) {
            Some(name) => self.execute(&format!("watch {name}"), debugger),
            None => self.ask("watch", "variable"),
        }
    }

    fn who(&mut self, debugger: &mut Debugger) -> bool {
        match self.variable(debugger) {
            Some(name) => self.execute(&format!("who {name}"), debugger),
            None => self.ask("who", "variable"),
        }
    }
}
