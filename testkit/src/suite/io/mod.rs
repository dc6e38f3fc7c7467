//! What the parts of the IO layer have to do: senders, receivers, membership services.

mod bench;
mod membership;
mod profile;
mod receiver;
mod sender;
mod site;

use std::sync::Arc;

use tribes_core::{ChannelBuilder, ChannelReceiver, ChannelSender, MembershipService};

pub use self::profile::IoProfile;
pub use self::site::Site;
use super::run::{Case, TestSite, run_case, run_test};
use super::{CaseReport, Seeds, SuiteReport};

/// Gives a builder a part that is made for a site.
type Install = Arc<dyn Fn(&Site, ChannelBuilder) -> ChannelBuilder + Send + Sync>;

/// What is tested: the parts of every channel of the group.
#[derive(Clone)]
struct Subject {
    sender: Install,
    receiver: Install,
    /// Where there is none the case says who is there.
    membership: Option<Install>,
    profile: IoProfile,
}

fn sender_of<T: ChannelSender>(make: impl Fn(&Site) -> T + Send + Sync + 'static) -> Install {
    Arc::new(move |site, builder| builder.sender(make(site)))
}

fn receiver_of<T: ChannelReceiver>(make: impl Fn(&Site) -> T + Send + Sync + 'static) -> Install {
    Arc::new(move |site, builder| builder.receiver(make(site)))
}

fn membership_of<T: MembershipService>(make: impl Fn(&Site) -> T + Send + Sync + 'static) -> Install {
    Arc::new(move |site, builder| builder.membership(make(site)))
}

impl Subject {
    fn report(&self, suite: &'static str, seeds: Seeds, cases: Vec<CaseReport>) -> SuiteReport {
        SuiteReport { suite, subject: self.profile.name.to_owned(), declared: self.profile.declared(), seeds, cases }
    }

    fn all(&self, suite: &'static str, cases: &[Case<Self>]) -> SuiteReport {
        let seeds = Seeds::from_env();
        let report = self.report(suite, seeds, cases.iter().map(|case| run_case(*case, self, seeds)).collect());
        eprintln!("{report}");
        report.write(&format!("{suite}.{}", report.subject));
        report
    }

    fn test(&self, suite: &'static str, cases: &[Case<Self>], name: &str, site: TestSite) {
        run_test(cases, name, self, site, |seeds, case| self.report(suite, seeds, vec![case]));
    }
}

/// Runs all cases on a sender, as [`sender_suite!`](crate::sender_suite) does, which says what the arguments are.
///
/// | case | demands |
/// |---|---|
/// | `lifecycle` | it starts and stops, also twice, in time, and works after each start |
/// | `delivery` | bodies of any size arrive unchanged, once and in order, under each acknowledgement |
/// | `concurrency` | what many tasks send at once arrives once, and each task's in order |
/// | `outcomes` | one outcome for each message, which blames the member that is not there and nobody else |
/// | `receipts` | a synchronized acknowledgement is what the remote listener said |
/// | `independence` | a member that does not get on delays no other |
/// | `backpressure` | no more is accepted than there is room for, and all of it gets its outcome |
/// | `cancellation` | a send or a start that is dropped at any of its awaits spoils nothing |
/// | `stopping` | what is accepted when the sender stops has its outcome soon |
/// | `probes` | a member that is there is found alive, one that is not is found so in time |
/// | `memory` | when traffic has ended, no body and no room is kept |
pub fn sender_suite<S: ChannelSender, R: ChannelReceiver>(
    sender: impl Fn(&Site) -> S + Send + Sync + 'static,
    receiver: impl Fn(&Site) -> R + Send + Sync + 'static,
    profile: IoProfile,
) -> SuiteReport {
    pair(sender, receiver, profile).all("sender", sender::ALL)
}

/// Runs all cases on a receiver, as [`receiver_suite!`](crate::receiver_suite) does, which says what the arguments are.
///
/// | case | demands |
/// |---|---|
/// | `lifecycle` | it says where it listens, starts and stops, also twice, in time, and works after each start |
/// | `delivery` | what several members send arrives unchanged, once, and each one's in order |
/// | `receipts` | each acknowledgement says what became of the message: taken, failed, or nobody's |
/// | `backpressure` | it takes no more than it has memory for while its listeners do not get on, and loses nothing |
/// | `stopping` | it stops in time while listeners do not get on, and its senders hear of it |
/// | `hostile` | bytes without sense harm nobody else, where it has a TCP port |
pub fn receiver_suite<R: ChannelReceiver, S: ChannelSender>(
    receiver: impl Fn(&Site) -> R + Send + Sync + 'static,
    sender: impl Fn(&Site) -> S + Send + Sync + 'static,
    profile: IoProfile,
) -> SuiteReport {
    pair(sender, receiver, profile).all("receiver", receiver::ALL)
}

/// Runs all cases on a membership service, as [`membership_suite!`](crate::membership_suite) does, which says what the
/// arguments are.
///
/// | case | demands |
/// |---|---|
/// | `lifecycle` | it starts and stops, also twice, in time |
/// | `meeting` | members find each other, each once, and none finds itself |
/// | `leaving` | a member that stops is removed everywhere, as one that left on purpose |
/// | `returning` | a member that starts again is there again, as another |
/// | `updates` | a changed payload is told to the others |
/// | `halves` | who only listens is not found, and who only announces finds nobody |
/// | `cancellation` | a start or stop that is dropped at any of its awaits spoils nothing |
/// | `quiet` | nothing is told of a group in which nothing happens |
pub fn membership_suite<M: MembershipService, S: ChannelSender, R: ChannelReceiver>(
    service: impl Fn(&Site) -> M + Send + Sync + 'static,
    sender: impl Fn(&Site) -> S + Send + Sync + 'static,
    receiver: impl Fn(&Site) -> R + Send + Sync + 'static,
    profile: IoProfile,
) -> SuiteReport {
    with_membership(service, sender, receiver, profile).all("membership", membership::ALL)
}

fn pair<S: ChannelSender, R: ChannelReceiver>(
    sender: impl Fn(&Site) -> S + Send + Sync + 'static,
    receiver: impl Fn(&Site) -> R + Send + Sync + 'static,
    profile: IoProfile,
) -> Subject {
    Subject { sender: sender_of(sender), receiver: receiver_of(receiver), membership: None, profile }
}

fn with_membership<M: MembershipService, S: ChannelSender, R: ChannelReceiver>(
    service: impl Fn(&Site) -> M + Send + Sync + 'static,
    sender: impl Fn(&Site) -> S + Send + Sync + 'static,
    receiver: impl Fn(&Site) -> R + Send + Sync + 'static,
    profile: IoProfile,
) -> Subject {
    Subject { membership: Some(membership_of(service)), ..pair(sender, receiver, profile) }
}

/// Runs a case of a sender as a test; for the macro.
#[doc(hidden)]
pub fn __sender_test<S: ChannelSender, R: ChannelReceiver>(
    name: &str,
    site: TestSite,
    (sender, receiver, profile): (
        impl Fn(&Site) -> S + Send + Sync + 'static,
        impl Fn(&Site) -> R + Send + Sync + 'static,
        IoProfile,
    ),
) {
    pair(sender, receiver, profile).test("sender", sender::ALL, name, site);
}

/// Runs a case of a receiver as a test; for the macro.
#[doc(hidden)]
pub fn __receiver_test<R: ChannelReceiver, S: ChannelSender>(
    name: &str,
    site: TestSite,
    (receiver, sender, profile): (
        impl Fn(&Site) -> R + Send + Sync + 'static,
        impl Fn(&Site) -> S + Send + Sync + 'static,
        IoProfile,
    ),
) {
    pair(sender, receiver, profile).test("receiver", receiver::ALL, name, site);
}

/// Runs a case of a membership service as a test; for the macro.
#[doc(hidden)]
pub fn __membership_test<M: MembershipService, S: ChannelSender, R: ChannelReceiver>(
    name: &str,
    site: TestSite,
    (service, sender, receiver, profile): (
        impl Fn(&Site) -> M + Send + Sync + 'static,
        impl Fn(&Site) -> S + Send + Sync + 'static,
        impl Fn(&Site) -> R + Send + Sync + 'static,
        IoProfile,
    ),
) {
    with_membership(service, sender, receiver, profile).test("membership", membership::ALL, name, site);
}
