//! Formats of values in strings: the text after the `:` in `"{price:.2}"`.

/// A format: `[[fill]align][+][0][width][,][.decimals][form]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    pub fill: char,
    pub align: Option<Align>,
    /// Whether a number that is not negative has a `+`.
    pub plus: bool,
    /// Whether zeros after the sign fill a number up to its width.
    pub zeros: bool,
    /// The least number of characters.
    pub width: usize,
    /// Whether commas separate thousands.
    pub commas: bool,
    /// The decimals of a number, or the most characters of a string.
    pub decimals: Option<usize>,
    pub form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
    Centre,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Plain,
    Percent,
    Hex,
    Binary,
    /// A duration in one unit, with the unit's nanoseconds.
    Unit(&'static str, i64),
}

/// The units of durations with their nanoseconds, the largest first.
pub const UNITS: [(&str, i64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

const MOST_WIDTH: usize = 10_000;
const MOST_DECIMALS: usize = 18;

impl Spec {
    /// Reads a format. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Spec, String> {
        let mut spec = Spec {
            fill: ' ',
            align: None,
            plus: false,
            zeros: false,
            width: 0,
            commas: false,
            decimals: None,
            form: Form::Plain,
        };
        if text.is_empty() {
            return Err("nothing follows the `:`".into());
        }
        let mut rest = text;
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(fill), Some(second)) if align(second).is_some() => {
                (spec.fill, spec.align) = (fill, align(second));
                rest = chars.as_str();
            }
            (Some(first), _) if align(first).is_some() => {
                spec.align = align(first);
                rest = &text[1..];
            }
            _ => {}
        }
        spec.plus = skip(&mut rest, '+');
        spec.zeros = rest.len() > 1 && skip(&mut rest, '0');
        if let Some(width) = number(&mut rest, MOST_WIDTH, "a width")? {
            spec.width = width;
        }
        spec.commas = skip(&mut rest, ',');
        if skip(&mut rest, '.') {
            let decimals = number(&mut rest, MOST_DECIMALS, "a number of decimals")?;
            spec.decimals = Some(decimals.ok_or("after `.` comes the number of decimals")?);
        }
        spec.form = match rest {
            "" => Form::Plain,
            "%" => Form::Percent,
            "x" => Form::Hex,
            "b" => Form::Binary,
            unit => match UNITS.iter().find(|(name, _)| *name == unit) {
                Some((name, nanos)) => Form::Unit(name, *nanos),
                None if unit == "f" => {
                    return Err("`f` has no meaning: `.2` alone gives two decimals".into());
                }
                None => return Err(format!("`{}` is not part of a format", brief(unit))),
            },
        };
        Ok(spec)
    }
}

fn align(c: char) -> Option<Align> {
    match c {
        '<' => Some(Align::Left),
        '>' => Some(Align::Right),
        '^' => Some(Align::Centre),
        _ => None,
    }
}

/// Takes a character from the beginning of a text, if it is there.
fn skip(rest: &mut &str, c: char) -> bool {
    match rest.strip_prefix(c) {
        Some(after) => {
            *rest = after;
            true
        }
        None => false,
    }
}

/// Takes digits from the beginning of a text.
fn number(rest: &mut &str, most: usize, what: &str) -> Result<Option<usize>, String> {
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    *rest = after;
    if digits.is_empty() {
        return Ok(None);
    }
    match digits.parse::<usize>() {
        Ok(n) if n <= most => Ok(Some(n)),
        _ => Err(format!("{what} is at most {most}")),
    }
}

/// Returns the beginning of a text, for a message.
fn brief(text: &str) -> String {
    const MOST: usize = 20;
    match text.chars().count() {
        ..=MOST => text.to_string(),
        _ => text.chars().take(MOST - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read_and_others_refused() {
        let spec = Spec::parse("*^+08,.2%").expect("a format");
        assert_eq!((spec.fill, spec.align, spec.plus, spec.zeros), ('*', Some(Align::Centre), true, true));
        assert_eq!((spec.width, spec.commas, spec.decimals, spec.form), (8, true, Some(2), Form::Percent));
        assert_eq!(Spec::parse("0").map(|spec| (spec.zeros, spec.width)), Ok((false, 0)));
        assert_eq!(Spec::parse(">8").map(|spec| (spec.align, spec.width)), Ok((Some(Align::Right), 8)));
        assert_eq!(Spec::parse(".1ms").map(|spec| spec.form), Ok(Form::Unit("ms", 1_000_000)));
        for wrong in ["", " 1", ".", ".99", "99999", "8f", "2.", "s.1", "\u{e9}"] {
            assert!(Spec::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
