//! Memory that requests of a thread use one after the other.

use std::cell::RefCell;

use crate::http1::head::Field;

/// Memory of one request that is used again by the next one of this thread.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The head of the request.
    pub head: Vec<u8>,
    /// Its fields.
    pub fields: Vec<Field>,
    /// The head for the upstream.
    pub request: Vec<u8>,
    /// What is written to the client.
    pub out: Vec<u8>,
    /// The head of the answer.
    pub answer: Vec<u8>,
    /// Its fields.
    pub answer_fields: Vec<Field>,
}

thread_local! {
    static SCRATCH: RefCell<Vec<Scratch>> = const { RefCell::new(Vec::new()) };
}

/// Memory kept from a request; what grew beyond is freed.
const KEPT: usize = 32 << 10;

impl Scratch {
    /// Takes one from this thread's list.
    pub fn take() -> Self {
        SCRATCH.with_borrow_mut(Vec::pop).unwrap_or_default()
    }

    /// Puts it back, wiped of its texts.
    pub fn give(mut self) {
        for bytes in [
            &mut self.head,
            &mut self.request,
            &mut self.out,
            &mut self.answer,
        ] {
            bytes.clear();
            bytes.shrink_to(KEPT);
        }
        SCRATCH.with_borrow_mut(|list| {
            if list.len() < 64 {
                list.push(self);
            }
        });
    }
}
