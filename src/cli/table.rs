//! Tables for people.

/// Returns rows under headings. Each column is as wide as its widest cell, and the last one is not
/// padded.
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

/// Returns a time for people: RFC 3339 with milliseconds.
pub fn time(nanos: i64) -> String {
    let millis = nanos.div_euclid(1_000_000);
    crate::machine::format::instant(millis.saturating_mul(1_000_000))
}

/// Returns an elapsed time for people.
pub fn took(nanos: i64) -> String {
    match nanos {
        n if n < 1_000_000 => format!("{}us", n / 1_000),
        n if n < 1_000_000_000 => format!("{:.1}ms", n as f64 / 1e6),
        n if n < 60_000_000_000 => format!("{:.2}s", n as f64 / 1e9),
        n => crate::machine::format::duration(n / 1_000_000_000 * 1_000_000_000),
    }
}

/// Reads a duration such as `90s` or `2h`, in nanoseconds.
pub fn duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 6] = [
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
        ("d", 86_400_000_000_000),
        ("w", 604_800_000_000_000),
    ];
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<i64>().ok()?.checked_mul(*nanos)
}

/// Reads a time in RFC 3339, or a duration before `now`; in nanoseconds since 1970.
pub fn instant(text: &str, now: i64) -> Option<i64> {
    if let Some(ago) = duration(text) {
        return Some(now.saturating_sub(ago));
    }
    let instant: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(instant.as_nanosecond()).ok()
}
