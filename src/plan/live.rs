//! The plan in force. Readers look at one number and take a copy only when it has moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::Plan;

/// The plan in force.
#[derive(Debug)]
pub struct Live {
    plan: ArcSwap<Plan>,
    generation: AtomicU64,
}

impl Live {
    /// Puts the first plan in force.
    pub fn new(plan: Plan) -> Self {
        let generation = AtomicU64::new(plan.generation);
        Self {
            plan: ArcSwap::from_pointee(plan),
            generation,
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

    /// Puts another plan in force.
    pub fn swap(&self, mut plan: Plan) {
        let next = self.generation() + 1;
        plan.generation = next;
        self.plan.store(Arc::new(plan));
        self.generation.store(next, Ordering::Release);
    }
}
