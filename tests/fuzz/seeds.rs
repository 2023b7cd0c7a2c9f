//! First inputs for the fuzzers, in forms that they can't find by themselves: each kind of stored
//! or sent data.

use std::fs;
use std::path::Path;

use durable::api::{
    Answer, Attending, Command, GuestRequest, Query, Reply, Request, Response, Starting, send,
};
use durable::code::{ProgramHash, modules_hash, text_hash};
use durable::engine::query::{EntityFilter, InstanceFilter, OutputPage, Page, Paging, Printed, PrintedLine};
use durable::engine::{
    Address, Args, Chunk, Deployed, Entry, Hold, InstanceRecord, LifeId, Line, Message, Postmark,
    RecordedRequest, Status, Steps, StoredLines, StoredMail, StoredProgram, Waiter, keys,
};
use durable::kv::MemoryTree;
use durable::machine::{Cancellation, Canceller, Data, EntityId, ErrorData, IfExists, Value};
use durable::permissions::Permissions;
use durable::syntax::{Place, Span};

use super::targets::{history, import};

/// A writer of the inputs of a target, each after the byte that selects its kind.
struct Seeds(&'static str, usize);

impl Seeds {
    fn add(&mut self, kind: u8, bytes: &[u8]) {
        self.plain(&[&[kind], bytes].concat());
    }

    fn plain(&mut self, bytes: &[u8]) {
        let folder = Path::new("fuzz/corpus").join(self.0);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(format!("seed-{:03}", self.1)), bytes).expect("a seed is written");
        self.1 += 1;
    }
}

fn data(value: Value) -> Data {
    Data::encode(&value).expect("data")
}

fn everything() -> Value {
    let entity = EntityId::new("Account", &Value::str("ada")).expect("a key").value();
    Value::record([
        ("nothing", Value::Null),
        ("yes", Value::bool(true)),
        ("count", Value::Int(-5_000_000_000)),
        ("half", Value::float(0.5)),
        ("wait", Value::Duration(1_500_000_000)),
        ("at", Value::Instant(1_772_366_400_000_000_000)),
        ("text", Value::str("é\n")),
        ("bytes", Value::bytes(vec![0, 255])),
        ("list", Value::list(vec![Value::Int(1), Value::list(Vec::new())])),
        ("entity", entity),
    ])
}

fn failure() -> ErrorData {
    ErrorData::with("no_funds", "short of 30".to_string(), [("short", Value::Int(30))])
}

fn waiter() -> Waiter {
    Waiter { instance: "order-17".into(), life: 1, execution: 0, seq: 2 }
}

fn permissions() -> Permissions {
    Permissions::of(&["net=a.com".to_string()], &["exec".to_string()]).expect("permissions")
}

fn account(key: &str) -> EntityId {
    EntityId::new("Account", &Value::str(key)).expect("a key")
}

const TEXT: &str = "let x = 1\n";

fn program() -> (ProgramHash, StoredProgram) {
    let hash = modules_hash([("x.df", TEXT)].into_iter());
    (hash, StoredProgram { modules: vec![("x.df".into(), text_hash(TEXT))] })
}

fn records() -> Vec<InstanceRecord> {
    let new = |id: &str| InstanceRecord {
        life: 1,
        chunks: 2,
        ..InstanceRecord::new(id, program().0, "x.df", "script", data(Value::list(vec![everything()])), 1_000)
    };
    let ended = |id: &str, status: Status| InstanceRecord { status, ended: Some(2_000), ..new(id) };
    let parent = Some(LifeId { id: "order-17".into(), life: 1 });
    vec![
        InstanceRecord { waiters: vec![waiter()], custom: Some(data(everything())), ..new("order-17") },
        InstanceRecord {
            status: Status::Suspended,
            parent: parent.clone(),
            owner: parent,
            ..new("order-17.3")
        },
        InstanceRecord {
            begun_with: Some(data(Value::list(Vec::new()))),
            execution: 3,
            rewound: vec![0, 2],
            permissions: permissions(),
            ..ended("done-1", Status::Completed(data(everything())))
        },
        ended("done-2", Status::Failed(failure())),
        ended("done-3", Status::Terminated(data(Value::str("why")))),
    ]
}

fn entries() -> Vec<Entry> {
    let place = Place { source: 0, span: Span { start: 4, end: 5 } };
    let asked = [
        RecordedRequest::Effect("print".into()),
        RecordedRequest::Activity("fetch".into()),
        RecordedRequest::Orchestration { name: "order".into(), start: true },
        RecordedRequest::Orchestration { name: "order".into(), start: false },
        RecordedRequest::Operation { entity: account("ada"), operation: "add".into(), signal: None },
        RecordedRequest::Operation {
            entity: account("bob"),
            operation: "add".into(),
            signal: Some(Data::null()),
        },
    ];
    let mut entries = Vec::new();
    for (seq, what) in (0..).zip(asked) {
        let args = match seq % 3 {
            2 => Args::Large { bytes: 5_000, checksum: 77 },
            _ => Args::of(&data(Value::list(vec![everything()]))),
        };
        let time = 1_000 + seq as i64;
        entries.push(Entry::Requested { seq, what, args, place, time });
        entries.push(match seq % 2 {
            0 => Entry::Answered {
                seq,
                result: Ok(data(everything())),
                time,
                came: Some(Postmark { time, number: seq }),
            },
            _ => Entry::Answered { seq, result: Err(failure()), time, came: None },
        });
    }
    entries.extend([
        Entry::Retried { seq: 1, error: failure(), again: 3_000, time: 2_000 },
        Entry::Begun { seq: 1, time: 2_000 },
        Entry::Cancelled { seq: 1, time: 2_000 },
        Entry::Rewound { seq: 3, time: 2_000, used: Some(2) },
        Entry::Rewound { seq: 3, time: 2_000, used: None },
        Entry::Renewed { seq: 3, time: 2_000 },
        Entry::Terminated { time: 2_000 },
        Entry::Cancelling { what: Box::new(cancellation()), time: 2_000 },
        Entry::Ended { time: 2_000 },
    ]);
    entries
}

fn cancellation() -> Cancellation {
    let reason = data(everything());
    Cancellation { by: Canceller::Caller, place: "x.df:3:7".into(), reason, grace: 30_000_000_000 }
}

fn messages() -> Vec<Message> {
    let [ok, failed] = [Ok(data(everything())), Err(failure())];
    let answer = |result| Message::Answer { life: 1, execution: 0, seq: 2, result };
    let args = data(Value::list(vec![Value::Int(1)]));
    vec![
        Message::Begin(Box::new(records().swap_remove(0)), IfExists::Fail),
        answer(ok),
        answer(failed),
        Message::Event { name: "approval".into(), payload: data(everything()) },
        Message::Wait(waiter()),
        Message::Terminate { why: Data::null(), children: true, by: Some(waiter().life_id()) },
        Message::Suspend,
        Message::Resume,
        Message::Call { caller: waiter(), operation: "add".into(), args: args.clone(), within: true },
        Message::Signal { operation: "add".into(), args, due: 5_000 },
        Message::Lock { owner: waiter(), set: vec![account("ada"), account("bob")], at: 1, since: 900 },
        Message::Cancel { what: Box::new(cancellation()), of: Some(waiter().life_id()) },
    ]
}

fn mail(message: Message) -> StoredMail {
    let from = "order-17-3e8.1.0-2".to_string();
    let ack = Some(waiter());
    StoredMail { from, root: "order-17".into(), ack, time: 1_500, message, permissions: permissions() }
}

fn lines() -> StoredLines {
    let log = Line::Log { level: "warn".into(), text: "late".into() };
    let lines = vec![Line::Print("hello".into()), log];
    StoredLines { instance: "order-17".into(), root: "order-17".into(), lines }
}

fn hold() -> Hold {
    Hold { owner: waiter(), set: vec![account("ada"), account("bob")], since: 900 }
}

/// Returns a store with one of everything.
fn store() -> MemoryTree {
    let mut tree = MemoryTree::default();
    let mut put = |key: Vec<u8>, value: Vec<u8>| drop(tree.tree.insert(key, value));
    let (hash, stored) = program();
    put(keys::text(&text_hash(TEXT)), TEXT.into());
    put(keys::program(&hash.0), stored.encode());
    put(keys::LIFE.to_vec(), 7u64.to_be_bytes().to_vec());
    put(keys::TIME.to_vec(), 9_000i64.to_be_bytes().to_vec());
    for record in records() {
        let (first, checksum) = Chunk::encode(entries(), 0);
        put(keys::chunk(&record.id, 0), first);
        put(keys::chunk(&record.id, 1), Chunk::encode(entries(), checksum).0);
        put(keys::instance(&record.id), record.encode());
    }
    put(keys::active("order-17"), b"order-17".to_vec());
    put(
        keys::deployed("Account"),
        Deployed { program: hash, permissions: permissions(), version: None }.encode(),
    );
    put(keys::entity(&account("ada")), data(everything()).0);
    put(keys::lock(&account("ada")), hold().encode());
    put(keys::lines(3), lines().encode());
    for (number, message) in (0..).zip(messages()) {
        let to = match message {
            Message::Call { .. } | Message::Signal { .. } | Message::Lock { .. } => {
                Address::entity(account("bob"))
            }
            _ => Address::instance("order-17"),
        };
        put(keys::mail(&to, number), mail(message).encode());
    }
    tree
}

fn of_history() {
    let mut seeds = Seeds("history", 0);
    seeds.add(0, &data(everything()).0);
    records().iter().for_each(|record| seeds.add(1, &record.encode()));
    messages().into_iter().for_each(|message| seeds.add(2, &mail(message).encode()));
    seeds.add(3, &lines().encode());
    seeds.add(4, &program().1.encode());
    seeds.add(5, &hold().encode());
    seeds.add(6, &Deployed { program: program().0, permissions: permissions(), version: None }.encode());
    let few: Vec<Entry> = entries().drain(..2).collect();
    for entries in [entries(), few] {
        let (bytes, _) = Chunk::encode(entries, 0);
        let body = &bytes[..bytes.len() - 8];
        seeds.add(7, body);
        let part = [&[0, body.len().min(255) as u8], body].concat();
        seeds.add(8, &part.repeat(2));
    }
    for (number, state) in history::states().into_iter().enumerate() {
        if number % 12 == 1 {
            seeds.add(10, &state);
            // The version, the numbers of a checkpoint, no requests, and the state with its length.
            let mut length = postcard::to_stdvec(&state.len()).expect("bytes");
            length.extend(state);
            seeds.add(9, &[&[4, 1, 1, 0, 2, 3, 1, 0, 0], &length[..]].concat());
        }
    }
    store().tree.keys().for_each(|key| seeds.add(11, key));
    seeds.add(12, &durable::compress::compress(&data(everything()).0.repeat(4)).expect("it is shorter"));
    seeds.add(13, durable::machine::json::from_data(&data(everything())).as_bytes());
}

fn of_socket() {
    let mut seeds = Seeds("socket", 0);
    let starting = Starting {
        record: records().swap_remove(0),
        modules: vec![("x.df".into(), TEXT.into())],
        named: Some("order".into()),
        if_exists: IfExists::Replace,
    };
    let attending = Attending { guest: "g".into(), folder: "/".into(), starting: starting.clone() };
    let args = data(Value::list(vec![Value::Int(1)]));
    let id = || "order-17".to_string();
    let commands = [
        Command::Start(Box::new(starting)),
        Command::Raise { id: id(), event: "approval".into(), payload: data(everything()) },
        Command::Suspend { id: id() },
        Command::Resume { id: id() },
        Command::Terminate { id: id(), why: Data::null(), children: true },
        Command::Signal { entity: account("ada"), operation: "add".into(), args, after: Some(5) },
        Command::Call {
            id: id(),
            entity: account("ada"),
            operation: "add".into(),
            args: data(everything()),
            timeout: Some(5_000),
        },
        Command::DropMessage(account("ada")),
        Command::Wait(id()),
        Command::Rewind { id: id(), dry_run: true },
        Command::Purge { ids: vec!["a".into(), "b".into()], force: true },
        Command::Cancel { id: id(), reason: data(everything()), grace: 5 },
        Command::Attend(Box::new(attending)),
    ];
    let queries = [
        Query::Instance(id()),
        Query::Instances { filter: InstanceFilter::default(), paging: Paging::first(10) },
        Query::History { id: id(), from: Some(3) },
        Query::Entity(account("ada")),
        Query::Entities { filter: EntityFilter::default(), paging: Paging::first(10) },
        Query::Programs,
        Query::Modules(program().0),
        Query::Tree { id: id(), paging: Paging::first(10) },
        Query::Output { id: id(), paging: Paging::first(10) },
    ];
    let asks = commands.map(Request::Command).into_iter().chain(queries.map(Request::Query));
    let guest = |request| Request::Guest { guest: "g".into(), request };
    let line = Ok(Some("ada".into()));
    let guests =
        [GuestRequest::Show { seen: 3 }, GuestRequest::Input { ticket: 1, line }, GuestRequest::Interrupt];
    let asks = asks.chain([Request::Changes { since: None }]).chain(guests.map(guest));
    let asks: Vec<Request> = asks.collect();
    let steps = Steps { id: "a".into(), again: vec![(1, "f".into())], cut: vec![(2, "g".into())] };
    let replies = [
        Reply::Done,
        Reply::Unknown,
        Reply::Ended,
        Reply::Rewound(vec![steps]),
        Reply::Begun("a".into()),
        Reply::Known("a".into()),
        Reply::Taken { error: failure(), function: "order".into() },
        Reply::Answered(Ok(data(everything()))),
        Reply::Answered(Err(failure())),
        Reply::Unanswered,
        Reply::Removed(3),
        Reply::Refused("why".into()),
    ];
    let short = lines().lines.into_iter().map(PrintedLine::Short);
    let printed = short.chain([PrintedLine::Long { is_log: false, bytes: 5_000 }]);
    let items = (0..).zip(printed).map(|(seq, line)| Printed { seq, time: 1_000, line }).collect();
    let lines = Page { items, next: None };
    let answers = [
        Answer::Instance(Some(records().swap_remove(3))),
        Answer::Instances(Page { items: records(), next: None }),
        Answer::Modules(vec![("x.df".into(), TEXT.into())]),
        Answer::Unreadable("why".into()),
        Answer::Tree(Some(Page { items: records(), next: None })),
        Answer::Output(Some(OutputPage { record: records().swap_remove(0), is_trimmed: true, lines })),
    ];
    let answers = answers.map(|answer| Response::Answer(Box::new(answer)));
    let replies = replies.map(Response::Reply).into_iter().chain(answers);
    let mut all = [Vec::new(), Vec::new()];
    for ask in &asks {
        seeds.add(0, &postcard::to_stdvec(ask).expect("bytes"));
        send(&mut all[0], ask).expect("bytes");
    }
    for reply in replies {
        seeds.add(1, &postcard::to_stdvec(&reply).expect("bytes"));
        send(&mut all[1], &reply).expect("bytes");
    }
    let [asks, replies] = all;
    seeds.add(2, &asks);
    seeds.add(3, &replies);
}

fn of_import() {
    let mut seeds = Seeds("import", 0);
    let exported = import::export(&store()).expect("it is whole");
    seeds.plain(exported.as_bytes());
    let about = |kind: &str| {
        let lines: Vec<&str> = exported
            .lines()
            .filter(|line| {
                let json: serde_json::Value = serde_json::from_str(line).expect("JSON");
                let of = |name: &str| json[name].as_str().is_none_or(|id| id == "done-1");
                [kind, "text", "program"].contains(&json["type"].as_str().expect("a type"))
                    && of("id")
                    && of("instance")
            })
            .collect();
        let head = format!("{{\"type\":\"store\",\"format\":5,\"commits\":3,\"lines\":{}}}", lines.len());
        format!("{head}\n{}\n", lines.join("\n"))
    };
    for kind in
        ["text", "life", "time", "deployed", "entity", "lines", "message", "lock", "active", "instance"]
    {
        seeds.plain(about(kind).as_bytes());
    }
}

fn of_natives() {
    let mut seeds = Seeds("natives", 0);
    for text in [
        "{\"a\": [1, -2.5e3, true, false, null], \"b\\u00e9\\ud83e\\udd80\": {\"a\": \"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}}",
        "[9223372036854775807, -9223372036854775808, 1e308, 0.1, -0.0, 9223372036854775808]",
        " [ ] ",
    ] {
        seeds.add(0, text.as_bytes());
    }
    for text in ["a,b\n1,\"x, \"\"y\"\"\"\r\n2,\n", "a\n\n\"\"\nb\n", "\u{feff}a,b\nc,d"] {
        (0..8).for_each(|how| seeds.add(2, &[&[how], text.as_bytes()].concat()));
        seeds.add(3, &[&[0, 3, 2, 3], text.as_bytes()].concat());
    }
    for (pattern, with, text) in [
        ("(\\w+)@(?<host>\\w+)", "$host at $1", "ada@home, bob@work"),
        ("a*", "[$0]", "baaac é🦀"),
        ("(?i)[^a-z\\d]{2,3}?|$", "", "x--Y...z\n\nw"),
        ("\\b\\p{Greek}+\\b", "${1}", "αβγ abc δ"),
    ] {
        let pair = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        seeds.add(4, &[pair(pattern), pair(with), text.as_bytes().to_vec()].concat());
    }
    for text in
        ["%Y-%m-%dT%H:%M:%S%.fZ", "%A %e %B %j %U %Q %::z", "2026-03-01T12:00:00.5+02:00", "2026-03-01 12:00"]
    {
        seeds.add(5, &[&[143, 32, 0], text.as_bytes()].concat());
    }
    for text in ["-1_000", "0x1f", "1e-7", "00ff", "aGk=", "inf"] {
        seeds.add(6, &[&[140, 1, 2, 3, 4, 5, 6, 7, 64, 200, 1, 1][..], text.as_bytes()].concat());
    }
    for native in 0..=255u8 {
        if native % 5 == 0 {
            seeds.add(7, &[10, 3, 2, native, 4, native, 8, 2, b'a', b'b', 11, 1, 0, 2, native]);
            seeds.add(
                8,
                &[native, 2, 8, 3, b'a', b',', b'b', 10, 2, 2, 40, 2, 41, 2, 34, 11, 1, 2, 8, 1, b'x'],
            );
        }
    }
}

fn of_frames() {
    let mut seeds = Seeds("frames", 0);
    let writes = [
        5, 3, 2, 200, b'h', b'/', b'1', 70, b'a', b'b', b'c', b'd', b'e', b'f', 0, 80, b'x', 0, 20, 130,
        b'z', 60, b'l', b'o', b'n', b'g', 1, 1, 0, 3, 0, 90, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    ];
    for kind in 0..3 {
        (0..4u8).for_each(|more| seeds.add(kind, &[&writes[..], &[more; 12]].concat()));
    }
    let node = [0, 0, 0, 1, 1, b'k', 2, b'k', b'z', 0, 2, 1, b'a', 1, b'b', 1, b'x', 2, b'y', b'y'];
    seeds.add(3, &[&[2, 4, 0, 1, b'a', 0, 3, 1, 1, b'b'], &node[..]].concat());
    seeds.add(3, &[&[0], &[0, 0, 0, 0, 0, 0, 1, 1, 0, 5][..]].concat());
    seeds.add(4, &[&[9; 8], &[3, 2][..], &[1; 8], &[0, 40], &[7], &[2; 8], &[1, 50], &[3; 8], &[9]].concat());
    seeds.add(4, b"\x05entry\x02\x07default\x03");
    for kind in 1..=11 {
        seeds.add(5, &[1, 2, 3, 4, kind, 3, 0, 2, b'a', b'b', b'c', 1, 2, 3, 4, 10, 0, 0, 2]);
    }
    let record =
        [3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2];
    seeds.add(6, &[&record[..], &[0, 2, b'a', b'b', 1, 1, b'x', 1, 1, b'c', 0]].concat());
}

fn of_programs() {
    for target in ["source", "check"] {
        let mut seeds = Seeds(target, 0);
        seeds.plain(b"// The programs of the repository are inputs too.\nprint(\"{1 + 2}\")\n");
    }
}

/// Writes the inputs: `cargo test --release --test fuzz -- --ignored seeds`.
#[test]
#[ignore = "it writes files of the repository"]
fn seeds() {
    of_history();
    of_socket();
    of_import();
    of_natives();
    of_frames();
    of_programs();
}
