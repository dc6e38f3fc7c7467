//! What one run reached, from the lines that its members print.

use serde::{Deserialize, Serialize};

/// The JSON line of a member, ours or another program's. What it does not say is not known.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Figures {
    tx_msgs: u64,
    send_p50_us: Option<f64>,
    send_p99_us: Option<f64>,
    rtt_p50_us: Option<f64>,
    rtt_p99_us: Option<f64>,
    rtt_max_us: Option<f64>,
    rtt_percentiles_us: Vec<(f64, f64)>,
    errors: u64,
    last_error: Option<String>,
    tx_cpu_s: f64,
    rx_msgs_per_s: Option<f64>,
    rx_mib_per_s: Option<f64>,
    oneway_p50_us: Option<f64>,
    oneway_p99_us: Option<f64>,
    lost: i64,
    bad: u64,
    reordered: u64,
    complete: bool,
    rx_cpu_s: f64,
}

/// One run: what the group as a whole reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Run {
    /// Which one of the same configuration, from 1.
    pub(super) repetition: u16,
    /// Messages per second at the listener of the slowest receiver; in ping-pong, where nobody counts them, none.
    pub(super) msgs_per_s: Option<f64>,
    pub(super) mib_per_s: Option<f64>,
    /// How long a call of send took.
    pub(super) send_p50_us: Option<f64>,
    pub(super) send_p99_us: Option<f64>,
    /// From before the call of send to the listener of the slowest receiver.
    pub(super) oneway_p50_us: Option<f64>,
    pub(super) oneway_p99_us: Option<f64>,
    /// Until all receivers had answered.
    pub(super) rtt_p50_us: Option<f64>,
    pub(super) rtt_p99_us: Option<f64>,
    pub(super) rtt_max_us: Option<f64>,
    /// Pairs of a percentage and the round trip below which so many lie; at least 50 and 99 in ping-pong.
    pub(super) rtt_percentiles_us: Vec<(f64, f64)>,
    /// Processor seconds of all members for a million messages sent.
    pub(super) cpu_s_per_million: Option<f64>,
    /// Resident memory of the member that had the most.
    pub(super) peak_memory_mib: Option<f64>,
    pub(super) lost: i64,
    pub(super) bad: u64,
    pub(super) reordered: u64,
    pub(super) errors: u64,
    pub(super) last_error: Option<String>,
    /// Whether each receiver had all that was announced.
    pub(super) complete: bool,
    /// Share of the machine that other programs took meanwhile.
    pub(super) foreign: Option<f64>,
}

impl Run {
    /// What a sender and its receivers make together.
    pub(super) fn of(sender: &Figures, receivers: &[Figures]) -> Self {
        let least = |of: fn(&Figures) -> Option<f64>| receivers.iter().filter_map(of).filter(positive).reduce(f64::min);
        let most = |of: fn(&Figures) -> Option<f64>| receivers.iter().filter_map(of).filter(positive).reduce(f64::max);
        let known = |value: Option<f64>| value.filter(positive);
        let cpu = sender.tx_cpu_s + receivers.iter().map(|receiver| receiver.rx_cpu_s).sum::<f64>();
        let mut percentiles = sender.rtt_percentiles_us.clone();
        if percentiles.is_empty() {
            let told = [(50.0, known(sender.rtt_p50_us)), (99.0, known(sender.rtt_p99_us))];
            percentiles.extend(told.iter().filter_map(|(percent, micros)| Some((*percent, (*micros)?))));
        }
        Self {
            repetition: 0,
            msgs_per_s: least(|receiver| receiver.rx_msgs_per_s),
            mib_per_s: least(|receiver| receiver.rx_mib_per_s),
            send_p50_us: known(sender.send_p50_us),
            send_p99_us: known(sender.send_p99_us),
            oneway_p50_us: most(|receiver| receiver.oneway_p50_us),
            oneway_p99_us: most(|receiver| receiver.oneway_p99_us),
            rtt_p50_us: known(sender.rtt_p50_us),
            rtt_p99_us: known(sender.rtt_p99_us),
            rtt_max_us: known(sender.rtt_max_us),
            rtt_percentiles_us: percentiles,
            cpu_s_per_million: (sender.tx_msgs > 0).then(|| cpu / sender.tx_msgs as f64 * 1e6),
            peak_memory_mib: None,
            lost: receivers.iter().map(|receiver| receiver.lost).sum(),
            bad: receivers.iter().map(|receiver| receiver.bad).sum(),
            reordered: receivers.iter().map(|receiver| receiver.reordered).sum(),
            errors: sender.errors,
            last_error: sender.last_error.clone(),
            complete: receivers.iter().all(|receiver| receiver.complete),
            foreign: None,
        }
    }
}

/// Members say 0 or -1 where there is nothing to tell.
fn positive(value: &f64) -> bool {
    *value > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(json: &str) -> Figures {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_slowest_receiver_is_the_rate_of_the_group() {
        let sender =
            figures(r#"{"sys":"x","tx_msgs":2000000,"send_p50_us":1.5,"rtt_p50_us":-1,"tx_cpu_s":2.0,"errors":1}"#);
        let receivers = [
            figures(r#"{"rx_msgs_per_s":500.0,"oneway_p50_us":10,"lost":1,"complete":true,"rx_cpu_s":1.0}"#),
            figures(r#"{"rx_msgs_per_s":300.0,"oneway_p50_us":20,"reordered":2,"complete":true,"rx_cpu_s":1.0}"#),
        ];
        let run = Run::of(&sender, &receivers);
        assert_eq!((run.msgs_per_s, run.oneway_p50_us, run.send_p50_us), (Some(300.0), Some(20.0), Some(1.5)));
        assert_eq!((run.cpu_s_per_million, run.rtt_p50_us), (Some(2.0), None));
        assert_eq!((run.lost, run.reordered, run.errors, run.complete), (1, 2, 1, true));
        assert!(run.rtt_percentiles_us.is_empty());
        assert!(!Run::of(&sender, &[figures("{}")]).complete);
    }

    #[test]
    fn two_percentiles_are_known_of_everyone() {
        let plain = figures(r#"{"tx_msgs":9,"rtt_p50_us":20,"rtt_p99_us":30}"#);
        assert_eq!(Run::of(&plain, &[]).rtt_percentiles_us, [(50.0, 20.0), (99.0, 30.0)]);
        let fine = figures(r#"{"rtt_p50_us":20,"rtt_p99_us":30,"rtt_percentiles_us":[[10,19],[50,20],[99.9,40]]}"#);
        assert_eq!(Run::of(&fine, &[]).rtt_percentiles_us, [(10.0, 19.0), (50.0, 20.0), (99.9, 40.0)]);
    }
}
