//! Who is served next when more ask than can be: one after the other by client, never by who shouts most.

use std::collections::{HashMap, VecDeque};

use super::client_net::ClientNet;

/// A bounded queue with one line per client, served in turn.
pub struct Queue<T> {
    lines: HashMap<ClientNet, VecDeque<T>>,
    turns: VecDeque<ClientNet>,
    length: usize,
    bound: usize,
    share: usize,
}

/// What became of a thing that was to be queued.
#[derive(Debug, PartialEq, Eq)]
pub enum Pushed<T> {
    /// It waits.
    Queued,
    /// It waits in the place of this one, the last of the client that had most waiting.
    Displaced(T),
    /// Its client has as many waiting as one may, or everybody has equally many: it does not wait.
    Full(T),
}

impl<T> Queue<T> {
    /// At most `bound` things wait, at most a quarter of them from one client.
    pub fn new(bound: usize) -> Self {
        Self {
            lines: HashMap::new(),
            turns: VecDeque::new(),
            length: 0,
            bound: bound.max(1),
            share: (bound / 4).max(1),
        }
    }

    /// Lets a thing wait behind the others of its client.
    pub fn push(&mut self, client: ClientNet, thing: T) -> Pushed<T> {
        let own = self.lines.get(&client).map_or(0, VecDeque::len);
        if own >= self.share {
            return Pushed::Full(thing);
        }
        let mut displaced = None;
        if self.length >= self.bound {
            displaced = self.take_from_longest(own + 1);
            if displaced.is_none() {
                return Pushed::Full(thing);
            }
        }
        let line = self.lines.entry(client).or_default();
        if line.is_empty() {
            self.turns.push_back(client);
        }
        line.push_back(thing);
        self.length += 1;
        displaced.map_or(Pushed::Queued, Pushed::Displaced)
    }

    /// The thing whose turn it is, without taking it.
    pub fn peek(&self) -> Option<&T> {
        self.turns
            .front()
            .and_then(|client| self.lines.get(client))
            .and_then(VecDeque::front)
    }

    /// Takes the thing whose turn it is; its client's next one waits behind all other clients.
    pub fn pop(&mut self) -> Option<T> {
        let client = self.turns.pop_front()?;
        let line = self.lines.get_mut(&client)?;
        let thing = line.pop_front();
        if line.is_empty() {
            self.lines.remove(&client);
        } else {
            self.turns.push_back(client);
        }
        self.length -= usize::from(thing.is_some());
        thing
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The last thing of the longest line, if that line is longer than `than`.
    fn take_from_longest(&mut self, than: usize) -> Option<T> {
        let (client, line) = self.lines.iter_mut().max_by_key(|(_, line)| line.len())?;
        if line.len() <= than {
            return None;
        }
        let client = *client;
        let thing = line.pop_back();
        if line.is_empty() {
            self.lines.remove(&client);
            self.turns.retain(|turn| *turn != client);
        }
        self.length -= usize::from(thing.is_some());
        thing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u64) -> ClientNet {
        ClientNet::from_bits(n)
    }

    #[test]
    fn clients_take_turns() {
        let mut queue = Queue::new(16);
        for (who, what) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (3, "c1")] {
            assert_eq!(queue.push(client(who), what), Pushed::Queued);
        }
        assert_eq!(queue.peek(), Some(&"a1"));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, ["a1", "b1", "c1", "a2", "a3"]);
        assert!(queue.is_empty() && queue.peek().is_none());
    }

    #[test]
    fn one_client_gets_its_share_and_no_more() {
        let mut queue = Queue::new(8);
        assert_eq!(queue.push(client(1), 1), Pushed::Queued);
        assert_eq!(queue.push(client(1), 2), Pushed::Queued);
        assert_eq!(queue.push(client(1), 3), Pushed::Full(3));
        assert_eq!(queue.push(client(2), 4), Pushed::Queued);
    }

    #[test]
    fn a_newcomer_displaces_the_last_of_the_loudest_when_all_places_are_taken() {
        let mut queue = Queue::new(8);
        for n in 0..8 {
            assert_eq!(queue.push(client(n / 2), n), Pushed::Queued);
        }
        assert!(matches!(queue.push(client(9), 100), Pushed::Displaced(n) if n % 2 == 1));
        assert_eq!(queue.len(), 8);
        // A second one of the newcomer would make him as loud as those he displaces.
        assert_eq!(queue.push(client(9), 101), Pushed::Full(101));
    }

    #[test]
    fn a_queue_of_equals_is_full() {
        let mut queue = Queue::new(2);
        queue.push(client(1), 1);
        queue.push(client(2), 2);
        assert_eq!(queue.push(client(3), 3), Pushed::Full(3));
        assert_eq!(queue.pop(), Some(1));
        assert_eq!(queue.push(client(3), 3), Pushed::Queued);
    }
}
