//! Numbered views that all members of a side agree on, and which side of a split group may write.
//!
//! Tribes has nothing like it (T6). The messages are our own, between our own nodes: Java members are never part of an agreed view.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use std::sync::Arc;
//! # use tribes_interceptors::{AgreedViews, AgreedViewsConfig};
//! # use tribes_interceptors::agreed_views::Quorum;
//! # use tribes_testkit::net::SimNet;
//! # tokio::time::pause();
//! # let net = SimNet::new(1);
//! // A group that is meant to have one member.
//! let views = Arc::new(AgreedViews::new(AgreedViewsConfig::default().with_quorum(Quorum::Static, 1)));
//! let channel = net.join(tribes_core::Channel::builder()).interceptor(Arc::clone(&views)).build()?;
//! channel.start().await?;
//! let leads = views.standing_changes().wait_for(|standing| standing.is_leader).await.expect("the layer is there");
//! assert_eq!(leads.view.map(|view| view.members.to_vec()), Some(vec![channel.local()]));
//! // Before each thing that must not be done twice.
//! let token = views.may_write().expect("nobody else is there");
//! assert_eq!(leads.token, Some(token));
//! # Ok(()) }
//! ```
//!
//! # How views come about
//! Every [`heartbeat`](AgreedViewsConfig::heartbeat) each member sends each other one a *beat*: what it has installed and promised, whom it
//! follows, and an echo of the other's last beat. Two members are *in touch* as long as each answers the other within
//! [`silence`](AgreedViewsConfig::silence); one way alone does not count. Each follows the first (in absolute order, see [`Member`]) of
//! those it is in touch with; who is first itself *leads*, and proposes a view of itself and those who follow it whenever they are others than
//! those of the last view:
//!
//! ```text
//!  leader                          each member
//!    │── propose (epoch, members) ────►│ promises nothing below this epoch any more
//!    │◄──── promise (where it is from) │ or: refuses, it has promised more
//!    │── install (view) ──────────────►│ installs, and says so in its beats
//! ```
//!
//! Nothing is installed unless *all* members of the proposal have promised it: who does not answer within
//! [`timeout`](AgreedViewsConfig::timeout) is left out of the next one, which has a higher epoch. What is lost is said again. So:
//!
//! 1. A view that a member installs contains it, and is the same at each member that installs it. Its leader proposed it; there is
//!    one for each view.
//! 2. The ids of the views that one process installs grow.
//! 3. Members that stay in touch with each other all, and with nobody else, are all in one view soon: within
//!    `silence` + `settle` + 3 × `timeout` usually; up to five times 3 × `timeout` + `settle` more where somebody had waited for a leader
//!    in vain before.
//!    If some are in touch with each other and others are not (A with B, B with C, not A with C), the sides they form
//!    are agreed on, but which ones it is depends on the order of members.
//! 4. Messages of the application do not wait for views: this is no virtual synchrony. To tell who decided with whom, send
//!    the [`ViewId`] along.
//!
//! # What the application is told
//! [`AgreedViews::events`]: views that were [installed](ViewEvent::ViewInstalled) (who joined, who left on purpose, who is missing), members
//! that [vanished](ViewEvent::PartitionSuspected), sides that [merged](ViewEvent::Merged), and when this side
//! [may](ViewEvent::MayWrite) or [must not](ViewEvent::MustStop) write. [`AgreedViews::standing`] is what holds now.
//!
//! # Who may write
//! A [`QuorumPolicy`] says which side: by default [each](NoQuorum); [`StaticMajority`], [`DynamicMajority`], [`Weighted`], [`KeepOldest`];
//! an external [`Lease`]; or one of your own. [`AgreedViews::may_write`] looks at the clock each time. Under any of them but [`NoQuorum`] and `Lease`:
//!
//! - **At most one side may write at a time**, as long as no clock runs a fourth faster than another. A side that is cut off stops `silence` after it *sent* the last beat that a
//!   quorum answered, so `silence` after the cut at the latest, whether or not a new view has been agreed on by then; at once if membership tells that
//!   the others are gone. The side that goes on waits for `silence` and a fourth from the moment when a quorum has its new view: with the
//!   defaults about five seconds pass from a failure until the next leader may write. Nobody waits when members join or leave on purpose.
//! - A frozen process that thaws finds `may_write` false. What it had begun to do before it cannot take back: that is what
//!   the token is for.
//!
//! # The fencing token
//! With each leader comes a number, the [`token`](AgreedView::token). Hand it to whatever the leader writes to, and let that refuse any lower one than the
//! highest it has seen.
//!
//! | policy | what holds |
//! |---|---|
//! | `StaticMajority`, `Weighted` | greater whenever the leader changes, over all sides that ever could write; no two sides ever have the same. Unless members with half of all votes forget at once (are restarted before they were in a view that may write again): then it starts at the wall clock's milliseconds, and is greater as far as clocks can be trusted for that |
//! | `DynamicMajority`, `KeepOldest` | the same; if those forget on whom it depends, nobody may write |
//! | `Lease` | what the store's own token promises; without one, as with `NoQuorum` |
//! | `NoQuorum` | greater whenever the leader changes, within one side; when sides merge, greater than in both. *Two sides at the same time may have the same token*, or one that grows while the other writes on: it protects nothing from a split |
//!
//! The same leader keeps its token from view to view, unless somebody else had a later one meanwhile.
//!
//! # Restarts
//! A restarted process is another member, also with the same configured id: an incarnation number tells. It has
//! forgotten what it promised, so its vote counts in no majority until it has been in a view that may write. [`AgreedViews::forget`] is the
//! operator's way out if too many have forgotten at once.
//!
//! # Bounds
//! A view has at most 512 members, the first in absolute order; n members send n × (n - 1) beats of 130 bytes each `heartbeat`, so groups of more
//! than a hundred want a longer one. To each member at most one message is under way. Bodies above 1 MiB are refused. At most 256 events
//! wait for a slow reader.
//!
//! # Towards Java
//! Java members hear nothing of all this; they are counted (`members_passed_by`). So is one of ours that has not the layer, or
//! whose configured id does not mark it as ours: it answers no beat.
//!
//! # Place in the stack
//! As `coordinator`: above `tcp-failure-detector`, `static-members` and `domain-filter`. Below what delays messages, so that beats are not
//! delayed: `message-dispatch` and `rate-limit` never see them there.

mod config;
mod core;
mod quorum;
mod shell;
#[cfg(test)]
mod tests;
mod view;
mod wire;

use std::sync::Arc;

#[cfg(doc)]
use tribes_core::Member;
use tribes_core::registry::Configure;
use tribes_core::settings::Settings as _;
use tribes_core::{
    BoxError, Cx, EventVerdict, Gauge, Inbound, Interest, Link, MemberEvent, Rule, SyncInterceptor, Verdict, WireEffect,
};

pub use self::config::{AgreedViewsConfig, ParseWeightError, Quorum, Weight};
use self::core::Core;
pub use self::quorum::{
    Ballot, DynamicMajority, KeepOldest, Lease, LeaseGrant, LeaseRequest, NoQuorum, QuorumPolicy, StaticMajority,
    Weigh, WeighBy, Weighted,
};
use self::shell::Shell;
pub use self::view::{AgreedView, Seat, Side, Standing, StandingChanges, StopReason, ViewEvent, ViewEvents, ViewId};
use self::wire::Message;

const NAME: &str = "agreed-views";

/// The most members of a view.
const MAX_MEMBERS: usize = 512;

/// Agrees on views with the others. See the [module](self). One instance serves one channel; keep an `Arc` of it to ask it.
#[derive(Clone, Debug)]
pub struct AgreedViews(Arc<Shell>);

impl AgreedViews {
    /// A layer with these options. Those out of bounds are refused when the channel is built.
    #[must_use]
    pub fn new(config: AgreedViewsConfig) -> Self {
        let policy = quorum::configured(&config);
        Self(Arc::new(Shell::new(config, policy, None)))
    }

    /// With this policy instead of the one that the options name. All members of the group have the same. Before the channel is
    /// built.
    #[must_use]
    pub fn with_quorum(self, policy: impl QuorumPolicy) -> Self {
        Self(Arc::new(Shell::new(self.0.config.clone(), Arc::new(policy), self.0.lease.clone())))
    }

    /// The side whose leader holds this lease may write, and no policy is asked. Before the channel is built.
    #[must_use]
    pub fn with_lease(self, lease: impl Lease) -> Self {
        Self(Arc::new(Shell::new(self.0.config.clone(), Arc::clone(&self.0.policy), Some(Arc::new(lease)))))
    }

    /// The view that was installed last; `None` before the first one, and while the channel is stopped.
    #[must_use]
    pub fn view(&self) -> Option<Arc<AgreedView>> {
        self.standing().view
    }

    /// The fencing token, if this side may write now, by the clock. Ask before each thing that must not be done twice, and hand the
    /// token on.
    #[must_use]
    pub fn may_write(&self) -> Option<u64> {
        let now = self.0.now();
        self.0.lock().may_write(now)
    }

    /// The fencing token, if the local member leads and its side may write now, by the clock.
    #[must_use]
    pub fn leads(&self) -> Option<u64> {
        let now = self.0.now();
        let core = self.0.lock();
        core.may_write(now).filter(|_| core.standing().is_leader)
    }

    /// What was told last.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.0.published.current()
    }

    /// The changes of that.
    #[must_use]
    pub fn standing_changes(&self) -> StandingChanges {
        self.0.published.watch()
    }

    /// What happens from now on.
    #[must_use]
    pub fn events(&self) -> ViewEvents {
        self.0.published.subscribe()
    }

    /// Has the next view begin anew, whoever is missing of those that were allowed to write: for an operator who *knows* that no
    /// other side can write, when too many members were restarted at once. At any one member of a side whose view may not write;
    /// at others it does nothing. More than half of [`members`](AgreedViewsConfig::members) have to be there. What was allowed
    /// to write after the last view that this member knows of stands.
    pub fn forget(&self) {
        self.0.with_core(Core::forget);
    }
}

#[cfg(test)]
impl AgreedViews {
    fn break_it(&self, defect: core::Defect) {
        self.0.lock().break_it(defect);
    }

    fn incarnation(&self) -> u64 {
        self.0.lock().incarnation().unwrap_or_default()
    }
}

impl Default for AgreedViews {
    fn default() -> Self {
        Self::new(AgreedViewsConfig::default())
    }
}

impl Configure for AgreedViews {
    const NAME: &'static str = NAME;
    const HELP: &'static str = "agrees on numbered views, and on which side of a split group may write";
    type Config = AgreedViewsConfig;
    fn configure(config: AgreedViewsConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config))
    }
}

tribes_core::register_interceptor!(AgreedViews);

/// Options that do not fit together.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("silence must be at least three times heartbeat, or a single beat that is lost would break a group apart")]
    Silence,
    #[error("members must say how many the group is meant to have, or what they weigh together: the quorum needs it")]
    Members,
}

impl SyncInterceptor for AgreedViews {
    fn name(&self) -> &'static str {
        NAME
    }

    fn interest(&self) -> Interest {
        Interest::RECEIVE | Interest::MEMBERS
    }

    fn wire(&self) -> WireEffect {
        WireEffect::Ours
    }

    fn placement(&self) -> &'static [Rule] {
        const RULES: &[Rule] = &[
            Rule::above(
                "tcp-failure-detector",
                "agreed-views would count on members that tcp-failure-detector has found dead",
            ),
            Rule::above("static-members", "agreed-views would not hear of the members that static-members adds"),
            Rule::above("domain-filter", "agreed-views would ask members of other domains, which domain-filter hides"),
        ];
        RULES
    }

    fn check_config(&self) -> Result<(), BoxError> {
        let config = &self.0.config;
        config.validate()?;
        if config.silence < config.heartbeat * 3 {
            return Err(Unfit::Silence.into());
        }
        if config.quorum != Quorum::None && config.members == 0 {
            return Err(Unfit::Members.into());
        }
        Ok(())
    }

    fn start(&self, link: Link) -> Result<(), BoxError> {
        let local = link.local().ok_or("the channel is gone")?;
        self.0.start(&link, local);
        Ok(())
    }

    fn stop(&self) {
        self.0.stop();
    }

    fn receive(&self, msg: &mut Inbound, _: &mut Cx<'_>) -> Verdict<Inbound> {
        if !wire::recognise(&msg.message.body) {
            return Verdict::Pass;
        }
        match Message::decode(&msg.message.body) {
            Ok(message) => {
                self.0.with_core(|core, now| core.received(&msg.message.sender, message, now));
                Verdict::Drop("agreement")
            }
            Err(error) => Verdict::Refuse(error.into()),
        }
    }

    fn member_event(&self, event: &MemberEvent, _: &mut Cx<'_>) -> EventVerdict {
        self.0.with_core(|core, now| core.event(event, now));
        EventVerdict::Pass
    }

    fn gauges(&self) -> Vec<Gauge> {
        let (counts, passed_by, unconfirmed) = {
            let core = self.0.lock();
            (core.counts(), core.passed_by(), core.unconfirmed())
        };
        let (standing, may_write) = (self.standing(), self.may_write().is_some());
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let view = standing.view.as_deref();
        vec![
            Gauge::new("view_members", view.map_or(0, |view| number(view.members.len()))),
            Gauge::new("view_epoch", view.map_or(0, |view| view.id.epoch)),
            Gauge::new("may_write", u64::from(may_write)),
            Gauge::new("is_leader", u64::from(may_write && standing.is_leader)),
            Gauge::new("token", standing.token.unwrap_or_default()),
            Gauge::new("members_passed_by", number(passed_by)),
            Gauge::new("views", counts.views),
            Gauge::new("merges", counts.merges),
            Gauge::new("proposals", counts.proposals),
            Gauge::new("promises", counts.promises),
            Gauge::new("refusals", counts.refusals),
            Gauge::new("proposals_unanswered", counts.unanswered),
            Gauge::new("messages_received", counts.received),
            Gauge::new("messages_stray", counts.stray),
            Gauge::new("views_unconfirmed", number(unconfirmed)),
            Gauge::new("messages_of_far_epochs", counts.far),
        ]
    }
}
