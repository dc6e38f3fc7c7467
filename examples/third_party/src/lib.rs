//! `acme.checksum`: each message carries a checksum, and one that does not match is refused.
//!
//! ```toml
//! [[interceptor]]
//! type = "acme.checksum"
//! min_size = "1KiB"   # shorter bodies go without
//! ```
//!
//! A message without one passes: it was too short. So does one whose damage hides the checksum itself. Members of Tomcat's own are
//! passed by: they could not read it. So is a peer of which only the address is known yet.

use tribes::registry::Configure;
use tribes::settings::size;
use tribes::wire::ExtensionKind;
use tribes::{Body, BoxError, Cx, Inbound, Interest, Outbound, SyncInterceptor, Verdict, WireEffect};

/// What can be set.
#[derive(Clone, Debug, Default)]
pub struct ChecksumConfig {
    /// Bodies shorter than this go without a checksum; default 0, none.
    pub min_size: usize,
}

tribes::settings! { ChecksumConfig {
    min_size: size(0..=1 << 30), "Bodies shorter than this go without a checksum.";
} }

/// Marks what leaves with a checksum (CRC-32) and refuses what arrives damaged.
#[derive(Debug, Default)]
pub struct Checksum {
    config: ChecksumConfig,
}

impl Configure for Checksum {
    const NAME: &'static str = "acme.checksum"; // the crate's name in front: it is never another's
    const HELP: &'static str = "finds messages that were damaged on the way";
    type Config = ChecksumConfig;

    fn configure(config: ChecksumConfig) -> Result<Self, BoxError> {
        Ok(Self { config })
    }
}

tribes::register_interceptor!(Checksum);

/// What the checksum is called in a message's trailer; kinds from `FIRST_FREE` on are for crates like this.
const CHECKSUM: ExtensionKind = ExtensionKind::new(0x9C5C);

fn sum(body: &Body) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    body.segments().for_each(|segment| hasher.update(segment));
    hasher.finalize().to_be_bytes()
}

impl SyncInterceptor for Checksum {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn interest(&self) -> Interest {
        Interest::SEND | Interest::RECEIVE
    }

    fn wire(&self) -> WireEffect {
        WireEffect::Ours
    }

    fn send(&self, out: &mut Outbound, _: &mut Cx<'_>) -> Verdict<Outbound> {
        if out.len() < self.config.min_size {
            return Verdict::Pass;
        }
        let sum = sum(&out.message.body);
        match out.message.add_extension(CHECKSUM, sum.to_vec()) {
            Ok(()) => Verdict::Pass,
            Err(full) => Verdict::Refuse(full.into()),
        }
    }

    fn receive(&self, msg: &mut Inbound, _: &mut Cx<'_>) -> Verdict<Inbound> {
        match msg.message.take_extension(CHECKSUM) {
            Some(told) if told.as_ref() != sum(&msg.message.body) => {
                Verdict::Refuse("the checksum does not match".into())
            }
            _ => Verdict::Pass, // it matches, or there is none
        }
    }
}
