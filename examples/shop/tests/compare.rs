//! What sessions cost with each store, in a short form: that all are asked and answer, and that the table says so.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

#[test]
fn all_stores_answer() {
    let arguments = ["compare", "--clients", "4", "--rounds", "1", "--slice", "200", "--writes", "50"];
    let output = Command::new(env!("CARGO_BIN_EXE_shop")).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for store in ["memory", "ours, async", "ours, acked", "redis"] {
        let row = text.lines().find(|line| line.starts_with(store)).unwrap_or_else(|| panic!("no {store}: {text}"));
        let figures: Vec<f64> =
            row.split_whitespace().filter_map(|word| word.trim_end_matches('%').parse().ok()).collect();
        // Requests a second, of memory, median, p99, CPU, failed.
        assert_eq!(figures.len(), 6, "{row}");
        assert!(figures[0] > 10.0 && figures[2] > 0.0 && figures[2] <= figures[3] && figures[5] == 0.0, "{row}");
    }
}
