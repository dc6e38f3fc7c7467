//! `acme.checksum`: each message carries a checksum, and one that arrives damaged is refused.
//!
//! ```toml
//! [[interceptor]]
//! type = "acme.checksum"
//! min_size = "1KiB"   # shorter bodies go without
//! ```
//!
//! All members of the group need it. Members of Tomcat's own are passed by: they could not read it.

use tribes::registry::Configure;
use tribes::settings::size;
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

/// The last byte says whether a checksum stands before it.
const WITH: u8 = 1;
const WITHOUT: u8 = 0;

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
        let body = &mut out.message.body;
        if body.len() < self.config.min_size {
            body.push_trailer(vec![WITHOUT]);
        } else {
            let [a, b, c, d] = sum(body);
            body.push_trailer(vec![a, b, c, d, WITH]);
        }
        Verdict::Pass
    }

    fn receive(&self, msg: &mut Inbound, _: &mut Cx<'_>) -> Verdict<Inbound> {
        let body = &mut msg.message.body;
        match body.split_trailer(1).as_deref() {
            Some([WITHOUT]) => Verdict::Pass,
            Some([WITH]) => match body.split_trailer(4) {
                Some(told) if told.as_ref() == sum(body) => Verdict::Pass,
                Some(_) => Verdict::Refuse("the checksum does not match".into()),
                None => Verdict::Refuse("the checksum is missing".into()),
            },
            _ => Verdict::Refuse("there is no sign of acme.checksum at the sender".into()),
        }
    }
}
