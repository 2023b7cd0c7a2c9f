//! One style for source texts.
//!
//! Invariant: the output has the same meaning as the input, because it has the same tokens and
//! comments in the same order. The exceptions are semicolons, and commas before a closing bracket
//! or between arms. The writer decides where lines break, as long as a bracket breaks at both ends
//! or at neither. The formatter decides about spaces, indentation, blank lines and separators.

mod pieces;
mod spacing;

use crate::syntax::{Diagnostic, parse};

use pieces::{Break, Piece, Pieces};

/// The number of columns of one level of indentation.
const INDENT: usize = 2;

/// The reason why a text was not formatted.
#[derive(Debug)]
pub enum Unformatted {
    /// The mistakes because of which the text can't be parsed.
    Mistakes(Vec<Diagnostic>),
    /// An output with another meaning, by a mistake of the formatter. The text stays unchanged.
    Changed,
}

/// Returns the text in the one style. `source` is the text's number in the places of diagnostics.
pub fn format(text: &str, source: u32) -> Result<String, Unformatted> {
    let parsed = parse(text, source);
    if !parsed.diagnostics.is_empty() {
        return Err(Unformatted::Mistakes(parsed.diagnostics));
    }
    let pieces = Pieces::of(text, &parsed.braces);
    let out = write(&pieces, text.len());
    let again = parse(&out, source);
    let same = again.diagnostics.is_empty() && pieces.essence().eq(Pieces::of(&out, &again.braces).essence());
    if same { Ok(out) } else { Err(Unformatted::Changed) }
}

/// Writes the pieces of a text of about `bytes` bytes.
fn write(pieces: &Pieces<'_>, bytes: usize) -> String {
    let mut out = String::with_capacity(bytes + 64);
    if let Some(first_line) = pieces.first_line {
        out.push_str(first_line.trim_end());
        out.push('\n');
    }
    // Indentation of the lines with the brackets that are open, and of the current line.
    let mut open: Vec<usize> = Vec::new();
    let mut indent = 0;
    let mut previous: Option<&Piece<'_>> = None;
    for piece in pieces.iter().filter(|piece| !piece.is_left_out) {
        let line_break = if previous.is_none() { Break::None } else { piece.line_break };
        if line_break != Break::None || previous.is_none() {
            let base = match (piece.is_closer(), open.last()) {
                (true, Some(opened)) => *opened,
                (_, Some(opened)) => opened + 1,
                (_, None) => 0,
            };
            indent = base + usize::from(piece.continues && previous.is_some());
            match line_break {
                Break::None => {}
                Break::Line => out.push('\n'),
                Break::Blank => out.push_str("\n\n"),
            }
            out.extend(std::iter::repeat_n(' ', indent * INDENT));
        } else if let Some(previous) = previous {
            out.push_str(spacing::between(previous, piece));
        }
        out.push_str(piece.text.trim_end());
        if piece.wants_comma {
            out.push(',');
        }
        if piece.is_opener() {
            open.push(indent);
        } else if piece.is_closer() {
            open.pop();
        }
        previous = Some(piece);
    }
    if previous.is_some() {
        out.push('\n');
    }
    out
}
