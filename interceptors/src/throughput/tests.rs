use std::sync::Arc;
use std::time::Duration;

use tribes_core::message::{ChannelMessage, MessageId};
use tribes_core::settings::Settings as _;
use tribes_core::{Body, FaultKind, Inbound, Lease, Receipt, Route, SendOptions, Time};

use super::core::{Figures, Meter, Report};
use super::{ReportInterval, Throughput, ThroughputConfig};
use crate::testing::{World, member};

const MIB: usize = 1 << 20;

fn at(seconds: u64) -> impl FnOnce() -> Time {
    move || Time::from_millis(seconds * 1000)
}

fn never() -> Time {
    panic!("the clock is read for the first message only")
}

#[test]
fn reports_are_differences() {
    let meter = Meter::default();
    assert_eq!(meter.report(Time::from_millis(500)), None);
    assert_eq!(meter.sent(100, 3, at(1)), 1);
    assert_eq!(meter.sent(50, 1, never), 2);
    assert_eq!(meter.received(7, at(2)), 1);
    meter.failed(2);
    let first =
        Figures { sent: 2, sent_bytes: 150, sent_total: 350, received: 1, received_bytes: 7, failed: 1, faults: 2 };
    // The first interval begins with the first message, not with the process.
    let report = meter.report(at(3)()).unwrap();
    assert_eq!(report, Report { span: Duration::from_secs(2), interval: first, total: first });
    assert_eq!(meter.report(at(4)()), None);
    assert_eq!(meter.received(3, never), 2);
    let report = meter.report(at(6)()).unwrap();
    assert_eq!(report.span, Duration::from_secs(3));
    assert_eq!(report.interval, Figures { received: 1, received_bytes: 3, ..Figures::default() });
    assert_eq!(report.total, Figures { received: 2, received_bytes: 10, ..first });
}

#[test]
fn nothing_is_lost_or_counted_twice_between_threads() {
    let meter = Meter::default();
    let reported = std::sync::Mutex::new(Figures::default());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25_000 {
                    let number = meter.sent(3, 2, at(1));
                    meter.received(5, at(1));
                    if number.is_multiple_of(1000)
                        && let Some(report) = meter.report(at(number)())
                    {
                        let mut sum = reported.lock().unwrap();
                        sum.sent += report.interval.sent;
                        sum.received_bytes += report.interval.received_bytes;
                    }
                }
            });
        }
    });
    let rest = meter.report(at(9)()).map(|report| report.interval).unwrap_or_default();
    let figures = meter.figures();
    assert_eq!((figures.sent, figures.sent_bytes, figures.sent_total), (100_000, 300_000, 600_000));
    assert_eq!((figures.received, figures.received_bytes), (100_000, 500_000));
    let sum = *reported.lock().unwrap();
    assert_eq!((sum.sent + rest.sent, sum.received_bytes + rest.received_bytes), (100_000, 500_000));
}

#[test]
fn options_from_text() {
    let mut config = ThroughputConfig::default();
    assert_eq!(config.interval, ReportInterval::Messages(10_000));
    for (text, interval) in [
        ("500", ReportInterval::Messages(500)),
        ("1s", ReportInterval::Every(Duration::from_secs(1))),
        ("never", ReportInterval::Never),
    ] {
        config.set("interval", text).unwrap();
        assert_eq!(config.interval, interval);
    }
    for wrong in ["0", "0s", "", "often", "-1", "99999999999999999999"] {
        assert!(config.set("interval", wrong).is_err(), "{wrong}");
    }
    assert_eq!(config.interval, ReportInterval::Never);
    assert!(config.set("Interval", "1").unwrap_err().to_string().ends_with("(known: interval)"));
}

#[tokio::test(start_paused = true)]
async fn it_counts_both_ways_and_the_faults() {
    let layer = Arc::new(Throughput::default());
    let world = World::start(|builder| builder.interceptor(Arc::clone(&layer))).await;
    world.wire.faults.lock().unwrap().insert(2, FaultKind::QueueFull);
    let to = [member(1), member(2), member(3)];
    for _ in 0..4 {
        let _ = world.channel.send(&to[..], vec![0; MIB], SendOptions::ACK).await;
    }
    let message = ChannelMessage {
        options: SendOptions::BYTE_MESSAGE,
        timestamp_ms: 0,
        id: MessageId::from_array([1; 16]),
        sender: member(1),
        body: Body::new(vec![0; 2 * MIB]),
    };
    world.below.link().receive(Inbound::new(message, Receipt::none(), Lease::none(), Route::Stream)).await.unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    let seen = layer.snapshot();
    assert_eq!((seen.sent.messages, seen.sent.bytes, seen.sent_total_bytes), (4, 4 << 20, 12 << 20));
    assert_eq!((seen.sent.elapsed, seen.sent.messages_per_s, seen.sent.mib_per_s), (Duration::from_secs(2), 2.0, 2.0));
    assert_eq!((seen.sent_total_mib_per_s, seen.received.messages, seen.received.mib_per_s), (6.0, 1, 1.0));
    assert_eq!((seen.failed_messages, seen.faults), (4, 4));
    assert_eq!(world.gauge("sent_total_bytes"), 12 << 20);
}

#[tokio::test(start_paused = true)]
async fn reports_come_at_their_interval() {
    for (interval, sends, pause, expected) in [
        (ReportInterval::Messages(3), 7, Duration::ZERO, Some(6)),
        (ReportInterval::Every(Duration::from_secs(1)), 7, Duration::from_millis(1500), Some(7)),
        (ReportInterval::Never, 7, Duration::from_secs(60), None),
    ] {
        let layer = Arc::new(Throughput::new(ThroughputConfig::default().with_interval(interval)));
        let world = World::start(|builder| builder.interceptor(Arc::clone(&layer))).await;
        for _ in 0..sends {
            world.channel.send(&member(1), "x", SendOptions::NONE).await.unwrap();
        }
        tokio::time::sleep(pause).await;
        // What is left for a report is what came after the last one.
        let rest = layer.meter.report(Time::NEVER).map_or(0, |report| report.interval.sent);
        assert_eq!(sends - rest, expected.unwrap_or(0), "{interval:?}");
        world.channel.stop().await;
    }
}

#[test]
fn options_out_of_bounds_are_refused() {
    use tribes_core::SyncInterceptor;
    let layer = Throughput::new(ThroughputConfig::default().with_interval(ReportInterval::Messages(0)));
    let error = layer.check_config().unwrap_err();
    assert!(error.to_string().contains("interval"), "{error}");
}
