//! The engine: instances, their histories, replay, retries and timers, as one deterministic state
//! machine.
//!
//! Invariant: all inputs are [`Event`]s, time included, and all results are writes or [`Output`]s.
//! The engine does no I/O, has no clock and no threads, and knows nothing of files, sockets or
//! sled. So the same engine runs under the real host, in tests and under a simulator. The same
//! events in the same order give the same steps.
//!
//! The contract with the driver of the engine: the writes of one batch take effect together or not
//! at all, and an output leaves the process only when the writes taken after it are durable.

mod active;
mod address;
mod adopt;
mod agenda;
mod arrivals;
mod backward;
mod before;
mod branch;
mod calling;
mod calls;
mod checkpoint;
mod circle;
mod courier;
mod deliver;
mod descent;
mod dispatch;
mod earlier;
mod entity;
mod entry;
mod entry_form;
mod errand;
mod evaluation;
mod events;
mod exchange;
mod extend;
#[doc(hidden)]
pub mod fault;
mod fetch;
mod follow;
mod functions;
mod gate;
mod head;
mod history;
mod inbox;
mod instance;
mod journal;
mod keeping;
mod kept;
pub mod keys;
mod known;
mod load;
mod locks;
mod looks;
mod mailbox;
mod message;
mod open;
mod operations;
mod outbox;
mod page;
pub mod placement;
mod post;
mod printed;
mod program;
mod programs;
mod purge;
pub mod query;
mod quotas;
mod read_error;
mod reads;
mod receives;
mod record;
mod refit;
mod rekey;
mod replace;
mod replay;
mod residency;
mod residents;
mod rewind;
mod run;
mod saving;
mod scheduler;
mod schedules;
mod section;
mod send;
mod step;
mod stored;
mod suspects;
mod timers;
mod transit;
mod turns;
mod undo;
mod upgrade;
mod verdict;
mod versions;
mod waits;
mod wanted;
mod writes;

pub use active::Active;
pub use address::{Address, LifeId, Waiter};
pub use backward::Backward;
pub use branch::Branch;
pub use calls::{ClientCall, Kept, MOST_ANSWER_BYTES, MOST_ANSWERS};
pub use checkpoint::{Checkpoint, Checkpoints, Retention};
pub use entity::{Deployment, Hold};
pub use entry::{Args, Entry, GRACE, Postmark, RecordedRequest};
pub use evaluation::Mismatch;
pub use events::{ChangeKind, Ending, Event, Leaving, Output, StepId};
pub use fetch::{fetch, look_up, ranges_of, recovery, recovery_of_any};
pub use functions::{Function, function, functions, orchestrations};
pub use gate::{Durable, Gate, Gated, Unwritten, Writes};
pub use history::{Chunk, ChunkError, History};
pub use instance::{SCRIPT, machine_at_beginning, machine_at_checkpoint, test_function};
pub use kept::{
    KeptOperation, KeptRange, MOST_OPERATION_BYTES, MOST_OPERATIONS, OperationView, OperationsPage,
    machine_of_operation, read_kept, read_kept_since,
};
pub use keys::{FIRST_LIFE, NUMBERED, OWN, QUEUED};
pub use known::{Known, known_id, not_ended, shown};
pub use message::{Mail, Message, StoredMail};
pub use open::{Open, describe_request, described, due_time};
pub use operations::MOST_OPERATION_FUEL;
pub use outbox::{Line, StoredLines};
pub use placement::{Placement, SlotRange, slot_of_key};
pub use program::{
    StoredProgram, build_image, known_image, load_image, load_modules, program_writes, read_modules,
    startable,
};
pub use purge::{Tree, unused_programs};
pub use quotas::Quotas;
pub use read_error::ReadError;
pub use reads::{
    Deployed, Images, deployed, read_call, read_history, read_holds, read_life, read_mail, read_record,
    read_time, read_version,
};
pub use record::{InstanceRecord, Lifecycle, Status};
pub use replay::{Replayed, Watcher, place_anew, replay, state_at_end};
pub use rewind::{Back, Rewinding, Steps, rewind};
pub use run::status_of;
pub use schedules::{SCHEDULES, deployment};
pub use section::entities as section_entities;
pub use step::Engine;
pub use transit::{Incoming, divide};
pub use undo::Undo;
pub use upgrade::{Standing, Upgrade, stale_programs, stand};
pub use verdict::{Divergence, Judge, Verdict, judge};
