//! The policies that are ready to use.

use tribes_core::Member;

use super::{Ballot, QuorumPolicy, weigh};
use crate::agreed_views::config::{MAX_WEIGHT, Weight};
use crate::agreed_views::{AgreedViewsConfig, Quorum, Seat};

/// Each side may write, as in Tribes (T6). Nothing is exclusive: two sides may write at the same time and under tokens that cannot
/// be compared. When they meet, the new token is above both.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoQuorum;

impl QuorumPolicy for NoQuorum {
    fn name(&self) -> &'static str {
        "none"
    }
    fn begins(&self, _: &[Seat]) -> bool {
        true
    }
    fn holds(&self, _: &Ballot<'_>) -> bool {
        true
    }
    fn is_exclusive(&self) -> bool {
        false
    }
}

/// More than half of a fixed number of members, that never has more processes at once.
///
/// Only those count who have been in a view that may have written: who is new, or was restarted and has forgotten, counts from
/// the first such view on that it is in. Three of five may die for good, as long as it is not three at once. If all of the fixed
/// number are present, they may write whatever they have forgotten. If there are *more* than that number in a view, more than half
/// of those are needed: such a group is set up wrongly, and nothing is guaranteed.
#[derive(Clone, Copy, Debug)]
pub struct StaticMajority(u32);

impl StaticMajority {
    /// Of a group of so many.
    #[must_use]
    pub const fn of(members: u32) -> Self {
        Self(members)
    }

    fn enough(self, some: usize, all: usize) -> bool {
        let members = usize::try_from(self.0).unwrap_or(usize::MAX).max(all);
        some > members / 2
    }
}

impl QuorumPolicy for StaticMajority {
    fn name(&self) -> &'static str {
        "static"
    }
    fn begins(&self, members: &[Seat]) -> bool {
        self.enough(members.len(), members.len())
    }
    fn holds(&self, ballot: &Ballot<'_>) -> bool {
        let all = ballot.present().len();
        self.enough(ballot.remembering().count(), all) || all >= usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// More than half of the members of the last view that was allowed to write; of an even number, half of them suffice if the first
/// in absolute order is among them.
///
/// So a group may shrink step by step, from seven to four to three to two to the first of two, and grow beyond any number, with nothing to
/// configure but how many begin it. It must never have as many processes that have forgotten, or never were in such a view, as
/// that number, while others go on out of their reach. The price: who was restarted has forgotten and does not count, so if half of the last view is
/// restarted at once nobody may write, until [`AgreedViews::forget`](crate::agreed_views::AgreedViews::forget) is called at those who
/// remember, or they are restarted, too.
#[derive(Clone, Copy, Debug)]
pub struct DynamicMajority(u32);

impl DynamicMajority {
    /// So many members begin, all of them together: fewer might begin while one who remembers goes on elsewhere. Told to
    /// [`forget`](crate::agreed_views::AgreedViews::forget), more than half of them are enough.
    #[must_use]
    pub const fn of(members: u32) -> Self {
        Self(members)
    }
}

/// More than half by weight, or half with the first; the first by absolute order, not weight.
fn majority_of_last(ballot: &Ballot<'_>) -> bool {
    let (some, all) = (weigh(ballot.continuing()), weigh(ballot.last()));
    let has_first =
        ballot.continuing().next().is_some_and(|seat| ballot.last().first().is_some_and(|first| first.is(seat)));
    some * 2 > all || (some * 2 == all && has_first)
}

impl QuorumPolicy for DynamicMajority {
    fn name(&self) -> &'static str {
        "dynamic"
    }
    fn begins(&self, members: &[Seat]) -> bool {
        members.len() >= usize::try_from(self.0).unwrap_or(usize::MAX)
    }
    fn begins_anew(&self, members: &[Seat]) -> bool {
        StaticMajority(self.0).begins(members)
    }
    fn holds(&self, ballot: &Ballot<'_>) -> bool {
        majority_of_last(ballot)
    }
}

/// More than half of a fixed weight. As [`StaticMajority`] otherwise: a member with weight 3 counts as three.
///
/// What a member weighs is asked of the first rule that fits it; a member that none fits weighs 1. A weight of 0 makes a member that
/// only looks on. The weight of a member must be the same whoever asks, and must not change while the group runs.
#[derive(Clone, Debug)]
pub struct Weighted<F = Vec<Weight>> {
    total: u32,
    weigh: F,
}

/// Something that knows what a member weighs.
pub trait Weigh: std::fmt::Debug + Send + Sync + 'static {
    /// What this member weighs, up to 1,000,000.
    fn weigh(&self, member: &Member) -> u32;
}

impl Weigh for Vec<Weight> {
    fn weigh(&self, member: &Member) -> u32 {
        self.iter().find_map(|weight| weight.of(member)).unwrap_or(1)
    }
}

/// A function as [`Weigh`].
#[derive(Clone, Copy)]
pub struct WeighBy<F>(F);

impl<F> std::fmt::Debug for WeighBy<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WeighBy(..)")
    }
}

impl<F: Fn(&Member) -> u32 + Send + Sync + 'static> Weigh for WeighBy<F> {
    fn weigh(&self, member: &Member) -> u32 {
        (self.0)(member)
    }
}

impl Weighted {
    /// Of a group that weighs `total` together, by these rules.
    pub fn by_rules(total: u32, rules: impl IntoIterator<Item = Weight>) -> Self {
        Self { total, weigh: rules.into_iter().collect() }
    }
}

impl<F: Fn(&Member) -> u32 + Send + Sync + 'static> Weighted<WeighBy<F>> {
    /// Of a group that weighs `total` together, by this function.
    pub const fn by(total: u32, weigh: F) -> Self {
        Self { total, weigh: WeighBy(weigh) }
    }
}

impl<F> Weighted<F> {
    fn enough(&self, some: u64, all: u64) -> bool {
        some > u64::from(self.total).max(all) / 2
    }
}

impl<F: Weigh> QuorumPolicy for Weighted<F> {
    fn name(&self) -> &'static str {
        "weighted"
    }
    fn weight(&self, member: &Member) -> u32 {
        self.weigh.weigh(member).min(MAX_WEIGHT)
    }
    fn begins(&self, members: &[Seat]) -> bool {
        let all = weigh(members);
        self.enough(all, all)
    }
    fn holds(&self, ballot: &Ballot<'_>) -> bool {
        let all = weigh(ballot.present().iter().copied());
        self.enough(weigh(ballot.remembering()), all) || (all > 0 && all >= u64::from(self.total))
    }
}

/// The side with the oldest member of the last view that was allowed to write: the one that has been in agreed views longest.
///
/// For a group whose oldest member has something that is dear to move. If it is cut off from all others, and these are two at least
/// and together, they go on and it stops. Two members: the oldest goes on; if it dies, nobody may write until it, or someone to
/// [`forget`](crate::agreed_views::AgreedViews::forget), comes.
#[derive(Clone, Copy, Debug)]
pub struct KeepOldest(u32);

impl KeepOldest {
    /// So many members begin, all of them together: fewer might begin while one who remembers goes on elsewhere. Told to
    /// [`forget`](crate::agreed_views::AgreedViews::forget), more than half of them are enough.
    #[must_use]
    pub const fn of(members: u32) -> Self {
        Self(members)
    }
}

impl QuorumPolicy for KeepOldest {
    fn name(&self) -> &'static str {
        "keep-oldest"
    }
    fn begins(&self, members: &[Seat]) -> bool {
        members.len() >= usize::try_from(self.0).unwrap_or(usize::MAX)
    }
    fn begins_anew(&self, members: &[Seat]) -> bool {
        StaticMajority(self.0).begins(members)
    }
    fn holds(&self, ballot: &Ballot<'_>) -> bool {
        // Seats are in absolute order, and the first of the oldest is taken.
        let Some(oldest) = ballot.last().iter().min_by_key(|seat| seat.since) else { return false };
        let (here, all) = (ballot.continuing().count(), ballot.last().len());
        if ballot.continuing().any(|seat| seat.is(oldest)) { all < 3 || here >= 2 } else { all >= 3 && here + 1 == all }
    }
}

/// What the configuration names.
pub(in crate::agreed_views) fn configured(config: &AgreedViewsConfig) -> std::sync::Arc<dyn QuorumPolicy> {
    use std::sync::Arc;
    match config.quorum {
        Quorum::None => Arc::new(NoQuorum),
        Quorum::Static => Arc::new(StaticMajority(config.members)),
        Quorum::Dynamic => Arc::new(DynamicMajority(config.members)),
        Quorum::Weighted => Arc::new(Weighted::by_rules(config.members, config.weights.iter().cloned())),
        Quorum::KeepOldest => Arc::new(KeepOldest(config.members)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::member_of_ours;

    fn seats(numbers: &[u16]) -> Vec<Seat> {
        let seat =
            |number: &u16| Seat { remembers: true, since: u64::from(*number), ..Seat::new(member_of_ours(*number), 7) };
        numbers.iter().map(seat).collect()
    }

    fn holds(policy: &dyn QuorumPolicy, present: &[u16], last: &[u16]) -> bool {
        let (present, last) = (seats(present), seats(last));
        policy.holds(&Ballot::new(&present, &last))
    }

    /// Every subset of the first `count` numbers.
    fn subsets(count: u16) -> impl Iterator<Item = Vec<u16>> {
        (0..1_u32 << count).map(move |bits| (1..=count).filter(|number| bits >> (number - 1) & 1 == 1).collect())
    }

    /// What all rests on.
    #[test]
    fn any_two_quorums_meet_and_more_never_make_less() {
        let weights = || vec!["id:00030000000000000000000000000000=0".parse::<Weight>().unwrap()];
        for count in 1..=6_u16 {
            let policies: [Arc<dyn QuorumPolicy>; 4] = [
                Arc::new(StaticMajority(u32::from(count))),
                Arc::new(DynamicMajority(1)),
                Arc::new(KeepOldest(1)),
                Arc::new(Weighted::by_rules(u32::from(count), weights())),
            ];
            let last: Vec<_> = (1..=count).collect();
            for policy in policies {
                let quorums: Vec<_> = subsets(count).filter(|some| holds(&*policy, some, &last)).collect();
                assert!(quorums.contains(&last), "{policy:?}");
                for one in &quorums {
                    for other in &quorums {
                        let meet = one.iter().any(|number| other.contains(number));
                        assert!(meet, "{policy:?} of {last:?}: {one:?} and {other:?}");
                    }
                    for number in &last {
                        let more: Vec<_> = last
                            .iter()
                            .copied()
                            .filter(|one_more| one.contains(one_more) || one_more == number)
                            .collect();
                        assert!(quorums.contains(&more), "{policy:?} of {last:?}: {one:?} but not {more:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn who_has_forgotten_does_not_count() {
        let policy = StaticMajority(3);
        let mut present = seats(&[1, 2]);
        present[1].remembers = false;
        assert!(!policy.holds(&Ballot::new(&present, &seats(&[1, 3]))));
        assert!(policy.begins(&present));
        present.extend(seats(&[3]));
        assert!(policy.holds(&Ballot::new(&present, &seats(&[1, 3]))));
        // A restarted process is another one.
        let mut again = seats(&[1, 2]);
        again[0].incarnation = 8;
        assert!(!DynamicMajority(3).holds(&Ballot::new(&again, &seats(&[1, 2, 3]))));
    }

    #[test]
    fn a_group_larger_than_it_should_be_needs_more() {
        let policy = StaticMajority(3);
        assert!(policy.begins(&seats(&[1, 2])) && !policy.begins(&seats(&[1])));
        let mut five = seats(&[1, 2, 3, 4, 5]);
        five.iter_mut().skip(2).for_each(|seat| seat.remembers = false);
        assert!(!StaticMajority(6).holds(&Ballot::new(&five, &five)));
    }

    #[test]
    fn weights_are_what_they_say() {
        let member =
            |payload: &'static str| Member::clone(&member_of_ours(1)).with_domain("east").with_payload(payload);
        let rules = |texts: &[&str]| Weighted::by_rules(9, texts.iter().map(|text| text.parse::<Weight>().unwrap()));
        let id = member_of_ours(1).id();
        assert_eq!(rules(&["domain:west=2", "domain:east=3"]).weight(&member("")), 3);
        assert_eq!(rules(&[&format!("id:{id}=4"), "domain:east=3"]).weight(&member("")), 4);
        assert_eq!(rules(&["payload", "domain:east=3"]).weight(&member("17")), 17);
        assert_eq!(rules(&["payload", "domain:east=3"]).weight(&member("x")), 3);
        assert_eq!(rules(&["domain:west=2"]).weight(&member("17")), 1);
        assert_eq!(Weighted::by(9, |member: &Member| u32::try_from(member.port()).unwrap()).weight(&member("")), 1);
        for text in ["payload", "domain:a=b=3", &format!("id:{id}=4")] {
            assert_eq!(text.parse::<Weight>().unwrap().to_string(), text);
        }
        for text in ["", "domain:a", "domain:a=-1", "id:12=1", "port:1=1", "domain:a=1000001", "x=1"] {
            assert!(text.parse::<Weight>().is_err(), "{text}");
        }
    }
}
