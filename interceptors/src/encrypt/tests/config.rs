//! Options and keys.

use std::io::Write as _;
use std::time::Duration;

use tribes_core::registry::Registry;
use tribes_core::settings::Settings as _;
use tribes_core::{Channel, IntoLayer as _};
use tribes_testkit::Recorder;

use super::super::{Algorithm, Encrypt, EncryptConfig, Key, KeyError, KeySource, Layout, Mode, TowardsJava};
use super::key;

const HEX: &str = "000102030405060708090a0b0c0d0e0f";
const OTHER: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

fn with(options: &[(&str, &str)]) -> EncryptConfig {
    let mut config = EncryptConfig::default();
    options.iter().for_each(|(key, value)| config.set(key, value).unwrap());
    config
}

fn bits(config: &EncryptConfig) -> Vec<usize> {
    config.load_keys().unwrap().iter().map(|key| key.bytes().len() * 8).collect()
}

#[test]
fn options_from_text() {
    let config = with(&[
        ("algorithm", "aes/cbc/pkcs5padding"),
        ("legacy", "true"),
        ("layout", "before-10.1.56"),
        ("mode", "authenticated"),
        ("towards_java", "tribes"),
        ("replay_window_time", "3s"),
        ("replay_window_message_count", "8192"),
    ]);
    assert_eq!((config.algorithm, config.legacy, config.layout), (Algorithm::Cbc, true, Layout::BeforeTimestamps));
    assert_eq!((config.mode, config.towards_java), (Mode::Authenticated, TowardsJava::Tribes));
    assert_eq!(config.replay_window_time, Some(Duration::from_secs(3)));
    assert_eq!(config.replay_window_message_count, 8192);
    assert_eq!(with(&[("replay_window_time", "off")]).replay_window_time, None);
    let mut config = EncryptConfig::default();
    for (key, wrong) in [
        ("algorithm", "AES/ECB/PKCS5Padding"),
        ("algorithm", "AES"),
        ("legacy", "yes"),
        ("layout", "old"),
        ("mode", "Tribes"),
        ("towards_java", "skip"),
        ("replay_window_time", "25h"),
        ("replay_window_time", "0s"),
        ("replay_window_message_count", "0"),
        ("replay_window_message_count", "1048577"),
        ("key", "00"),
        ("key", ""),
        ("key_file", " "),
        ("key_env", ""),
    ] {
        let error = config.set(key, wrong).unwrap_err().to_string();
        assert!(error.starts_with(key), "{error}");
    }
    assert!(config.set("keys", HEX).unwrap_err().to_string().contains("key_file"));
    assert!(config.keys.is_empty());
}

#[test]
fn keys_are_shown_nowhere() {
    let secret = "00112233445566778899aabbccddeeff";
    let key = Key::from_hex(secret).unwrap();
    let config = with(&[("key", secret)]);
    let layer = Encrypt::new(config.clone());
    layer.reload().unwrap();
    let settings: Vec<_> = EncryptConfig::table().iter().map(|setting| (setting.get)(&config)).collect();
    let shown = format!("{key:?} {config:?} {layer:?} {:?} {settings:?}", config.keys);
    assert!(shown.contains("128 bits"));
    let mut errors = String::new();
    for wrong in [format!("{secret}0"), format!("{secret}00"), format!("{secret}zz"), format!("{secret}+x{secret}")] {
        let error = EncryptConfig::default().set("key", &wrong).unwrap_err();
        errors += &format!("{error} {error:?}");
        let error = Registry::interceptor("encrypt", [("key", wrong.as_str())]).unwrap_err();
        errors += &format!("{error} {error:?}");
        let error = Key::from_hex(&wrong).unwrap_err();
        errors += &format!("{error} {error:?}");
    }
    // Not even where it does not belong.
    for (option, value) in [
        (secret, "key"),
        ("key_", secret),
        ("algorithm", secret),
        ("legacy", secret),
        ("mode", &format!("authenticated,{secret}")),
        ("layout", secret),
        ("towards_java", secret),
        ("replay_window_time", secret),
        ("replay_window_message_count", secret),
    ] {
        let error = EncryptConfig::default().set(option, value).unwrap_err();
        errors += &format!("{error} {error:?}");
    }
    for option in ["key_env", "key_file"] {
        let config = with(&[(option, secret)]);
        let error = config.load_keys().unwrap_err();
        errors += &format!("{error} {error:?} {config:?} {:?}", Encrypt::new(config.clone()));
    }
    for text in [shown, errors] {
        for part in ["2233", "0x22", "34, 51", "aabb", "170, 187"] {
            assert!(!text.contains(part), "{text}");
        }
    }
}

#[test]
fn keys_come_from_text_files_and_variables_in_the_order_given() {
    let mut file = tempfile();
    writeln!(file.1, "# the new one\n{OTHER}\n\n  {HEX}  ").unwrap();
    let path = file.0.to_str().unwrap();
    assert_eq!(bits(&with(&[("key", &format!("{HEX}+{OTHER}"))])), [128, 256]);
    assert_eq!(bits(&with(&[("key_file", path)])), [256, 128]);
    assert_eq!(bits(&with(&[("key", HEX), ("key_file", path)])), [128, 256, 128]);
    assert_eq!(bits(&with(&[("key_file", path), ("key", HEX)])), [256, 128, 128]);
    // The second replaces the first of its kind, in its place.
    assert_eq!(bits(&with(&[("key", HEX), ("key_file", path), ("key", OTHER)])), [256, 256, 128]);
    assert_eq!(bits(&with(&[("key", HEX), ("key_file", path), ("key", "none"), ("key_env", "none")])), [256, 128]);
    let error = with(&[("key_env", "TRIBES_TEST_NO_SUCH_KEY")]).load_keys().unwrap_err();
    assert!(error.to_string().contains("TRIBES_TEST_NO_SUCH_KEY"), "{error}");
    // Some variable that is there, and is no key.
    let error = with(&[("key_env", "PATH")]).load_keys().unwrap_err();
    assert!(error.to_string().starts_with("the variable PATH: a key is written"), "{error}");
    writeln!(file.1, "nonsense").unwrap();
    let error = with(&[("key_file", path)]).load_keys().unwrap_err().to_string();
    assert!(error.contains("line 5") && !error.contains("nonsense"), "{error}");
    std::fs::remove_file(&file.0).unwrap();
    assert!(matches!(with(&[("key_file", path)]).load_keys(), Err(KeyError::File { .. })));
    assert!(matches!(with(&[("key_file", "/dev/zero")]).load_keys(), Err(KeyError::File { .. })));
}

fn tempfile() -> (std::path::PathBuf, std::fs::File) {
    let path = std::env::temp_dir().join(format!("tribes-encrypt-{}-{}", std::process::id(), fastrand::u64(..)));
    let file = std::fs::File::create_new(&path).unwrap();
    (path, file)
}

/// What a channel with this layer says, when it is built or else when it starts.
async fn refusal(layer: Encrypt) -> String {
    let recorder = Recorder::new();
    let error: Box<dyn std::error::Error> =
        match recorder.install(Channel::builder()).interceptor(layer.into_layer()).build() {
            Ok(channel) => channel.start().await.unwrap_err().into(),
            Err(error) => error.into(),
        };
    std::iter::successors(Some(&*error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let keyed = || EncryptConfig::default().with_keys([key(1)]);
    for (config, part) in [
        (EncryptConfig::default(), "set key, key_file or key_env"),
        (keyed().with_algorithm(Algorithm::Cbc), "legacy = true"),
        (keyed().with_algorithm(Algorithm::Cbc).with_legacy(true).with_mode(Mode::Authenticated), "authenticated mode"),
        (keyed().with_replay_window_time(Some(Duration::ZERO)), "replay_window_time"),
        (keyed().with_replay_window_message_count(0), "replay_window_message_count"),
        (EncryptConfig::default().with_keys((0..9).map(key)), "at most 8 keys"),
        (EncryptConfig::default().with_source(KeySource::File("/no/such/file".into())), "/no/such/file"),
        (
            EncryptConfig::default()
                .with_keys([key(1), key(2)])
                .with_algorithm(Algorithm::Ofb)
                .with_legacy(true)
                .with_layout(Layout::BeforeTimestamps),
            "which of several keys",
        ),
    ] {
        let text = refusal(Encrypt::new(config)).await;
        assert!(text.contains(part), "{text}");
    }
    let error = Registry::interceptor("encrypt", []).unwrap_err().to_string();
    assert!(error.contains("set key, key_file or key_env"), "{error}");
    // What is allowed.
    let legacy = keyed().with_algorithm(Algorithm::Cbc).with_legacy(true);
    tribes_testkit::stack([Encrypt::new(legacy).into_layer()]).await;
}
