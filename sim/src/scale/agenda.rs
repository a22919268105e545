//! What happens next: a heap of simulated times. Of equal times, what was entered first is first.

use std::{cmp::Ordering, collections::BinaryHeap};

use arroyo_node::{
    ids::{RequestId, WorkerId},
    machine::{Ask, Mono},
};

use super::{
    controller::{Again, Life, ToldBack},
    link::{Answer, Arrival, Knock, LinkEvent},
    processes::Change,
};

/// Which node, counted from zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct NodeIndex(pub(super) usize);

/// One thing that happens.
#[derive(Debug)]
pub(super) enum Happening {
    /// An agent's process begins.
    Boot(NodeIndex),
    /// An agent is told to leave its workers to the next one.
    Detach(NodeIndex),
    /// The time of a machine's timer has come, unless it has been moved.
    Wake(NodeIndex),
    /// A worker's process does something.
    Process(NodeIndex, WorkerId, Change),
    /// The worker that has run longest on a node crashes.
    Crash(NodeIndex),

    /// An agent's attempt to connect reaches the controller's computer.
    Knock(Knock),
    /// An agent's call reaches the controller's computer.
    Arrival(Box<Arrival>),
    /// An answer of the controller reaches an agent's computer.
    Answer(Answer),
    /// An agent's connection changes, or its patience with a call is at an end.
    Link(NodeIndex, LinkEvent),

    /// A call of the controller reaches a node.
    Ask(NodeIndex, RequestId, Box<Ask>),
    /// The controller hears what became of such a call.
    Told(RequestId, ToldBack),
    /// The controller tries something again, if it is still the one that wanted to.
    Again(Life, Again),
}

/// The heap.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Entry>,
    entered: u64,
}

#[derive(Debug)]
struct Entry {
    at: Mono,
    number: u64,
    what: Happening,
}

impl Agenda {
    pub(super) fn enter(&mut self, at: Mono, what: Happening) {
        self.heap.push(Entry { at, number: self.entered, what });
        self.entered += 1;
    }

    /// Takes out what comes first, if it comes no later than `until`.
    pub(super) fn next(&mut self, until: Mono) -> Option<(Mono, Happening)> {
        if self.heap.peek()?.at > until {
            return None;
        }
        self.heap.pop().map(|entry| (entry.at, entry.what))
    }
}

// The heap has its greatest entry on top: that is to be the earliest.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_earlier_comes_first_and_of_equal_times_what_was_entered_first() {
        let mut agenda = Agenda::default();
        let second = |seconds| Mono::default() + Duration::from_secs(seconds);
        for (number, at) in [3, 1, 2, 1].into_iter().enumerate() {
            agenda.enter(second(at), Happening::Boot(NodeIndex(number)));
        }
        let mut order = Vec::new();
        while let Some((_, Happening::Boot(NodeIndex(number)))) = agenda.next(second(2)) {
            order.push(number);
        }
        assert_eq!(order, [1, 3, 2]);
        assert!(agenda.next(second(3)).is_some() && agenda.next(second(9)).is_none());
    }
}
