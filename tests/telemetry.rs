//! Spans, as a subscriber and a collector see them.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use durable::{Failure, Runtime};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// A subscriber that records each span and event as a line.
#[derive(Clone, Default)]
struct Written {
    lines: Arc<Mutex<Vec<String>>>,
    next: Arc<AtomicU64>,
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if matches!(field.name(), "otel.name" | "otel.status_code" | "outcome" | "error" | "kind") {
            self.0.push_str(&format!(" {}={value:?}", field.name()));
        }
    }
}

impl Written {
    fn line(&self, text: String) {
        self.lines.lock().expect("it is not poisoned").push(text);
    }
}

impl Subscriber for Written {
    fn enabled(&self, of: &Metadata<'_>) -> bool {
        (of.target().starts_with("durable") || of.target() == "telemetry")
            && *of.level() <= tracing::Level::INFO
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.next.fetch_add(1, Ordering::SeqCst) + 1;
        let mut fields = Fields(String::new());
        span.record(&mut fields);
        let parent = match span.parent() {
            Some(parent) => format!(" in {}", parent.into_u64()),
            None => String::new(),
        };
        self.line(format!("{id} {}{parent}{}", span.metadata().name(), fields.0));
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut fields = Fields(String::new());
        values.record(&mut fields);
        self.line(format!("{}{}", span.into_u64(), fields.0));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        self.line(format!("event{}", fields.0));
    }

    fn enter(&self, span: &Id) {
        self.line(format!("{} entered", span.into_u64()));
    }

    fn exit(&self, _: &Id) {}
}

#[test]
fn instances_activities_and_effects_have_spans_within_one_another() {
    let written = Written::default();
    // The subscriber is global, since the host is on another thread. Other tests of this file set
    // none.
    tracing::subscriber::set_global_default(written.clone()).expect("it is the first");
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::builder()
        .activity("charge", |n: i64| -> Result<i64, Failure> {
            tracing::info!(target: "telemetry", outcome = "within");
            if n > 1 { Err(Failure::new("declined", "no")) } else { Ok(n) }
        })
        .open(folder.path().join("store"))
        .expect("it opens");
    let text = "extern activity charge(n)\nactivity reads() { fs.read(\"/there/is/none\") }\n\
        orchestration f() {\n  charge(1)\n  try { reads() } catch e { 0 }\n  charge(2)\n}\n";
    let program = runtime.compile("p.df", text).expect("it compiles");
    assert!(runtime.start_as("one", &program, "f", ()).expect("it starts").wait::<i64>().is_err());
    runtime.close().expect("it closes");
    let lines = written.lines.lock().expect("it is not poisoned").join("\n");
    assert_eq!(
        lines,
        "1 instance otel.name=\"one\"\n\
         2 step in 1 otel.name=\"charge\" kind=\"activity\"\n\
         2 entered\n\
         event outcome=\"within\"\n\
         3 step in 1 otel.name=\"reads\" kind=\"activity\"\n\
         4 effect in 3 otel.name=\"fs_read\" kind=\"effect\"\n\
         4 error=\"io_error: could not read /there/is/none: no such file or directory\"\n\
         4 otel.status_code=\"ERROR\"\n\
         3 error=\"io_error: could not read /there/is/none: no such file or directory\"\n\
         3 otel.status_code=\"ERROR\"\n\
         5 step in 1 otel.name=\"charge\" kind=\"activity\"\n\
         5 entered\n\
         event outcome=\"within\"\n\
         5 error=\"declined: no\"\n\
         5 otel.status_code=\"ERROR\"\n\
         event outcome=\"failed\"\n\
         1 outcome=\"failed\"\n\
         1 error=\"declined: no\"\n\
         1 otel.status_code=\"ERROR\""
    );
}

/// The command line sends spans to a collector. Only with the feature `opentelemetry`.
#[cfg(feature = "opentelemetry")]
#[test]
fn the_command_line_sends_spans_to_a_collector() {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::process::Command;

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let collector = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody comes");
        let mut reader = BufReader::new(stream.try_clone().expect("another handle"));
        let (mut line, mut length, mut first) = (String::new(), 0, String::new());
        while reader.read_line(&mut line).expect("it is readable") > 2 {
            if first.is_empty() {
                first = line.trim().to_string();
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("it is readable");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").expect("it is writable");
        (first, String::from_utf8(body).expect("it is text"))
    });
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("p.df"), "activity reads() => fs.exists(\"x\")\nreads()\n")
        .expect("it is written");
    let run = Command::new(env!("CARGO_BIN_EXE_durable"))
        .args(["run", "p.df", "--store", "store", "--id", "traced", &format!("--otlp={url}")])
        .current_dir(&folder)
        .output()
        .expect("it runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let (first, body) = collector.join().expect("it has taken it");
    assert_eq!(first, "POST /v1/traces HTTP/1.1");
    for part in ["\"traced\"", "\"reads\"", "\"fs_exists\"", "\"service.name\"", "\"durable\""] {
        assert!(body.contains(part), "{part} is not in {body}");
    }
}
