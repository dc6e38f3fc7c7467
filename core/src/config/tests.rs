//! What files and variables say; what becomes of it, with real parts, is tested in the facade.

use super::*;

fn faults(text: &str) -> Vec<String> {
    match Config::from_toml(text, "tribes.toml") {
        Ok(config) => panic!("understood as {config:?}"),
        Err(error) => error.faults().iter().map(ToString::to_string).collect(),
    }
}

fn vars(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn an_empty_file_means_tomcats_defaults() {
    let config = Config::from_toml("", "tribes.toml").unwrap();
    assert_eq!(config.interceptors(), ["message-dispatch", "tcp-failure-detector"]);
    for (section, name) in [("receiver", "tcp"), ("sender", "pooled-parallel"), ("membership", "multicast")] {
        assert_eq!(config.get(section, "type").as_deref(), Some(name));
    }
    assert_eq!(config.get("channel", "heartbeat").as_deref(), Some("5s"));
    let none = Config::from_toml("channel.default_interceptors = false", "tribes.toml").unwrap();
    assert!(none.interceptors().is_empty());
    assert!(Config::from_toml("interceptor = []", "tribes.toml").unwrap().interceptors().is_empty());
}

#[test]
fn values_of_every_type_become_text() {
    let text = r#"
        [channel]
        heartbeat = "250ms"
        option_check = true
        [receiver]
        port = 0x0FA0
        [membership]
        type = "static"
        peers = ["a:1", "b:2"]
        [[interceptor]]
        type = "one"
        share = 0.5
        [[interceptor]]
        type = "two"
    "#;
    let config = Config::from_toml(text, "tribes.toml").unwrap();
    assert_eq!(config.interceptors(), ["one", "two"]);
    for (section, key, value) in [
        ("channel", "heartbeat", "250ms"),
        ("channel", "option_check", "true"),
        ("receiver", "port", "4000"),
        ("membership", "type", "static"),
        ("membership", "peers", "a:1+b:2"),
        ("one", "share", "0.5"),
    ] {
        assert_eq!(config.get(section, key).as_deref(), Some(value), "{section}.{key}");
    }
    assert_eq!(config.get("three", "share"), None);
}

#[test]
fn all_that_cannot_be_understood_is_named_with_its_place() {
    let text = "
[reciever]
port = 1
[channel]
name = 1979-05-27
[[interceptor]]
min_size = 1
[[interceptor]]
type = \"gzip\"
level = [[1]]
[sender]
a = { b = 1 }
";
    assert_eq!(
        faults(text),
        [
            "tribes.toml:2:2: there is no section \"reciever\"; did you mean \"receiver\"? (known: channel, interceptor, \
             membership, receiver, sender)",
            "tribes.toml:5:1: [channel]: name must not be a date",
            "tribes.toml:6:1: [[interceptor]]: which one? Write type = \"…\"",
            "tribes.toml:10:1: [[interceptor]]: level must not have a list in a list",
            "tribes.toml:12:1: [sender]: a must not be a table",
        ]
    );
    assert_eq!(faults("receiver = 1"), ["tribes.toml:1:1: receiver must be a table: write [receiver]"]);
    assert_eq!(faults("interceptor = 1"), ["tribes.toml:1:1: must be a list of tables: write [[interceptor]]"]);
    let broken = faults("[channel]\nname = \nid = 'x\n");
    assert!(broken.len() >= 2 && broken[0].starts_with("tribes.toml:2:"), "{broken:?}");
    let error = Config::from_toml("a = 1\nb = 2", "tribes.toml").unwrap_err().to_string();
    assert!(error.starts_with("tribes.toml has 2 faults:\n  tribes.toml:1:1: "), "{error}");
}

#[test]
fn variables_stand_over_the_file() {
    let text = "[receiver]\nport = 4000\n[[interceptor]]\ntype = \"rate-limit\"\n";
    let config = Config::from_toml(text, "tribes.toml").unwrap();
    let config = config
        .with_env(vars(&[
            ("TRIBES__RECEIVER__PORT", "4001"),
            ("TRIBES__CHANNEL__NAME", "blue"),
            ("TRIBES__MEMBERSHIP__TYPE", "static"),
            ("TRIBES__MEMBERSHIP__PEERS", "a:1"),
            ("TRIBES__INTERCEPTOR__RATE_LIMIT__BYTES_PER_S", "1MiB"),
            ("TRIBES_SEEDS", "7"),
            ("PATH", "/bin"),
        ]))
        .unwrap();
    for (section, key, value) in [
        ("receiver", "port", "4001"),
        ("channel", "name", "blue"),
        ("membership", "type", "static"),
        ("membership", "peers", "a:1"),
        ("rate-limit", "bytes_per_s", "1MiB"),
    ] {
        assert_eq!(config.get(section, key).as_deref(), Some(value), "{section}.{key}");
    }
    let error = config
        .with_env(vars(&[
            ("TRIBES__PORT", "1"),
            ("TRIBES__INTERCEPTOR__GZIP__LEVEL", "1"),
            ("TRIBES__INTERCEPTOR__RATE_LIMIT__TYPE", "gzip"),
        ]))
        .unwrap_err();
    let faults: Vec<_> = error.faults().iter().map(ToString::to_string).collect();
    assert_eq!(
        faults[0],
        "environment variable TRIBES__INTERCEPTOR__GZIP__LEVEL: there is no interceptor \"gzip\" in the stack (rate-limit)"
    );
    assert!(faults[1].starts_with("environment variable TRIBES__INTERCEPTOR__RATE_LIMIT__TYPE: names nothing; write "));
    assert!(faults[2].starts_with("environment variable TRIBES__PORT: names nothing; write TRIBES__CHANNEL__KEY, "));
}

#[test]
fn a_variable_decides_over_the_default_stack_too() {
    let with = |text: &str, value: &str| {
        let config = Config::from_toml(text, "tribes.toml").unwrap();
        config.with_env(vars(&[("TRIBES__CHANNEL__DEFAULT_INTERCEPTORS", value)])).unwrap()
    };
    let none = "channel.default_interceptors = false";
    let own = "[[interceptor]]\ntype = \"gzip\"\n";
    assert!(with("", "false").interceptors().is_empty());
    assert_eq!(with(none, "true").interceptors(), ["message-dispatch", "tcp-failure-detector"]);
    assert_eq!(with("", "true").interceptors(), ["message-dispatch", "tcp-failure-detector"]);
    assert!(with("interceptor = []", "true").interceptors().is_empty(), "a list is a list");
    assert_eq!((with(own, "false").interceptors(), with(own, "true").interceptors()), (vec!["gzip"], vec!["gzip"]));
}

#[test]
fn the_prefix_of_a_variable_counts_once() {
    let error = Config::default().with_env(vars(&[("TRIBES__TRIBES__CHANNEL__NAME", "a")])).unwrap_err();
    assert!(error.to_string().contains("names nothing"), "{error}");
}

/// Which values are secret is known only to parts that may not be linked; so none is shown.
#[test]
fn debug_shows_no_value() {
    let key = "9f3c5a17e2804bd66c01f7a83e925db4";
    let text = format!("[[interceptor]]\ntype = \"encrypt\"\nkey = \"{key}\"\n");
    let config = Config::from_toml(&text, "tribes.toml").unwrap();
    assert_eq!(config.get("encrypt", "key").as_deref(), Some(key));
    for shown in [format!("{config:?}"), format!("{config:#?}")] {
        assert!(shown.contains("encrypt") && !shown.contains(key), "{shown}");
    }
}

#[test]
fn numbers_are_written_as_toml_has_them() {
    let vars = vars(&[
        ("TRIBES__CHANNEL__BUDGET_TOTAL", "0067108864"),
        ("TRIBES__CHANNEL__SEND_OPTIONS", "08"),
        ("TRIBES__CHANNEL__BUDGET_PER_MEMBER", "+7"),
    ]);
    let config = Config::default().with_env(vars).unwrap();
    let again = Config::from_toml(&config.to_toml(), "again.toml").unwrap();
    assert_eq!(again.get("channel", "budget_total").as_deref(), Some("67108864"));
    assert_eq!(again.get("channel", "send_options").as_deref(), Some("8"));
}

#[test]
fn what_is_written_is_read_again() {
    let text =
        "[channel]\nname = \"a \\\"b\\\" \\\\ \\n\"\nheartbeat = \"off\"\nsend_options = 8\nbudget_total = \"1MiB\"\n";
    let config = Config::from_toml(text, "tribes.toml").unwrap();
    let again = Config::from_toml(&config.to_toml(), "again.toml").unwrap();
    assert_eq!(again.to_toml(), config.to_toml());
    for key in ["name", "heartbeat", "send_options", "budget_total", "budget_policy"] {
        assert_eq!(again.get("channel", key), config.get("channel", key));
    }
    assert!(config.to_toml().starts_with(text), "{}", config.to_toml());
    let bare = Config::from_toml("interceptor = []", "tribes.toml").unwrap().to_toml();
    assert!(Config::from_toml(&bare, "again.toml").unwrap().interceptors().is_empty(), "{bare}");
}

#[test]
fn bytes_of_the_channel_are_text_or_digits() {
    let channel = |domain| ChannelConfig::from_pairs([("domain", domain)]).map(|config| config.domain);
    assert_eq!(channel("blue").unwrap(), "blue");
    assert_eq!(channel("hex:00ff").unwrap(), &[0, 255][..]);
    assert!(channel("hex:0").is_err() && channel("hex:zz").is_err());
    for wrong in [("budget_policy", "wait"), ("id", "12"), ("heartbeat", "0s"), ("budget_total", "0")] {
        assert!(ChannelConfig::from_pairs([wrong]).is_err(), "{wrong:?}");
    }
    let error = ChannelConfig::from_pairs([("budget_total", "1KiB"), ("budget_per_member", "2KiB")]).unwrap_err();
    let text = "budget_per_member: must be at most budget_total: it is 2KiB, and that 1KiB";
    assert_eq!(error[0].to_string(), text);
    let error =
        ChannelConfig::from_pairs([("domain", &*"d".repeat(40_000)), ("payload", &"p".repeat(20_001))]).unwrap_err();
    // What a `main` prints that returns it.
    let error_of_main = Config::from_toml("[chanel]\n", "tribes.toml").unwrap_err();
    assert_eq!(format!("{error_of_main:?}"), error_of_main.to_string());
    assert!(error[0].to_string().contains("at most 60000 bytes together with domain"), "{error:?}");
}

/// It would pass for the text that its items make.
#[test]
fn an_array_is_no_text() {
    let text = "[channel]\ndomain = [\"a\", \"b\"]\nheartbeat = [\"1s\"]\n";
    let error = Config::from_toml(text, "tribes.toml").unwrap_err().to_string();
    for part in [
        "tribes.toml:2:1: [channel]: domain must be a text, or hex:… for bytes, and is a list",
        "tribes.toml:3:1: [channel]: heartbeat must be off, or a duration",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

mod server_xml {
    use super::*;

    fn notes(notes: &[Note]) -> Vec<String> {
        notes.iter().map(|note| format!("{}{note}", if note.matters { "! " } else { "" })).collect()
    }

    #[test]
    fn attributes_have_tomcats_names_and_units() {
        let text = r#"<Server><Cluster className="org.apache.catalina.ha.tcp.SimpleTcpCluster">
  <Manager className="org.apache.catalina.ha.session.DeltaManager"/>
  <Channel className="org.apache.catalina.tribes.group.GroupChannel" heartbeatSleeptime="2500">
    <Membership className="org.apache.catalina.tribes.membership.McastService" dropTime="3000" ttl="-1"
                localLoopbackDisabled="true" domain="{1,-1}" colour="red"/>
    <Receiver className="org.apache.catalina.tribes.transport.nio.NioReceiver" autoBind="0" maxThreads="6"/>
    <Sender className="org.apache.catalina.tribes.transport.ReplicationTransmitter">
      <Transport className="org.apache.catalina.tribes.transport.nio.PooledParallelSender" timeout="60000" maxRetryAttempts="2"/>
    </Sender>
    <Interceptor className="org.apache.catalina.tribes.group.interceptors.TcpFailureDetector" performReadTest="true"/>
    <Interceptor className="org.apache.catalina.tribes.group.interceptors.StaticMembershipInterceptor">
      <Member className="org.apache.catalina.tribes.membership.StaticMember" host="::1" port="4000"
              uniqueId="{0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,-1}" securePort="-1"/>
    </Interceptor>
    <Interceptor className="org.apache.catalina.tribes.group.interceptors.EncryptInterceptor" encryptionAlgorithm="AES/CBC/PKCS5Padding"/>
  </Channel>
</Cluster></Server>"#;
        let (config, seen) = Config::from_server_xml(text, "server.xml").unwrap();
        assert_eq!(config.interceptors(), ["tcp-failure-detector", "static-members", "encrypt"]);
        for (section, key, value) in [
            ("channel", "send_options", "8"),
            ("channel", "heartbeat", "2500ms"),
            ("channel", "domain", "hex:01ff"),
            ("membership", "drop_time", "3000ms"),
            ("membership", "ttl", "system"),
            ("membership", "loopback", "false"),
            ("receiver", "bind", "0.0.0.0"),
            ("receiver", "auto_bind", "1"),
            ("sender", "timeout", "60000ms"),
            ("tcp-failure-detector", "read_test", "true"),
            ("static-members", "members", "[::1]:4000@000102030405060708090a0b0c0d0eff"),
            ("encrypt", "algorithm", "AES/CBC/PKCS5Padding"),
            ("encrypt", "legacy", "true"),
        ] {
            assert_eq!(config.get(section, key).as_deref(), Some(value), "{section}.{key}");
        }
        assert_eq!(
            notes(&seen),
            [
                "server.xml:2:3: <Manager>: not part of the channel: it belongs to the web tier",
                "! server.xml:5:62: <Membership> colour: not an attribute that is known here",
                "server.xml:6:93: <Receiver> maxThreads: not needed: tasks of the runtime do this, without a pool of its own",
                "! server.xml:8:108: <Transport> maxRetryAttempts: always 1 towards Java; between our own nodes what was lost is \
                 sent again",
                "server.xml:13:66: <Member> securePort: members tell this themselves when they answer",
            ]
        );
    }

    /// Classes of one's own, and what stands twice, are said; the others count.
    #[test]
    fn nothing_is_passed_over() {
        let text = r#"<Cluster className="org.example.MyCluster">
  <Channel>
    <Membership/>
    <Receiver port="1"/>
    <Sender>
      <Transport timeout="1"/>
      <Transport/>
    </Sender>
    <Sender/>
  </Channel>
  <Channel className="org.example.MyChannel">


    <Membership/>
    <Membership port="1"/>
    <Receiver port="1"/>
    <Receiver port="2"/>
    <Sender>
      <Transport timeout="1"/>
      <Transport/>
    </Sender>
    <Sender className="org.example.MySender"/>
  </Channel>
</Cluster>"#;
        let (config, seen) = Config::from_server_xml(text, "server.xml").unwrap();
        let seen = notes(&seen);
        for (element, line) in [("Channel", 2), ("Membership", 14), ("Receiver", 16), ("Sender", 18), ("Transport", 19)]
        {
            let place = format!("! server.xml:{line}:");
            let note = |note: &&String| note.starts_with(&place) && note.contains(&format!("<{element}>: passed over"));
            assert!(seen.iter().any(|one| note(&one)), "{element} of {seen:#?}");
        }
        for class in ["MyCluster", "MyChannel", "MySender"] {
            let said = format!("className: there is no org.example.{class} here");
            assert!(seen.iter().any(|note| note.starts_with("! ") && note.contains(&said)), "{class} of {seen:#?}");
        }
        assert_eq!(seen.len(), 8, "{seen:#?}");
        assert_eq!(config.get("receiver", "port").as_deref(), Some("2"));
    }

    #[test]
    fn what_a_local_member_is_called_is_named() {
        let text = r#"<Channel><Membership className="a.StaticMembershipService">
  <LocalMember className="a.StaticMember" uniqueId="{0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15}" domain="blue"/>
</Membership></Channel>"#;
        let (_, seen) = Config::from_server_xml(text, "server.xml").unwrap();
        let seen = notes(&seen);
        assert_eq!(seen.len(), 3, "{seen:#?}");
        for (note, start) in seen.iter().zip([
            "server.xml:2:3: <LocalMember>: not needed",
            "! server.xml:2:43: <LocalMember> uniqueId: this member makes an id of its own",
            "! server.xml:2:94: <LocalMember> domain: not taken over",
        ]) {
            assert!(note.starts_with(start), "{note}");
        }
    }

    #[test]
    fn a_small_queue_of_the_dispatcher_is_a_small_budget() {
        let text =
            r#"<Channel><Interceptor className="a.MessageDispatchInterceptor" maxQueueSize="1048576"/></Channel>"#;
        let (config, _) = Config::from_server_xml(text, "server.xml").unwrap();
        let pairs = config.channel.iter().map(|entry| (entry.key.as_str(), entry.value.as_str()));
        let channel = ChannelConfig::from_pairs(pairs).unwrap();
        assert_eq!((channel.budget.total, channel.budget.per_member), (1 << 20, 1 << 18));
    }

    #[test]
    fn suspects_may_be_watched_without_end() {
        for forever in ["0", "-1"] {
            let text = format!(
                r#"<Channel><Interceptor className="a.TcpFailureDetector" removeSuspectsTimeout="{forever}"/></Channel>"#
            );
            let (config, _) = Config::from_server_xml(&text, "server.xml").unwrap();
            assert_eq!(config.get("tcp-failure-detector", "remove_suspects_timeout").as_deref(), Some("24h"));
        }
    }

    #[test]
    fn defaults_are_tomcats() {
        let (cluster, _) = Config::from_server_xml("<Cluster/>", "server.xml").unwrap();
        assert_eq!(cluster.interceptors(), ["message-dispatch", "tcp-failure-detector"]);
        assert_eq!(cluster.get("channel", "send_options").as_deref(), Some("8"));
        assert_eq!(cluster.get("receiver", "bind").as_deref(), Some("0.0.0.0"));
        let (channel, _) = Config::from_server_xml("<Channel/>", "server.xml").unwrap();
        assert_eq!(channel.interceptors(), ["message-dispatch"]);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let faults = |text| {
            let error = Config::from_server_xml(text, "server.xml").unwrap_err();
            error.faults().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(faults("<Server/>"), ["server.xml: there is no <Cluster> and no <Channel> element"]);
        assert!(faults("<Cluster>")[0].starts_with("server.xml:1:"));
        assert!(faults("<Host><Cluster/><Cluster/></Host>")[0].contains("several"));
        // No entity may be told to grow.
        let bomb = r#"<!DOCTYPE a [<!ENTITY b "bbbbbbbb">]><Cluster channelSendOptions="&b;"/>"#;
        assert!(faults(bomb)[0].contains("no XML"));
        let found = faults(
            r#"<Channel>
  <Membership dropTime="soon"/>
  <Interceptor className="org.example.Mine"/>
  <Interceptor className="a.b.StaticMembershipInterceptor"><Member host="a"/><Member host="a" port="1" uniqueId="{1}"/></Interceptor>
</Channel>"#,
        );
        assert_eq!(found.len(), 4, "{found:?}");
        assert_eq!(
            found[0],
            "server.xml:2:15: <Membership>: dropTime is \"soon\", but must be a number of milliseconds"
        );
        assert!(
            found[1].starts_with("server.xml:3:3: <Interceptor>: there is no equivalent of org.example.Mine (known: ")
        );
        assert!(found[2].contains("host and port are needed"));
        assert!(found[3].contains("uniqueId must be 16 bytes"));
    }
}
