//! Follows a child from its start to its end: signals go to it, the ports that it opens are found, a port that others can reach is
//! told. Whoever runs this acts on the news.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::family::{Change, Family};
use super::offer::{Offer, Wanted, choose};
use super::ports::{Opened, Ports, way_in};
use super::signals::{Came, Signals};
use crate::base::loopback::Target;
use crate::exposure::socket_table::Socket;
use crate::exposure::{Verdict, check};
use crate::net::machine;
use crate::upstream::{Answer, NameRefused, ask, refuses};

/// How often the socket table is read while nothing is there to be fronted, and while something is.
const SEARCH: Duration = Duration::from_millis(100);
const WATCH: Duration = Duration::from_millis(500);
/// How long a child has to end after a signal that asked it to.
const GRACE: Duration = Duration::from_secs(10);
/// A child that has opened nothing for so long is worth a word.
const LATE: Duration = Duration::from_secs(20);
/// One that says nothing is asked so many times.
const TRIES: u8 = 5;
/// At most so many ports are asked at a time, and known.
const MOST: usize = 16;

/// What to look for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The port that the child was told.
    pub port: u16,
    /// No other port will do (`--port`).
    pub only: bool,
    /// A port that others can reach is taken all the same (`--unsafe-upstream`).
    pub is_lenient: bool,
    /// The `Host` that the service will see.
    pub host: String,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// This upstream is there.
    Front(String),
    /// What was there has gone; something may come back.
    Gone,
    /// The child's ports can be reached without passing us.
    Exposed(String),
    /// What is there refuses the name that visitors call it by.
    Name(NameRefused),
    /// Nothing has been opened for a while.
    Late,
    /// The child has ended with this code.
    Ended(u8),
    /// The child was asked to end, and has not; or it was asked twice.
    Overdue {
        /// Asked twice: no more patience.
        at_once: bool,
    },
}

/// What a port has answered.
#[derive(Debug)]
struct Known {
    answer: Answer,
    /// It refuses the name that visitors call it by.
    refused: Option<NameRefused>,
    tries: u8,
}

/// A child that is followed.
#[derive(Debug)]
pub struct Follower {
    family: Family,
    signals: Signals,
    wish: Wish,
    ports: Ports,
    answers: HashMap<SocketAddr, Known>,
    asks: JoinSet<(SocketAddr, Answer, Option<NameRefused>)>,
    asked: HashSet<SocketAddr>,
    told: HashSet<u64>,
    last: Opened,
    fronted: Option<String>,
    was_named: bool,
    was_late: bool,
    began: Instant,
    next: Instant,
    overdue: Option<Instant>,
    news: VecDeque<News>,
}

impl Follower {
    /// Begins to follow. The signals were listened to before the child was started, so that none is missed.
    pub fn new(family: Family, signals: Signals, wish: Wish) -> Self {
        let now = Instant::now();
        Self {
            family,
            signals,
            wish,
            ports: Ports::default(),
            answers: HashMap::new(),
            asks: JoinSet::new(),
            asked: HashSet::new(),
            told: HashSet::new(),
            last: Opened::default(),
            fronted: None,
            was_named: false,
            was_late: false,
            began: now,
            next: now,
            overdue: None,
            news: VecDeque::new(),
        }
    }

    /// The family, to be ended.
    pub fn family(&mut self) -> &mut Family {
        &mut self.family
    }

    /// Waits for something to happen. Dropping the future loses nothing but a look at the ports.
    ///
    /// # Errors
    /// When the socket table cannot be read.
    pub async fn next(&mut self) -> io::Result<News> {
        loop {
            if let Some(news) = self.news.pop_front() {
                return Ok(news);
            }
            if let Some(code) = self.family.code() {
                return Ok(News::Ended(code));
            }
            let overdue = self.overdue.unwrap_or(self.next + GRACE);
            tokio::select! {
                biased;
                came = self.signals.next() => self.signalled(came).await,
                Some(Ok((address, answer, refused))) = self.asks.join_next() => self.answered(address, answer, refused),
                () = sleep_until(overdue), if self.overdue.is_some() => {
                    self.overdue = None;
                    return Ok(News::Overdue { at_once: false });
                }
                () = sleep_until(self.next) => self.look().await?,
            }
        }
    }

    async fn signalled(&mut self, came: Came) {
        match came {
            Came::Meant(signal) => {
                self.family.send(signal);
                // At the keyboard Ctrl-C is between the person and the program.
                if came.asks_to_end() && !self.family.is_at_keyboard(signal) {
                    match self.overdue {
                        None => self.overdue = Some(Instant::now() + GRACE),
                        Some(_) => self.news.push_back(News::Overdue { at_once: true }),
                    }
                }
            }
            Came::Child => self.reap().await,
            Came::Continued => {}
        }
    }

    async fn reap(&mut self) {
        match self.family.reap() {
            Change::Stopped(by) => self.family.stopped(by, &mut self.signals).await,
            Change::None | Change::Ended(_) => {}
        }
    }

    async fn look(&mut self) -> io::Result<()> {
        self.reap().await;
        let mut ports = std::mem::take(&mut self.ports);
        let (me, now) = (std::process::id(), std::time::Instant::now());
        let (ports, opened) = tokio::task::spawn_blocking(move || {
            let opened = ports.look(me, now);
            (ports, opened)
        })
        .await
        .map_err(io::Error::other)?;
        self.ports = ports;
        self.last = opened?;
        self.judge().await;
        self.ask();
        self.decide();
        let is_there = self.fronted.is_some() || self.was_late;
        self.next = Instant::now() + if is_there { WATCH } else { SEARCH };
        Ok(())
    }

    /// Tells what is open to others, each socket once.
    async fn judge(&mut self) {
        for socket in self.last.exposed.clone() {
            if !self.told.insert(socket.inode) {
                continue;
            }
            if let Some(words) = exposed(&socket).await {
                self.news.push_back(News::Exposed(words));
            }
        }
        let is_there = |inode: &u64| self.last.sockets.iter().any(|s| s.inode == *inode);
        self.told.retain(is_there);
    }

    /// Where the child can be reached, each port once.
    fn places(&self) -> Vec<SocketAddr> {
        let usable = |s: &&Socket| self.wish.is_lenient || s.is_loopback();
        let mut places: Vec<SocketAddr> = self
            .last
            .sockets
            .iter()
            .filter(usable)
            .filter_map(way_in)
            .collect();
        places.sort_unstable();
        // 127.0.0.1 sorts before ::1.
        places.dedup_by_key(|place| place.port());
        places.truncate(MOST);
        places
    }

    fn ask(&mut self) {
        let places = self.places();
        self.answers.retain(|place, _| places.contains(place));
        for place in places {
            let known = self.answers.get(&place);
            let again = known.is_none_or(|k| k.answer == Answer::Silent && k.tries < TRIES);
            if again && self.asks.len() < MOST && self.asked.insert(place) {
                let host = self.wish.host.clone();
                self.asks.spawn(async move {
                    let target = place.to_string();
                    let answer = ask(&target, &host).await;
                    let scheme = match answer {
                        Answer::Http { tls: true, .. } => "https://",
                        Answer::Http { tls: false, .. } | Answer::Silent | Answer::Other => "",
                    };
                    let refused = refuses(&format!("{scheme}{target}"), &host, &answer).await;
                    (place, answer, refused)
                });
            }
        }
    }

    fn answered(&mut self, place: SocketAddr, answer: Answer, refused: Option<NameRefused>) {
        self.asked.remove(&place);
        let tries = self.answers.get(&place).map_or(0, |known| known.tries) + 1;
        let known = Known {
            answer,
            refused,
            tries,
        };
        self.answers.insert(place, known);
        self.decide();
    }

    fn decide(&mut self) {
        let offer = |address: SocketAddr| Offer {
            address,
            answer: self.answers.get(&address).map(|known| known.answer.clone()),
        };
        let mut offers: Vec<Offer> = self.places().into_iter().map(offer).collect();
        let wanted = Wanted {
            port: self.wish.port,
            only: self.wish.only,
        };
        offers.sort_by_key(|offer| offer.address.port() != wanted.port);
        let best = choose(&offers, wanted, self.fronted.as_deref()).map(|o| o.target(wanted.port));
        if best == self.fronted {
            self.say_name(&offers);
            self.say_late();
            return;
        }
        self.news.push_back(match &best {
            Some(target) => News::Front(target.clone()),
            None => News::Gone,
        });
        self.fronted = best;
        self.began = Instant::now();
        self.was_late = false;
        self.say_name(&offers);
    }

    /// Once: whoever was told does not want to hear it at every restart.
    fn say_name(&mut self, offers: &[Offer]) {
        let is_it = |o: &&Offer| Some(o.target(self.wish.port)) == self.fronted;
        let known = offers.iter().find(is_it);
        let known = known.and_then(|offer| self.answers.get(&offer.address));
        let refused = known.and_then(|known| known.refused.clone());
        if let Some(refused) = refused.filter(|_| !self.was_named) {
            self.was_named = true;
            self.news.push_back(News::Name(refused));
        }
    }

    fn say_late(&mut self) {
        if self.fronted.is_none() && !self.was_late && self.began.elapsed() > LATE {
            self.was_late = true;
            self.news.push_back(News::Late);
        }
    }
}

/// What to say about a socket that is open to others; `None` when it has gone meanwhile.
async fn exposed(socket: &Socket) -> Option<String> {
    let target: Target = format!("127.0.0.1:{}", socket.address.port())
        .parse()
        .ok()?;
    let interfaces = machine::read().map(|m| m.interfaces).unwrap_or_default();
    match check(&[&target.address], &interfaces, &[]).await.pop()? {
        Verdict::Exposed(exposure) => Some(exposure.to_string()),
        Verdict::Loopback | Verdict::NotListening | Verdict::CannotTell(_) => None,
    }
}
