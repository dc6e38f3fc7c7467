//! Where the demo plays: the three members, what they notice, and waiting for it with a deadline.

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::time::Duration;

use tokio::sync::mpsc;
use tribes::{BoxError, Departure, Env, MemberEvent, TaskHandle, Time};

use super::cast::{Actor, Group, Happening, Note, What, guarantee, name_of};
use super::screen::Screen;
use crate::units::{Short, with_causes};

/// Time for one thing to happen; far more than it takes, for machines that are busy with other things.
const DEADLINE: Duration = Duration::from_secs(5);

/// The members of this process.
pub(super) const NAMES: [&str; 3] = ["anna", "bert", "carl"];

#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) screen: &'a Screen,
    pub(super) env: Env,
    pub(super) group: Group,
    pub(super) actors: Vec<Actor>,
    begin: Time,
    happenings: mpsc::UnboundedReceiver<Happening>,
}

impl<'a> Stage<'a> {
    /// Makes the members; none is started yet.
    pub(super) fn set(env: Env, screen: &'a Screen) -> Result<Self, BoxError> {
        let group = Group::free()?;
        let (tell, happenings) = mpsc::unbounded_channel();
        let actors = NAMES.into_iter().map(|name| Actor::new(name, group, &env, &tell)).collect::<Result<_, _>>()?;
        let begin = env.now();
        Ok(Self { screen, env, group, actors, begin, happenings })
    }

    /// The member that does the sending.
    pub(super) fn first(&self) -> Result<&Actor, BoxError> {
        self.actors.first().ok_or_else(|| "a first member".into())
    }

    /// Tells something that happened now.
    pub(super) fn tell(&self, who: &str, what: impl Display) {
        self.tell_at(self.env.now(), who, what);
    }

    /// Tells something that happened then.
    pub(super) fn tell_at(&self, at: Time, who: &str, what: impl Display) {
        self.screen.happened(at - self.begin, who, what);
    }

    /// Runs `future` for at most the deadline.
    pub(super) async fn within<T, E>(
        &self,
        what: &str,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, BoxError>
    where
        BoxError: From<E>,
    {
        match self.env.until(self.env.now() + DEADLINE, future).await {
            Some(Ok(done)) => Ok(done),
            Some(Err(error)) => Err(format!("{what}: {}", with_causes(BoxError::from(error).as_ref())).into()),
            None => Err(format!("{what} within {}", Short(DEADLINE)).into()),
        }
    }

    /// Waits until `task` has ended.
    pub(super) async fn ended(&self, what: &str, mut task: TaskHandle) -> Result<(), BoxError> {
        let end = async {
            task.ended().await;
            Ok::<_, BoxError>(())
        };
        self.within(what, end).await
    }

    /// The next thing that anyone notices; `what` is being waited for.
    pub(super) async fn next(&mut self, what: &str, deadline: Time) -> Result<Happening, BoxError> {
        match self.env.until(deadline, self.happenings.recv()).await {
            Some(Some(happening)) => Ok(happening),
            _ => Err(format!("{what} within {}", Short(DEADLINE)).into()),
        }
    }

    /// The deadline of something that begins now.
    pub(super) fn deadline(&self) -> Time {
        self.env.now() + DEADLINE
    }

    /// Waits until each pair of `expected` has come true: the one has noticed `wanted` of the other. Tells it with the time
    /// since `since`; what is noticed besides is told as well.
    pub(super) async fn all_notice(
        &mut self,
        expected: impl IntoIterator<Item = (&'static str, &'static str)>,
        wanted: Sight,
        since: Time,
    ) -> Result<(), BoxError> {
        let deadline = self.deadline();
        let mut expected: BTreeSet<_> = expected.into_iter().collect();
        while !expected.is_empty() {
            let missing: Vec<_> = expected.iter().map(|(who, of)| format!("{who} sees {of} {wanted}")).collect();
            let happening = self.next(&missing.join(", "), deadline).await?;
            let Some(text) = describe(&happening.what) else { continue };
            let sight = sight(&happening.what);
            let hit =
                expected.iter().find(|(who, of)| *who == happening.who && sight == Some((wanted, (*of).to_owned())));
            let text = match hit.copied() {
                Some(hit) => {
                    expected.remove(&hit);
                    format!("{text:<44}{:>8} after {}", Short(happening.at - since), wanted.cause())
                }
                None => text,
            };
            self.tell_at(happening.at, happening.who, text);
        }
        Ok(())
    }

    /// Waits until each of `listeners` has heard a greeting, and tells it.
    pub(super) async fn all_hear(&mut self, listeners: &[&'static str]) -> Result<(), BoxError> {
        let deadline = self.deadline();
        let mut left = listeners.to_vec();
        while !left.is_empty() {
            let happening = self.next(&format!("{} hearing a greeting", left.join(" and ")), deadline).await?;
            if matches!(happening.what, What::Note { note: Note::Hello { .. }, .. }) {
                left.retain(|name| *name != happening.who);
            }
            if let Some(text) = describe(&happening.what) {
                self.tell_at(happening.at, happening.who, text);
            }
        }
        Ok(())
    }

    /// Ends all members in order.
    pub(super) async fn clear(&mut self) {
        for actor in &self.actors {
            actor.channel.stop().await;
        }
    }
}

/// What can be seen of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    Join,
    Leave,
    Die,
}

impl Sight {
    const fn cause(self) -> &'static str {
        match self {
            Self::Join => "its start",
            Self::Leave => "it was told to",
            Self::Die => "the kill",
        }
    }
}

impl Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Die => "die",
        })
    }
}

/// What of a member was noticed, and its name.
fn sight(what: &What) -> Option<(Sight, String)> {
    match what {
        What::Member(MemberEvent::Added(member)) => Some((Sight::Join, name_of(member))),
        What::Member(MemberEvent::Removed(member, Departure::Shutdown)) => Some((Sight::Leave, name_of(member))),
        What::Member(MemberEvent::Removed(member, Departure::Failed | Departure::Expired)) => {
            Some((Sight::Die, name_of(member)))
        }
        _ => None,
    }
}

/// What was noticed, as told.
fn describe(what: &What) -> Option<String> {
    Some(match what {
        What::Member(MemberEvent::Added(member)) => format!("sees {} join", name_of(member)),
        What::Member(MemberEvent::Suspected(member, why)) => format!("suspects {}: {why}", name_of(member)),
        What::Member(MemberEvent::Removed(member, why)) => format!("knows that {} is gone: {why}", name_of(member)),
        What::Note { note: Note::Hello { text }, from, options } => {
            format!("hears {} say {text:?} under {}", name_of(from), guarantee(*options))
        }
        What::Member(_) | What::Note { .. } => return None,
    })
}
