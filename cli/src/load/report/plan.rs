//! Which configurations are measured, and in which order.

use std::fmt;

use serde::Serialize;

use super::super::args::{Guarantee, Mode};
use super::args::Settings;
use super::text::{bytes, name};

/// Receivers up to which every payload is tried: beyond, the machine is measured more than the program.
const SWEEP: u8 = 3;
/// The payload for all numbers of receivers, and for ping-pong, if it is among those asked for.
const USUAL_PAYLOAD: usize = 1024;

/// One sender's work, whoever does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Work {
    pub(super) mode: Mode,
    pub(super) options: Guarantee,
    pub(super) payload: usize,
    pub(super) receivers: u8,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mode, options) = (name(self.mode), name(self.options));
        write!(f, "{mode}, {options}, {} to {}", bytes(self.payload), receivers(self.receivers))
    }
}

/// So many receivers, in words.
pub(super) fn receivers(number: u8) -> String {
    format!("{number} {}", if number == 1 { "receiver" } else { "receivers" })
}

/// All that is to be measured, each once, in the order of the report.
pub(super) fn plan(settings: &Settings) -> Vec<Work> {
    let mut plan = Vec::new();
    let mut add = |mode, payload, receivers| {
        for options in &settings.options {
            let work = Work { mode, options: *options, payload, receivers };
            if !plan.contains(&work) {
                plan.push(work);
            }
        }
    };
    let swept = swept(&settings.receivers);
    for receivers in swept {
        settings.payloads.iter().for_each(|payload| add(Mode::Flood, *payload, *receivers));
    }
    let payload = usual_payload(&settings.payloads);
    settings.receivers.iter().for_each(|receivers| add(Mode::Flood, payload, *receivers));
    swept.iter().for_each(|receivers| add(Mode::Pingpong, payload, *receivers));
    plan
}

/// The numbers of receivers, sorted, with which every payload is tried.
fn swept(receivers: &[u8]) -> &[u8] {
    let few = receivers.partition_point(|receivers| *receivers <= SWEEP);
    receivers.get(..few.max(1)).unwrap_or_default()
}

/// The payload at which all else is compared.
pub(super) fn usual_payload(payloads: &[usize]) -> usize {
    let usual = payloads.iter().find(|payload| **payload == USUAL_PAYLOAD);
    usual.or_else(|| payloads.first()).copied().unwrap_or(USUAL_PAYLOAD)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::args::Times;
    use super::*;

    fn settings(payloads: &[usize], receivers: &[u8]) -> Settings {
        let times = Times { measured: Duration::ZERO, warmup: Duration::ZERO, warmup_of_others: Duration::ZERO };
        Settings {
            repetitions: 1,
            payloads: payloads.to_vec(),
            options: vec![Guarantee::None, Guarantee::Ack],
            receivers: receivers.to_vec(),
            times,
            against: Vec::new(),
        }
    }

    fn count(plan: &[Work], mode: Mode, receivers: u8) -> usize {
        plan.iter().filter(|work| work.mode == mode && work.receivers == receivers).count()
    }

    #[test]
    fn many_receivers_get_one_payload() {
        let plan = plan(&settings(&[100, 1024, 65_536], &[1, 3, 7]));
        assert_eq!([1, 3, 7].map(|receivers| count(&plan, Mode::Flood, receivers)), [6, 6, 2]);
        assert_eq!([1, 3, 7].map(|receivers| count(&plan, Mode::Pingpong, receivers)), [2, 2, 0]);
        assert!(plan.iter().filter(|work| work.receivers == 7).all(|work| work.payload == 1024));
    }

    #[test]
    fn with_only_many_receivers_the_fewest_get_all() {
        let plan = plan(&settings(&[100, 200], &[7, 15]));
        assert_eq!([7, 15].map(|receivers| count(&plan, Mode::Flood, receivers)), [4, 2]);
        assert_eq!([7, 15].map(|receivers| count(&plan, Mode::Pingpong, receivers)), [2, 0]);
        assert!(plan.iter().filter(|work| work.mode == Mode::Pingpong).all(|work| work.payload == 100));
    }

    #[test]
    fn a_configuration_has_a_name() {
        let work = Work { mode: Mode::Flood, options: Guarantee::SyncAck, payload: 65_536, receivers: 3 };
        assert_eq!(work.to_string(), "flood, sync-ack, 64 KiB to 3 receivers");
        let work = Work { mode: Mode::Pingpong, options: Guarantee::None, payload: 100, receivers: 1 };
        assert_eq!(work.to_string(), "pingpong, none, 100 B to 1 receiver");
    }
}
