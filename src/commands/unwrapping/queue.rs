//! In which order descriptions are tried: manifests take turns of a few operations, and in a turn their descriptions.
//!
//! Any tenant's manifest may list a layer, with as many wrapped keys as it likes. So no manifest is emptied before the
//! next one had a turn, each has a budget, and what is kept of all of them has a bound. Who reaches a bound is passed
//! over; nobody else pays for it.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

use super::Description;
use crate::descriptor::LayerDescriptor;

/// Operations of one turn.
const TURN: u32 = 4;
/// What a manifest may cost, in operations: 256 recipients, and 16 keys of ours.
const BUDGET: u32 = 4096;
/// What it costs to have unwrapped a key that is not the layer's: the layer was read for it.
pub(super) const REJECTED: u32 = 256;
/// Most bytes of descriptions that wait for another turn.
const WAITING: usize = 4 << 20;

/// The manifests that describe a layer.
pub(super) struct Queue<I> {
    unread: I,
    waiting: VecDeque<Turn>,
    /// Descriptions for keys that may be there later.
    put_off: Vec<Entry>,
    /// Descriptions that were seen.
    seen: HashSet<u64>,
    hasher: RandomState,
}

/// One manifest's turn.
pub(super) struct Turn {
    entries: VecDeque<Entry>,
    /// Operations that are left of the turn, and of the budget.
    left: u32,
    budget: u32,
}

/// A description, and how far it was tried.
pub(super) struct Entry {
    pub(super) description: Description,
    /// The key to be asked next, and the number of the wrapped key.
    pub(super) key: usize,
    pub(super) number: usize,
    /// Whether every key was asked.
    pub(super) done: bool,
    /// Whether it is for keys alone that were not there.
    pub(super) again: bool,
    bytes: usize,
}

impl<I: Iterator<Item = Vec<LayerDescriptor>>> Queue<I> {
    pub(super) fn new(unread: I) -> Self {
        Self {
            unread,
            waiting: VecDeque::new(),
            put_off: Vec::new(),
            seen: HashSet::new(),
            hasher: RandomState::new(),
        }
    }

    /// The next manifest's turn: one that had none yet, else the one that waited longest.
    pub(super) fn next(
        &mut self,
        read: &mut impl FnMut(&LayerDescriptor) -> Option<Description>,
    ) -> Option<Turn> {
        let Some(layers) = self.unread.next() else {
            return self.waiting.pop_front().or_else(|| self.put_off_turn());
        };
        let mut entries = VecDeque::new();
        for layer in layers {
            if !self
                .seen
                .insert(self.hasher.hash_one((layer.size, &layer.annotations)))
            {
                continue;
            }
            if let Some(description) = read(&layer) {
                let bytes = layer.annotations.values().map(String::len).sum();
                entries.push_back(Entry {
                    description,
                    key: 0,
                    number: 0,
                    done: false,
                    again: false,
                    bytes,
                });
            }
        }
        Some(Turn {
            entries,
            left: TURN,
            budget: BUDGET,
        })
    }

    /// Keeps a description for when nothing else is left.
    pub(super) fn put_off(&mut self, entry: Entry) {
        let bytes: usize = self.put_off.iter().map(|entry| entry.bytes).sum();
        if bytes + entry.bytes <= WAITING {
            self.put_off.push(Entry {
                key: 0,
                number: 0,
                done: false,
                again: true,
                ..entry
            });
        }
    }

    fn put_off_turn(&mut self) -> Option<Turn> {
        let entries = VecDeque::from(std::mem::take(&mut self.put_off));
        (!entries.is_empty()).then_some(Turn {
            entries,
            left: TURN,
            budget: BUDGET,
        })
    }

    /// Takes back what is left of a manifest after its turn.
    pub(super) fn put_back(&mut self, mut turn: Turn) {
        if turn.entries.is_empty() || turn.budget == 0 {
            return;
        }
        turn.left = TURN;
        self.waiting.push_back(turn);
        while self.waiting.iter().map(Turn::bytes).sum::<usize>() > WAITING {
            let waiting = self.waiting.iter().enumerate();
            let Some((largest, _)) = waiting.max_by_key(|(_, turn)| turn.bytes()) else {
                return;
            };
            self.waiting.remove(largest);
        }
    }
}

impl Turn {
    /// The next description, while the turn lasts.
    pub(super) fn next(&mut self) -> Option<Entry> {
        match self.left {
            0 => None,
            _ => self.entries.pop_front(),
        }
    }

    /// Takes a description back that has more to try.
    pub(super) fn put_back(&mut self, entry: Entry) {
        if !entry.done {
            self.entries.push_back(entry);
        }
    }

    /// What was done costs so many operations.
    pub(super) fn pay(&mut self, operations: u32) {
        self.left = self.left.saturating_sub(operations);
        self.budget = self.budget.saturating_sub(operations);
    }

    fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }
}
