//! Which files of a folder are still, and what is to become of them. No I/O and no clock.
//!
//! Whatever the operating system tells is a hint to look. A file is taken when it looked the same for the settle time, was hashed
//! twice with the same outcome, and still looks so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tribes_core::Time;

use crate::digest::Digest;
use crate::disk::Stamp;
use crate::name::ArtefactName;

/// After what time a file is tried again that could not be read or published.
const AGAIN: Duration = Duration::from_secs(10);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Look at it: [`Folder::saw`].
    Look(ArtefactName),
    /// Read it twice, and publish it if it was the same and is news: [`Folder::took`].
    Take(ArtefactName),
    /// It is gone: publish that, if what is published is what was in it: [`Folder::removed`].
    Remove(ArtefactName, Digest),
}

/// How taking a file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Took {
    /// It is published, or had been: this content.
    Published(Digest),
    /// It changed meanwhile.
    Changed,
    /// It is not to be had now.
    Failed,
}

/// The files of the folder.
#[derive(Debug)]
pub(crate) struct Folder {
    settle: Duration,
    files: BTreeMap<ArtefactName, File>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct File {
    state: State,
    /// What of it is published.
    published: Option<Digest>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It looks so (`None`: it is not there), and is looked at again then.
    Moving {
        stamp: Option<Stamp>,
        look: Time,
    },
    /// It looked so for the settle time, and is looked at once more.
    Looking {
        stamp: Option<Stamp>,
    },
    Taking(Stamp),
    /// It is gone, and that is being published.
    Removing,
    Still(Stamp),
    Failed {
        stamp: Stamp,
        again: Time,
    },
}

impl Folder {
    pub(crate) const fn new(settle: Duration) -> Self {
        Self { settle, files: BTreeMap::new() }
    }

    /// Something may have happened to a file.
    pub(crate) fn hint(&mut self, name: ArtefactName) -> Option<Action> {
        match self.files.get(&name).map(|file| file.state) {
            Some(State::Looking { .. } | State::Taking(_) | State::Removing) => None,
            _ => Some(Action::Look(name)),
        }
    }

    /// All files as they are. What is missing is looked at, since it may have been renamed into another place while this was
    /// put together.
    pub(crate) fn scanned(&mut self, found: &BTreeMap<ArtefactName, Stamp>, now: Time) -> Vec<Action> {
        let mut actions: Vec<_> = found.iter().filter_map(|(name, stamp)| self.saw(name, Some(*stamp), now)).collect();
        let known: BTreeSet<_> = self.files.keys().cloned().collect();
        let missing = known.into_iter().filter(|name| !found.contains_key(name));
        actions.extend(missing.filter_map(|name| self.hint(name)));
        actions
    }

    /// How a file looks; `None`: there is none.
    pub(crate) fn saw(&mut self, name: &ArtefactName, stamp: Option<Stamp>, now: Time) -> Option<Action> {
        let moving = State::Moving { stamp, look: now + self.settle };
        let Some(file) = self.files.get_mut(name) else {
            if stamp.is_some() {
                self.files.insert(name.clone(), File { state: moving, published: None });
            }
            return None;
        };
        let known = match file.state {
            State::Moving { stamp, .. } | State::Looking { stamp } => stamp,
            State::Taking(stamp) | State::Still(stamp) | State::Failed { stamp, .. } => Some(stamp),
            State::Removing => None,
        };
        match file.state {
            // It will be looked at when that has ended.
            State::Taking(_) | State::Removing => None,
            _ if known != stamp => {
                file.state = moving;
                None
            }
            State::Looking { stamp: Some(stamp) } => {
                file.state = State::Taking(stamp);
                Some(Action::Take(name.clone()))
            }
            State::Looking { stamp: None } => {
                let Some(published) = file.published else {
                    self.files.remove(name);
                    return None;
                };
                file.state = State::Removing;
                Some(Action::Remove(name.clone(), published))
            }
            _ => None,
        }
    }

    /// It could not be looked at: that says nothing of it.
    pub(crate) fn unseen(&mut self, name: &ArtefactName, now: Time) {
        if let Some(file) = self.files.get_mut(name)
            && let State::Looking { stamp } = file.state
        {
            file.state = State::Moving { stamp, look: now + AGAIN };
        }
    }

    /// A file was taken, or not.
    pub(crate) fn took(&mut self, name: &ArtefactName, took: Took, now: Time) -> Option<Action> {
        let file = self.files.get_mut(name)?;
        let State::Taking(stamp) = file.state else { return None };
        match took {
            Took::Published(hash) => {
                file.published = Some(hash);
                file.state = State::Still(stamp);
                // It may have changed since.
                return Some(Action::Look(name.clone()));
            }
            Took::Changed => file.state = State::Moving { stamp: Some(stamp), look: now + self.settle },
            Took::Failed => file.state = State::Failed { stamp, again: now + AGAIN },
        }
        None
    }

    /// That a file is gone is published, or need not be; or it could not be, and is tried again.
    pub(crate) fn removed(&mut self, name: &ArtefactName, done: bool, now: Time) -> Option<Action> {
        let file = self.files.get_mut(name).filter(|file| file.state == State::Removing)?;
        if !done {
            file.state = State::Moving { stamp: None, look: now + AGAIN };
            return None;
        }
        self.files.remove(name);
        // It may be there again.
        Some(Action::Look(name.clone()))
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        for (name, file) in &mut self.files {
            match file.state {
                State::Moving { stamp, look, .. } if look <= now => {
                    // Looked at once more, at the end of the settle time: until then nobody may have looked.
                    file.state = State::Looking { stamp };
                    actions.push(Action::Look(name.clone()));
                }
                State::Failed { stamp, again } if again <= now => {
                    file.state = State::Taking(stamp);
                    actions.push(Action::Take(name.clone()));
                }
                _ => {}
            }
        }
        actions
    }

    /// When [`tick`](Self::tick) is to be called at the latest.
    pub(crate) fn next_wake(&self) -> Time {
        let wake = |file: &File| match file.state {
            State::Moving { look, .. } => look,
            State::Failed { again, .. } => again,
            _ => Time::NEVER,
        };
        self.files.values().map(wake).min().unwrap_or(Time::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_millis(750);

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn stamp(size: u64) -> Option<Stamp> {
        Some(Stamp::made(size, 1))
    }

    fn name() -> ArtefactName {
        "rules.json".parse().unwrap()
    }

    fn digest(byte: u8) -> Digest {
        Digest::from_bytes([byte; 32])
    }

    /// Seen, still for the settle time, taken and published.
    fn published() -> Folder {
        let mut folder = Folder::new(SETTLE);
        folder.saw(&name(), stamp(5), at(0));
        folder.tick(at(750));
        assert_eq!(folder.saw(&name(), stamp(5), at(750)), Some(Action::Take(name())));
        assert_eq!(folder.took(&name(), Took::Published(digest(1)), at(751)), Some(Action::Look(name())));
        folder
    }

    /// Row 22: a file that is still written is not taken.
    #[test]
    fn a_file_that_grows_is_taken_when_it_is_still() {
        let mut folder = Folder::new(SETTLE);
        assert_eq!(folder.hint(name()), Some(Action::Look(name())));
        assert_eq!(folder.saw(&name(), stamp(1), at(0)), None);
        for step in 1..10 {
            assert_eq!(folder.tick(at(step * 500)), []);
            assert_eq!(folder.saw(&name(), stamp(step + 1), at(step * 500)), None);
        }
        assert_eq!(folder.next_wake(), at(4500 + 750));
        assert_eq!(folder.tick(at(5250)), [Action::Look(name())]);
        // Nobody had looked since, and it has grown.
        assert_eq!(folder.saw(&name(), stamp(99), at(5251)), None);
        assert_eq!(folder.tick(at(6001)), [Action::Look(name())]);
        assert_eq!(folder.hint(name()), None, "it is looked at already");
        assert_eq!(folder.saw(&name(), stamp(99), at(6001)), Some(Action::Take(name())));
        // It changes while it is read.
        assert_eq!(folder.saw(&name(), stamp(100), at(6002)), None);
        assert_eq!(folder.took(&name(), Took::Changed, at(6003)), None);
        assert_eq!(folder.tick(at(6753)), [Action::Look(name())]);
        assert_eq!(folder.saw(&name(), stamp(100), at(6753)), None, "not what was still");
    }

    #[test]
    fn what_is_still_is_left_alone_until_it_changes() {
        let mut folder = published();
        assert_eq!(folder.saw(&name(), stamp(5), at(752)), None);
        assert_eq!(folder.next_wake(), Time::NEVER);
        assert_eq!(folder.scanned(&BTreeMap::from([(name(), stamp(5).unwrap())]), at(9000)), []);
        assert_eq!(folder.saw(&name(), stamp(6), at(9001)), None);
        assert_eq!(folder.tick(at(9751)), [Action::Look(name())]);
    }

    #[test]
    fn a_removal_is_told_when_it_lasts() {
        let mut folder = published();
        assert_eq!(folder.scanned(&BTreeMap::new(), at(1000)), [Action::Look(name())]);
        assert_eq!(folder.saw(&name(), None, at(1000)), None);
        // An editor that removes and writes anew.
        assert_eq!(folder.saw(&name(), stamp(5), at(1100)), None);
        folder.tick(at(1850));
        assert_eq!(folder.saw(&name(), stamp(5), at(1850)), Some(Action::Take(name())));
        folder.took(&name(), Took::Published(digest(2)), at(1851));
        assert_eq!(folder.saw(&name(), None, at(2000)), None);
        assert_eq!(folder.tick(at(2750)), [Action::Look(name())]);
        assert_eq!(folder.saw(&name(), None, at(2750)), Some(Action::Remove(name(), digest(2))));
        assert_eq!(folder.next_wake(), Time::NEVER);
        assert_eq!(folder.hint(name()), None, "it is looked at when that has ended");
        assert_eq!(folder.removed(&name(), true, at(2760)), Some(Action::Look(name())));
        assert_eq!(folder.saw(&name(), None, at(2761)), None);
        assert_eq!(folder.next_wake(), Time::NEVER);
    }

    #[test]
    fn a_removal_that_is_not_published_is_tried_again() {
        let mut folder = published();
        let now = at(1750);
        folder.saw(&name(), None, at(1000));
        folder.tick(now);
        assert_eq!(folder.saw(&name(), None, now), Some(Action::Remove(name(), digest(1))));
        assert_eq!(folder.removed(&name(), false, now), None);
        assert_eq!(folder.tick(now), []);
        assert_eq!(folder.next_wake(), now + AGAIN);
        assert_eq!(folder.tick(now + AGAIN), [Action::Look(name())]);
        assert_eq!(folder.saw(&name(), None, now + AGAIN), Some(Action::Remove(name(), digest(1))));
    }

    #[test]
    fn what_cannot_be_looked_at_is_not_gone() {
        let mut folder = published();
        folder.saw(&name(), None, at(1000));
        assert_eq!(folder.tick(at(1750)), [Action::Look(name())]);
        folder.unseen(&name(), at(1750));
        assert_eq!(folder.tick(at(1800)), []);
        assert_eq!(folder.tick(at(1750) + AGAIN), [Action::Look(name())]);
        assert_eq!(folder.saw(&name(), stamp(5), at(1751) + AGAIN), None, "it is there again");
    }

    #[test]
    fn what_was_never_published_goes_without_a_word() {
        let mut folder = Folder::new(SETTLE);
        folder.saw(&name(), stamp(1), at(0));
        folder.saw(&name(), None, at(1));
        folder.tick(at(751));
        assert_eq!(folder.saw(&name(), None, at(751)), None);
        assert_eq!(folder.saw(&name(), None, at(752)), None);
        assert_eq!(folder.next_wake(), Time::NEVER);
    }

    #[test]
    fn what_cannot_be_read_is_tried_again() {
        let mut folder = Folder::new(SETTLE);
        folder.saw(&name(), stamp(1), at(0));
        folder.tick(at(750));
        folder.saw(&name(), stamp(1), at(750));
        folder.took(&name(), Took::Failed, at(751));
        assert_eq!(folder.tick(at(752)), []);
        assert_eq!(folder.tick(at(751) + AGAIN), [Action::Take(name())]);
    }
}
