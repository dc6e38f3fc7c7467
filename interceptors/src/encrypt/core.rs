//! Sealing and opening without I/O: keys, sessions and windows. Time and chance are arguments.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tribes_core::{Body, ChannelMessage, MemberId, SendOptions};

use super::EncryptError;
use super::cipher::TribesCipher;
use super::config::{EncryptConfig, Layout, Mode, TowardsJava};
use super::key::Key;
use super::replay::ReplayWindow;
use super::sealed::{Header, SessionId, SessionKey, Unsealed};
use super::sessions::{KNOWN, Known, OPEN, Sessions};

/// A session's key seals so many messages, then there is another session: far below what AES-GCM stands.
const PER_SESSION: u64 = 1 << 32;

/// Random bytes.
pub(super) type Chance<'a> = &'a mut dyn FnMut() -> Result<[u8; 16], EncryptError>;

/// All of the layer but the hooks.
#[derive(Debug)]
pub(super) struct Core {
    mode: Mode,
    towards_java: TowardsJava,
    ring: RwLock<Option<Arc<Ring>>>,
    /// What replays are measured by; both outlast stop and start and any change of keys.
    replay: Mutex<Option<ReplayWindow>>,
    sessions: Mutex<Sessions>,
}

/// The keys of a time.
#[derive(Debug)]
struct Ring {
    /// Tells keys derived from this ring from those of others.
    number: u64,
    /// For authenticated mode; else empty.
    keys: Vec<Key>,
    /// For Tribes' format; else empty.
    ciphers: Vec<TribesCipher>,
    sealing: Mutex<Option<Sealing>>,
}

/// The session in which this node seals.
#[derive(Debug)]
struct Sealing {
    sender: MemberId,
    session: SessionId,
    key: Arc<SessionKey>,
    last: u64,
}

impl Core {
    pub(super) fn new(config: &EncryptConfig) -> Self {
        Self {
            mode: config.mode,
            towards_java: config.towards_java,
            ring: RwLock::default(),
            replay: Mutex::default(),
            sessions: Mutex::new(Sessions::new(OPEN, KNOWN)),
        }
    }

    /// Begins to look for replays in Tribes' format, as `config` has it; a window that is there stays.
    pub(super) fn open_window(&self, config: &EncryptConfig, now_ms: i64) {
        let (Some(time), Layout::Current) = (config.replay_window_time, config.layout) else { return };
        let width_ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        lock(&self.replay)
            .get_or_insert_with(|| ReplayWindow::new(width_ms, config.replay_window_message_count, now_ms));
    }

    /// From now on the first of `keys` seals, and any of them opens.
    pub(super) fn set_keys(&self, keys: Vec<Key>, config: &EncryptConfig) {
        let speaks_tribes = self.mode == Mode::Tribes || self.towards_java == TowardsJava::Tribes;
        let stamped = config.layout == Layout::Current;
        let ciphers = keys.iter().filter(|_| speaks_tribes);
        let ciphers = ciphers.map(|key| TribesCipher::new(config.algorithm, stamped, key)).collect();
        let keys = if self.mode == Mode::Authenticated { keys } else { Vec::new() };
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let number = ring.as_ref().map_or(1, |ring| ring.number + 1);
        *ring = Some(Arc::new(Ring { number, keys, ciphers, sealing: Mutex::default() }));
    }

    pub(super) fn has_keys(&self) -> bool {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn ring(&self) -> Result<Arc<Ring>, EncryptError> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        ring.clone().ok_or(EncryptError::NotStarted)
    }

    /// Seals a body in Tribes' format.
    pub(super) fn seal_tribes(&self, body: &Body, now_ms: i64, chance: Chance<'_>) -> Result<Body, EncryptError> {
        let ring = self.ring()?;
        let cipher = ring.ciphers.first().ok_or(EncryptError::NotStarted)?;
        cipher.seal(chance, now_ms, body).map(Body::new)
    }

    /// Seals `message` in place for these members, and for nobody else.
    pub(super) fn seal_for(
        &self,
        message: &mut ChannelMessage,
        ids: Vec<MemberId>,
        chance: Chance<'_>,
    ) -> Result<(), EncryptError> {
        let ring = self.ring()?;
        let (header, key) = ring.next(message.sender.id(), chance)?;
        message.body = Body::new(key.seal(header, message, ids)?);
        // Says something about what is sealed now; layers below may have a trailer of their own behind it.
        message.options.remove(SendOptions::EXTENSION);
        Ok(())
    }

    /// Opens `message` in place; `from_ours` if it is sealed in our format as long as we have one. `bound` are the options that
    /// must be as they were sealed.
    pub(super) fn open(
        &self,
        message: &mut ChannelMessage,
        from_ours: bool,
        local: MemberId,
        bound: SendOptions,
        now_ms: i64,
    ) -> Result<(), EncryptError> {
        if self.mode == Mode::Authenticated && (self.towards_java == TowardsJava::Refuse || from_ours) {
            self.open_sealed(message, local, bound)
        } else {
            message.body = self.open_tribes(&message.body, now_ms)?;
            Ok(())
        }
    }

    fn open_tribes(&self, body: &Body, now_ms: i64) -> Result<Body, EncryptError> {
        let ring = self.ring()?;
        let sealed = body.to_bytes();
        if ring.ciphers.first().is_none_or(|cipher| sealed.len() < cipher.least()) {
            return Err(EncryptError::NotSealed);
        }
        let mut result = Err(EncryptError::Unopened);
        for cipher in &ring.ciphers {
            let Some(opened) = cipher.open(&sealed) else { continue };
            result = match (opened.timestamp_ms, lock(&self.replay).as_mut()) {
                (Some(time_ms), Some(window)) => window.check(time_ms, opened.iv, now_ms),
                _ => Ok(()),
            }
            .map(|()| Body::new(opened.body));
            // Without authentication a wrong key may seem to fit; then its time does not.
            if !matches!(result, Err(EncryptError::Stale { .. })) {
                break;
            }
        }
        result
    }

    fn open_sealed(
        &self,
        message: &mut ChannelMessage,
        local: MemberId,
        bound: SendOptions,
    ) -> Result<(), EncryptError> {
        let ring = self.ring()?;
        let sealed = message.body.to_bytes();
        let (header, text) = Header::read(&sealed).ok_or(EncryptError::NotSealed)?;
        let name = (header.session, message.sender.id());
        let known = lock(&self.sessions).look(&name, header.counter, ring.number);
        let (key, unsealed) = match known {
            Known::Seen => return Err(EncryptError::Replayed),
            Known::Key(key) => key.open(header, message, text).map(|unsealed| (key, unsealed)),
            Known::Nothing => ring.open_first(header, message, text),
        }
        .ok_or(EncryptError::Unopened)?;
        if !unsealed.is_for(local) {
            return Err(EncryptError::Misdirected);
        }
        message.options = options(message.options, &unsealed, bound)?;
        // Last, and for one of two at the same time only: what is refused must not take the counter from what is not.
        if !lock(&self.sessions).accept(name, header.counter, ring.number, &key) {
            return Err(EncryptError::Replayed);
        }
        message.body = Body::new(unsealed.body);
        Ok(())
    }

    /// How much is remembered against replays: messages in Tribes' format, sessions in ours.
    pub(super) fn remembered(&self) -> (usize, usize) {
        (lock(&self.replay).as_ref().map_or(0, ReplayWindow::len), lock(&self.sessions).len())
    }
}

impl Ring {
    /// The next counter of this node's session, with its key.
    fn next(&self, sender: MemberId, chance: Chance<'_>) -> Result<(Header, Arc<SessionKey>), EncryptError> {
        let first = self.keys.first().ok_or(EncryptError::NotStarted)?;
        let mut sealing = lock(&self.sealing);
        let current = match sealing.as_mut() {
            Some(current) if current.sender == sender && current.last < PER_SESSION => current,
            _ => {
                let session = chance()?;
                let key = Arc::new(SessionKey::derive(first, &session, sender));
                sealing.insert(Sealing { sender, session, key, last: 0 })
            }
        };
        current.last += 1;
        Ok((Header { session: current.session, counter: current.last }, Arc::clone(&current.key)))
    }

    /// Opens the first message of a session, with whichever key fits.
    fn open_first(&self, header: Header, message: &ChannelMessage, text: &[u8]) -> Option<(Arc<SessionKey>, Unsealed)> {
        self.keys.iter().find_map(|key| {
            let key = SessionKey::derive(key, &header.session, message.sender.id());
            let unsealed = key.open(header, message, text)?;
            Some((Arc::new(key), unsealed))
        })
    }
}

/// The options of an opened message, if `bound` are as they were sealed.
fn options(found: SendOptions, unsealed: &Unsealed, bound: SendOptions) -> Result<SendOptions, EncryptError> {
    // The mark of the extension trailer is not on the wire, but sealed. Layers below have removed theirs by now.
    let sealed = unsealed.options - SendOptions::EXTENSION;
    let altered = (found.symmetric_difference(sealed) & bound) | (found & SendOptions::EXTENSION);
    if altered.is_empty() {
        Ok(found | (unsealed.options & SendOptions::EXTENSION))
    } else {
        Err(EncryptError::OptionsAltered { bits: altered.bits() })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
