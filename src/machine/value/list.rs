//! Lists.

use std::rc::Rc;

use super::Value;
use super::memory::{charge, discharge, drop_values};

/// A list: elements of its own, or a slice of another list. It is three words, so it takes 48 bytes
/// with its counters.
#[derive(Debug)]
pub enum List {
    Own(Vec<Value>),
    /// The elements from one index up to another of a list with elements of its own.
    Stretch(Rc<List>, u32, u32),
}

impl List {
    pub fn new(items: Vec<Value>) -> Rc<List> {
        charge(size(&items));
        Rc::new(List::Own(items))
    }

    #[inline(always)]
    pub fn as_slice(&self) -> &[Value] {
        match self {
            List::Own(items) => items,
            List::Stretch(whole, from, to) => stretch(whole, *from, *to),
        }
    }

    #[inline(always)]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a slice of a list. A slice of 8 or more elements is not copied.
    pub fn slice(list: &Rc<List>, from: usize, to: usize) -> Rc<List> {
        if to - from == list.len() {
            return list.clone();
        }
        if to - from < 8 {
            return List::new(list.as_slice()[from..to].to_vec());
        }
        let (whole, offset) = match &**list {
            List::Own(_) => (list.clone(), 0),
            List::Stretch(whole, start, _) => (whole.clone(), *start as usize),
        };
        charge(EMPTY);
        Rc::new(List::Stretch(whole, (offset + from) as u32, (offset + to) as u32))
    }

    /// Returns an element for change in place, if the list is not shared and not a slice.
    #[inline(always)]
    pub fn own(list: &mut Rc<List>, at: usize) -> Option<&mut Value> {
        match Rc::get_mut(list)? {
            List::Own(items) => items.get_mut(at),
            List::Stretch(..) => None,
        }
    }

    /// Returns the elements for change in place. A list that is shared, or a slice of a shared
    /// list, is copied first.
    pub fn make_mut(list: &mut Rc<List>) -> ListMut<'_> {
        if Rc::get_mut(list).is_none_or(|list| matches!(list, List::Stretch(..))) {
            let items = List::own_stretch(list).unwrap_or_else(|| list.as_slice().to_vec());
            *list = List::new(items);
        }
        ListMut(list)
    }

    /// Returns an element for change in place, as by `make_mut`. An element of an unshared slice of
    /// an unshared list is changed in the whole list.
    pub fn element(list: &mut Rc<List>, at: usize) -> Option<&mut Value> {
        let is_own = |whole: &mut Rc<List>| Rc::get_mut(whole).is_some();
        let within = match Rc::get_mut(list) {
            // A slice from the beginning can take over the elements instead.
            Some(List::Stretch(whole, from, _)) => *from > 0 && is_own(whole),
            _ => false,
        };
        if !within {
            return List::own(List::make_mut(list).0, at);
        }
        match Rc::get_mut(list)? {
            List::Stretch(whole, from, _) => List::own(whole, *from as usize + at),
            List::Own(_) => None,
        }
    }

    /// Takes the elements of a slice, if neither it nor the whole list is shared.
    fn own_stretch(list: &mut Rc<List>) -> Option<Vec<Value>> {
        let List::Stretch(whole, from, to) = Rc::get_mut(list)? else { return None };
        let mut items = Rc::get_mut(whole)?.take_items();
        items.truncate(*to as usize);
        items.drain(..*from as usize);
        Some(items)
    }

    /// Adds an element if the list has room and is not shared; otherwise gives the element back.
    #[inline(always)]
    pub fn push_within(list: &mut Rc<List>, value: Value) -> Result<(), Value> {
        match Rc::get_mut(list) {
            Some(List::Own(items)) if items.len() < items.capacity() => {
                items.push(value);
                Ok(())
            }
            _ => Err(value),
        }
    }

    /// Lets `more` add elements at the end, in place if the list is not shared.
    ///
    /// An unshared slice of an unshared list grows in that list. The elements after the slice are
    /// dropped. Those before it are dropped when they outnumber the slice. So an operation on a
    /// queue or a stack takes constant time, however long it is.
    pub fn grow(list: &mut Rc<List>, more: impl FnOnce(&mut Vec<Value>)) {
        if let Some(List::Stretch(whole, from, to)) = Rc::get_mut(list)
            && Rc::get_mut(whole).is_some()
        {
            ListMut(whole).with(|items| {
                items.truncate(*to as usize);
                if *from > *to - *from {
                    items.drain(..*from as usize);
                    *from = 0;
                }
                more(items);
                *to = items.len() as u32;
            });
            return;
        }
        List::make_mut(list).with(more);
    }

    /// Takes the elements out if the list is not shared; otherwise copies them.
    pub fn take(list: Rc<List>) -> Vec<Value> {
        match Rc::try_unwrap(list) {
            Ok(mut list @ List::Own(_)) => list.take_items(),
            Ok(list) => list.as_slice().to_vec(),
            Err(list) => list.as_slice().to_vec(),
        }
    }

    /// Takes the list's own elements out.
    fn take_items(&mut self) -> Vec<Value> {
        match self {
            List::Own(items) => {
                discharge(size(items) - EMPTY);
                std::mem::take(items)
            }
            List::Stretch(..) => Vec::new(),
        }
    }
}

/// Returns a slice of a list with elements of its own.
#[inline(never)]
fn stretch(whole: &List, from: u32, to: u32) -> &[Value] {
    match whole {
        List::Own(items) => &items[from as usize..to as usize],
        List::Stretch(..) => &[],
    }
}

/// The bytes of a list without elements of its own.
const EMPTY: usize = 48;

/// Returns the bytes of a list with these elements.
fn size(items: &Vec<Value>) -> usize {
    items.capacity() * 16 + EMPTY
}

/// A list for changes, which updates the memory account.
pub struct ListMut<'a>(&'a mut Rc<List>);

impl<'a> ListMut<'a> {
    /// Runs a change on the elements.
    pub fn with<R>(self, change: impl FnOnce(&mut Vec<Value>) -> R) -> Option<R> {
        let List::Own(items) = Rc::get_mut(self.0)? else { return None };
        let before = size(items);
        let result = change(items);
        charge(size(items).wrapping_sub(before));
        Some(result)
    }
}

impl Drop for List {
    fn drop(&mut self) {
        match self {
            List::Own(items) => {
                discharge(size(items));
                if items.iter().any(Value::nests) {
                    drop_values(std::mem::take(items));
                }
            }
            List::Stretch(..) => discharge(EMPTY),
        }
    }
}
