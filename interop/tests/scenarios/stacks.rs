//! Several layers above each other, as applications have them: what one kind of member sends, the other reads, through all of
//! them, both ways.

use tribes_interop::{Failure, Impl, Node, run};

use super::pieces::File;
use super::{group, quick, reaches};

const SIZES: [usize; 5] = [0, 1, 1000, 200_000, 5_000_000];
const ENCRYPT: &str = "encrypt,key=000102030405060708090a0b0c0d0e0f";

/// A stack, the first layer nearest to the application, and what may be asked of it.
struct Stack {
    layers: &'static [&'static str],
    /// Beside `ack,sync`, for bodies of up to 200,000 bytes. None where Java gets pieces, as in
    /// `pieces`.
    options: &'static [&'static str],
    /// Whether Java can send to two at once.
    java_to_two: bool,
}

#[test]
fn order_gzip() -> Result<(), Failure> {
    // Above another layer that changes bytes, Java's order layer spoils what all destinations but the first get (T4).
    let layers = &["order", "gzip"];
    both_ways("order_gzip", &Stack { layers, options: &["ack", "none"], java_to_two: false })
}

#[test]
fn order_fragmentation_encrypt() -> Result<(), Failure> {
    let layers = &["order", "fragmentation", ENCRYPT];
    both_ways("order_fragmentation_encrypt", &Stack { layers, options: &[], java_to_two: false })
}

#[test]
fn gzip_fragmentation() -> Result<(), Failure> {
    let layers = &["gzip", "fragmentation"];
    both_ways("gzip_fragmentation", &Stack { layers, options: &[], java_to_two: true })
}

#[test]
fn dispatch_encrypt_detector() -> Result<(), Failure> {
    let layers = &["message-dispatch", ENCRYPT, "tcp-failure-detector"];
    both_ways("dispatch_encrypt_detector", &Stack { layers, options: &["async", "none"], java_to_two: true })
}

/// One group of two members of each kind. One of ours sends to the Java members, then a Java member to ours: bodies of all
/// sizes, those that compress and those that do not, to one and to two at once. Each arrives whole, and once.
fn both_ways(name: &str, stack: &Stack) -> Result<(), Failure> {
    run(name, |scenario| {
        let spec = |kind| stack.layers.iter().fold(quick(kind), |spec, layer| spec.with("--interceptor", layer));
        let kinds = [Impl::Java, Impl::Java, Impl::Rust, Impl::Rust];
        let mut java = group(scenario, &kinds.map(spec))?;
        let mut rust = java.split_off(2);
        send_all(name, stack, &mut rust[0], &mut java)?;
        send_all(name, stack, &mut java[0], &mut rust)
    })
}

fn send_all(name: &str, stack: &Stack, from: &mut Node, to: &mut [Node]) -> Result<(), Failure> {
    let counts = if from.implementation() == Impl::Java && !stack.java_to_two { &[1][..] } else { &[1, 2] };
    let mut expected = vec![0; to.len()];
    for size in SIZES {
        let file = File::new(name, size);
        for payload in [format!("file:{}", file.path()), format!("size:{size}:{}", size + 7)] {
            for options in ["ack,sync"].iter().chain(stack.options.iter().filter(|_| size <= 200_000)) {
                for &count in counts {
                    let what = format!("{payload} to {count} from {:?}", from.implementation());
                    reaches(from, &mut to[..count], options, &payload, &what)?;
                    expected[..count].iter_mut().for_each(|expected| *expected += 1);
                }
            }
        }
    }
    let came: Vec<_> = to.iter_mut().map(|node| node.messages().len()).collect();
    assert_eq!(came, expected, "each message once");
    Ok(())
}
