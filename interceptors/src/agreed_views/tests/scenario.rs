//! What happens to a simulated group, as a seed decides: partitions, full and one-way, loss, duplicates, reordering, frozen processes,
//! crashes with and without a restart, members that leave and come, wall clocks that disagree by up to an hour.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Channel, Env, MemberId};
use tribes_testkit::checkers::{OneLeader, ViewsAgree, Violations};
use tribes_testkit::net::{LinkConfig, NetConfig, Node};
use tribes_testkit::{Run, Simulation, World};

use crate::agreed_views::core::Defect;
use crate::agreed_views::{AgreedViews, AgreedViewsConfig, Quorum, ViewEvent, ViewId, Weight};

const MS: Duration = Duration::from_millis(1);
/// How long after the last fault all have to be in one view. It took less than two seconds in what was run.
pub(super) const BOUND: Duration = Duration::from_secs(8);

/// Which group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) quorum: Quorum,
    pub(super) defect: Option<Defect>,
    pub(super) traced: bool,
    /// The first node takes its time to see to a view, and the others do not.
    pub(super) uneven: bool,
    /// More members are restarted at once, or are gone, than a majority can do without; under a policy of which that says what
    /// must not be, never so many as would begin anew.
    pub(super) restarts: bool,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) views: Result<usize, Violations>,
    pub(super) leaders: Result<usize, Violations>,
    /// What should have happened in the end, and did not.
    pub(super) stuck: Option<String>,
    /// How long after the last fault all were in one view.
    pub(super) took: Duration,
    pub(super) merges: usize,
}

impl Found {
    /// What was wrong, shortened.
    pub(super) fn text(&self) -> String {
        let wrong = [&self.views, &self.leaders].into_iter().filter_map(|found| found.as_ref().err());
        let wrong =
            wrong.flat_map(|found| found.violations.iter().take(5)).map(String::as_str).chain(self.stuck.as_deref());
        wrong.map(|text| text.chars().take(2000).collect::<String>()).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn is_sound(&self) -> bool {
        self.views.is_ok() && self.leaders.is_ok() && self.stuck.is_none()
    }
}

/// A process: node and life.
type Process = (usize, u32);

struct Life {
    process: Process,
    channel: Channel,
    views: Arc<AgreedViews>,
}

struct Place {
    node: Node,
    life: Option<Life>,
    lives: u32,
    frozen: bool,
}

/// What members told, in the order in which it happened.
#[derive(Default)]
struct Seen {
    views: ViewsAgree<ViewId, Process>,
    leaders: OneLeader<Process>,
    members: BTreeMap<ViewId, Vec<Process>>,
    merges: usize,
}

struct Group {
    world: World,
    plan: Plan,
    rng: fastrand::Rng,
    places: Vec<Place>,
    seen: Arc<std::sync::Mutex<Seen>>,
    /// Which process has which id at which address.
    processes: Arc<std::sync::Mutex<BTreeMap<(MemberId, u64), Process>>>,
    /// Who is new or was restarted, and who left or died, since all who live were in a view that may write.
    forgot: usize,
    gone: usize,
    settle: Duration,
}

pub(super) fn config(quorum: Quorum, members: usize) -> AgreedViewsConfig {
    AgreedViewsConfig::default()
        .with_heartbeat(200 * MS, 800 * MS)
        .with_timeout(400 * MS)
        .with_settle(50 * MS)
        .with_quorum(quorum, u32::try_from(members).unwrap())
}

/// Runs a plan.
pub(super) fn run(plan: Plan) -> Run<Found> {
    let net = NetConfig::default().with_heartbeat(300 * MS, 1500 * MS).with_ack_timeout(1000 * MS);
    let simulation = Simulation::new(plan.seed).net(net).quiet();
    let simulation = if plan.traced { simulation } else { simulation.untraced() };
    simulation.run(async |world| Group::new(world, plan).live().await)
}

impl Group {
    fn new(world: World, plan: Plan) -> Self {
        let mut rng = fastrand::Rng::with_seed(plan.seed ^ 0xA9EE_D000);
        let count = match rng.u32(..20) {
            0 => rng.usize(10..=20),
            1..=4 => rng.usize(6..=9),
            _ => rng.usize(3..=5),
        };
        let settle = [0, 50, 50, 50, 1500][rng.usize(..5)] * MS;
        let places = (0..count).map(|_| Place { node: world.node(), life: None, lives: 0, frozen: false }).collect();
        Self {
            world,
            plan,
            rng,
            places,
            seen: Arc::default(),
            processes: Arc::default(),
            forgot: count,
            gone: 0,
            settle,
        }
    }

    async fn live(mut self) -> Found {
        let wild = LinkConfig::default()
            .with_loss(self.rng.f64() * 0.05)
            .with_duplicate(self.rng.f64() * 0.05)
            .with_reorder(self.rng.f64() * 0.1, 20 * MS);
        self.world.net().set_links(wild);
        for at in 0..self.places.len() {
            self.start(at, None).await;
            let pause = self.rng.u64(..300);
            self.world.sleep(Duration::from_millis(pause)).await;
        }
        self.pause(3000).await;
        self.settle_count();
        for _ in 0..self.rng.usize(4..=8) {
            self.fault().await;
            self.pause(5000).await;
        }
        self.end().await
    }

    async fn pause(&mut self, at_most: u64) {
        let pause = self.rng.u64(100..at_most);
        self.world.sleep(Duration::from_millis(pause)).await;
    }

    fn some(&mut self) -> usize {
        self.rng.usize(..self.places.len())
    }

    /// Whether one more process may forget, or be gone: fewer than half, or than all.
    fn may_lose(&self) -> bool {
        if self.plan.restarts {
            return self.forgot + self.gone + 1 < self.places.len();
        }
        (self.forgot + self.gone + 1) * 2 < self.places.len()
    }

    /// Some die at the same time, and start again one after another.
    async fn restart_some(&mut self) {
        let mut again = Vec::new();
        for at in 0..self.places.len() {
            if self.rng.bool() || !self.may_lose() {
                continue;
            }
            let Some(life) = self.places[at].life.take() else { continue };
            self.thaw(at);
            self.forgot += 1;
            self.ended(life.process);
            self.places[at].node.crash();
            again.push((at, life.channel.local().id()));
        }
        self.pause(1500).await;
        for (at, id) in again {
            let same = self.rng.bool().then_some(id);
            self.start(at, same).await;
            if self.rng.bool() {
                self.pause(1000).await;
            }
        }
    }

    async fn fault(&mut self) {
        if self.plan.restarts && self.rng.u32(..4) == 0 {
            self.restart_some().await;
            return self.settle_count();
        }
        let at = self.some();
        match self.rng.u32(..10) {
            0..3 => self.partition(),
            3 => {
                let other = self.some();
                self.world.net().cut_one_way(&self.places[at].node, &self.places[other].node);
            }
            4 => self.world.net().heal(),
            5 if !self.places[at].frozen && self.places[at].life.is_some() => {
                self.places[at].frozen = true;
                self.places[at].node.freeze();
                self.pause(2500).await;
                self.thaw(at);
            }
            6 if self.may_lose() && self.places[at].life.is_some() => {
                let life = self.places[at].life.take().unwrap();
                self.gone += 1;
                self.ended(life.process);
                if self.rng.bool() { self.places[at].node.crash() } else { self.places[at].node.power_off() }
            }
            7 if self.may_lose() && self.places[at].life.is_some() => {
                let life = self.places[at].life.take().unwrap();
                self.forgot += 1;
                self.ended(life.process);
                let id = life.channel.local().id();
                self.places[at].node.crash();
                self.pause(1500).await;
                let again = self.rng.bool().then_some(id);
                self.start(at, again).await;
            }
            8 if self.may_lose() && self.places[at].life.is_some() => {
                self.thaw(at);
                let life = self.places[at].life.take().unwrap();
                self.gone += 1;
                life.channel.stop().await;
                self.ended(life.process);
            }
            _ => {
                if let Some(at) = self.places.iter().position(|place| place.life.is_none()) {
                    self.start(at, None).await;
                    self.gone -= 1;
                    self.forgot += 1;
                }
            }
        }
        self.settle_count();
    }

    /// Once all who live may write again, they have not forgotten any more.
    fn settle_count(&mut self) {
        let remember = |life: &Life| life.views.view().is_some_and(|view| view.primary);
        if self.places.iter().filter_map(|place| place.life.as_ref()).all(remember) {
            self.forgot = 0;
        }
    }

    fn partition(&mut self) {
        let sides = self.rng.usize(2..=3);
        let of: Vec<_> = self.places.iter().map(|_| self.rng.usize(..sides)).collect();
        let groups: Vec<Vec<&Node>> = (0..sides)
            .map(|side| {
                self.places.iter().zip(&of).filter(|(_, of)| **of == side).map(|(place, _)| &place.node).collect()
            })
            .collect();
        let groups: Vec<&[&Node]> = groups.iter().map(Vec::as_slice).collect();
        self.world.net().partition(&groups);
        self.world.note(format_args!("sides {of:?}"));
    }

    fn thaw(&mut self, at: usize) {
        self.places[at].node.thaw();
        self.places[at].frozen = false;
    }

    fn ended(&self, process: Process) {
        self.world.note(format_args!("{process:?} ended"));
        self.seen.lock().unwrap().leaders.ended(&process);
    }

    async fn start(&mut self, at: usize, id: Option<MemberId>) {
        let (world, plan, count) = (self.world.clone(), self.plan, self.places.len());
        let skew = self.rng.i64(-3_600_000..3_600_000);
        let settle = if plan.uneven { 1500 * MS * u32::from(at == 0) } else { self.settle };
        let place = &mut self.places[at];
        place.lives += 1;
        let process = (at, place.lives);
        let mut options = config(plan.quorum, count);
        if plan.quorum == Quorum::Weighted {
            // The first has two votes.
            options = config(plan.quorum, count + 1).with_weights([Weight::Payload]);
        }
        let views = Arc::new(AgreedViews::new(options.with_settle(settle)));
        if let Some(defect) = plan.defect {
            views.break_it(defect);
        }
        let mut builder = place.node.join(Channel::builder()).interceptor(Arc::clone(&views));
        if at == 0 {
            builder = builder.payload("2");
        }
        if let Some(id) = id {
            builder = builder.id(id);
        }
        let channel = builder.build().unwrap();
        place.node.sim_env().step_wall_clock(skew);
        let mut events = views.events();
        channel.start().await.unwrap();
        let known = (channel.local().id(), views.incarnation());
        self.processes.lock().unwrap().insert(known, process);
        let (seen, processes) = (Arc::clone(&self.seen), Arc::clone(&self.processes));
        let observer = world.clone();
        place.node.env().spawn(async move {
            while let Some(event) = events.next().await {
                observer.note(format_args!("{process:?} {}", line(&event)));
                observe(&seen, &processes.lock().unwrap(), process, event);
            }
        });
        world.note(format_args!("{process:?} is {} with skew {skew} ms", channel.local().id()));
        place.life = Some(Life { process, channel, views });
    }

    /// No more faults: what has to be in the end.
    async fn end(mut self) -> Found {
        for at in 0..self.places.len() {
            self.thaw(at);
        }
        self.world.net().heal();
        self.world.net().set_links(LinkConfig::default());
        self.world.note("no more faults");
        let living: Vec<_> = self.places.iter().filter_map(|place| place.life.as_ref()).collect();
        let env: Env = self.world.env();
        let since = env.now();
        let together = || {
            let first = living[0].views.view();
            first.is_some_and(|first| {
                first.members.len() == living.len()
                    && living.iter().all(|life| life.views.view().as_ref() == Some(&first))
            })
        };
        let met = self.world.until(BOUND, together).await;
        let took = env.now() - since;
        // More than half were never lost at once, so a fixed majority is there.
        let counted = matches!(self.plan.quorum, Quorum::None | Quorum::Static) && !self.plan.restarts;
        let writes = || living.iter().all(|life| life.views.may_write().is_some());
        let wrote = !counted || self.world.until(BOUND, writes).await;
        // Nothing changes any more.
        self.world.sleep(5000 * MS).await;
        let stays = together() && (!counted || writes());
        let mut seen = std::mem::take(&mut *self.seen.lock().unwrap());
        seen.views.together(living.iter().map(|life| life.process));
        let stuck = (!met || !wrote || !stays).then(|| {
            let standing: Vec<_> = living.iter().map(|life| (life.process, life.views.standing())).collect();
            let mut told = format!("together: {met}, writing: {wrote}, to stay: {stays}; {standing:?}");
            if std::env::var("DUMP").is_ok() {
                for life in &living {
                    told += &format!("\n{:?}: {:?}", life.process, life.views);
                }
            }
            told
        });
        // A fixed majority promises nothing if half of it has forgotten.
        let fixed = matches!(self.plan.quorum, Quorum::Static | Quorum::Weighted);
        let promised = self.plan.quorum != Quorum::None && !(fixed && self.plan.restarts);
        let leaders = if promised { seen.leaders.finish() } else { Ok(0) };
        Found { views: seen.views.finish(), leaders, stuck, took, merges: seen.merges }
    }
}

/// A line of the trace.
fn line(event: &ViewEvent) -> String {
    match event {
        ViewEvent::ViewInstalled { view, .. } => {
            format!(
                "installs {} of {}, primary {}, token {}, wait {:?}",
                view.id,
                view.members.len(),
                view.primary,
                view.token,
                view.wait
            )
        }
        ViewEvent::PartitionSuspected { view, missing } => format!("misses {} of {view}", missing.len()),
        ViewEvent::Merged { sides, .. } => format!("merges {} sides", sides.len()),
        ViewEvent::MayWrite { view, token } => format!("may write under {token} in {view}"),
        ViewEvent::MustStop { view, why } => format!("must stop in {view}: {why}"),
        ViewEvent::TooManyUnconfirmed { views, .. } => format!("has {views} views that are not confirmed"),
        ViewEvent::Missed { events } => format!("missed {events} events"),
    }
}

fn observe(
    seen: &std::sync::Mutex<Seen>,
    processes: &BTreeMap<(MemberId, u64), Process>,
    process: Process,
    event: ViewEvent,
) {
    let mut seen = seen.lock().unwrap();
    let name = |key: &(MemberId, u64)| processes.get(key).copied().unwrap_or((usize::MAX, 0));
    match event {
        ViewEvent::ViewInstalled { view, .. } => {
            let keys = view.members.iter().map(|member| member.id()).zip(view.incarnations.iter().copied());
            let members: Vec<_> = keys.map(|key| name(&key)).collect();
            seen.members.insert(view.id, members.clone());
            seen.views.installed(process, view.id, members, name(&(view.id.coordinator, view.id.incarnation)));
        }
        ViewEvent::Merged { sides, .. } => {
            assert!(sides.len() >= 2, "{sides:?}");
            seen.merges += 1;
        }
        ViewEvent::MayWrite { view, token } => {
            let leader = name(&(view.coordinator, view.incarnation));
            let members = seen.members.get(&view).cloned().unwrap_or_default();
            seen.leaders.began_among(process, token, leader, members);
        }
        ViewEvent::MustStop { .. } => seen.leaders.ended(&process),
        ViewEvent::PartitionSuspected { missing, .. } => assert!(!missing.is_empty()),
        ViewEvent::TooManyUnconfirmed { .. } => {}
        other => panic!("{other:?}"),
    }
}
