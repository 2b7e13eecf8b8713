//! The processes below one: its children, theirs, and so on, as `/proc` has them.

use std::collections::HashSet;
use std::fs;

use crate::exposure::owner;

/// A process and where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub pid: u32,
    /// The number of its parent.
    pub parent: u32,
    /// Whether it runs: a process that has ended and waits to be collected holds nothing any more.
    pub is_alive: bool,
}

/// Every process that can be seen now.
pub fn all() -> Vec<Node> {
    let stat = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    owner::processes()
        .into_iter()
        .filter_map(|pid| node(pid, &stat(pid)?))
        .collect()
}

/// The living processes below `root`, itself not counted; pure.
pub fn below(root: u32, all: &[Node]) -> Vec<u32> {
    let mut family = HashSet::from([root]);
    let mut found = Vec::new();
    loop {
        let before = family.len();
        for node in all {
            if family.contains(&node.parent) && family.insert(node.pid) && node.is_alive {
                found.push(node.pid);
            }
        }
        if family.len() == before {
            return found;
        }
    }
}

/// `7 (a name) S 1 …`: the name may hold spaces and parentheses.
fn node(pid: u32, stat: &str) -> Option<Node> {
    let mut words = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = words.next()?;
    Some(Node {
        pid,
        parent: words.next()?.parse().ok()?,
        is_alive: !matches!(state, "Z" | "X"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(parents: &[(u32, u32)]) -> Vec<Node> {
        let node = |&(pid, parent)| Node {
            pid,
            parent,
            is_alive: pid != 99,
        };
        parents.iter().map(node).collect()
    }

    #[test]
    fn a_family_is_found_whatever_the_order_and_strangers_are_not() {
        let all = tree(&[(40, 30), (30, 20), (20, 10), (10, 1), (50, 1), (99, 20)]);
        let mut found = below(10, &all);
        found.sort_unstable();
        assert_eq!(found, [20, 30, 40]);
        assert!(below(50, &all).is_empty());
        // A table read while numbers were used again must not hang us.
        assert_eq!(below(7, &tree(&[(7, 8), (8, 7)])), [8]);
    }

    #[test]
    fn a_name_cannot_pretend_to_be_the_rest_of_the_line() {
        let alive = |stat| node(7, stat).unwrap();
        assert_eq!(alive("7 (cat) S 5 7 7 0").parent, 5);
        assert_eq!(alive("7 (x) S 1 (y)) R 5 7").parent, 5);
        assert!(!alive("7 (cat) Z 5 7 7 0").is_alive);
        assert!(node(7, "7 (cat").is_none() && node(7, "7 (cat) S").is_none());
    }

    #[test]
    fn the_parent_of_this_process_has_it_below() {
        let all = all();
        let me = std::process::id();
        let own = all.iter().find(|node| node.pid == me).unwrap();
        assert!(below(own.parent, &all).contains(&me));
        assert!(!below(me, &all).contains(&own.parent));
    }
}
