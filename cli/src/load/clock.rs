//! The clocks of a measurement: one that all processes of the machine share, and the processor time of this one.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::time::{ClockId, clock_gettime};

/// Nanoseconds by `CLOCK_MONOTONIC`. `Instant` reads the same clock, but its value cannot be sent to another process.
pub(super) fn monotonic_ns() -> u64 {
    // The clock is always there: reading it cannot fail.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        let part = |value: i64| u64::try_from(value).unwrap_or(0);
        part(time.tv_sec()) * 1_000_000_000 + part(time.tv_nsec())
    })
}

/// Seconds of processor time, user and system, that this process has used.
pub(super) fn cpu_seconds() -> f64 {
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    // Asking about oneself cannot fail.
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| seconds(usage.user_time()) + seconds(usage.system_time()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_go_forward() {
        let (time, cpu) = (monotonic_ns(), cpu_seconds());
        while cpu_seconds() == cpu {}
        assert!(time > 0 && monotonic_ns() > time);
        assert!(cpu_seconds() > cpu);
    }
}
