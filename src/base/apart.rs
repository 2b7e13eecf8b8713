//! What few requests come through, kept out of the way of all others.

use std::pin::Pin;

/// A future that is made, held and polled elsewhere: neither the one that waits for it nor a stack frame of that one's polls has room
/// for it. Costs an allocation. Where large branches were made in place, a frame had 28 KiB, and every poll of a short request or of a
/// silent tunnel touched each of its pages.
#[inline(never)]
pub fn apart<'a, F>(make: impl FnOnce() -> F) -> Pin<Box<dyn Future<Output = F::Output> + 'a>>
where
    F: Future + 'a,
{
    Box::pin(make())
}
