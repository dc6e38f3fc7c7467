//! What multicast membership counts.

use crate::counters::counters;

counters! {
    /// Members now.
    members,
    /// Newcomers that have not answered yet, now.
    newcomers,
    /// Heartbeats and good-byes received, own ones left out.
    heartbeats_received,
    /// Heartbeats sent.
    heartbeats_sent,
    /// Datagrams that are neither a member nor whole frames.
    malformed,
    /// Heartbeats and messages whose member claims another address than the datagram's.
    foreign_source,
    /// Heartbeats not newer than one heard before.
    stale_heartbeats,
    /// Heartbeats from the time before a member's good-bye that came after it.
    late_heartbeats,
    /// Heartbeats that claim this member's own address under another id.
    own_address,
    /// Newcomers ignored because the table of members or of newcomers was full, or they have no address.
    newcomers_refused,
    /// Probes of newcomers that failed.
    newcomers_unanswered,
    /// Good-byes that were not believed at once.
    goodbyes_unconfirmed,
    /// Errors of the sockets.
    socket_errors,
    /// Times that new sockets were made after errors.
    recoveries,
    /// Messages received by multicast.
    messages_received,
    /// Messages sent by multicast.
    messages_sent,
    /// Messages received by multicast and dropped, since the stack was too slow.
    messages_dropped,
    /// Notices of the transport that found the queue full.
    notices_dropped,
}
