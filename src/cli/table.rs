//! Tables for people.

/// Rows under headings, columns as wide as they must be; the last one is as long as it is.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([headings[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let mut out = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count().min(*width)));
        }
        format!("{}\n", out.trim_end())
    };
    let mut out = line(headings.to_vec());
    for row in rows {
        out.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    out
}

/// A time as people read it: RFC 3339 to the millisecond.
pub fn time(nanos: i64) -> String {
    let millis = nanos.div_euclid(1_000_000);
    crate::machine::format::instant(millis.saturating_mul(1_000_000))
}

/// How long something took.
pub fn took(nanos: i64) -> String {
    match nanos {
        n if n < 1_000_000 => format!("{}us", n / 1_000),
        n if n < 1_000_000_000 => format!("{:.1}ms", n as f64 / 1e6),
        n if n < 60_000_000_000 => format!("{:.2}s", n as f64 / 1e9),
        n => crate::machine::format::duration(n / 1_000_000_000 * 1_000_000_000),
    }
}

/// One line of at most so many characters.
pub fn short(text: &str, most: usize) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() <= most {
        return line;
    }
    line.chars().take(most - 1).chain(['…']).collect()
}
