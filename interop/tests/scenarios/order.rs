//! What one task sends to one member arrives in that order, whole and once.

use std::time::{Duration, Instant};

use tribes_interop::{Event, Failure, Impl, run};

use super::{pair, quick, ways};

const COUNT: u64 = 10_000;
const LIMIT: Duration = Duration::from_secs(60);

ways!(ten_thousand_in_order_none: rust_to_rust);
fn ten_thousand_in_order_none(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    ten_thousand_in_order(name, "none", from, to)
}

ways!(ten_thousand_in_order_ack: rust_to_rust);
fn ten_thousand_in_order_ack(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    ten_thousand_in_order(name, "ack", from, to)
}

ways!(ten_thousand_in_order_async: rust_to_rust);
fn ten_thousand_in_order_async(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    ten_thousand_in_order(name, "async", from, to)
}

ways!(ten_thousand_in_order_ack_sync: rust_to_rust, rust_to_java, java_to_rust, java_to_java);
/// The one way in which Java keeps order: each message is processed before the next one leaves.
fn ten_thousand_in_order_ack_sync(name: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    ten_thousand_in_order(name, "ack,sync", from, to)
}

fn ten_thousand_in_order(name: &str, options: &str, from: Impl, to: Impl) -> Result<(), Failure> {
    run(name, |scenario| {
        let (mut from, mut to) = pair(scenario, &quick(from), &quick(to))?;
        let start = Instant::now();
        let sent = from.send(options, "size:64", COUNT)?;
        assert_eq!((sent.count, sent.failed, sent.why.as_str()), (COUNT, 0, ""));
        let mut expected = 0..COUNT;
        let mut wrong = None;
        let (end, ()) = to.wait_for(&format!("{COUNT} messages"), LIMIT, |event| {
            if let Event::Message(message) = event {
                let due = expected.next();
                if message.number() != due && wrong.is_none() {
                    wrong = Some((due, message.number()));
                }
            }
            expected.is_empty().then_some(())
        })?;
        assert_eq!(wrong, None, "(expected, received) of the first message out of order");
        assert_eq!(to.messages().len() as u64, COUNT);
        scenario.measured(&format!("{COUNT} messages under {options}"), end.duration_since(start));
        Ok(())
    })
}
