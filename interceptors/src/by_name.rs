//! Layers by their names.

use tribes_core::Layer;

use crate::ConfigError;

/// The names of the interceptors in this build (features decide), in alphabetical order.
pub const NAMES: &[&str] = &[
    #[cfg(feature = "message-dispatch")]
    "message-dispatch",
    #[cfg(feature = "tcp-failure-detector")]
    "tcp-failure-detector",
    #[cfg(feature = "throughput")]
    "throughput",
];

/// The interceptor called `name`, with `options` set over its defaults. Keys are in snake_case; the layer's configuration
/// type says which there are, and what their values look like.
///
/// # Errors
/// An unknown name or key, with the known ones listed, or a value that cannot be.
pub fn by_name(name: &str, options: impl IntoIterator<Item = (String, String)>) -> Result<Layer, ConfigError> {
    #[cfg(any(feature = "message-dispatch", feature = "tcp-failure-detector", feature = "throughput"))]
    use tribes_core::IntoLayer as _;
    /// Sets `options` on the default configuration and makes a layer of it.
    #[cfg(any(feature = "message-dispatch", feature = "tcp-failure-detector", feature = "throughput"))]
    macro_rules! layer {
        ($layer:ty, $config:ty) => {{
            let mut config = <$config>::default();
            for (key, value) in options {
                config.set(&key, &value)?;
            }
            Ok(<$layer>::new(config).into_layer())
        }};
    }
    #[cfg(not(any(feature = "message-dispatch", feature = "tcp-failure-detector", feature = "throughput")))]
    drop(options);
    match name {
        #[cfg(feature = "message-dispatch")]
        "message-dispatch" => layer!(crate::MessageDispatch, crate::MessageDispatchConfig),
        #[cfg(feature = "tcp-failure-detector")]
        "tcp-failure-detector" => layer!(crate::TcpFailureDetector, crate::TcpFailureDetectorConfig),
        #[cfg(feature = "throughput")]
        "throughput" => layer!(crate::Throughput, crate::ThroughputConfig),
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
