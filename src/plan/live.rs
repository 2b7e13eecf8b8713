//! The plan in force. Readers look at one number and take a copy only when it has moved.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::Plan;

/// The plan in force.
#[derive(Debug)]
pub struct Live {
    plan: ArcSwap<Plan>,
    generation: AtomicU64,
    /// Those before it that somebody may hold still.
    former: Mutex<Vec<Arc<Plan>>>,
}

impl Live {
    /// Puts the first plan in force.
    pub fn new(plan: Plan) -> Self {
        let generation = AtomicU64::new(plan.generation);
        Self {
            plan: ArcSwap::from_pointee(plan),
            generation,
            former: Mutex::default(),
        }
    }

    /// The plan in force.
    pub fn current(&self) -> Arc<Plan> {
        self.plan.load_full()
    }

    /// Which plan is in force.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Puts another plan in force. The one before is kept until [`Live::clear`], or else the data thread that lets go last would free
    /// it: for 10,000 routes that takes 10 ms, in which it serves nobody.
    pub fn swap(&self, mut plan: Plan) {
        let next = self.generation() + 1;
        plan.generation = next;
        let before = self.plan.swap(Arc::new(plan));
        self.generation.store(next, Ordering::Release);
        self.clear();
        self.former().push(before);
    }

    /// Frees the plans before that nobody else holds any more; for a thread that may take its time.
    pub fn clear(&self) {
        self.former().retain(|plan| Arc::strong_count(plan) > 1);
    }

    fn former(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Plan>>> {
        self.former.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Machine;
    use crate::plan::{Kept, compile};

    #[test]
    fn whoever_lets_go_last_does_not_free_a_plan() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, machine) = (Kept::new(dir.path().into()), Machine::default());
        let text = "[[listener]]\naddress = \"127.0.0.1:0\"\nnetworks = { allow = [\"loopback\"] }\n\
                    [[route]]\nupstream = \"127.0.0.1:3000\"\naccess = \"anyone\"\n";
        let raw = crate::config::from_text("live", text).unwrap().raw;
        let made = compile(&raw, dir.path(), &machine, &kept, None, None);
        let (plan, _) = made.unwrap_or_else(|problems| panic!("{problems:#?}"));
        let live = Live::new(plan.clone());
        let held = live.current();
        let first = Arc::downgrade(&held);
        live.swap(plan.clone());
        live.clear();
        drop(held);
        assert!(first.upgrade().is_some(), "kept for the one who clears");
        live.clear();
        assert!(first.upgrade().is_none(), "and freed by him");

        let _held = live.current();
        for _ in 0..3 {
            live.swap(plan.clone());
            assert!(live.former().len() <= 2, "what somebody has, and the last");
        }
        live.clear();
        assert_eq!(live.former().len(), 1, "somebody has it");
    }
}
