//! Whether what arrived is what was sent.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::super::run::Verdict;
use super::{Deliberate, Profile};

/// Whether what one task sent to one member, all bodies different, arrived unchanged, once each and in order, as far as the
/// profile does not say otherwise. `may_miss` says which need not have arrived.
pub(in super::super) fn arrived(
    profile: &Profile,
    sent: &[Bytes],
    got: &[Bytes],
    may_miss: impl Fn(usize) -> bool,
) -> Verdict {
    let position: BTreeMap<&Bytes, usize> = sent.iter().enumerate().map(|(at, body)| (body, at)).collect();
    let mut seen = BTreeSet::new();
    let mut last = None;
    for body in got {
        let Some(at) = position.get(body).copied() else {
            let start = String::from_utf8_lossy(body.get(..body.len().min(40)).unwrap_or_default()).into_owned();
            return Err(format!("a message arrived changed, or was never sent: {} bytes, {start:?}…", body.len()));
        };
        if !seen.insert(at) {
            if !profile.is(Deliberate::DUPLICATES) {
                return Err(format!("message {at} of {} arrived twice", sent.len()));
            }
            continue;
        }
        if let Some(last) = last.filter(|last| at < *last)
            && !profile.is(Deliberate::REORDERS)
        {
            return Err(format!("message {at} arrived after message {last}"));
        }
        last = last.max(Some(at));
    }
    match (0..sent.len()).find(|at| !seen.contains(at) && !may_miss(*at)) {
        Some(missing) if !profile.is(Deliberate::DROPS) => {
            Err(format!("message {missing} of {} never arrived ({} did)", sent.len(), seen.len()))
        }
        _ => Ok(()),
    }
}

/// A body of `len` bytes, or a few more, that is like no other of another `number`. Partly compressible, as real ones are.
pub(in super::super) fn body(number: u64, len: usize) -> Bytes {
    if len == 0 {
        return Bytes::new();
    }
    let mut rng = fastrand::Rng::with_seed(number);
    let mut bytes = format!("{number:x} ").into_bytes();
    let len = len.max(bytes.len());
    // Chance in short pieces between what repeats: quick to make, and to pack.
    while bytes.len() < len {
        bytes.extend(rng.u64(..).to_be_bytes());
        bytes.extend(b"and so it goes on");
    }
    bytes.truncate(len);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_declaration_relaxes_its_own_check() {
        let sent: Vec<_> = (0..4).map(|number| body(number, 10)).collect();
        let pick = |order: &[usize]| order.iter().map(|at| sent[*at].clone()).collect::<Vec<_>>();
        let none = Profile::default;
        let check = |profile: Profile, order: &[usize]| arrived(&profile, &sent, &pick(order), |_| false).is_ok();
        assert!(check(none(), &[0, 1, 2, 3]));
        for (order, declared) in [
            (&[0, 1, 3][..], none().drops()),
            (&[0, 1, 1, 2, 3], none().duplicates()),
            (&[0, 2, 1, 3], none().reorders()),
        ] {
            assert!(!check(none(), order), "{order:?}");
            assert!(check(declared, order), "{order:?}");
        }
        assert!(!check(none().drops().duplicates(), &[1, 0]));
        // One that is doubled does not count as late.
        assert!(check(none().duplicates(), &[0, 1, 2, 3, 0]));
        let strange = [Bytes::from_static(b"strange")];
        assert!(arrived(&none().drops().duplicates().reorders(), &sent, &strange, |_| false).is_err());
        assert!(arrived(&none(), &sent, &pick(&[0, 1, 3]), |at| at == 2).is_ok());
    }
}
