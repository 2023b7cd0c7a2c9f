//! SQLite files, by SQLite's own library.
//!
//! Invariant: the file that is opened is the one that was checked, as far as the library allows:
//! its path is without links, and the library follows none. A program with restrictions reaches no
//! other file by statements.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::stat::SFlag;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::{ToSqlOutput, Value as Stored, ValueRef};
use rusqlite::{Connection, Error, InterruptHandle, OpenFlags, ToSql, ffi};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::machine::error::type_error;
use crate::machine::sql::{Datum, Limits, Plan, Statement};
use crate::machine::{Data, ErrorData, Value, format};
use crate::permissions::Capability;

use super::super::at::{At, Failure, Reach, kind};
use super::super::pipes::Patience;
use super::super::walk::Last;
use super::Begun;
use super::error::{Tried, Trouble, TroubleKind, lost, sql_error};
use super::postgres::Wants;
use super::results::{Answer, Rows};

/// The statements that run at once. The others wait, so that threads are left for other work.
static ROOM: Semaphore = Semaphore::const_new(8);
/// The longest pause before a locked file is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// An open file.
pub(super) struct Lite {
    /// `None` while a thread uses it, and when that was broken off.
    file: Option<Connection>,
    shown: String,
    is_read_only: bool,
    handle: Handle,
}

impl Drop for Lite {
    fn drop(&mut self) {
        // Closing the last connection may write to the disk.
        if let Some(file) = self.file.take() {
            self.handle.spawn_blocking(move || drop(file));
        }
    }
}

/// Interrupts a statement, unless it has ended.
struct Interrupt(Option<InterruptHandle>);

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.interrupt();
        }
    }
}

/// Returns the path in a URL, and whether the file is only read.
fn path_of(url: &str) -> Result<(&str, bool), ErrorData> {
    let rest = url.strip_prefix("sqlite:").unwrap_or(url);
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
    let is_read_only = match options {
        "" | "mode=rwc" | "mode=rw" => false,
        "mode=ro" => true,
        _ => return Err(type_error("the URL of a SQLite file has no parameter but `mode=ro`").into()),
    };
    match path {
        "" | ":memory:" => {
            Err(type_error("a database in memory would be gone with its process: sqlite:data.db is a file")
                .into())
        }
        path => Ok((path, is_read_only)),
    }
}

impl Lite {
    /// Opens a file, which is made if it is not there.
    pub(super) async fn open(url: &str, reach: &Reach) -> Tried<Lite> {
        let (path, is_read_only) = path_of(url)?;
        let (shown, reach) = (path.to_string(), reach.clone());
        let opened = on_thread(move || {
            let real = checked(&shown, is_read_only, &reach)?;
            let mode = match is_read_only {
                true => OpenFlags::SQLITE_OPEN_READ_ONLY,
                false => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
            };
            let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
            let file = Connection::open_with_flags(&real, flags).map_err(|error| failed(error, &shown))?;
            // Whoever waits for a lock waits here, and not on a thread.
            file.busy_timeout(Duration::ZERO).map_err(|error| failed(error, &shown))?;
            if !reach.permissions.are_all() {
                file.authorizer(Some(authorize));
            }
            Tried::Ok(file)
        });
        let file = opened.await??;
        Ok(Lite { file: Some(file), shown: path.to_string(), is_read_only, handle: Handle::current() })
    }

    /// Returns the file in messages.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Executes work on the file, on a thread. Work that is broken off is interrupted, and the file
    /// is closed.
    async fn work<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<T, Problem> + Send + 'static,
    ) -> Tried<T> {
        let Some(file) = self.file.take() else { return Err(lost(&self.shown, "the file was closed")) };
        let mut interrupt = Interrupt(Some(file.get_interrupt_handle()));
        let worked = on_thread(move || {
            let done = work(&file);
            (file, done)
        });
        let (file, done) = worked.await?;
        interrupt.0 = None;
        self.file = Some(file);
        done.map_err(|problem| problem.of(&self.shown))
    }

    /// Executes work that changes nothing when the file is locked, until it is not.
    async fn patiently<T: Send + 'static>(
        &mut self,
        work: impl Fn(&Connection) -> Result<T, Problem> + Clone + Send + 'static,
    ) -> Tried<T> {
        let mut pause = Duration::from_millis(1);
        loop {
            match self.work(work.clone()).await {
                Err(trouble) if trouble.kind == TroubleKind::Conflict => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE);
                }
                done => return done,
            }
        }
    }

    /// Executes a statement that is no part of a transaction.
    pub(super) async fn alone(
        &mut self,
        statement: &Statement,
        wants: Wants,
        limits: &Limits,
    ) -> Tried<Answer> {
        let (statement, limits) = (statement.clone(), *limits);
        self.patiently(move |file| run(file, &statement, wants, &limits)).await
    }

    /// Executes a statement of a transaction.
    pub(super) async fn execute(
        &mut self,
        statement: &Statement,
        wants: Wants,
        limits: &Limits,
    ) -> Tried<Answer> {
        let (statement, limits) = (statement.clone(), *limits);
        self.work(move |file| {
            still_open(file)?;
            run(file, &statement, wants, &limits)
        })
        .await
    }

    /// Begins a transaction, unless its result is there already.
    pub(super) async fn begin(&mut self, _: &Plan, key: Option<&str>) -> Tried<Begun> {
        if self.is_read_only {
            self.work(|file| Ok(file.execute_batch("begin")?)).await?;
            return Ok(Begun::Now);
        }
        self.patiently(|file| Ok(file.execute_batch("begin immediate")?)).await?;
        let Some(key) = key.map(str::to_string) else { return Ok(Begun::Now) };
        let found = self.work(move |file| {
            file.execute_batch(STEPS)?;
            let mut select = file.prepare("select result from durable_steps where key = ?1")?;
            let mut rows = select.query([&key])?;
            match rows.next()? {
                None => Ok(None),
                Some(row) => Ok(Some(row.get::<_, Vec<u8>>(0)?)),
            }
        });
        match found.await? {
            None => Ok(Begun::Now),
            Some(bytes) => {
                self.rollback().await?;
                Ok(Begun::Before(Data(bytes)))
            }
        }
    }

    /// Commits a transaction with its result.
    pub(super) async fn commit(&mut self, key: Option<&str>, result: &Data) -> Tried<()> {
        let (key, bytes) = (key.filter(|_| !self.is_read_only).map(str::to_string), result.0.clone());
        let insert = move |file: &Connection| {
            still_open(file)?;
            if let Some(key) = &key {
                file.execute("insert into durable_steps (key, result) values (?1, ?2)", (key, &bytes))?;
            }
            Ok(())
        };
        let committed = match self.work(insert).await {
            // Readers may still have the file.
            Ok(()) => self.patiently(|file| Ok(file.execute_batch("commit")?)).await,
            failed => failed,
        };
        if committed.is_err() {
            let _ = self.rollback().await;
        }
        committed
    }

    pub(super) async fn rollback(&mut self) -> Tried<()> {
        self.work(|file| match file.is_autocommit() {
            true => Ok(()),
            false => Ok(file.execute_batch("rollback")?),
        })
        .await
    }
}

/// Makes the table of the results of steps.
const STEPS: &str = "create table if not exists durable_steps \
                     (key text primary key, result blob, at text not null default current_timestamp)";

async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ErrorData> {
    // The semaphore is never closed.
    let room = ROOM.acquire().await;
    let done = super::super::http::blocking(work).await;
    drop(room);
    done
}

/// Returns the path without links of a file that the program may use.
fn checked(shown: &str, is_read_only: bool, reach: &Reach) -> Tried<PathBuf> {
    let at = At::of(shown, reach, Patience::None);
    let place = at.place(Capability::Read, Last::Followed).and_then(|place| {
        if !is_read_only {
            at.check(Capability::Write, &place.real)?;
        }
        let found = place.look()?;
        let is_regular = found.as_ref().is_none_or(|found| kind(found) == SFlag::S_IFREG);
        match is_regular && !place.is_magic {
            true => Ok(place),
            false => Err(Failure::from(std::io::Error::other("it is not a regular file"))),
        }
    });
    Ok(place.map_err(|failure| failure.of_regular("open", shown))?.real)
}

/// Allows a program with restrictions everything but other files.
fn authorize(asked: AuthContext<'_>) -> Authorization {
    match asked.action {
        // `vacuum` uses a file without a name. A name that is computed is not known here.
        AuthAction::Attach { filename } if !filename.is_empty() => Authorization::Deny,
        AuthAction::Unknown { code: ffi::SQLITE_ATTACH, .. } => Authorization::Deny,
        AuthAction::Pragma { pragma_name, .. }
            if pragma_name.eq_ignore_ascii_case("temp_store_directory")
                || pragma_name.eq_ignore_ascii_case("data_store_directory") =>
        {
            Authorization::Deny
        }
        AuthAction::Function { function_name } if function_name.eq_ignore_ascii_case("load_extension") => {
            Authorization::Deny
        }
        _ => Authorization::Allow,
    }
}

/// An error of the library, or one of this program.
enum Problem {
    Library(Error),
    Own(Trouble),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        Problem::Library(error)
    }
}

impl From<ErrorData> for Problem {
    fn from(error: ErrorData) -> Problem {
        Problem::Own(error.into())
    }
}

impl Problem {
    fn of(self, shown: &str) -> Trouble {
        match self {
            Problem::Library(error) => failed(error, shown),
            Problem::Own(trouble) => trouble,
        }
    }
}

fn refused(code: &str, message: String) -> Problem {
    sql_error(code, message, Vec::new()).into()
}

/// Checks that a transaction was not ended by an error.
fn still_open(file: &Connection) -> Result<(), Problem> {
    match file.is_autocommit() {
        true => Err(refused("25P02", "the transaction was rolled back by an earlier error".to_string())),
        false => Ok(()),
    }
}

fn run(file: &Connection, statement: &Statement, wants: Wants, limits: &Limits) -> Result<Answer, Problem> {
    let mut prepared = file.prepare(&statement.text)?;
    let mut wanted = 0;
    for at in 1..=prepared.parameter_count() {
        let number = match prepared.parameter_name(at) {
            None => at,
            Some(name) => name[1..].parse().unwrap_or(0),
        };
        let given = number.checked_sub(1).and_then(|at| statement.params.get(at));
        wanted = wanted.max(number);
        match (number, given) {
            (0, _) => {
                let message = "the parameters of a statement are called $1, $2 and so on".to_string();
                return Err(refused("42601", message));
            }
            (_, Some(datum)) => prepared.raw_bind_parameter(at, Param(datum))?,
            (_, None) => {}
        }
    }
    let given = statement.params.len();
    if wanted != given {
        let message = format!("the statement has {wanted} parameters, and {given} were given");
        return Err(refused("08P01", message));
    }
    let types: Vec<Option<String>> =
        prepared.columns().iter().map(|column| column.decl_type().map(str::to_ascii_lowercase)).collect();
    let names: Vec<String> = prepared.column_names().into_iter().map(str::to_string).collect();
    let (has_columns, only_reads) = (!names.is_empty(), prepared.readonly());
    let mut rows = Rows::new(names)?;
    let before = file.total_changes();
    let (mut found, mut count) = (prepared.raw_query(), 0);
    while let Some(row) = found.next()? {
        count += 1;
        if wants != Wants::Count {
            let cells = types.iter().enumerate().map(|(at, ty)| Ok(datum(row.get_ref(at)?, ty.as_deref())?));
            rows.add(cells.collect::<Result<_, Problem>>()?, limits)?;
        }
    }
    let changed = if file.total_changes() == before { 0 } else { file.changes() };
    Ok(match wants {
        Wants::Rows => Answer::Rows(rows),
        Wants::Either if has_columns => Answer::Rows(rows),
        Wants::Count | Wants::Either => Answer::Count(if only_reads { count } else { changed }),
    })
}

struct Param<'a>(&'a Datum);

impl ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let text = |text: String| ToSqlOutput::Owned(Stored::Text(text));
        Ok(match self.0 {
            Datum::Null => ToSqlOutput::Owned(Stored::Null),
            Datum::Bool(b) => ToSqlOutput::Owned(Stored::Integer(i64::from(*b))),
            // The file has no durations, so this is a number of nanoseconds.
            Datum::Int(n) | Datum::Duration(n) => ToSqlOutput::Owned(Stored::Integer(*n)),
            Datum::Float(x) => ToSqlOutput::Owned(Stored::Real(*x)),
            Datum::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Datum::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
            Datum::Instant(nanos) => text(format::instant(*nanos)),
            Datum::Json(json) | Datum::List(_, Some(json)) => text(json.clone()),
            Datum::List(_, None) => ToSqlOutput::Owned(Stored::Null),
        })
    }
}

/// Returns a value of a column. The declared type of the column says what a number or a text means.
fn datum(value: ValueRef<'_>, ty: Option<&str>) -> Result<Datum, ErrorData> {
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec()).map_err(|_| {
            sql_error("22021", "a text is not UTF-8; `cast(… as blob)` gives its bytes".into(), Vec::new())
        })
    };
    Ok(match (value, ty) {
        (ValueRef::Null, _) => Datum::Null,
        (ValueRef::Integer(n @ (0 | 1)), Some("bool" | "boolean")) => Datum::Bool(n == 1),
        (ValueRef::Integer(n), Some("interval")) => Datum::Duration(n),
        (ValueRef::Integer(n), _) => Datum::Int(n),
        (ValueRef::Real(x), _) => Datum::Float(x),
        (ValueRef::Text(bytes), Some("json" | "jsonb")) => Datum::Json(text(bytes)?),
        (ValueRef::Text(bytes), Some("timestamptz")) => {
            let text = text(bytes)?;
            let instant =
                text.parse::<Timestamp>().ok().and_then(|at| i64::try_from(at.as_nanosecond()).ok());
            instant.map_or(Datum::Text(text), Datum::Instant)
        }
        (ValueRef::Text(bytes), _) => Datum::Text(text(bytes)?),
        (ValueRef::Blob(bytes), _) => Datum::Bytes(bytes.to_vec()),
    })
}

/// Returns the code that PostgreSQL has for an error of SQLite.
fn code_of(error: &ffi::Error) -> &'static str {
    match error.extended_code {
        ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID => {
            "23505"
        }
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => "23503",
        ffi::SQLITE_CONSTRAINT_NOTNULL => "23502",
        ffi::SQLITE_CONSTRAINT_CHECK => "23514",
        ffi::SQLITE_CONSTRAINT_DATATYPE => "42804",
        extended => match extended & 0xff {
            ffi::SQLITE_CONSTRAINT => "23000",
            ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => "55P03",
            ffi::SQLITE_READONLY => "25006",
            ffi::SQLITE_FULL => "53100",
            ffi::SQLITE_NOMEM => "53200",
            ffi::SQLITE_TOOBIG => "54000",
            ffi::SQLITE_INTERRUPT => "57014",
            ffi::SQLITE_AUTH => "42501",
            ffi::SQLITE_NOTADB | ffi::SQLITE_CORRUPT => "XX001",
            ffi::SQLITE_ERROR => "42000",
            _ => "HY000",
        },
    }
}

fn failed(error: Error, shown: &str) -> Trouble {
    let (library, message) = match error {
        Error::SqliteFailure(library, message) => (library, message),
        Error::SqlInputError { error, msg, .. } => (error, Some(msg)),
        Error::MultipleStatement => {
            let message = "one statement at a time; `transaction` takes several".to_string();
            return sql_error("42601", message, Vec::new()).into();
        }
        other => return sql_error("HY000", format!("{shown}: {other}"), Vec::new()).into(),
    };
    let message = message.unwrap_or_else(|| library.to_string());
    let code = match (code_of(&library), &message) {
        ("42000", message) if message.starts_with("no such table") => "42P01",
        ("42000", message) if message.starts_with("no such column") => "42703",
        ("42000", message) if message.contains("syntax error") => "42601",
        ("42000", message) if message.ends_with("already exists") => "42P07",
        (code, _) => code,
    };
    let message = match library.extended_code & 0xff {
        ffi::SQLITE_AUTH => {
            format!("{shown}: {message}; a program with restrictions reaches no other file by statements")
        }
        _ => format!("{shown}: {message}"),
    };
    let kind = if code == "55P03" { TroubleKind::Conflict } else { TroubleKind::Failed };
    Trouble { error: sql_error(code, message, vec![("file", Value::str(shown))]), kind }
}
