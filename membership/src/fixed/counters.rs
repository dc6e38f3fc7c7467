//! What static membership counts.

use crate::counters::counters;

counters! {
    /// Members now.
    members,
    /// Calls that were not answered yet, now.
    calls_open,
    /// Calls sent.
    calls_sent,
    /// Calls not made, for nothing listens there or the last one is still being sent.
    unreachable,
    /// Calls answered.
    replies_sent,
    /// Replies to no call, or to one from before the member stopped.
    late_replies,
    /// Messages in the name of somebody else.
    dishonest,
    /// Members at a listed address that have another id than the list says.
    wrong_id,
    /// Unknown members turned away: not listed, excluded, without an address, or too many.
    refused,
    /// Answers of peers that run no static membership of this name.
    no_such_membership,
    /// Names that could not be resolved.
    unresolved,
    /// Messages and notices that found the queue full.
    notices_dropped,
}
