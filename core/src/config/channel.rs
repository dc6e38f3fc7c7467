//! The section `[channel]`.

use std::time::Duration;

use bytes::Bytes;

use crate::settings::{SettingFault, custom, duration, flag, format_size, optional, options, parsed, size, text};
use crate::{BudgetConfig, ChannelBuilder, MemberId, OverloadPolicy, SendOptions};

const DAY: Duration = Duration::from_secs(24 * 3600);
const MS: Duration = Duration::from_millis(1);

/// The settings of the channel itself, which are those of the [builder](ChannelBuilder).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChannelConfig {
    /// See [`ChannelBuilder::name`].
    pub name: Option<String>,
    /// See [`ChannelBuilder::id`].
    pub id: Option<MemberId>,
    /// See [`ChannelBuilder::domain`].
    pub domain: Bytes,
    /// See [`ChannelBuilder::payload`].
    pub payload: Bytes,
    /// See [`ChannelBuilder::send_options`].
    pub send_options: SendOptions,
    /// See [`ChannelBuilder::option_check`].
    pub option_check: bool,
    /// See [`ChannelBuilder::telemetry`].
    pub telemetry: bool,
    /// See [`ChannelBuilder::heartbeat`].
    pub heartbeat: Option<Duration>,
    /// See [`ChannelBuilder::drain`].
    pub drain: Duration,
    /// See [`ChannelBuilder::budget`].
    pub budget: BudgetConfig,
    /// Whether a configuration without any `[[interceptor]]` has the default ones.
    pub default_interceptors: bool,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            name: None,
            id: None,
            domain: Bytes::new(),
            payload: Bytes::new(),
            send_options: SendOptions::default(),
            option_check: false,
            telemetry: true,
            heartbeat: Some(Duration::from_secs(5)),
            drain: Duration::from_secs(5),
            budget: BudgetConfig::default(),
            default_interceptors: true,
        }
    }
}

/// A datagram has room for so much beside the rest of a member.
const MAX_ANNOUNCED: usize = 60_000;

crate::settings! { ChannelConfig {
    name: optional("", text()), "A name, part of what static membership calls its group.";
    id: optional("fresh", parsed("32 hexadecimal digits")), "A fixed member id; without our mark, peers take this member for one of Java's.";
    domain: custom("a text, or hex:… for bytes", read_bytes, show_bytes), "The domain, a logical sub-cluster, that this member announces.";
    payload: custom("a text, or hex:… for bytes", read_bytes, show_bytes), "What this member announces beside its address.";
    send_options: options(), "What Channel::send_options returns, for applications that leave the choice to configuration.";
    option_check: flag(), "Whether it is an error that two interceptors are switched by a common bit; otherwise it is a warning.";
    telemetry: flag(), "Whether messages are counted and timed for Channel::stats.";
    heartbeat: optional("off", duration(MS..=DAY)), "How often the channel visits every interceptor.";
    drain: duration(Duration::ZERO..=DAY), "How long a stop lets queues drain.";
    budget.total key "budget_total": size(1..=1 << 50), "How many bytes of messages may wait in this channel.";
    budget.per_member key "budget_per_member": size(1..=1 << 50), "How many of them for one member.";
    budget.policy key "budget_policy": parsed(OverloadPolicy::EXPECTED), "What becomes of a message for which there is no room.";
    default_interceptors: flag(), "Whether a configuration without any [[interceptor]] has message-dispatch and tcp-failure-detector.";
} check(|config| {
    if config.budget.per_member > config.budget.total {
        let (total, of_one) = (config.budget.total, config.budget.per_member);
        return Err(SettingFault::together(
            "budget_per_member",
            format!("must be at most budget_total: it is {}, and that {}", format_size(of_one as u64), format_size(total as u64)),
        ));
    }
    if config.domain.len() + config.payload.len() > MAX_ANNOUNCED {
        let len = config.domain.len() + config.payload.len();
        return Err(SettingFault::together(
            "payload",
            format!("must be at most {MAX_ANNOUNCED} bytes together with domain, or no announcement holds it, and they are {len}"),
        ));
    }
    Ok(())
}) }

impl ChannelConfig {
    pub(super) fn apply(self, builder: ChannelBuilder) -> ChannelBuilder {
        let builder = match self.name {
            Some(name) => builder.name(name),
            None => builder,
        };
        let builder = match self.id {
            Some(id) => builder.id(id),
            None => builder,
        };
        builder
            .domain(self.domain)
            .payload(self.payload)
            .send_options(self.send_options)
            .option_check(self.option_check)
            .telemetry(self.telemetry)
            .heartbeat(self.heartbeat)
            .drain(self.drain)
            .budget(self.budget)
    }
}

fn read_bytes(text: &str) -> Option<Bytes> {
    let Some(digits) = text.strip_prefix("hex:") else { return Some(Bytes::copy_from_slice(text.as_bytes())) };
    let nibble = |digit: &u8| char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| Some(nibble(high)? << 4 | nibble(low)?)).collect())?
}

#[allow(clippy::ptr_arg, reason = "the shape that a kind asks for")]
fn show_bytes(bytes: &Bytes) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with("hex:") && text.trim() == text => text.to_owned(),
        _ => bytes.iter().fold("hex:".to_owned(), |text, byte| format!("{text}{byte:02x}")),
    }
}
