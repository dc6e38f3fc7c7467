//! A session as a record of the backing, and back.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::Value;
use time::OffsetDateTime;

use crate::SessionId;
use crate::conflict::Policies;
use crate::document::{Change, Document, Hashes, Lifetime, Limits, Session};
use crate::shared::ForeignRecord;
use crate::stamp::Stamp;

/// The key under which a record carries the session with all that nodes know of its writes. With plain fields two nodes that have the
/// session back from different records would not know which is later.
const KEY: &str = "\0tribes.session";
/// The key under which it names the store that wrote it. Several may use one backing, and the id of a session of one is none of another.
const NAME: &str = "\0tribes.store";
/// The write of all that a record of another application brings: the same on every node that reads it.
const IMPORT: Stamp = Stamp(1, 0);
/// A date that far away is none.
const NEVER: Duration = Duration::from_secs(400 * 365 * 86_400);

/// `None` if it cannot be written down.
pub(super) fn to_record(
    (id, store): (SessionId, &str),
    document: &Document,
    idle: Duration,
    now_ms: u64,
) -> Option<ForeignRecord> {
    let session = rmp_serde::to_vec_named(document).ok()?;
    let data = [(KEY, STANDARD_NO_PAD.encode(session)), (NAME, store.to_owned())];
    let data = data.map(|(name, value)| (name.to_owned(), Value::String(value))).into();
    let until_ms = match document.lifetime.1 {
        // Uses are not written each time: as much longer as one may be late.
        Lifetime::Idle(ms) => {
            let left = Duration::from_millis(ms).saturating_sub(idle) + Duration::from_millis(ms / 4);
            now_ms.saturating_add(u64::try_from(left.min(NEVER).as_millis()).unwrap_or(u64::MAX))
        }
        Lifetime::Until(ms) => ms,
        Lifetime::Unlimited => now_ms.saturating_add(u64::try_from(NEVER.as_millis()).unwrap_or(u64::MAX)),
    };
    let date = OffsetDateTime::from_unix_timestamp_nanos(i128::from(until_ms) * 1_000_000);
    Some(ForeignRecord { id, data, date: date.unwrap_or(OffsetDateTime::UNIX_EPOCH + NEVER) })
}

/// Why a record is none of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("its time is over")]
    Over,
    #[error("it is damaged, or of a release that writes sessions in another way")]
    Damaged,
    #[error("it is of another store")]
    Another,
    #[error("it is larger than sessions may be, or nested too deep")]
    TooLarge,
}

/// The session of a record; of one that another application wrote its fields, as written by nobody.
pub(super) fn from_record(
    store: &str,
    record: ForeignRecord,
    now_ms: u64,
    (policies, limits, inactivity): (&Policies, Limits, Option<Duration>),
    hashes: Hashes,
) -> Result<Session, Unfit> {
    let date_ms = u64::try_from(record.date.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
    if date_ms <= now_ms {
        return Err(Unfit::Over);
    }
    let document = match record.data.get(KEY) {
        Some(_) if record.data.get(NAME).and_then(Value::as_str) != Some(store) => return Err(Unfit::Another),
        // However large it is: the nodes had it, and it may have grown as they met.
        Some(written) => {
            let bytes = written.as_str().and_then(|text| STANDARD_NO_PAD.decode(text).ok()).ok_or(Unfit::Damaged)?;
            rmp_serde::from_slice(&bytes).ok().ok_or(Unfit::Damaged)?
        }
        None => {
            // The same on every node, whenever it is read.
            let lifetime = inactivity.map_or(Lifetime::Until(date_ms), |limit| {
                Lifetime::Idle(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1))
            });
            let change = Change::between((None, None), &record.data, (lifetime, [0; 16]), policies, hashes);
            change.check(limits).ok().ok_or(Unfit::TooLarge)?;
            let document = change.new_document(IMPORT, hashes);
            if document.bytes() > limits.session {
                return Err(Unfit::TooLarge);
            }
            document
        }
    };
    Ok(Session::Live(Box::new(document)))
}
