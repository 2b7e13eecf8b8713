//! Who may dial a service, and when. The kernel makes a connection on loopback within microseconds, however busy the service is, until
//! the queue of those that it has not accepted is full: then it says nothing, and would try again after 1 s, 3 s, 7 s. So we try again
//! ourselves and sooner, a few dials at a time, and whoever else wants to waits in line. A service that takes nobody for a second is deaf:
//! who comes then is told at once that it is too much, while a few dials go on and find out that it is back.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::open::take;

/// Dials to one service at a time, of all threads. Less than the queue of most services has room for (100 to 4096), and enough that
/// their TLS handshakes keep every core busy.
const AT_ONCE: usize = 64;
/// It takes nobody for so long: it is deaf.
const SILENCE: Duration = Duration::from_secs(1);
/// Dials that go on at a time while it is, at least: see [`tries`].
const TRIES: usize = 8;
/// How long the first attempt of a dial may take. The next may take twice as long, and so on to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_millis(400);
/// How long whoever finds a deaf service waits for news of it: in the moment in which it is back, many may come at once.
const PATIENCE: Duration = Duration::from_millis(100);

/// Dials that go on at a time while the service is deaf, of those that may take `limit`. One that takes less than one a second takes no
/// more than these within it, so nobody is told no who would have been served.
fn tries(limit: Duration) -> usize {
    usize::try_from(limit.as_secs()).map_or(AT_ONCE, |seconds| seconds.clamp(TRIES, AT_ONCE))
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Missed {
    /// The connection cannot be made.
    Failed(io::Error),
    /// Nobody took it in time.
    Late,
    /// It was not tried, or not for as long as it might have been: the service takes nobody, or not this many.
    Full,
}

/// The turns of all threads at one service.
#[derive(Debug)]
pub(super) struct Turns {
    free: Semaphore,
    tries: AtomicUsize,
    /// How often the service has taken somebody.
    taken: AtomicU64,
    is_deaf: AtomicBool,
    /// It has become deaf, or hears again.
    news: Notify,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            free: Semaphore::new(AT_ONCE),
            tries: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            is_deaf: AtomicBool::new(false),
            news: Notify::new(),
        }
    }
}

/// A turn to dial, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    permit: Option<SemaphorePermit<'a>>,
    /// One of those that go on while the service is deaf.
    is_try: bool,
    /// As many were taken when the service was heard of last.
    seen: u64,
}

impl Turns {
    /// A turn, as soon as there is one before `end`.
    pub async fn turn(&self, end: Instant) -> Result<Turn<'_>, Missed> {
        if !self.is_deaf()
            && let Ok(permit) = self.free.try_acquire()
        {
            return Ok(self.begin(Some(permit)));
        }
        let (mut patient, most) = (None, tries(end - Instant::now()));
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            // From here on nothing is missed.
            news.as_mut().enable();
            if !self.is_deaf() {
                tokio::select! {
                    biased;
                    () = news => {}
                    () = sleep_until(end) => return Err(Missed::Full),
                    Ok(permit) = self.free.acquire() => return Ok(self.begin(Some(permit))),
                }
            } else if take(&self.tries, most) {
                return Ok(self.begin(None));
            } else {
                let until = *patient.get_or_insert_with(|| end.min(Instant::now() + PATIENCE));
                timeout_at(until, news).await.map_err(|_| Missed::Full)?;
            }
        }
    }

    fn begin<'a>(&'a self, permit: Option<SemaphorePermit<'a>>) -> Turn<'a> {
        let seen = self.taken.load(Ordering::Acquire);
        Turn {
            turns: self,
            is_try: permit.is_none(),
            permit,
            seen,
        }
    }

    fn is_deaf(&self) -> bool {
        self.is_deaf.load(Ordering::Acquire)
    }

    fn note(&self, is_deaf: bool) {
        if self.is_deaf.swap(is_deaf, Ordering::AcqRel) != is_deaf {
            self.news.notify_waiters();
        }
    }
}

impl Turn<'_> {
    /// Tries to connect until `end`, of a dial that may take `limit` in all.
    pub async fn connect<T, F>(
        &mut self,
        (end, limit): (Instant, Duration),
        attempt: impl Fn() -> F,
    ) -> Result<T, Missed>
    where
        F: Future<Output = io::Result<T>>,
    {
        let (mut patience, mut silent) = (FIRST, Duration::ZERO);
        loop {
            let until = end.min(Instant::now() + patience);
            match timeout_at(until, attempt()).await {
                Ok(Ok(made)) => return Ok(made),
                // How a Unix socket says that its queue is full.
                Ok(Err(e)) if e.kind() == io::ErrorKind::WouldBlock => sleep_until(until).await,
                Ok(Err(e)) => {
                    // Nobody is there: that needs no waiting.
                    if matches!(
                        e.kind(),
                        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
                    ) {
                        self.turns.note(false);
                    }
                    return Err(Missed::Failed(e));
                }
                Err(_) => {}
            }
            // What was waited for on purpose: a machine that stood still says nothing of the service.
            silent = if self.has_news() {
                Duration::ZERO
            } else {
                silent + patience
            };
            if silent >= SILENCE.min(limit) {
                self.turns.note(true);
            }
            if Instant::now() >= end {
                return Err(Missed::Late);
            }
            if self.turns.is_deaf() && !self.goes_on(tries(limit)) {
                return Err(Missed::Full);
            }
            patience = LONGEST.min(2 * patience);
        }
    }

    /// The service has taken it.
    pub fn taken(&self) {
        self.turns.taken.fetch_add(1, Ordering::AcqRel);
        self.turns.note(false);
    }

    /// Waits until `end` for what a service that has taken the connection says first. One that is silent while others are taken
    /// waits beside the line: a worker of the service that hangs must not keep those waiting whom another one would serve.
    pub async fn hear<F: Future>(&mut self, end: Instant, said: F) -> Result<F::Output, Missed> {
        let (mut said, mut serves) = (std::pin::pin!(said), false);
        loop {
            let until = end.min(Instant::now() + SILENCE);
            if let Ok(said) = timeout_at(until, said.as_mut()).await {
                return Ok(said);
            }
            serves |= self.has_news();
            if Instant::now() >= end {
                if !serves {
                    self.turns.note(true);
                }
                return Err(Missed::Late);
            }
            if serves {
                self.give_way();
            }
        }
    }

    /// Whether the service has taken anybody since the last time.
    fn has_news(&mut self) -> bool {
        let now = self.turns.taken.load(Ordering::Acquire);
        std::mem::replace(&mut self.seen, now) != now
    }

    /// Whether this is one of those that go on while the service is deaf.
    fn goes_on(&mut self, most: usize) -> bool {
        if !self.is_try && take(&self.turns.tries, most) {
            self.is_try = true;
            self.permit = None;
        }
        self.is_try
    }

    /// Lets the next one have the turn.
    fn give_way(&mut self) {
        self.permit = None;
        if std::mem::take(&mut self.is_try) {
            self.turns.tries.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.give_way();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::timeout;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    /// A service: how many it would take now, and how many try at the same moment.
    #[derive(Default)]
    struct Service {
        turns: Turns,
        room: Cell<usize>,
        trying: Cell<usize>,
        most: Cell<usize>,
    }

    /// One of those that try, until it is dropped.
    struct Trying<'a>(&'a Service);

    impl Drop for Trying<'_> {
        fn drop(&mut self) {
            self.0.trying.set(self.0.trying.get() - 1);
        }
    }

    impl Service {
        async fn attempt(&self) -> io::Result<()> {
            self.trying.set(self.trying.get() + 1);
            self.most.set(self.most.get().max(self.trying.get()));
            let _trying = Trying(self);
            tokio::task::yield_now().await;
            let Some(room) = self.room.get().checked_sub(1) else {
                return std::future::pending().await;
            };
            self.room.set(room);
            Ok(())
        }

        async fn dial(&self) -> Result<(), Missed> {
            let end = Instant::now() + LIMIT;
            let mut turn = self.turns.turn(end).await?;
            turn.connect((end, LIMIT), || self.attempt()).await?;
            turn.taken();
            Ok(())
        }

        /// So many at once: when each was told what.
        async fn dials(&self, many: usize) -> Vec<(Duration, Result<(), Missed>)> {
            let begun = Instant::now();
            let mut all: Vec<_> = (0..many).map(|_| Box::pin(self.dial())).collect();
            let mut told = Vec::new();
            std::future::poll_fn(|cx| {
                all.retain_mut(|one| match one.as_mut().poll(cx) {
                    std::task::Poll::Ready(what) => {
                        told.push((begun.elapsed(), what));
                        false
                    }
                    std::task::Poll::Pending => true,
                });
                match all.is_empty() {
                    true => std::task::Poll::Ready(()),
                    false => std::task::Poll::Pending,
                }
            })
            .await;
            told
        }
    }

    fn count(told: &[(Duration, Result<(), Missed>)], of: impl Fn(&Missed) -> bool) -> usize {
        let missed = told.iter().filter_map(|(_, what)| what.as_ref().err());
        missed.filter(|missed| of(missed)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_dial_and_the_others_wait_in_line() {
        let service = Service::default();
        service.room.set(2000);
        let told = service.dials(2000).await;
        assert!(told.iter().all(|(_, what)| what.is_ok()));
        assert_eq!(service.most.get(), AT_ONCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deaf_service_is_told_early_and_a_few_go_on() {
        let service = Service::default();
        let told = service.dials(500).await;
        assert_eq!(count(&told, |m| matches!(m, Missed::Late)), TRIES);
        assert_eq!(count(&told, |m| matches!(m, Missed::Full)), 500 - TRIES);
        for (took, what) in &told {
            let (least, most) = match what {
                Err(Missed::Full) => (SILENCE, 2 * SILENCE),
                _ => (LIMIT, LIMIT + SILENCE / 100),
            };
            assert!((least..most).contains(took), "{what:?} after {took:?}");
        }
        // Those that come now know it from the beginning.
        service.most.set(0);
        let told = service.dials(500).await;
        let early = told.iter().filter(|(took, _)| *took <= PATIENCE * 2);
        assert_eq!((early.count(), service.most.get()), (500 - TRIES, TRIES));
    }

    #[test]
    fn whoever_may_wait_for_long_is_not_told_early() {
        let of = |seconds| tries(Duration::from_secs(seconds));
        assert_eq!((of(0), of(5), of(20), of(600)), (TRIES, TRIES, 20, AT_ONCE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_service_serves_whoever_may_wait_for_it() {
        let service = Service::default();
        // One every one and a half seconds: deaf most of the time.
        let slowly = async {
            for _ in 0..24 {
                tokio::time::sleep(SILENCE * 3 / 2).await;
                service.room.set(1);
            }
        };
        let dial = async || {
            let limit = Duration::from_secs(60);
            let end = Instant::now() + limit;
            let mut turn = service.turns.turn(end).await?;
            turn.connect((end, limit), || service.attempt()).await?;
            turn.taken();
            Ok::<_, Missed>(())
        };
        let all = futures_util::future::join_all((0..24).map(|_| dial()));
        let (told, ()) = tokio::join!(all, slowly);
        assert!(told.iter().all(Result::is_ok), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_when_it_is_back_is_served_at_once_however_many() {
        let service = Service::default();
        service.dials(100).await;
        assert!(service.turns.is_deaf());
        service.room.set(1000);
        let told = service.dials(1000).await;
        let good = told
            .iter()
            .filter(|(took, what)| what.is_ok() && *took < PATIENCE);
        assert_eq!(good.count(), 1000);
        assert!(!service.turns.is_deaf());
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_hang_keep_nobody_waiting_who_would_be_served() {
        let turns = std::sync::Arc::new(Turns::default());
        let begun = Instant::now();
        let end = begun + LIMIT;
        let dial = |hangs: bool| {
            let turns = std::sync::Arc::clone(&turns);
            tokio::spawn(async move {
                let mut turn = turns.turn(end).await?;
                if hangs {
                    turn.hear(end, std::future::pending::<()>()).await?;
                }
                turn.taken();
                Ok::<_, Missed>(begun.elapsed())
            })
        };
        let mut hung: Vec<_> = (1..AT_ONCE).map(|_| dial(true)).collect();
        dial(false).await.unwrap().unwrap();
        hung.push(dial(true));
        let others: Vec<_> = (0..500).map(|_| dial(false)).collect();
        for other in others {
            let took = other.await.unwrap().unwrap();
            assert!((SILENCE..SILENCE * 11 / 10).contains(&took), "{took:?}");
        }
        for one in hung {
            assert!(matches!(one.await.unwrap(), Err(Missed::Late)));
        }
        assert!(!turns.is_deaf() && turns.free.available_permits() == AT_ONCE);
        // Where it serves nobody else the same is silence.
        let turn = async {
            let mut turn = turns.turn(end + LIMIT).await?;
            turn.hear(Instant::now() + LIMIT, std::future::pending::<()>())
                .await
        };
        assert!(matches!(turn.await, Err(Missed::Late)) && turns.is_deaf());
    }

    #[tokio::test(start_paused = true)]
    async fn a_dial_under_way_finds_out_soon_that_it_is_back() {
        let service = Service::default();
        let back = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            service.room.set(1000);
        };
        let (told, ()) = tokio::join!(service.dials(100), back);
        let good = told.iter().filter(|(_, what)| what.is_ok());
        let last = good.clone().map(|(took, _)| *took).max().unwrap();
        assert_eq!(good.count(), TRIES);
        assert!(last <= Duration::from_secs(3) + LONGEST, "{last:?}");
        assert!(!service.turns.is_deaf());
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_slowly_is_not_deaf() {
        let service = Service::default();
        // One at a time, two in a second.
        let slowly = async {
            for _ in 0..9 {
                tokio::time::sleep(Duration::from_millis(500)).await;
                service.room.set(1);
            }
        };
        let (told, ()) = tokio::join!(service.dials(60), slowly);
        assert_eq!(count(&told, |m| matches!(m, Missed::Full)), 0);
        assert_eq!(count(&told, |m| matches!(m, Missed::Late)), 60 - 9);
        // Who was in line to the end has not even dialled.
        let service = Service::default();
        let slowly = async {
            for _ in 0..9 {
                tokio::time::sleep(Duration::from_millis(500)).await;
                service.room.set(1);
            }
        };
        let (told, ()) = tokio::join!(service.dials(100), slowly);
        assert_eq!(count(&told, |m| matches!(m, Missed::Late)), AT_ONCE);
        assert_eq!(
            count(&told, |m| matches!(m, Missed::Full)),
            100 - AT_ONCE - 9
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_after_it_took_a_connection_is_deaf_too() {
        let service = Service::default();
        service.room.set(1000);
        let shake = || async {
            let end = Instant::now() + LIMIT;
            let mut turn = service.turns.turn(end).await?;
            turn.connect((end, LIMIT), || service.attempt()).await?;
            turn.hear(end, std::future::pending::<()>()).await
        };
        assert!(matches!(shake().await, Err(Missed::Late)));
        assert!(service.turns.is_deaf());
        service.dial().await.unwrap();
        assert!(!service.turns.is_deaf());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_there_is_not_deaf_and_a_full_unix_socket_is() {
        let service = Service::default();
        let dial = async |kind: io::ErrorKind| {
            let end = Instant::now() + LIMIT;
            let mut turn = service.turns.turn(end).await.unwrap();
            let found = turn
                .connect((end, LIMIT), || {
                    std::future::ready(Err::<(), _>(kind.into()))
                })
                .await;
            found.unwrap_err()
        };
        let full = dial(io::ErrorKind::WouldBlock).await;
        assert!(matches!(full, Missed::Late) && service.turns.is_deaf());
        let gone = dial(io::ErrorKind::ConnectionRefused).await;
        assert!(matches!(gone, Missed::Failed(_)) && !service.turns.is_deaf());
    }

    #[tokio::test(start_paused = true)]
    async fn turns_that_are_given_up_are_free_again() {
        let service = Service::default();
        for round in 0..4 {
            drop(timeout(LIMIT / 2, service.dials(200)).await);
            let free = (
                service.turns.free.available_permits(),
                service.turns.tries.load(Ordering::Relaxed),
            );
            assert_eq!(free, (AT_ONCE, 0), "{round}");
        }
    }
}
