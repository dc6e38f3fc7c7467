//! Layers by their names.

use tribes_core::Layer;

use crate::ConfigError;

/// The names of the interceptors in this build (features decide), in alphabetical order.
pub const NAMES: &[&str] = &[
    #[cfg(feature = "audit")]
    "audit",
    #[cfg(feature = "chaos")]
    "chaos",
    #[cfg(feature = "compress")]
    "compress",
    #[cfg(feature = "dedup")]
    "dedup",
    #[cfg(feature = "domain-filter")]
    "domain-filter",
    #[cfg(feature = "encrypt")]
    "encrypt",
    #[cfg(feature = "fragmentation")]
    "fragmentation",
    #[cfg(feature = "gzip")]
    "gzip",
    #[cfg(feature = "message-dispatch")]
    "message-dispatch",
    #[cfg(feature = "order")]
    "order",
    #[cfg(feature = "rate-limit")]
    "rate-limit",
    #[cfg(feature = "static-members")]
    "static-members",
    #[cfg(feature = "tcp-failure-detector")]
    "tcp-failure-detector",
    #[cfg(feature = "tcp-ping")]
    "tcp-ping",
    #[cfg(feature = "throughput")]
    "throughput",
    #[cfg(feature = "trace")]
    "trace",
    #[cfg(feature = "two-phase-commit")]
    "two-phase-commit",
];

/// The interceptor called `name`, with `options` set over its defaults. Keys are in snake_case; the layer's configuration
/// type says which there are, and what their values look like.
///
/// # Errors
/// An unknown name or key, with the known ones listed, or a value that cannot be.
pub fn by_name(name: &str, options: impl IntoIterator<Item = (String, String)>) -> Result<Layer, ConfigError> {
    #[cfg(feature = "_any")]
    use tribes_core::IntoLayer as _;
    /// Sets `options` on the default configuration and makes a layer of it.
    #[cfg(feature = "_any")]
    macro_rules! layer {
        ($layer:ty, $config:ty) => {{
            let mut config = <$config>::default();
            for (key, value) in options {
                config.set(&key, &value)?;
            }
            Ok(<$layer>::new(config).into_layer())
        }};
    }
    #[cfg(not(feature = "_any"))]
    drop(options);
    match name {
        #[cfg(feature = "dedup")]
        "dedup" => layer!(crate::Dedup, crate::DedupConfig),
        #[cfg(feature = "domain-filter")]
        "domain-filter" => layer!(crate::DomainFilter, crate::DomainFilterConfig),
        #[cfg(feature = "encrypt")]
        "encrypt" => layer!(crate::Encrypt, crate::EncryptConfig),
        #[cfg(feature = "fragmentation")]
        "fragmentation" => layer!(crate::Fragmentation, crate::FragmentationConfig),
        #[cfg(feature = "gzip")]
        "gzip" => layer!(crate::Gzip, crate::GzipConfig),
        #[cfg(feature = "message-dispatch")]
        "message-dispatch" => layer!(crate::MessageDispatch, crate::MessageDispatchConfig),
        #[cfg(feature = "order")]
        "order" => layer!(crate::Order, crate::OrderConfig),
        #[cfg(feature = "static-members")]
        "static-members" => layer!(crate::StaticMembers, crate::StaticMembersConfig),
        #[cfg(feature = "tcp-failure-detector")]
        "tcp-failure-detector" => layer!(crate::TcpFailureDetector, crate::TcpFailureDetectorConfig),
        #[cfg(feature = "tcp-ping")]
        "tcp-ping" => layer!(crate::TcpPing, crate::TcpPingConfig),
        #[cfg(feature = "throughput")]
        "throughput" => layer!(crate::Throughput, crate::ThroughputConfig),
        #[cfg(feature = "audit")]
        "audit" => layer!(crate::Audit, crate::AuditConfig),
        #[cfg(feature = "chaos")]
        "chaos" => layer!(crate::Chaos, crate::ChaosConfig),
        #[cfg(feature = "compress")]
        "compress" => layer!(crate::Compress, crate::CompressConfig),
        #[cfg(feature = "rate-limit")]
        "rate-limit" => layer!(crate::RateLimit, crate::RateLimitConfig),
        #[cfg(feature = "trace")]
        "trace" => layer!(crate::Trace, crate::TraceConfig),
        #[cfg(feature = "two-phase-commit")]
        "two-phase-commit" => layer!(crate::TwoPhaseCommit, crate::TwoPhaseCommitConfig),
        _ => Err(ConfigError::UnknownInterceptor { name: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_makes_the_layer_of_that_name() {
        for name in NAMES {
            assert_eq!(by_name(name, []).unwrap().name(), *name);
        }
        assert!(NAMES.is_sorted());
    }

    #[test]
    fn errors_list_what_is_known() {
        let text = by_name("gzipp", []).unwrap_err().to_string();
        for name in NAMES {
            assert!(text.contains(name), "{text}");
            let text = by_name(name, [("colour".to_owned(), "red".to_owned())]).unwrap_err().to_string();
            assert!(text.contains("colour") && text.contains("known: "), "{text}");
        }
    }
}
