//! What a receiver counts. Counters outlast stop and start.

use std::sync::atomic::{AtomicU64, Ordering};

use tribes_core::Gauge;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of one receiver.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($(#[$doc])* pub(crate) $name: Count,)*
        }

        impl Counters {
            pub(crate) fn gauges(&self) -> Vec<Gauge> {
                vec![$(Gauge::new(stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn one(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters! {
    /// Connections accepted.
    accepted_total,
    /// Errors of `accept`, for instance for want of file descriptors.
    accept_errors_total,
    /// Data frames taken.
    frames_total,
    /// Bytes read from connections.
    bytes_total,
    /// Messages that the layers above refused.
    refused_by_layers_total,
    /// Unidentified connections closed to make room.
    evicted_total,
    /// Connections closed because there are too many identified ones.
    closed_no_room_total,
    /// Connections closed because another one continues their session.
    superseded_total,
    /// Connections without a first frame in time.
    late_first_frame_total,
    /// Connections whose frame was not finished in time.
    late_half_frame_total,
    /// Unidentified connections that were quiet for too long.
    late_idle_total,
    /// Connections whose answers could not be written.
    write_failed_total,
    /// Connections that the peer closed within a frame.
    closed_in_frame_total,
    /// Hellos that were welcome.
    hellos_total,
    /// Probes answered.
    probes_total,
    /// Hellos refused because they expected another member.
    refused_wrong_member_total,
    /// Hellos refused because of a stop.
    refused_stopping_total,
    /// Hellos refused for want of room.
    refused_busy_total,
    /// Hellos of a revision that is not spoken here.
    refused_revision_total,
    /// Sessions that a new connection resumed.
    resumed_total,
    /// Bytes on a connection that have no place there.
    malformed_bad_marker_total,
    /// As above: a length below zero.
    malformed_negative_length_total,
    /// As above: a length beyond what encloses it.
    malformed_beyond_enclosing_total,
    /// As above: a length beyond a limit.
    malformed_beyond_limit_total,
    /// As above: lengths that do not add up.
    malformed_slack_total,
    /// As above: bytes behind the end.
    malformed_trailing_bytes_total,
    /// As above: an early end.
    malformed_truncated_total,
    /// As above: a host that is too long.
    malformed_host_too_long_total,
    /// As above: a message without a sender.
    malformed_missing_sender_total,
    /// As above: an unknown code in a control frame.
    malformed_unknown_code_total,
    /// As above: text that is not UTF-8.
    malformed_not_utf8_total,
    /// As above: a valid frame where it has no business.
    malformed_unexpected_frame_total,
    /// As above: another fault.
    malformed_other_total,
    /// Datagrams received.
    udp_datagrams_total,
    /// Messages in them.
    udp_messages_total,
    /// Datagrams that are not made of whole frames of messages.
    udp_malformed_total,
    /// Messages dropped because too many are not handled yet.
    udp_dropped_full_total,
    /// Acknowledgements that could not be sent.
    udp_answer_failed_total,
    /// Errors of the UDP socket.
    udp_errors_total,
}
