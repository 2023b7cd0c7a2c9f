//! Drawing the panes.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use crate::engine::Line as Printed;

use super::super::debugger::Debugger;
use super::super::places;
use super::{Pane, Screen, rows};

const KEYS: &str = "\
n →  step over         p ←  back
i    into              I    back into
o    out               O    back out
c    continue          r    reverse to the last stop
]    next entry        [    entry before
g    start             G    end
f    where it failed   /    seek a position
b    breakpoint at the selected line
w    stop where the selected variable changes
W    who set the selected variable
e    evaluate an expression
:    any command of the plain mode; `:help` lists them
t    next task         Tab  next pane
↑ ↓  select            Enter expand, choose, or go there
q    quit              any key closes this";

pub fn draw(frame: &mut Frame<'_>, debugger: &Debugger, screen: &Screen) {
    let said = screen.said.lines().count().clamp(1, (frame.area().height as usize / 3).max(1)) as u16;
    let [title, body, bottom, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(6),
        Constraint::Length(said),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(60), Constraint::Percentage(40)]).areas(body);
    let [source, output] = Layout::vertical([Constraint::Min(4), Constraint::Percentage(28)]).areas(left);
    let [variables, calls, entries] =
        Layout::vertical([Constraint::Percentage(40), Constraint::Percentage(28), Constraint::Min(4)])
            .areas(right);
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let whereabouts = format!(" {} · {}", debugger.shown().session.record.id, debugger.whereabouts());
    frame.render_widget(Paragraph::new(whereabouts).style(bold.add_modifier(Modifier::REVERSED)), title);
    draw_source(frame, source, debugger, screen);
    draw_output(frame, output, debugger, screen);
    draw_variables(frame, variables, debugger, screen);
    draw_calls(frame, calls, debugger, screen);
    draw_entries(frame, entries, debugger, screen);
    let line = match &screen.prompt {
        Some(prompt) => format!("{}: {}▏", prompt.label, prompt.text),
        None => screen.said.clone(),
    };
    frame.render_widget(Paragraph::new(line), bottom);
    let hints = "n/p step, back  i/I into  o/O out  c/r run  / seek  b break  e eval  ? help";
    frame.render_widget(Paragraph::new(hints).style(Style::new().fg(Color::DarkGray)), keys);
    if screen.helps {
        let area = centred(frame.area(), 60, 18);
        frame.render_widget(Clear, area);
        frame.render_widget(Paragraph::new(KEYS).block(Block::bordered().title(" keys ")), area);
    }
}

/// Returns an area of a size in the middle of another, or all of it if that is smaller.
fn centred(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height }
}

/// Returns the border of a pane.
fn pane(title: &str, has_focus: bool) -> Block<'static> {
    let style = if has_focus { Style::new().fg(Color::Cyan) } else { Style::new().fg(Color::DarkGray) };
    Block::bordered().title(format!(" {title} ")).border_style(style)
}

/// Returns the first of `count` rows to show, so that the selected one of `all` is visible.
fn first_row(selected: usize, count: usize, all: usize) -> usize {
    selected.saturating_sub(count / 2).min(all.saturating_sub(count))
}

fn selected_style(is_selected: bool, has_focus: bool) -> Style {
    match is_selected && has_focus {
        true => Style::new().add_modifier(Modifier::REVERSED),
        false => Style::new(),
    }
}

fn draw_source(frame: &mut Frame<'_>, area: Rect, debugger: &Debugger, screen: &Screen) {
    let has_focus = screen.focus == Pane::Source;
    let session = &debugger.shown().session;
    let Some((source, current)) = rows::current_line(debugger) else {
        let text = match session.end() {
            Some(end) => places::ending(session, end),
            None => "the first statement comes next".into(),
        };
        let block = pane("source", has_focus);
        return frame.render_widget(Paragraph::new(text).wrap(Default::default()).block(block), area);
    };
    let Some(file) = session.image.code.sources.files.get(source as usize) else { return };
    let height = area.height.saturating_sub(2) as usize;
    let lines: Vec<&str> = file.text.lines().collect();
    let selected = current.saturating_add_signed(screen.selected(Pane::Source)).clamp(1, lines.len().max(1));
    let first = first_row(selected - 1, height, lines.len());
    let breakpoints = rows::breakpoint_lines(debugger, source);
    let shown = lines.iter().enumerate().skip(first).take(height).map(|(at, text)| {
        let number = at + 1;
        let mark = if breakpoints.contains(&number) { "●" } else { " " };
        let arrow = if number == current { "▶" } else { " " };
        let style = match number == current {
            true => Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD),
            false => selected_style(number == selected && selected != current, has_focus),
        };
        Line::from(vec![
            Span::styled(mark, Style::new().fg(Color::Red)),
            Span::styled(format!("{arrow}{number:>4} "), Style::new().fg(Color::DarkGray)),
            Span::styled(text.replace('\t', "    "), style),
        ])
    });
    let shown: Vec<Line<'_>> = shown.collect();
    frame.render_widget(Paragraph::new(shown).block(pane(&file.name, has_focus)), area);
}

fn draw_output(frame: &mut Frame<'_>, area: Rect, debugger: &Debugger, screen: &Screen) {
    let has_focus = screen.focus == Pane::Output;
    let lines = debugger.shown().session.output_so_far();
    let height = area.height.saturating_sub(2) as usize;
    let up = screen.selected(Pane::Output).max(0) as usize;
    let first = lines.len().saturating_sub(height + up);
    let shown = lines.iter().skip(first).take(height).map(|(_, line)| match line {
        Printed::Print(text) => Line::from(text.replace('\n', "⏎")),
        Printed::Log { level, text } => {
            Line::styled(format!("[{level}] {text}").replace('\n', "⏎"), Style::new().fg(Color::DarkGray))
        }
    });
    let shown: Vec<Line<'_>> = shown.collect();
    frame.render_widget(Paragraph::new(shown).block(pane("output so far", has_focus)), area);
}

fn draw_variables(frame: &mut Frame<'_>, area: Rect, debugger: &Debugger, screen: &Screen) {
    let has_focus = screen.focus == Pane::Variables;
    let rows = rows::variables(debugger, &screen.expanded);
    let height = area.height.saturating_sub(2) as usize;
    let selected = screen.selected_row(Pane::Variables, rows.len());
    let first = first_row(selected, height, rows.len());
    let shown = rows.iter().enumerate().skip(first).take(height).map(|(at, row)| {
        let mark = match (row.has_parts, row.is_expanded) {
            (true, true) => "▾",
            (true, false) => "▸",
            _ => " ",
        };
        Line::from(vec![
            Span::raw(format!("{}{mark}", "  ".repeat(row.depth))),
            Span::styled(row.name.clone(), Style::new().fg(Color::Cyan)),
            Span::raw(format!(" = {}", row.value)),
        ])
        .style(selected_style(at == selected, has_focus))
    });
    let shown: Vec<Line<'_>> = shown.collect();
    frame.render_widget(Paragraph::new(shown).block(pane("variables", has_focus)), area);
}

fn draw_calls(frame: &mut Frame<'_>, area: Rect, debugger: &Debugger, screen: &Screen) {
    let has_focus = screen.focus == Pane::Calls;
    let rows = rows::calls(debugger);
    let height = area.height.saturating_sub(2) as usize;
    let selected = screen.selected_row(Pane::Calls, rows.len());
    let first = first_row(selected, height, rows.len());
    let shown = rows.iter().enumerate().skip(first).take(height).map(|(at, row)| {
        let mark = if row.is_chosen { "▶" } else { " " };
        Line::from(format!("{mark}{}", row.text)).style(selected_style(at == selected, has_focus))
    });
    let shown: Vec<Line<'_>> = shown.collect();
    frame.render_widget(Paragraph::new(shown).block(pane("calls and tasks", has_focus)), area);
}

fn draw_entries(frame: &mut Frame<'_>, area: Rect, debugger: &Debugger, screen: &Screen) {
    let has_focus = screen.focus == Pane::Entries;
    let session = &debugger.shown().session;
    let here = session.position().entry as usize;
    let all = session.history.len();
    let height = area.height.saturating_sub(2) as usize;
    let selected = here.saturating_add_signed(screen.selected(Pane::Entries)).min(all);
    let first = first_row(selected, height, all + 1);
    let shown = (first..=all).take(height).map(|number| {
        let what = match number.checked_sub(1).and_then(|at| session.history.get(at)) {
            Some(entry) => places::happened(session, entry),
            None => "the beginning".into(),
        };
        let mark = if number == here { "▶" } else { " " };
        let style = match number.cmp(&here) {
            std::cmp::Ordering::Greater => Style::new().fg(Color::DarkGray),
            _ => Style::new(),
        };
        let chosen = selected_style(number == selected, has_focus);
        Line::from(format!("{mark}{number:>5} {what}")).style(style.patch(chosen))
    });
    let shown: Vec<Line<'_>> = shown.collect();
    let title = format!("entries, {here} of {all}");
    frame.render_widget(Paragraph::new(shown).block(pane(&title, has_focus)), area);
}
