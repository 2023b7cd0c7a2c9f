//! Parameters and results in the forms of PostgreSQL.
//!
//! A parameter goes as text, which the server reads as the type that the statement wants, and a
//! result comes in binary form.

use std::error::Error;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::BytesMut;
use jiff::civil::Date;
use tokio_postgres::types::{Format, FromSql, IsNull, Kind, ToSql, Type, to_sql_checked};

use crate::machine::format;
use crate::machine::sql::Datum;

use super::super::effects::uuid_text;

type Problem = Box<dyn Error + Sync + Send>;

// ---- parameters

impl ToSql for Param {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Problem> {
        match &self.0 {
            None => Ok(IsNull::Yes),
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// A parameter of a statement, as text or null.
#[derive(Debug)]
pub(super) struct Param(Option<String>);

impl Param {
    /// Returns a parameter in the form of the type that a statement wants. An error says what it
    /// wants.
    pub(super) fn of(datum: &Datum, ty: &Type) -> Result<Param, String> {
        written(datum, ty).map(Param)
    }
}

/// Returns a parameter as text, or `None` for null.
fn written(datum: &Datum, ty: &Type) -> Result<Option<String>, String> {
    if let Kind::Domain(base) = ty.kind() {
        return written(datum, base);
    }
    let is_json = *ty == Type::JSON || *ty == Type::JSONB;
    let is_of = |types: &[Type]| types.contains(ty);
    let numbers = [Type::FLOAT4, Type::FLOAT8, Type::NUMERIC];
    let ints = [Type::INT2, Type::INT4, Type::INT8, Type::OID];
    let unfit = || Err(wanted(datum, ty));
    Ok(Some(match datum {
        Datum::Null => return Ok(None),
        Datum::Bool(b) if is_json || *ty == Type::BOOL => b.to_string(),
        Datum::Int(n) if is_json || is_of(&ints) || is_of(&numbers) || *ty == Type::MONEY => n.to_string(),
        Datum::Float(x) if is_json && x.is_finite() || is_of(&numbers) => match x {
            x if x.is_nan() => "NaN".to_string(),
            x if x.is_infinite() => if *x > 0.0 { "Infinity" } else { "-Infinity" }.to_string(),
            x => x.to_string(),
        },
        Datum::Text(text) if is_json => serde_json::Value::String(text.clone()).to_string(),
        // Dates, enums, addresses and the like have no kind of their own, so they are strings.
        Datum::Text(text)
            if !is_of(&ints) && !is_of(&[Type::BOOL, Type::BYTEA, Type::FLOAT4, Type::FLOAT8]) =>
        {
            match text.contains('\0') {
                true => return Err("the server has no texts with the character 0".to_string()),
                false => text.clone(),
            }
        }
        Datum::Bytes(bytes) if *ty == Type::BYTEA => format!("\\x{}", hex::encode(bytes)),
        Datum::Instant(nanos) if is_of(&[Type::TIMESTAMPTZ, Type::TIMESTAMP]) => format::instant(*nanos),
        Datum::Instant(nanos) if is_json => format!("\"{}\"", format::instant(*nanos)),
        Datum::Duration(nanos) if *ty == Type::INTERVAL => {
            let micros = nanos / 1_000;
            let sign = if micros < 0 { "-" } else { "" };
            format!(
                "{sign}{}.{:06} seconds",
                micros.unsigned_abs() / 1_000_000,
                micros.unsigned_abs() % 1_000_000
            )
        }
        Datum::Json(text) if is_json => text.clone(),
        Datum::List(_, Some(json)) if is_json => json.clone(),
        Datum::List(items, _) => match ty.kind() {
            Kind::Array(element) => array(items, element)?,
            _ => return unfit(),
        },
        _ => return unfit(),
    }))
}

fn wanted(datum: &Datum, ty: &Type) -> String {
    let (found, wanted) = (datum.a_kind(), ty.name());
    let cast = match datum {
        Datum::Int(_) => "int8",
        Datum::Float(_) => "float8",
        Datum::Bool(_) => "bool",
        Datum::Bytes(_) => "bytea",
        Datum::Instant(_) => "timestamptz",
        Datum::Duration(_) => "interval",
        Datum::Json(_) | Datum::List(..) => "jsonb",
        Datum::Null | Datum::Text(_) => {
            return format!("is {found}, and the statement wants `{wanted}` there");
        }
    };
    format!(
        "is {found}, and the statement wants `{wanted}` there; a cast like `::{cast}` after it makes the type clear"
    )
}

/// Returns an array as text.
fn array(items: &[Datum], element: &Type) -> Result<String, String> {
    let mut out = String::from("{");
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        match item {
            Datum::List(inner, _) if !matches!(*element, Type::JSON | Type::JSONB) => {
                out.push_str(&array(inner, element)?);
            }
            item => match written(item, element)? {
                None => out.push_str("NULL"),
                Some(text) => {
                    out.push('"');
                    for c in text.chars() {
                        if matches!(c, '"' | '\\') {
                            out.push('\\');
                        }
                        out.push(c);
                    }
                    out.push('"');
                }
            },
        }
    }
    out.push('}');
    Ok(out)
}

// ---- results

/// A value of a column.
pub(super) struct Cell(pub Datum);

impl<'a> FromSql<'a> for Cell {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Cell, Problem> {
        Ok(Cell(read(ty, raw)?))
    }

    fn from_sql_null(_: &Type) -> Result<Cell, Problem> {
        Ok(Cell(Datum::Null))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// The bytes of a value, which are read from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or("the server sent too few bytes")?;
        self.0 = rest;
        Ok(*head)
    }

    fn i16(&mut self) -> Result<i16, Problem> {
        Ok(i16::from_be_bytes(self.take()?))
    }

    fn i32(&mut self) -> Result<i32, Problem> {
        Ok(i32::from_be_bytes(self.take()?))
    }

    fn i64(&mut self) -> Result<i64, Problem> {
        Ok(i64::from_be_bytes(self.take()?))
    }

    fn part(&mut self, length: usize) -> Result<&'a [u8], Problem> {
        let (head, rest) = self.0.split_at_checked(length).ok_or("the server sent too few bytes")?;
        self.0 = rest;
        Ok(head)
    }
}

fn read(ty: &Type, raw: &[u8]) -> Result<Datum, Problem> {
    match ty.kind() {
        Kind::Domain(base) => return read(base, raw),
        Kind::Array(element) => return read_array(element, raw),
        Kind::Enum(_) => return text(raw),
        _ => {}
    }
    let mut bytes = Bytes(raw);
    Ok(match *ty {
        Type::BOOL => Datum::Bool(bytes.take::<1>()? != [0]),
        Type::INT2 => Datum::Int(bytes.i16()?.into()),
        Type::INT4 => Datum::Int(bytes.i32()?.into()),
        Type::INT8 => Datum::Int(bytes.i64()?),
        Type::OID => Datum::Int(u32::from_be_bytes(bytes.take()?).into()),
        Type::FLOAT4 => {
            // The shortest digits of the smaller type: 0.1 and not 0.10000000149.
            let small = f32::from_be_bytes(bytes.take()?);
            Datum::Float(small.to_string().parse().unwrap_or(f64::from(small)))
        }
        Type::FLOAT8 => Datum::Float(f64::from_be_bytes(bytes.take()?)),
        Type::NUMERIC => Datum::Text(numeric(&mut bytes)?),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN | Type::XML | Type::CHAR => {
            return text(raw);
        }
        Type::BYTEA => Datum::Bytes(raw.to_vec()),
        Type::TIMESTAMPTZ | Type::TIMESTAMP => instant(bytes.i64()?)?,
        Type::DATE => Datum::Text(date(bytes.i32()?)?),
        Type::TIME => Datum::Text(time(bytes.i64()?)),
        Type::TIMETZ => {
            let (micros, west) = (bytes.i64()?, bytes.i32()?);
            let sign = if west > 0 { '-' } else { '+' };
            let minutes = west.unsigned_abs() / 60;
            Datum::Text(format!("{}{sign}{:02}:{:02}", time(micros), minutes / 60, minutes % 60))
        }
        Type::INTERVAL => interval(bytes.i64()?, bytes.i32()?, bytes.i32()?)?,
        Type::UUID => Datum::Text(uuid_text(bytes.take()?)),
        Type::JSON => Datum::Json(String::from_utf8(raw.to_vec())?),
        Type::JSONB => {
            bytes.take::<1>()?;
            Datum::Json(String::from_utf8(bytes.0.to_vec())?)
        }
        Type::INET | Type::CIDR => Datum::Text(address(&mut bytes)?),
        Type::VOID => Datum::Null,
        _ if matches!(ty.name(), "citext" | "ltree") => return text(raw),
        _ => {
            let name = ty.name();
            return Err(
                format!("the type `{name}` has no values here; a cast `::text` gives its text").into()
            );
        }
    })
}

fn text(raw: &[u8]) -> Result<Datum, Problem> {
    Ok(Datum::Text(String::from_utf8(raw.to_vec())?))
}

/// Reads an array: its dimensions, then its elements.
fn read_array(element: &Type, raw: &[u8]) -> Result<Datum, Problem> {
    const MOST_DIMENSIONS: i32 = 6;
    let mut bytes = Bytes(raw);
    let dimensions = bytes.i32()?;
    let (_has_nulls, _element) = (bytes.i32()?, bytes.i32()?);
    if dimensions == 0 {
        return Ok(Datum::List(Vec::new(), None));
    }
    if !(0..=MOST_DIMENSIONS).contains(&dimensions) {
        return Err("the server sent an array of too many dimensions".into());
    }
    let mut lengths = Vec::new();
    for _ in 0..dimensions {
        lengths.push(usize::try_from(bytes.i32()?)?);
        let _lower_bound = bytes.i32()?;
    }
    elements(element, &lengths, &mut bytes)
}

fn elements(element: &Type, lengths: &[usize], bytes: &mut Bytes) -> Result<Datum, Problem> {
    let Some((length, inner)) = lengths.split_first() else {
        let size = bytes.i32()?;
        return match usize::try_from(size) {
            Ok(size) => read(element, bytes.part(size)?),
            Err(_) => Ok(Datum::Null),
        };
    };
    // Each element has four bytes at least.
    if *length > bytes.0.len() {
        return Err("the server sent too few bytes".into());
    }
    let items = (0..*length).map(|_| elements(element, inner, bytes)).collect::<Result<_, _>>()?;
    Ok(Datum::List(items, None))
}

/// Reads a number of any size: groups of four digits, the place of the first, and the digits after
/// the point.
fn numeric(bytes: &mut Bytes) -> Result<String, Problem> {
    let (count, weight) = (bytes.i16()?, i32::from(bytes.i16()?));
    let (sign, scale) = (u16::from_be_bytes(bytes.take()?), bytes.i16()?);
    match sign {
        0xC000 => return Ok("NaN".into()),
        0xD000 => return Ok("Infinity".into()),
        0xF000 => return Ok("-Infinity".into()),
        _ => {}
    }
    let mut groups = Vec::new();
    for _ in 0..count {
        groups.push(bytes.i16()?);
    }
    let group =
        |place: i32| usize::try_from(weight - place).ok().and_then(|at| groups.get(at)).copied().unwrap_or(0);
    let mut out = String::new();
    if sign == 0x4000 {
        out.push('-');
    }
    match weight < 0 {
        true => out.push('0'),
        false => {
            write!(out, "{}", group(weight))?;
            for place in (0..weight).rev() {
                write!(out, "{:04}", group(place))?;
            }
        }
    }
    let scale = usize::try_from(scale)?;
    if scale > 0 {
        let mut digits = String::new();
        let mut place = -1;
        while digits.len() < scale {
            write!(digits, "{:04}", group(place))?;
            place -= 1;
        }
        digits.truncate(scale);
        out.push('.');
        out.push_str(&digits);
    }
    Ok(out)
}

/// Microseconds from 1970 to 2000, from which the server counts.
const EPOCH: i64 = 946_684_800_000_000;

fn instant(micros: i64) -> Result<Datum, Problem> {
    let nanos = micros.checked_add(EPOCH).and_then(|micros| micros.checked_mul(1_000));
    match nanos {
        Some(nanos) => Ok(Datum::Instant(nanos)),
        None => {
            Err("the timestamp is not between the years 1678 and 2262; a cast `::text` gives its text".into())
        }
    }
}

fn date(days: i32) -> Result<String, Problem> {
    match days {
        i32::MAX => return Ok("infinity".into()),
        i32::MIN => return Ok("-infinity".into()),
        _ => {}
    }
    let first = Date::new(2000, 1, 1)?;
    let found = first.checked_add(jiff::Span::new().try_days(days)?);
    let found = found.map_err(|_| "the date is beyond the year 9999; a cast `::text` gives its text")?;
    Ok(found.to_string())
}

fn time(micros: i64) -> String {
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let mut out = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if micros != 0 {
        out.push_str(format!(".{micros:06}").trim_end_matches('0'));
    }
    out
}

/// An interval of days and times is a duration. One with months has no fixed length, and is text in
/// the form of ISO 8601.
fn interval(micros: i64, days: i32, months: i32) -> Result<Datum, Problem> {
    if months == 0 {
        let whole = i64::from(days).checked_mul(86_400_000_000).and_then(|days| days.checked_add(micros));
        if let Some(nanos) = whole.and_then(|micros| micros.checked_mul(1_000)) {
            return Ok(Datum::Duration(nanos));
        }
    }
    let seconds = micros / 1_000_000;
    let mut out = format!("P{months}M{days}DT{seconds}");
    if micros % 1_000_000 != 0 {
        out.push_str(format!(".{:06}", (micros % 1_000_000).unsigned_abs()).trim_end_matches('0'));
    }
    Ok(Datum::Text(out + "S"))
}

fn address(bytes: &mut Bytes) -> Result<String, Problem> {
    let [family, bits, is_range, _length] = bytes.take()?;
    let (text, most) = match family {
        2 => (Ipv4Addr::from(bytes.take::<4>()?).to_string(), 32),
        _ => (Ipv6Addr::from(bytes.take::<16>()?).to_string(), 128),
    };
    Ok(match is_range == 0 && bits == most {
        true => text,
        false => format!("{text}/{bits}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(weight: i16, sign: u16, scale: i16, groups: &[i16]) -> String {
        let mut bytes = Vec::new();
        bytes.extend((groups.len() as i16).to_be_bytes());
        bytes.extend(weight.to_be_bytes());
        bytes.extend(sign.to_be_bytes());
        bytes.extend(scale.to_be_bytes());
        groups.iter().for_each(|group| bytes.extend(group.to_be_bytes()));
        numeric(&mut Bytes(&bytes)).expect("a number")
    }

    #[test]
    fn numbers_of_any_size_are_exact_texts() {
        assert_eq!(number(0, 0, 2, &[12, 5000]), "12.50");
        assert_eq!(number(-1, 0x4000, 4, &[5]), "-0.0005");
        assert_eq!(number(2, 0, 0, &[1]), "100000000");
        assert_eq!(number(0, 0, 0, &[]), "0");
        assert_eq!(number(-2, 0, 6, &[1200]), "0.000012");
        assert_eq!(number(0, 0xC000, 0, &[]), "NaN");
    }

    #[test]
    fn arrays_quote_what_is_in_them() {
        let items = [Datum::Text("a\"b\\c,{}".into()), Datum::Null, Datum::Text("NULL".into())];
        assert_eq!(array(&items, &Type::TEXT).expect("an array"), r#"{"a\"b\\c,{}",NULL,"NULL"}"#);
        let nested = [Datum::List(vec![Datum::Int(1)], None), Datum::List(vec![Datum::Int(2)], None)];
        assert_eq!(array(&nested, &Type::INT8).expect("an array"), r#"{{"1"},{"2"}}"#);
    }

    #[test]
    fn broken_bytes_are_errors() {
        for ty in [
            Type::INT8,
            Type::NUMERIC,
            Type::UUID,
            Type::TIMESTAMPTZ,
            Type::INT8_ARRAY,
            Type::INET,
            Type::JSONB,
        ] {
            assert!(read(&ty, &[]).is_err(), "{ty}");
        }
        // An array that claims more elements than it has bytes takes no memory for them.
        let mut claims = Vec::new();
        for word in [1, 0, 20, i32::MAX, 1] {
            claims.extend(word.to_be_bytes());
        }
        assert!(read(&Type::INT8_ARRAY, &claims).is_err());
    }
}
