//! `{{vendor}}.{{layer}}`: refuses messages that are too long, at the sender as at the receiver.
//!
//! ```toml
//! [[interceptor]]
//! type = "{{vendor}}.{{layer}}"
//! max_size = "1MiB"
//! ```

use tribes::registry::Configure;
use tribes::settings::size;
use tribes::{BoxError, Cx, Inbound, Interest, Outbound, SyncInterceptor, Verdict};

/// What can be set.
#[derive(Clone, Debug)]
pub struct {{layer | upper_camel_case}}Config {
    /// The longest body that may pass, in bytes; default 64 MiB.
    pub max_size: usize,
}

impl Default for {{layer | upper_camel_case}}Config {
    fn default() -> Self {
        Self { max_size: 64 << 20 }
    }
}

tribes::settings! { {{layer | upper_camel_case}}Config {
    max_size: size(0..=1 << 40), "The longest body that may pass.";
} }

/// The layer.
#[derive(Debug, Default)]
pub struct {{layer | upper_camel_case}} {
    config: {{layer | upper_camel_case}}Config,
}

impl Configure for {{layer | upper_camel_case}} {
    const NAME: &'static str = "{{vendor}}.{{layer}}";
    const HELP: &'static str = "refuses messages that are too long";
    type Config = {{layer | upper_camel_case}}Config;

    fn configure(config: Self::Config) -> Result<Self, BoxError> {
        Ok(Self { config })
    }
}

tribes::register_interceptor!({{layer | upper_camel_case}});

impl SyncInterceptor for {{layer | upper_camel_case}} {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn interest(&self) -> Interest {
        Interest::SEND | Interest::RECEIVE // the other hooks then cost nothing
    }

    fn send(&self, out: &mut Outbound, _: &mut Cx<'_>) -> Verdict<Outbound> {
        if out.len() > self.config.max_size { Verdict::Refuse("too long to be sent".into()) } else { Verdict::Pass }
    }

    fn receive(&self, msg: &mut Inbound, _: &mut Cx<'_>) -> Verdict<Inbound> {
        let too_long = msg.message.body.len() > self.config.max_size;
        if too_long { Verdict::Refuse("too long to be taken".into()) } else { Verdict::Pass }
    }
}
