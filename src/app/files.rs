//! The files behind a plan, and when a change of theirs counts: once it has stood still, so that nothing half written is put in
//! force.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a change has to stand still.
const STILL: Duration = Duration::from_secs(2);
/// After so long a wait for files that go on changing, people are taken from theirs as they are: who was removed must not stay because
/// a file never comes to rest.
const LONG: Duration = Duration::from_secs(10);

/// After so long somebody should know that what is in them is not in force.
const UNREST: Duration = Duration::from_secs(30);

/// What a look at the files asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing has changed.
    Nothing,
    /// Another look, soon: something changes.
    Look,
    /// Users, tokens and revocations, for what they take away.
    People,
    /// They are to be read again.
    All,
}

/// What a file looks like; nothing when there is none.
type Look = Option<Seen>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    /// Where it is when links are followed.
    real: PathBuf,
    inode: (u64, u64),
    size: u64,
    /// Of what is in it, and of what is known about it.
    times: [(i64, i64); 2],
}

/// What the files behind a plan look like. Links are followed, so the exchange of a whole mounted directory is seen too.
#[derive(Clone, Debug, Default)]
pub struct Stamp {
    /// The configuration itself.
    config: Vec<(PathBuf, Look)>,
    /// Those that it names, and those that the plan in force was made of.
    beside: BTreeMap<PathBuf, Look>,
}

impl Stamp {
    /// These files as they are now.
    pub fn of(config: Vec<PathBuf>, beside: Vec<PathBuf>) -> Self {
        let seen = |path: PathBuf| {
            let look = look(&path);
            (path, look)
        };
        Self {
            config: config.into_iter().map(seen).collect(),
            beside: beside.into_iter().map(seen).collect(),
        }
    }

    /// Whether one of them has changed since. That other ones are looked at now is no change of its own: the configuration says
    /// which, and it has been read since.
    pub fn differs(&self, before: &Self) -> bool {
        self.config != before.config || self.changed(before).next().is_some()
    }

    /// The first one that is not as it was, or is gone.
    fn differing(&self, before: &Self) -> Option<PathBuf> {
        let config = self.config.iter().find(|one| !before.config.contains(one));
        let is_gone = |(path, _): &&(PathBuf, Look)| !self.config.iter().any(|(p, _)| p == path);
        let gone = before.config.iter().find(is_gone);
        let beside = || {
            let is_other = |(path, look): &(&PathBuf, &Look)| {
                before.beside.get(*path).is_some_and(|was| was != *look)
            };
            self.beside.iter().find(is_other).map(|(path, _)| path)
        };
        let config = config.or(gone).map(|(path, _)| path);
        config.or_else(beside).cloned()
    }

    /// Those beside the configuration that are not as they were.
    fn changed<'s>(&'s self, before: &'s Self) -> impl Iterator<Item = (&'s Look, &'s Look)> {
        let both = |(path, look)| Some((look, before.beside.get(path)?));
        self.beside.iter().filter_map(both).filter(|(a, b)| a != b)
    }

    /// Whether everything that has changed is another file by another way, as a mounted directory is exchanged: those were
    /// written before.
    fn is_exchanged(&self, before: &Self) -> bool {
        let elsewhere = |(now, before): (&Look, &Look)| matches!((now, before), (Some(now), Some(before)) if now.real != before.real);
        let config = self.config.iter().zip(&before.config);
        let mut config = config.map(|((a, now), (b, before))| (a == b, now, before));
        self.config.len() == before.config.len()
            && config.all(|(same, now, was)| same && (now == was || elsewhere((now, was))))
            && self.changed(before).all(elsewhere)
    }
}

/// The files as they were when they were read the last time.
#[derive(Debug, Default)]
pub struct Files {
    read: Stamp,
    changing: Option<Changing>,
}

#[derive(Debug)]
struct Changing {
    now: Stamp,
    /// Since when they look like this.
    since: Instant,
    /// When the change was seen, or people were taken.
    begun: Instant,
    /// When it was seen.
    first: Instant,
    /// Whether it was told that they never rest.
    is_told: bool,
}

impl Files {
    /// They are about to be read, as they are now.
    pub fn read(&mut self, now: Stamp) {
        self.read = now;
        self.changing = None;
    }

    /// Whether they are looked at more often.
    pub fn are_changing(&self) -> bool {
        self.changing.is_some()
    }

    /// One look.
    pub fn look(&mut self, now: Stamp, at: Instant) -> Wanted {
        if !now.differs(&self.read) {
            self.read(now);
            return Wanted::Nothing;
        }
        if now.is_exchanged(&self.read) {
            return Wanted::All;
        }
        let changing = self.changing.get_or_insert_with(|| Changing {
            now: now.clone(),
            since: at,
            begun: at,
            first: at,
            is_told: false,
        });
        if now.differs(&changing.now) {
            changing.now = now;
            changing.since = at;
        } else if at.saturating_duration_since(changing.since) >= STILL {
            return Wanted::All;
        }
        if at.saturating_duration_since(changing.begun) >= LONG {
            changing.begun = at;
            return Wanted::People;
        }
        Wanted::Look
    }

    /// Which file goes on changing and for how long, when that is too long.
    pub fn unrest(&self, at: Instant) -> Option<(PathBuf, Duration)> {
        let changing = self.changing.as_ref()?;
        let long = at.saturating_duration_since(changing.first);
        let path = changing.now.differing(&self.read)?;
        (long >= UNREST).then_some((path, long))
    }

    /// The same, once.
    pub fn news_of_unrest(&mut self, at: Instant) -> Option<(PathBuf, Duration)> {
        let found = self.unrest(at)?;
        let changing = self.changing.as_mut()?;
        (!std::mem::replace(&mut changing.is_told, true)).then_some(found)
    }

    /// We have written this file ourselves: that is no change.
    pub fn forgive(&mut self, path: &Path) {
        if let Some(seen) = self.read.beside.get_mut(path) {
            *seen = look(path);
        }
    }
}

fn look(path: &Path) -> Look {
    let about = std::fs::metadata(path).ok()?;
    Some(Seen {
        real: std::fs::canonicalize(path).ok()?,
        inode: (about.dev(), about.ino()),
        size: about.size(),
        times: [
            (about.mtime(), about.mtime_nsec()),
            (about.ctime(), about.ctime_nsec()),
        ],
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    use Wanted::{All, Look, Nothing, People};

    struct Story {
        dir: tempfile::TempDir,
        files: Files,
        begun: Instant,
    }

    impl Story {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("gate.toml"), "one").unwrap();
            fs::write(dir.path().join("users"), "alice").unwrap();
            let mut files = Files::default();
            files.read(stamp(dir.path()));
            Self {
                dir,
                files,
                begun: Instant::now(),
            }
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.dir.path().join(name), text).unwrap();
        }

        /// A look so many milliseconds after the beginning.
        fn look(&mut self, millis: u64) -> Wanted {
            let at = self.begun + Duration::from_millis(millis);
            let wanted = self.files.look(stamp(self.dir.path()), at);
            if wanted == All {
                self.files.read(stamp(self.dir.path()));
            }
            wanted
        }
    }

    fn stamp(dir: &Path) -> Stamp {
        Stamp::of(vec![dir.join("gate.toml")], vec![dir.join("users")])
    }

    #[test]
    fn a_change_counts_when_it_has_stood_still() {
        for name in ["gate.toml", "users"] {
            let mut story = Story::new();
            assert_eq!((story.look(0), story.look(2000)), (Nothing, Nothing));
            story.write(name, "half");
            assert_eq!((story.look(4000), story.look(5900)), (Look, Look));
            story.write(name, "half and half");
            assert_eq!((story.look(6000), story.look(7900)), (Look, Look));
            assert_eq!(story.look(8000), All, "{name} stands still");
            assert_eq!(story.look(8250), Nothing, "and is read once");
        }
    }

    #[test]
    fn a_change_that_is_taken_back_is_none() {
        let mut story = Story::new();
        let (users, aside) = (
            story.dir.path().join("users"),
            story.dir.path().join("aside"),
        );
        fs::hard_link(&users, &aside).unwrap();
        story.files.read(stamp(story.dir.path()));
        fs::remove_file(&users).unwrap();
        assert_eq!((story.look(0), story.look(1900)), (Look, Look));
        fs::hard_link(&aside, &users).unwrap();
        // Its change time is another one, so it counts as changed; but for the whole time.
        assert_eq!((story.look(2000), story.look(3900)), (Look, Look));
        assert_eq!(story.look(4000), All);
    }

    #[test]
    fn of_files_that_never_rest_people_are_taken_and_nothing_else() {
        let mut story = Story::new();
        for millis in (0..30_000_u64).step_by(1000) {
            story.write("users", &"x".repeat(millis as usize / 1000 + 6));
            let wanted = story.look(millis);
            let is_time = millis > 0 && millis % 10_000 == 0;
            assert_eq!(wanted, if is_time { People } else { Look }, "{millis}");
            let at = story.begun + Duration::from_millis(millis);
            assert_eq!(story.files.unrest(at), None, "{millis}");
        }
        // That is told once, and known until it is over.
        story.write("users", "something else");
        assert_eq!(story.look(30_000), People);
        let at = story.begun + UNREST;
        let told = (story.dir.path().join("users"), UNREST);
        assert_eq!(story.files.news_of_unrest(at), Some(told.clone()));
        assert_eq!(story.files.news_of_unrest(at), None);
        assert_eq!(story.files.unrest(at), Some(told));
        assert_eq!(story.look(32_000), All);
        assert_eq!(story.files.unrest(at + UNREST), None);
    }

    #[test]
    fn of_files_that_never_rest_one_that_is_gone_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["gate.toml", "10.toml", "20.toml"].map(|name| dir.path().join(name));
        let now = || {
            let there = paths.iter().filter(|path| path.exists());
            Stamp::of(there.cloned().collect(), Vec::new())
        };
        paths.iter().for_each(|path| fs::write(path, "x").unwrap());
        let (mut files, begun) = (Files::default(), Instant::now());
        files.read(now());
        for second in 0..=UNREST.as_secs() {
            match second % 2 {
                0 => fs::remove_file(&paths[2]).unwrap(),
                _ => fs::write(&paths[2], "x").unwrap(),
            }
            files.look(now(), begun + Duration::from_secs(second));
        }
        assert!(!paths[2].exists());
        let told = files.unrest(begun + UNREST);
        assert_eq!(told, Some((paths[2].clone(), UNREST)));
    }

    #[test]
    fn a_directory_that_is_exchanged_counts_at_once_and_only_what_is_whole_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for n in ["1", "2", "3"] {
            fs::create_dir(at(n)).unwrap();
            fs::write(at(n).join("gate.toml"), n).unwrap();
            fs::write(at(n).join("users"), n).unwrap();
        }
        let swap = |n: &str| {
            symlink(n, at("new")).unwrap();
            fs::rename(at("new"), at("data")).unwrap();
        };
        swap("1");
        let mut files = Files::default();
        let now = || stamp(&at("data"));
        let clock = Instant::now();
        files.read(now());
        swap("2");
        assert_eq!(files.look(now(), clock), All);
        files.read(now());
        // By the same way, in place: that waits.
        fs::write(at("2").join("users"), "more").unwrap();
        assert_eq!(files.look(now(), clock), Look);
        // And so does an exchange that lacks a file.
        files.read(now());
        fs::remove_file(at("3").join("users")).unwrap();
        swap("3");
        assert_eq!(files.look(now(), clock), Look);
        assert_eq!(files.look(now(), clock + STILL), All);
    }
}
