//! Honest clients beside programs that misbehave. Time is measured in turns: the test counts the
//! turns until each client has its answer, so nothing depends on the speed of the machine.

use std::rc::Rc;

use durable::builtins::Effect;
use durable::engine::{
    Address, Event, Gated, InstanceRecord, Leaving, Message, Output, StepId, keys, read_record,
};
use durable::machine::{Data, EntityId, ErrorData, Image, Value};

use super::Random;
use super::driver::Driver;

pub const PROGRAM: &str = r#"
entity Account {
  state 0
  on add(n) { state += n; state }
  on work(n) { for _ in 0..n { state += 1 } }
  on spin() { while true { state += 1 } }
  on natives() { let text = "ab".repeat(20000); while true { text.upper() } }
  on matches() { let text = "a".repeat(100000); while true { regex.find_all(text, "a*?[^a]|a") } }
  on reads() { fs.read("pipe") }
  on keeps(n) { state = "x".repeat(n) }
}

// The honest ones.
orchestration part(n) => n
orchestration hello(n) {
  sleep(1ms)
  Account("honest {n}").add(1)
  part(n)
}
orchestration section(n) { lock Account("first {n}"), Account("second {n}") { Account("first {n}").add(n) } }
orchestration approval() { receive("go") }

// The others.
orchestration spins() { var n = 0; while true { n = n + 1 }; n }
orchestration natives() { let text = "ab".repeat(20000); while true { text.upper() } }
orchestration matches() { let text = "a".repeat(100000); while true { regex.find_all(text, "a*?[^a]|a") } }
orchestration reads() { fs.read("pipe") }
orchestration waits() { receive("never") }
orchestration many_spin(count) { for _ in 0..count { start spins() }; receive("never") }
orchestration many_wait(count) { for _ in 0..count { start waits() } }
orchestration tells_one() { while true { signal Account("flooded").add(1) } }
orchestration tells_many(operation) {
  for i in 0..3000 {
    match operation {
      "spin" => signal Account("spins {i}").spin()
      _      => signal Account("reads {i}").reads()
    }
  }
  receive("never")
}
orchestration much_work() { for _ in 0..2000 { signal Account("busy").work(20000) }; receive("never") }
orchestration large_state() { for _ in 0..2000 { signal Account("large").keeps(1000000) }; receive("never") }
orchestration many_answers() {
  fn work() { sleep(50ms); for _ in 0..20000 {} }
  all(range(0, 400).map(fn _ => async work()))
}
orchestration is_refused() { while true { try { Account("poisoned").add("text") } catch e { e } } }
"#;

/// The maximum fuel of a turn. A turn goes on until it has used up a slice of 100,000, so it takes
/// almost two slices, and one long action of a native. Here that is one step of a text search,
/// which counts as a search through 16 MiB.
const TURN: u64 = 2 * 100_000 + (16 << 20) / 16 + 100_000;
/// The number of turns in which at least one instance or entity is read from the store, however
/// many can run.
const READ: u64 = 64;

/// The request of a client.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wish {
    Hello,
    Section,
    Event,
    Signal,
    Terminate,
}

impl Wish {
    const ALL: [Wish; 5] = [Wish::Hello, Wish::Section, Wish::Event, Wish::Signal, Wish::Terminate];

    /// Returns the number of turns that the wish takes of its own instances and entities, one after
    /// another, and the number of reads from the store before them. An entity also has a turn
    /// before it is read. A waiting instance may be dropped from memory, and read again each time.
    fn steps(self) -> (u64, u64) {
        match self {
            // It begins; it is woken; the entity is read and works; the answer comes; the child is
            // read; its answer comes.
            Wish::Hello => (7, 5),
            // It begins; both entities are locked; the first is read and works; each answer comes;
            // both are released.
            Wish::Section => (10, 4),
            Wish::Event => (2, 1),
            Wish::Signal => (2, 1),
            Wish::Terminate => (2, 1),
        }
    }
}

struct Client {
    wish: Wish,
    number: i64,
    came: u64,
}

pub struct Crowd {
    driver: Driver,
    /// The outputs that leave once their writes are durable.
    held: Vec<Gated<Leaving>>,
    image: Rc<Image>,
    random: Random,
    turn: u64,
    clients: Vec<Client>,
    begun: i64,
    answered: u64,
    /// The number of programs and signals that misbehave.
    others: u64,
    pub trace: Vec<String>,
}

/// The number of clients in one run.
const CLIENTS: i64 = 10;
/// The maximum number of clients that wait for an answer at one time.
const AT_ONCE: usize = 4;

impl Crowd {
    pub fn new(image: Rc<Image>, seed: u64) -> Crowd {
        let mut driver = Driver::new(&image, 1_700_000_000_000_000_000);
        driver.engine.quotas.instances = 200;
        let mut random = Random::new(seed);
        if random.one_in(3) {
            driver.engine.resident = 4;
        }
        Crowd {
            driver,
            held: Vec::new(),
            image,
            random,
            turn: 0,
            clients: Vec::new(),
            begun: 0,
            answered: 0,
            others: 0,
            trace: Vec::new(),
        }
    }

    /// Lets clients come until each is answered. Returns the longest wait of a client as a fraction
    /// of its limit.
    pub fn run(&mut self) -> Result<f64, String> {
        for number in 0..4 {
            self.begin("approval", &format!("approval-{number}"), Vec::new());
        }
        for _ in 0..2 + self.random.below(4) {
            self.misbehave();
        }
        let mut worst: f64 = 0.0;
        while self.begun < CLIENTS || !self.clients.is_empty() {
            let comes = self.begun < CLIENTS && self.clients.len() < AT_ONCE;
            if comes && self.turn > 50 && self.random.one_in(40) {
                self.come();
            }
            self.turn()?;
            worst = worst.max(self.answers()?);
        }
        Ok(worst)
    }

    fn begin(&mut self, function: &str, id: &str, args: Vec<Value>) {
        let args = Data::encode(&Value::list(args)).expect("data");
        let record =
            InstanceRecord::new(id, self.image.code.hash, "crowd.df", function, args, self.driver.now);
        self.driver.handle(Event::Begin { record, image: self.image.clone() });
    }

    fn send(&mut self, to: Address, message: Message) {
        let from = format!("client-{}-{}", self.turn, self.others + self.begun as u64);
        self.driver.handle(Event::Send { to, from, message });
    }

    fn misbehave(&mut self) {
        self.others += 1;
        let id = format!("other-{}", self.others);
        let int = |n| vec![Value::Int(n)];
        let entity = |key: &str| Address::entity(EntityId::new("Account", &Value::str(key)).expect("a key"));
        let (function, args) = match self.random.below(17) {
            0 => ("spins", Vec::new()),
            1 => ("natives", Vec::new()),
            2 => ("matches", Vec::new()),
            3 => ("reads", Vec::new()),
            4 | 5 => ("many_spin", int(150)),
            6 => ("many_wait", int(1_000_000)),
            7 => ("tells_one", Vec::new()),
            8 | 9 => ("tells_many", vec![Value::str("spin")]),
            10 => ("tells_many", vec![Value::str("reads")]),
            11 => ("much_work", Vec::new()),
            12 => ("large_state", Vec::new()),
            13 => ("many_answers", Vec::new()),
            14 => ("is_refused", Vec::new()),
            n => {
                let operation =
                    ["spin", "natives", "matches", "nothing", "reads"][self.random.below(5) as usize];
                self.trace.push(format!("{:6} a client signals {operation}", self.turn));
                let args =
                    Data::encode(&Value::list(if n == 15 { Vec::new() } else { int(1) })).expect("data");
                let message = Message::Signal { operation: operation.into(), args, due: 0 };
                self.send(entity(&format!("bad {}", self.others)), message);
                return;
            }
        };
        self.trace.push(format!("{:6} {id} is {function}", self.turn));
        self.begin(function, &id, args);
    }

    /// Lets a client come with a random wish.
    fn come(&mut self) {
        self.begun += 1;
        let number = self.begun;
        let wish = Wish::ALL[self.random.below(5) as usize];
        self.trace.push(format!("{:6} client {number} wants {wish:?}", self.turn));
        let id = format!("client-{number}");
        match wish {
            Wish::Hello => self.begin("hello", &id, vec![Value::Int(number)]),
            Wish::Section => self.begin("section", &id, vec![Value::Int(number)]),
            Wish::Event => {
                // Four instances wait for this event. One may have ended already, by an earlier
                // event.
                let waits = format!("approval-{}", number % 4);
                self.send(
                    Address::instance(&waits),
                    Message::Event { name: "go".into(), payload: Data::null() },
                );
            }
            Wish::Signal => {
                let entity =
                    EntityId::new("Account", &Value::str(format!("signalled {number}"))).expect("a key");
                let args = Data::encode(&Value::list(vec![Value::Int(1)])).expect("data");
                let message = Message::Signal { operation: "add".into(), args, due: 0 };
                self.send(Address::entity(entity), message);
            }
            Wish::Terminate => {
                self.begin("spins", &id, Vec::new());
                let why = Data::null();
                self.send(Address::instance(&id), Message::Terminate { why, children: true, by: None });
            }
        }
        self.clients.push(Client { wish, number, came: self.turn });
    }

    /// Whether the wish of a client is fulfilled, and durable.
    fn has(&self, client: &Client) -> Result<bool, String> {
        let id = match client.wish {
            Wish::Signal => {
                let key = Value::str(format!("signalled {}", client.number));
                let entity = EntityId::new("Account", &key).expect("a key");
                return Ok(self.driver.store.tree.contains_key(&keys::entity(&entity)));
            }
            Wish::Event => format!("approval-{}", client.number % 4),
            _ => format!("client-{}", client.number),
        };
        Ok(read_record(&self.driver.store, &id)?.is_some_and(|record| record.status.is_ended()))
    }

    /// Returns the number of turns that a client may wait. Roots take turns, so each step of the
    /// client comes after one turn of every other root. Each read comes after as many reads, of
    /// which there is one in [`READ`] turns. A commit comes within some turns of its writes.
    fn most(&self, client: &Client) -> u64 {
        let roots = self.others + (4 + AT_ONCE) as u64;
        let (turns, reads) = client.wish.steps();
        roots * (turns + READ * reads) + 100
    }

    fn answers(&mut self) -> Result<f64, String> {
        let mut worst: f64 = 0.0;
        for client in std::mem::take(&mut self.clients) {
            let (waited, most) = (self.turn - client.came, self.most(&client));
            if self.has(&client)? {
                self.trace.push(format!("{:6} client {} is answered", self.turn, client.number));
                self.answered += 1;
                worst = worst.max(waited as f64 / most as f64);
            } else if waited > most {
                return Err(format!(
                    "client {}, who wants {:?}, has no answer after {waited} turns, and may wait for {most}",
                    client.number, client.wish
                ));
            } else {
                self.clients.push(client);
            }
        }
        Ok(worst)
    }

    /// Runs one round of a host's loop, with one turn in it.
    fn turn(&mut self) -> Result<(), String> {
        self.turn += 1;
        self.driver.now += 1_000_000;
        let (before, next) = (self.driver.engine.fuel(), self.driver.engine.next_to_run());
        self.driver.turn();
        let used = self.driver.engine.fuel() - before;
        if used > TURN {
            let next = next.map(|next| next.to_string()).unwrap_or_default();
            return Err(format!(
                "a turn of {next} has taken {used} units of fuel, which is more than {TURN}"
            ));
        }
        for output in self.driver.outputs()? {
            match output {
                Output::Effect { step, .. } => self.answer(step, Ok(Data::null())),
                Output::Gated(leaving) => self.held.push(leaving),
                _ => {}
            }
        }
        if !self.driver.engine.is_ready() || self.random.one_in(4) {
            self.driver.commit()?;
            self.leave()?;
        }
        Ok(())
    }

    /// Lets the outputs leave whose writes are durable.
    fn leave(&mut self) -> Result<(), String> {
        for gated in std::mem::take(&mut self.held) {
            match self.driver.open(gated)? {
                // Nobody writes to the pipe.
                Leaving::Effect { effect: Effect::FsRead, .. } => {}
                Leaving::Effect { step, effect, .. } => {
                    let error = ErrorData::new("io_error", format!("`{effect}` is not of this world"));
                    self.answer(step, Err(error));
                }
                Leaving::Line { run, .. } => self.driver.handle(Event::LinesOut { run, count: 1 }),
                _ => {}
            }
        }
        Ok(())
    }

    fn answer(&mut self, step: StepId, result: Result<Data, ErrorData>) {
        self.driver.handle(Event::Answer { step, result, sends: Vec::new() });
    }
}
