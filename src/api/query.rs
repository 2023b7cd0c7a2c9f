//! Queries, and the sources of answers: a store that is open here, or the process that has it.

use serde::{Deserialize, Serialize};

use crate::code::ProgramHash;
use crate::engine::query::{
    self, EntityFilter, EntityView, HistoryPage, InstanceFilter, OperationView, OperationsPage, OutputPage,
    Page, Paging, ProgramView,
};
use crate::engine::{Function, History, InstanceRecord, ReadError, functions, read_modules, read_record};
use crate::kv::{Cause, Read};
use crate::machine::{EntityId, ErrorData};

/// The number of items of each page when all items are wanted.
const WHOLE: u32 = 1_000;
/// The number of attempts to read something in pages while its instance begins anew before the last
/// page.
const ATTEMPTS: u32 = 5;

/// A query about a store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Query {
    /// The record of an instance.
    Instance(String),
    /// Instances in the order of their ids.
    Instances { filter: InstanceFilter, paging: Paging },
    /// The history of an instance, from its beginning or from the chunk with this number on.
    History { id: String, from: Option<u64> },
    /// The state, the holder and the messages of an entity.
    Entity(EntityId),
    /// Entities in the order of the store.
    Entities { filter: EntityFilter, paging: Paging },
    /// All programs.
    Programs,
    /// All deployed functions, by name.
    Functions,
    /// The modules of a program.
    Modules(ProgramHash),
    /// The tree of an instance, in the order of the ids.
    Tree { id: String, paging: Paging },
    /// The output of an instance, as far as its history is kept.
    Output { id: String, paging: Paging },
    /// The kept operations of an entity in order, beginning with the one of a number.
    Operations { entity: EntityId, from: u64, limit: u32 },
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// `None` means that there is no such instance.
    Instance(Option<InstanceRecord>),
    Instances(Page<InstanceRecord>),
    /// `None` means that there is no such instance.
    History(Option<HistoryPage>),
    /// `None` means that nothing is kept of the entity, and that no program declares it.
    Entity(Option<EntityView>),
    Entities(Page<EntityView>),
    Programs(Vec<ProgramView>),
    /// The deployed functions with their names.
    Functions(Vec<(String, Function)>),
    /// The names and texts of the modules, beginning with the one that was run.
    Modules(Vec<(String, String)>),
    /// The store can't be read, for this reason.
    Unreadable(String),
    /// `None` means that there is no such instance.
    Tree(Option<Page<InstanceRecord>>),
    /// `None` means that there is no such instance.
    Output(Option<OutputPage>),
    /// `None` means that nothing is kept of the entity, and that no program declares it.
    Operations(Option<OperationsPage>),
}

/// The reason why a query has no answer.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryError {
    /// The store can't be read.
    Unreadable(ReadError),
    /// The process that has the store does not answer.
    Lost { source: Cause },
    /// The answer belongs to another query.
    Unexpected,
}

impl std::fmt::Display for QueryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            QueryError::Unreadable(error) => error.fmt(f),
            QueryError::Lost { source } => {
                write!(f, "the process that has the store does not answer: {}", source.words())
            }
            QueryError::Unexpected => f.write_str("the process that has the store answers something else"),
        }
    }
}

impl std::error::Error for QueryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // The message is that of the inner error, so the source is too.
            QueryError::Unreadable(error) => error.source(),
            QueryError::Lost { source } => Some(source.error()),
            QueryError::Unexpected => None,
        }
    }
}

impl From<ReadError> for QueryError {
    fn from(error: ReadError) -> QueryError {
        QueryError::Unreadable(error)
    }
}

/// Answers a query from a store. The answer for another process has the error in words.
pub(super) fn answer(store: &dyn Read, query: &Query) -> Answer {
    answered(store, query).unwrap_or_else(|error| Answer::Unreadable(error.to_string()))
}

/// Answers a query from a store.
pub fn answered(store: &dyn Read, query: &Query) -> Result<Answer, ReadError> {
    Ok(match query {
        Query::Instance(id) => Answer::Instance(read_record(store, id)?),
        Query::Instances { filter, paging } => Answer::Instances(query::instances(store, filter, paging)?),
        Query::History { id, from } => Answer::History(query::history(store, id, *from)?),
        Query::Entity(entity) => Answer::Entity(query::entity(store, entity)?),
        Query::Entities { filter, paging } => Answer::Entities(query::entities(store, filter, paging)?),
        Query::Programs => Answer::Programs(query::programs(store)?),
        Query::Functions => Answer::Functions(functions(store)?),
        Query::Modules(hash) => Answer::Modules(read_modules(*hash, store)?),
        Query::Tree { id, paging } => Answer::Tree(query::tree(store, id, paging)?),
        Query::Output { id, paging } => Answer::Output(query::output(store, id, paging)?),
        Query::Operations { entity, from, limit } => {
            Answer::Operations(query::operations(store, entity, *from, *limit)?)
        }
    })
}

/// A source of answers to queries.
pub trait Queries {
    /// Answers a query.
    fn query(&self, query: Query) -> Result<Answer, QueryError>;

    /// Returns the program in whose texts the places of an error are, if the store has it.
    fn program_of(&self, error: &ErrorData) -> Result<Option<ProgramHash>, QueryError> {
        let wanted = error.trace.program.to_le_bytes();
        let mut all = self.programs()?.into_iter().map(|view| view.hash);
        Ok(all.find(|hash| error.trace.program != 0 && hash.0.starts_with(&wanted)))
    }

    /// Returns the record of an instance, or `None` if there is no such instance.
    fn instance(&self, id: &str) -> Result<Option<InstanceRecord>, QueryError> {
        match self.query(Query::Instance(id.to_string()))? {
            Answer::Instance(record) => Ok(record),
            other => Err(unexpected(other)),
        }
    }

    /// Returns a page of instances.
    fn instances(&self, filter: &InstanceFilter, paging: Paging) -> Result<Page<InstanceRecord>, QueryError> {
        match self.query(Query::Instances { filter: filter.clone(), paging })? {
            Answer::Instances(page) => Ok(page),
            other => Err(unexpected(other)),
        }
    }

    /// Hands all instances that a filter lets through to `visit`, one page at a time. `visit`
    /// returns false to stop. Its second argument says whether the page is the last.
    fn each_instances(
        &self,
        filter: &InstanceFilter,
        visit: &mut dyn FnMut(Vec<InstanceRecord>, bool) -> bool,
    ) -> Result<(), QueryError> {
        each_page(&mut |paging| self.instances(filter, paging), &mut |page| {
            let is_last = page.next.is_none();
            visit(page.items, is_last)
        })
    }

    /// Returns an instance with its whole history, or `None` if there is no such instance.
    fn history(&self, id: &str) -> Result<Option<(InstanceRecord, History)>, QueryError> {
        let mut page = |before: Option<&HistoryPage>| {
            let from = before.and_then(|before| before.next);
            match self.query(Query::History { id: id.to_string(), from })? {
                Answer::History(page) => Ok(page.map(|page| (page.next.is_none(), page))),
                other => Err(unexpected(other)),
            }
        };
        let pages = all_pages(id, "history", &mut page, HistoryPage::continues)?;
        if pages.is_empty() {
            return Ok(None);
        }
        Ok(Some(query::assemble(pages)?))
    }

    /// Returns the tree of an instance, or `None` if there is no such instance.
    fn tree(&self, id: &str) -> Result<Option<Vec<InstanceRecord>>, QueryError> {
        let mut is_there = true;
        let mut all = Vec::new();
        let mut tree = |paging| match self.query(Query::Tree { id: id.to_string(), paging })? {
            Answer::Tree(Some(page)) => Ok(page),
            Answer::Tree(None) => {
                is_there = false;
                Ok(Page { items: Vec::new(), next: None })
            }
            other => Err(unexpected(other)),
        };
        each_page(&mut tree, &mut |page| {
            all.extend(page.items);
            true
        })?;
        Ok(is_there.then_some(all))
    }

    /// Returns the output of an instance in one page, or `None` if there is no such instance.
    fn output(&self, id: &str) -> Result<Option<OutputPage>, QueryError> {
        let mut page = |before: Option<&OutputPage>| {
            let from = before.and_then(|before| before.lines.next.clone());
            let paging = Paging { from, limit: WHOLE };
            match self.query(Query::Output { id: id.to_string(), paging })? {
                Answer::Output(page) => Ok(page.map(|page| (page.lines.next.is_none(), page))),
                other => Err(unexpected(other)),
            }
        };
        let pages = all_pages(id, "output", &mut page, OutputPage::continues)?;
        Ok(pages.into_iter().reduce(|mut all, page| {
            (all.record, all.is_trimmed) = (page.record, all.is_trimmed || page.is_trimmed);
            all.lines.items.extend(page.lines.items);
            all.lines.next = page.lines.next;
            all
        }))
    }

    /// Returns what the store has of an entity, or `None` if nothing is kept of it and no program
    /// declares it.
    fn entity(&self, entity: &EntityId) -> Result<Option<EntityView>, QueryError> {
        match self.query(Query::Entity(entity.clone()))? {
            Answer::Entity(view) => Ok(view),
            other => Err(unexpected(other)),
        }
    }

    /// Returns a page of the kept operations of an entity, beginning with the one of a number;
    /// `None` if nothing is kept of the entity and no program declares it.
    fn operations(
        &self,
        entity: &EntityId,
        from: u64,
        limit: u32,
    ) -> Result<Option<OperationsPage>, QueryError> {
        match self.query(Query::Operations { entity: entity.clone(), from, limit })? {
            Answer::Operations(page) => Ok(page),
            other => Err(unexpected(other)),
        }
    }

    /// Hands the kept operations of an entity to `visit`, one page at a time, beginning with the one
    /// of a number. `visit` returns false to stop. Returns the last page without its operations;
    /// `None` if nothing is kept of the entity and no program declares it.
    fn each_operations(
        &self,
        entity: &EntityId,
        mut from: u64,
        visit: &mut dyn FnMut(Vec<OperationView>) -> bool,
    ) -> Result<Option<OperationsPage>, QueryError> {
        loop {
            let Some(mut page) = self.operations(entity, from, WHOLE)? else { return Ok(None) };
            let next = page.next;
            let goes_on = visit(std::mem::take(&mut page.items));
            match next {
                Some(next) if goes_on => from = next,
                _ => return Ok(Some(page)),
            }
        }
    }

    /// Hands all entities that a filter lets through to `visit`, one page at a time. `visit`
    /// returns false to stop.
    fn each_entities(
        &self,
        filter: &EntityFilter,
        visit: &mut dyn FnMut(Vec<EntityView>) -> bool,
    ) -> Result<(), QueryError> {
        let mut entities = |paging| match self.query(Query::Entities { filter: filter.clone(), paging })? {
            Answer::Entities(page) => Ok(page),
            other => Err(unexpected(other)),
        };
        each_page(&mut entities, &mut |page| visit(page.items))
    }

    /// Returns all programs.
    fn programs(&self) -> Result<Vec<ProgramView>, QueryError> {
        match self.query(Query::Programs)? {
            Answer::Programs(programs) => Ok(programs),
            other => Err(unexpected(other)),
        }
    }

    /// Returns all deployed functions with their names.
    fn functions(&self) -> Result<Vec<(String, Function)>, QueryError> {
        match self.query(Query::Functions)? {
            Answer::Functions(functions) => Ok(functions),
            other => Err(unexpected(other)),
        }
    }

    /// Returns the names and texts of a program's modules, beginning with the one that was run.
    fn modules(&self, hash: ProgramHash) -> Result<Vec<(String, String)>, QueryError> {
        match self.query(Query::Modules(hash))? {
            Answer::Modules(modules) => Ok(modules),
            other => Err(unexpected(other)),
        }
    }
}

/// Hands one page after another to `visit`, which returns false to stop.
fn each_page<T>(
    next: &mut dyn FnMut(Paging) -> Result<Page<T>, QueryError>,
    visit: &mut dyn FnMut(Page<T>) -> bool,
) -> Result<(), QueryError> {
    let mut paging = Paging::first(WHOLE);
    loop {
        let page = next(paging)?;
        let from = page.next.clone();
        if !visit(page) || from.is_none() {
            return Ok(());
        }
        paging = Paging { from, limit: WHOLE };
    }
}

/// A function that returns the page after another one, and whether it is the last; `None` if there
/// are no pages.
type PageAfter<'a, P> = &'a mut dyn FnMut(Option<&P>) -> Result<Option<(bool, P)>, QueryError>;

/// Returns all pages of something that an instance has, or no page if there is no such instance. If
/// the instance begins anew before the last page, all pages are read again.
fn all_pages<P>(
    id: &str,
    what: &str,
    next: PageAfter<'_, P>,
    continues: fn(&P, &P) -> bool,
) -> Result<Vec<P>, QueryError> {
    for _ in 0..ATTEMPTS {
        let mut pages: Vec<P> = Vec::new();
        while let Some((is_last, page)) = next(pages.last())? {
            if pages.first().is_some_and(|first| !continues(first, &page)) {
                break;
            }
            pages.push(page);
            if is_last {
                return Ok(pages);
            }
        }
        if pages.is_empty() {
            return Ok(pages);
        }
    }
    let reason = format!("{id} begins anew faster than its {what} can be read");
    Err(QueryError::Unreadable(reason.into()))
}

fn unexpected(answer: Answer) -> QueryError {
    match answer {
        Answer::Unreadable(reason) => QueryError::Unreadable(reason.into()),
        _ => QueryError::Unexpected,
    }
}

/// A store that is open here answers by itself.
impl<R: Read> Queries for R {
    fn query(&self, query: Query) -> Result<Answer, QueryError> {
        Ok(answered(self, &query)?)
    }
}
