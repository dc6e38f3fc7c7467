//! The link to one member, without a socket: what is written when, and what becomes of it when connections break.

use std::sync::Arc;
use std::time::Duration;

use tribes_core::budget::{Budget, BudgetConfig};
use tribes_core::message::Body;
use tribes_core::wire::{self, Frame, FrameDecoder, HandledCode, Limits};
use tribes_core::{
    ChannelMessage, Delivery, Env, FaultKind, Member, MemberId, MessageId, Outbound, Pending, SendOptions, Time,
};

use super::core::{LinkCore, Resolved};
use crate::MAX_SYNCHRONIZED;

const TIMEOUT: Duration = Duration::from_secs(3);

/// A link with a numbered message for each completion that it owes.
struct Bench {
    link: LinkCore,
    member: Arc<Member>,
    pending: Vec<Pending>,
    resolved: Vec<Resolved>,
    /// Outcomes of writes, until `flushed`.
    written: Vec<Resolved>,
    in_hand: usize,
    now: Time,
}

fn ours() -> MemberId {
    MemberId::generate(&Env::real()).unwrap()
}

impl Bench {
    fn new(id: MemberId) -> Self {
        let member = Arc::new(Member::new(id, ([127, 0, 0, 1], 4000).into()));
        let room = Budget::new(BudgetConfig::default(), Env::real()).reserve_none(&member);
        let mut link = LinkCore::new(&member, room, 1000, TIMEOUT, 7);
        link.connected(None, Time::ZERO, &mut Vec::new());
        Self {
            link,
            member,
            pending: Vec::new(),
            resolved: Vec::new(),
            written: Vec::new(),
            in_hand: 0,
            now: Time::ZERO,
        }
    }

    fn push(&mut self, options: SendOptions) {
        let message = ChannelMessage {
            options,
            timestamp_ms: 0,
            id: MessageId::from_array([0; 16]),
            sender: Arc::clone(&self.member),
            body: Body::new(vec![u8::try_from(self.pending.len()).unwrap()]),
        };
        let sender = super::encoded(&message.sender);
        let (out, pending) = Outbound::new(message, std::slice::from_ref(&self.member));
        self.pending.push(pending);
        let len = wire::frame_len(&out.message);
        for destination in out.to {
            self.link.push(&out.message, &sender, len, destination, 300, self.now).unwrap();
        }
    }

    /// The numbers of the messages that go out now.
    fn write(&mut self) -> Vec<u8> {
        let mut pieces = Vec::with_capacity(64);
        self.in_hand += self.link.next_write(1 << 20, self.now, &mut pieces);
        let mut decoder = FrameDecoder::new(Limits::default());
        pieces.iter().for_each(|piece| decoder.extend(piece));
        let frames = std::iter::from_fn(|| decoder.next().unwrap());
        let numbers = frames
            .map(|frame| match frame {
                Frame::Data(contents) => *contents.last().unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        // What was written before and not flushed is not written again.
        self.link.wrote(std::mem::take(&mut self.in_hand), self.now, &mut self.written);
        numbers
    }

    /// The outcomes of the writes so far come only now: nobody has said yet that the system took the bytes.
    fn flushed(&mut self) {
        self.resolved.append(&mut self.written);
    }

    /// The outcome of each message whose outcome came since the last call.
    fn outcomes(&mut self) -> Vec<Result<Delivery, FaultKind>> {
        let mut results = Vec::new();
        for (completion, result) in self.resolved.drain(..) {
            results.push(result.clone());
            completion.resolve(result);
        }
        results
    }
}

#[test]
fn ours_pipelines_everything_and_matches_by_number() {
    let mut bench = Bench::new(ours());
    for options in [SendOptions::NONE, SendOptions::ACK, SendOptions::SYNC_ACK, SendOptions::SYNC_ACK] {
        bench.push(options);
    }
    assert_eq!(bench.write(), [0, 1, 2, 3]);
    bench.flushed();
    assert_eq!(bench.outcomes(), [Ok(Delivery::Sent)]);
    // The second synchronized one is handled first, even before the count of those taken says so.
    bench.link.handled(3, HandledCode::NoTaker, bench.now, &mut bench.resolved);
    bench.link.taken(4, bench.now, &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Ok(Delivery::NoTaker), Ok(Delivery::Acknowledged)]);
    bench.link.handled(2, HandledCode::Failed("no".to_owned()), bench.now, &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Err(FaultKind::RemoteFailure(Some("no".to_owned())))]);
    assert!(bench.link.is_idle());
}

#[test]
fn no_more_is_under_way_than_the_peer_remembers_results_of() {
    let most = u64::try_from(MAX_SYNCHRONIZED).unwrap();
    let mut bench = Bench::new(ours());
    let mut resolved = Vec::new();
    // More than a byte can number: only how many there are counts.
    for _ in 0..MAX_SYNCHRONIZED + 3 {
        bench.pending.clear();
        bench.push(SendOptions::SYNC_ACK);
    }
    assert_eq!(bench.write().len(), MAX_SYNCHRONIZED);
    // Taken is not handled.
    bench.link.taken(most, bench.now, &mut resolved);
    assert!(bench.write().is_empty());
    bench.link.handled(9, HandledCode::Ok, bench.now, &mut resolved);
    assert_eq!(bench.write().len(), 1);
    // Nor does another connection make room, whether or not the peer has taken the last one.
    for taken in [most, most + 1] {
        bench.link.disconnected("cut", &mut resolved);
        bench.link.connected(Some(taken), bench.now, &mut resolved);
        assert_eq!(bench.write().len(), usize::try_from(most + 1 - taken).unwrap());
    }
    for seq in 0..=most {
        bench.link.handled(seq, HandledCode::Ok, bench.now, &mut resolved);
    }
    assert_eq!(bench.write().len(), 2);
    bench.link.taken(most + 3, bench.now, &mut resolved);
    (most + 1..most + 3).for_each(|seq| bench.link.handled(seq, HandledCode::Ok, bench.now, &mut resolved));
    assert!(bench.link.is_idle() && resolved.iter().all(|(_, result)| *result == Ok(Delivery::Handled)));
}

#[test]
fn a_resumed_session_sends_only_what_was_not_taken() {
    let mut bench = Bench::new(ours());
    (0..5).for_each(|_| bench.push(SendOptions::NONE));
    assert_eq!(bench.write(), [0, 1, 2, 3, 4]);
    bench.flushed();
    assert_eq!(bench.outcomes().len(), 5);
    bench.link.disconnected("cut", &mut bench.resolved);
    bench.push(SendOptions::ACK);
    bench.link.connected(Some(3), bench.now, &mut bench.resolved);
    assert_eq!(bench.write(), [3, 4, 5]);
    bench.link.taken(6, bench.now, &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Ok(Delivery::Acknowledged)]);
    assert!(bench.link.is_idle());
}

#[test]
fn a_session_that_the_peer_forgot_fails_what_may_have_arrived_and_sends_the_rest() {
    let mut bench = Bench::new(ours());
    (0..2).for_each(|_| bench.push(SendOptions::ACK));
    bench.write();
    bench.link.disconnected("cut", &mut bench.resolved);
    bench.push(SendOptions::ACK);
    bench.link.connected(None, bench.now, &mut bench.resolved);
    let outcomes = bench.outcomes();
    assert_eq!(outcomes.len(), 2);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(FaultKind::Disconnected(_)))));
    assert_eq!(bench.write(), [2]);
    // The new sequence begins at zero.
    bench.link.taken(1, bench.now, &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Ok(Delivery::Acknowledged)]);
}

#[test]
fn java_gets_nothing_acknowledged_beside_a_synchronized_message() {
    let mut bench = Bench::new(MemberId::ZERO);
    for options in [SendOptions::ACK, SendOptions::ACK, SendOptions::SYNC_ACK, SendOptions::NONE, SendOptions::ACK] {
        bench.push(options);
    }
    assert_eq!(bench.write(), [0, 1]);
    bench.link.acknowledged(true, bench.now, &mut bench.resolved);
    assert_eq!(bench.write(), [0; 0]);
    bench.link.acknowledged(true, bench.now, &mut bench.resolved);
    // Order is kept: what asks for nothing still goes behind.
    assert_eq!(bench.write(), [2, 3]);
    bench.flushed();
    bench.link.acknowledged(false, bench.now, &mut bench.resolved);
    assert_eq!(
        bench.outcomes(),
        [
            Ok(Delivery::Acknowledged),
            Ok(Delivery::Acknowledged),
            Ok(Delivery::Sent),
            Err(FaultKind::RemoteFailure(None))
        ]
    );
    assert_eq!(bench.write(), [4]);
    bench.link.acknowledged(true, bench.now, &mut bench.resolved);
    assert!(bench.link.is_idle());
    // An acknowledgement that nobody waits for is ignored.
    bench.link.acknowledged(true, bench.now, &mut bench.resolved);
}

#[test]
fn towards_java_a_broken_connection_costs_one_retry_and_a_negative_answer_none() {
    let mut bench = Bench::new(MemberId::ZERO);
    bench.push(SendOptions::NONE);
    bench.push(SendOptions::ACK);
    bench.push(SendOptions::ACK);
    assert_eq!(bench.write(), [0, 1, 2]);
    bench.flushed();
    bench.link.acknowledged(false, bench.now, &mut bench.resolved);
    bench.link.disconnected("cut", &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Ok(Delivery::Sent), Err(FaultKind::RemoteFailure(None))]);
    bench.link.connected(None, bench.now, &mut bench.resolved);
    assert_eq!(bench.write(), [2]);
    bench.link.disconnected("cut", &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Err(FaultKind::Disconnected("cut".to_owned()))]);
    assert!(bench.link.is_idle());
}

#[test]
fn deadlines_are_exact_and_progress_extends_them() {
    let mut bench = Bench::new(ours());
    bench.now = Time::from_millis(100);
    bench.push(SendOptions::ACK);
    bench.write();
    assert_eq!(bench.link.deadline(), Some(Time::from_millis(3100)));
    // A second message, written a second later; the first is then taken.
    bench.now = Time::from_millis(1100);
    bench.push(SendOptions::ACK);
    bench.write();
    bench.link.taken(1, bench.now, &mut bench.resolved);
    bench.outcomes();
    assert!(!bench.link.expire(Time::from_millis(3100), &mut bench.resolved));
    assert!(bench.outcomes().is_empty());
    assert_eq!(bench.link.deadline(), Some(Time::from_millis(4100)));
    bench.link.expire(Time::from_millis(4099), &mut bench.resolved);
    assert!(bench.outcomes().is_empty());
    bench.link.expire(Time::from_millis(4100), &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Err(FaultKind::AckTimeout(TIMEOUT))]);
    assert_eq!(bench.link.deadline(), None);
}

#[test]
fn a_late_acknowledgement_from_java_closes_the_connection() {
    let mut bench = Bench::new(MemberId::ZERO);
    bench.push(SendOptions::ACK);
    bench.write();
    assert!(bench.link.expire(Time::from_millis(3000), &mut bench.resolved));
    assert_eq!(bench.outcomes(), [Err(FaultKind::AckTimeout(TIMEOUT))]);
    bench.link.disconnected("closed here", &mut bench.resolved);
    assert!(bench.outcomes().is_empty() && bench.link.is_idle());
}

#[test]
fn a_frame_that_failed_is_sent_again_only_if_the_peer_may_have_it() {
    let mut bench = Bench::new(ours());
    bench.push(SendOptions::ACK);
    bench.write();
    bench.push(SendOptions::ACK);
    bench.link.disconnected("cut", &mut bench.resolved);
    bench.link.expire(Time::from_millis(5000), &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Err(FaultKind::Timeout(TIMEOUT)), Err(FaultKind::Timeout(TIMEOUT))]);
    bench.push(SendOptions::ACK);
    // The peer says that message 0 did not arrive: it failed, and stays so. Message 1 never left.
    bench.link.connected(Some(0), bench.now, &mut bench.resolved);
    assert_eq!(bench.write(), [2]);
    bench.link.taken(1, bench.now, &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Ok(Delivery::Acknowledged)]);
    assert!(bench.link.is_idle());
}

#[test]
fn a_message_that_the_peer_never_takes_is_given_up() {
    let mut bench = Bench::new(ours());
    bench.push(SendOptions::ACK);
    bench.push(SendOptions::ACK);
    for _ in 0..4 {
        assert_eq!(bench.write(), [0, 1]);
        bench.link.disconnected("closed", &mut bench.resolved);
        bench.link.connected(Some(0), bench.now, &mut bench.resolved);
        assert!(bench.outcomes().is_empty());
    }
    bench.write();
    bench.link.disconnected("closed", &mut bench.resolved);
    bench.link.connected(Some(0), bench.now, &mut bench.resolved);
    assert!(matches!(bench.outcomes()[..], [Err(FaultKind::Disconnected(_))]));
    assert_eq!(bench.write(), [1]);
}

#[test]
fn a_replaced_member_gets_nothing() {
    let mut bench = Bench::new(ours());
    bench.push(SendOptions::SYNC_ACK);
    bench.write();
    bench.link.taken(1, bench.now, &mut bench.resolved);
    bench.push(SendOptions::NONE);
    let other = ours();
    bench.link.replaced(other, 8, &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Err(FaultKind::Replaced(other)), Err(FaultKind::Replaced(other))]);
    assert_eq!((bench.link.session(), bench.link.queued_bytes()), (8, 0));
    assert!(bench.write().is_empty());
}

#[test]
fn what_has_failed_holds_up_no_stop() {
    let mut bench = Bench::new(ours());
    bench.push(SendOptions::ACK);
    bench.write();
    assert!(!bench.link.is_drained());
    bench.link.expire(Time::from_millis(5000), &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Err(FaultKind::AckTimeout(TIMEOUT))]);
    // Its place in the sequence is kept, for the peer may have taken it.
    assert!(!bench.link.is_idle() && bench.link.is_drained() && !bench.link.is_awaited());
    // One without acknowledgement may still arrive.
    bench.push(SendOptions::NONE);
    bench.write();
    bench.flushed();
    assert_eq!(bench.outcomes(), [Ok(Delivery::Sent)]);
    assert!(!bench.link.is_drained() && !bench.link.is_awaited());
}

#[test]
fn a_message_that_is_being_handled_waits_for_the_next_connection() {
    let mut bench = Bench::new(ours());
    bench.push(SendOptions::SYNC_ACK);
    bench.write();
    bench.link.taken(1, bench.now, &mut bench.resolved);
    bench.link.disconnected("cut", &mut bench.resolved);
    assert!(bench.link.may_resume());
    bench.link.connected(Some(1), bench.now, &mut bench.resolved);
    bench.link.handled(0, HandledCode::Ok, bench.now, &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Ok(Delivery::Handled)]);
    assert!(!bench.link.may_resume());
}

#[test]
fn a_connection_that_brought_something_was_not_in_vain() {
    let mut bench = Bench::new(ours());
    for _ in 0..20 {
        bench.push(SendOptions::ACK);
    }
    for taken in 1..=10 {
        bench.write();
        // The peer told of each before the connection broke, and has nothing to add when asked.
        bench.link.taken(taken, bench.now, &mut bench.resolved);
        bench.link.disconnected("cut", &mut bench.resolved);
        bench.link.connected(Some(taken), bench.now, &mut bench.resolved);
        assert_eq!(bench.outcomes(), [Ok(Delivery::Acknowledged)]);
    }
}

#[test]
fn what_waits_to_be_sent_again_outlasts_a_deadline() {
    let mut bench = Bench::new(ours());
    bench.push(SendOptions::NONE);
    bench.push(SendOptions::ACK);
    bench.write();
    bench.flushed();
    bench.link.disconnected("cut", &mut bench.resolved);
    // What was said to be sent did not arrive; before it is written again, a deadline passes.
    bench.link.connected(Some(0), bench.now, &mut bench.resolved);
    bench.link.expire(Time::from_millis(5000), &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Ok(Delivery::Sent), Err(FaultKind::Timeout(TIMEOUT))]);
    assert_eq!(bench.write(), [0]);
}

#[test]
fn bytes_that_are_said_to_be_written_after_all_has_failed_count_for_nothing() {
    let mut bench = Bench::new(ours());
    bench.push(SendOptions::ACK);
    let mut pieces = Vec::with_capacity(64);
    let in_hand = bench.link.next_write(1 << 20, bench.now, &mut pieces);
    bench.link.fail_all(&FaultKind::Left, 8, &mut bench.resolved);
    bench.link.wrote(in_hand, bench.now, &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Err(FaultKind::Left)]);
    assert!(bench.write().is_empty());
}
