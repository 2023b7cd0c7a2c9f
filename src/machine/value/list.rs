//! Lists.

use std::rc::Rc;

use super::Value;
use super::memory::{charge, discharge, drop_values};

/// A list: its own elements, or a stretch of another's.
#[derive(Debug)]
pub struct List {
    items: Vec<Value>,
    view: Option<(Rc<List>, u32, u32)>,
    charged: usize,
}

impl List {
    pub fn new(items: Vec<Value>) -> Rc<List> {
        let charged = items.capacity() * 16 + 64;
        charge(charged);
        Rc::new(List { items, view: None, charged })
    }

    pub fn as_slice(&self) -> &[Value] {
        match &self.view {
            None => &self.items,
            Some((parent, from, to)) => &parent.items[*from as usize..*to as usize],
        }
    }

    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A stretch of a list, without copying when it is long.
    pub fn slice(list: &Rc<List>, from: usize, to: usize) -> Rc<List> {
        if to - from == list.len() {
            return list.clone();
        }
        if to - from < 8 {
            return List::new(list.as_slice()[from..to].to_vec());
        }
        let (parent, offset) = match &list.view {
            None => (list.clone(), 0),
            Some((parent, start, _)) => (parent.clone(), *start as usize),
        };
        charge(64);
        Rc::new(List {
            items: Vec::new(),
            view: Some((parent, (offset + from) as u32, (offset + to) as u32)),
            charged: 64,
        })
    }

    /// An element, when nobody else holds the list.
    #[inline(always)]
    pub fn own(list: &mut Rc<List>, at: usize) -> Option<&mut Value> {
        match Rc::get_mut(list)? {
            List { items, view: None, .. } => items.get_mut(at),
            _ => None,
        }
    }

    /// The elements, to be changed in place; copied before when others hold the list, or what it is a stretch of.
    pub fn make_mut(list: &mut Rc<List>) -> ListMut<'_> {
        if Rc::get_mut(list).is_none_or(|list| list.view.is_some()) {
            let items = List::own_stretch(list).unwrap_or_else(|| list.as_slice().to_vec());
            *list = List::new(items);
        }
        ListMut(list)
    }

    /// An element, to be changed in place, as by `make_mut`; one of a stretch that nobody else holds in the whole list.
    pub fn element(list: &mut Rc<List>, at: usize) -> Option<&mut Value> {
        let is_own = |whole: &mut Rc<List>| Rc::get_mut(whole).is_some();
        let within = match Rc::get_mut(list).and_then(|list| list.view.as_mut()) {
            // At its beginning the stretch can have the elements for itself.
            Some((whole, from, _)) => *from > 0 && is_own(whole),
            None => false,
        };
        if !within {
            return Rc::get_mut(List::make_mut(list).0)?.items.get_mut(at);
        }
        let (whole, from, _) = Rc::get_mut(list)?.view.as_mut()?;
        Rc::get_mut(whole)?.items.get_mut(*from as usize + at)
    }

    /// The elements of a stretch of a list, when nobody else holds either.
    fn own_stretch(list: &mut Rc<List>) -> Option<Vec<Value>> {
        let (whole, from, to) = Rc::get_mut(list)?.view.as_mut()?;
        let mut items = std::mem::take(&mut Rc::get_mut(whole)?.items);
        items.truncate(*to as usize);
        items.drain(..*from as usize);
        Some(items)
    }

    /// Adds an element where there is room for it and nobody else holds the list; else gives it back.
    #[inline(always)]
    pub fn push_within(list: &mut Rc<List>, value: Value) -> Result<(), Value> {
        match Rc::get_mut(list) {
            Some(List { items, view: None, .. }) if items.len() < items.capacity() => {
                items.push(value);
                Ok(())
            }
            _ => Err(value),
        }
    }

    /// Lets `more` add elements at the end, in place when nobody else holds the list.
    ///
    /// A stretch of a list that nobody else holds grows in that list: what comes after the stretch goes, and what comes
    /// before it when that is more than the stretch itself. So a queue and a stack take the same time for each of
    /// their elements, however long they are.
    pub fn grow(list: &mut Rc<List>, more: impl FnOnce(&mut Vec<Value>)) {
        if let Some(List { view: Some((whole, from, to)), .. }) = Rc::get_mut(list)
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

    /// The elements, taken out when nobody else holds the list, else copied.
    pub fn take(list: Rc<List>) -> Vec<Value> {
        match Rc::try_unwrap(list) {
            Ok(mut list) if list.view.is_none() => std::mem::take(&mut list.items),
            Ok(list) => list.as_slice().to_vec(),
            Err(list) => list.as_slice().to_vec(),
        }
    }
}

/// A list that may be changed; keeps the account of its memory.
pub struct ListMut<'a>(&'a mut Rc<List>);

impl<'a> ListMut<'a> {
    /// Runs a change on the elements.
    pub fn with<R>(self, change: impl FnOnce(&mut Vec<Value>) -> R) -> Option<R> {
        let list = Rc::get_mut(self.0)?;
        let result = change(&mut list.items);
        let charged = list.items.capacity() * 16 + 64;
        charge(charged.wrapping_sub(list.charged));
        list.charged = charged;
        Some(result)
    }
}

impl Drop for List {
    fn drop(&mut self) {
        discharge(self.charged);
        if self.items.iter().any(Value::nests) {
            drop_values(std::mem::take(&mut self.items));
        }
    }
}
