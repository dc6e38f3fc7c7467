//! What each interceptor costs a message: `cargo bench --bench instructions --features full -- --layers`.
//!
//! A message goes down a stack with the one layer, into a second channel with the same layer, and up to its top. The same
//! without a layer is taken off. All threads count. The table is not compared with a baseline: it stands in the guide.

use std::io::Write;

use tribes::SendOptions;

use crate::callgrind::{self, Cost};
use crate::common::interceptors::{EMPTY, Row, mixed, rows};
use crate::common::{null, one_thread};

/// Operations of the shorter run; so many that what happens now and then does not count for much.
const OPERATIONS: u64 = 500;
/// Messages whose outcomes are awaited together.
const TOGETHER: u64 = 16;
/// Bytes of the bodies.
const SIZES: [usize; 2] = [100, 10_240];

/// Prints the table, in Markdown.
pub(crate) fn table() -> Result<(), String> {
    callgrind::check()?;
    let mut out = std::io::stdout().lock();
    let mut tell = |line: &str| writeln!(out, "{line}").map_err(|error| error.to_string());
    let [small, large] = SIZES;
    tell(&format!("| layer | {small} B: instructions | allocations | {large} B: instructions | allocations |"))?;
    tell("|---|---:|---:|---:|---:|")?;
    let mut bare = Vec::new();
    for row in std::iter::once(EMPTY).chain(rows()) {
        let mut line = format!("| {} |", row.title());
        for (at, size) in SIZES.into_iter().enumerate() {
            let whole = measure(&row, size)?;
            let cost = whole - bare.get(at).copied().unwrap_or_default();
            line += &format!(" {:.0} | {:.1} |", cost.instructions, cost.allocations.max(0.0));
            if row.name.is_none() {
                bare.push(whole);
            }
        }
        tell(&line)?;
    }
    Ok(())
}

/// Those of all rows.
pub(crate) fn titles() -> Vec<String> {
    std::iter::once(EMPTY).chain(rows()).map(|row| row.title()).collect()
}

fn measure(row: &Row, size: usize) -> Result<Cost, String> {
    callgrind::measure_args(&["--layer", &row.title(), &size.to_string()], OPERATIONS)
}

/// In a process of its own: so many messages through the layer of that title.
pub(crate) fn run(title: &str, size: usize, count: u64) {
    let row = std::iter::once(EMPTY).chain(rows()).find(|row| row.title() == title).expect("there is such a row");
    let runtime = one_thread();
    let (sender, receiver) = null::pair(&runtime, row.layer(), row.layer());
    let (to, body) = (null::target(), mixed(size));
    runtime.block_on(async {
        let mut open = Vec::new();
        for sent in 1..=count {
            let options = row.send | SendOptions::BYTE_MESSAGE;
            open.push(sender.send_with(to.clone(), body.clone(), options).await.unwrap());
            if sent % TOGETHER == 0 || sent == count {
                for pending in open.drain(..) {
                    let outcome = pending.await;
                    assert!(outcome.is_complete(), "{title}: {outcome:?}");
                }
            }
        }
        assert_eq!(null::arrived(&receiver), count, "{title}: messages at the top");
        sender.stop().await;
        receiver.stop().await;
    });
}
