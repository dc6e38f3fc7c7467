//! Which of Tomcat's classes and attributes stand for which of our parts and settings.

use crate::registry::PartKind;

/// A class of Tomcat.
pub(super) struct Class {
    pub(super) kind: PartKind,
    /// Its names, without packages.
    pub(super) java: &'static [&'static str],
    /// The type of our part.
    pub(super) ours: &'static str,
    pub(super) rules: &'static [Rule],
    /// Where Tomcat's default is not ours: attribute, our key, its value.
    pub(super) defaults: &'static [(&'static str, &'static str, &'static str)],
    /// The key for `<Member>` elements, if it may have some.
    pub(super) members: Option<&'static str>,
}

/// An attribute.
pub(super) struct Rule {
    pub(super) attribute: &'static str,
    how: How,
}

#[derive(Clone, Copy)]
enum How {
    /// The same text for this key.
    Same(&'static str),
    /// Milliseconds for this key; the word stands for negative numbers, if they may be.
    Millis(&'static str, Option<&'static str>),
    /// The failure detector's `removeSuspectsTimeout`, in seconds; none or fewer stand for no end.
    Seconds,
    /// The most bytes in the dispatcher's queue: the budget of the channel, a quarter of it for one member.
    Budget,
    /// A number; the word stands for negative numbers.
    OrNone(&'static str, &'static str),
    /// A number of at least 1; less becomes 1.
    AtLeastOne(&'static str),
    /// `true` for `false`.
    Not(&'static str),
    /// A bind address; `auto` for all.
    Bind(&'static str),
    /// A setting of the channel, the same text.
    Channel(&'static str),
    /// A duration of the channel in milliseconds.
    ChannelMillis(&'static str),
    /// Bytes of the channel: a text, or `{1,2,3}`.
    ChannelBytes(&'static str),
    /// The same, of the part.
    Bytes(&'static str),
    /// An algorithm of encryption; those without authentication need leave.
    Algorithm,
    /// Nothing here; the reason. Changes nothing that anybody notices.
    Tunes(&'static str),
    /// Nothing here; the reason. Somebody may notice, unless it has this value, which is what happens here.
    Unless(&'static str, &'static str),
}

impl Rule {
    /// The setting of the part that it becomes, if it is one of the part.
    pub(super) const fn key(&self) -> Option<&'static str> {
        match self.how {
            How::Same(key)
            | How::Millis(key, _)
            | How::OrNone(key, _)
            | How::AtLeastOne(key)
            | How::Not(key)
            | How::Bind(key)
            | How::Bytes(key) => Some(key),
            How::Seconds => Some("remove_suspects_timeout"),
            How::Algorithm => Some("algorithm"),
            How::Channel(_)
            | How::ChannelMillis(_)
            | How::ChannelBytes(_)
            | How::Budget
            | How::Tunes(_)
            | How::Unless(..) => None,
        }
    }
}

/// What an attribute becomes.
pub(super) enum Target {
    Here(&'static str, String),
    Channel(&'static str, String),
    Both(&'static str, String, &'static str, String),
    ChannelBoth(&'static str, String, &'static str, String),
    Note(&'static str, bool),
    /// It says what holds anyway.
    Default,
    Wrong(&'static str),
}

const fn rule(attribute: &'static str, how: How) -> Rule {
    Rule { attribute, how }
}

const fn interceptor(java: &'static [&'static str], ours: &'static str, rules: &'static [Rule]) -> Class {
    Class { kind: PartKind::Interceptor, java, ours, rules, defaults: &[], members: None }
}

const THREADS: &str = "not needed: tasks of the runtime do this, without a pool of its own";
const BUFFERS: &str = "not needed: buffers grow and shrink by themselves";
const SOCKET: &str = "not settable: the socket has the system's setting";
const REPORTS: &str = "not needed: Channel::stats has the figures at any time";

/// Attributes that any element may have.
pub(super) const EVERYWHERE: &[Rule] = &[rule("id", How::Tunes("names the element only"))];

/// What `className` is when it is not given.
pub(super) const fn default_class(kind: PartKind) -> &'static str {
    match kind {
        PartKind::Membership => "McastService",
        PartKind::Receiver => "NioReceiver",
        PartKind::Sender => "PooledParallelSender",
        PartKind::Interceptor => "(no className)",
    }
}

pub(super) const CLUSTER: Class = Class {
    kind: PartKind::Sender,
    java: &["SimpleTcpCluster"],
    ours: "",
    rules: &[
        rule("channelSendOptions", How::Channel("send_options")),
        rule(
            "channelStartOptions",
            How::Unless("15", "not settable here: Services given to Channel::start_services choose the parts"),
        ),
        rule("clusterName", How::Tunes("belongs to the web tier")),
        rule("heartbeatBackgroundEnabled", How::Tunes("not needed: the channel has a heartbeat of its own")),
        rule("notifyLifecycleListenerOnFailure", How::Tunes("belongs to the web tier")),
    ],
    defaults: &[],
    members: None,
};

pub(super) const CHANNEL: Class = Class {
    kind: PartKind::Sender,
    java: &["GroupChannel"],
    ours: "",
    rules: &[
        rule("name", How::Channel("name")),
        rule("optionCheck", How::Channel("option_check")),
        rule("heartbeatSleeptime", How::ChannelMillis("heartbeat")),
        rule("heartbeat", How::Unless("true", "always on, unless [channel] says heartbeat = \"off\"")),
        rule("jmxEnabled", How::Tunes("there is no JMX here: Channel::stats has the figures")),
        rule("jmxDomain", How::Tunes("there is no JMX here: Channel::stats has the figures")),
        rule("jmxPrefix", How::Tunes("there is no JMX here: Channel::stats has the figures")),
    ],
    defaults: &[],
    members: None,
};

pub(super) const REPLICATION_TRANSMITTER: Class = Class {
    kind: PartKind::Sender,
    java: &["ReplicationTransmitter"],
    ours: "",
    rules: &[],
    defaults: &[],
    members: None,
};

const TRIGGER: Rule = rule("optionFlag", How::Same("trigger"));

/// All classes that have an equivalent.
pub(super) static CLASSES: &[Class] = &[
    Class {
        kind: PartKind::Membership,
        java: &["McastService"],
        ours: "multicast",
        rules: &[
            rule("address", How::Same("group")),
            rule("port", How::Same("port")),
            rule("bind", How::Bind("bind")),
            rule("frequency", How::Millis("frequency", None)),
            rule("dropTime", How::Millis("drop_time", None)),
            rule("ttl", How::OrNone("ttl", "system")),
            rule("localLoopbackDisabled", How::Not("loopback")),
            rule("recoveryEnabled", How::Same("recovery")),
            rule("recoveryCounter", How::Same("recovery_counter")),
            rule("recoverySleepTime", How::Millis("recovery_sleep", None)),
            rule("domain", How::ChannelBytes("domain")),
            rule("soTimeout", How::Tunes("not needed: expiry does not wait for datagrams")),
        ],
        defaults: &[],
        members: None,
    },
    Class {
        kind: PartKind::Membership,
        java: &["StaticMembershipService"],
        ours: "static",
        rules: &[
            rule("expirationTime", How::Millis("expiration", None)),
            rule("connectTimeout", How::Millis("connect_timeout", None)),
            rule("pingInterval", How::Millis("ping_interval", None)),
            rule("rpcTimeout", How::Tunes("not needed: nobody waits for answers")),
            rule("useThread", How::Tunes(THREADS)),
        ],
        defaults: &[],
        members: Some("peers"),
    },
    Class {
        kind: PartKind::Receiver,
        java: &["NioReceiver"],
        ours: "tcp",
        rules: &[
            rule("address", How::Bind("bind")),
            rule("host", How::Bind("bind")),
            rule("port", How::Same("port")),
            rule("autoBind", How::AtLeastOne("auto_bind")),
            rule("udpPort", How::OrNone("udp_port", "none")),
            rule("securePort", How::Unless("-1", "there is no secure port")),
            rule("selectorTimeout", How::Tunes("not needed: sockets are waited for without a time limit")),
            rule("maxThreads", How::Tunes(THREADS)),
            rule("minThreads", How::Tunes(THREADS)),
            rule("maxIdleTime", How::Tunes(THREADS)),
            rule("maxTasks", How::Tunes("does nothing in Tomcat either")),
            rule("minTasks", How::Tunes("does nothing in Tomcat either")),
            rule("daemon", How::Tunes(THREADS)),
            rule("timeout", How::Tunes("not needed: first_frame, half_frame and write_timeout bound connections")),
            rule("rxBufSize", How::Same("recv_buffer")),
            rule("txBufSize", How::Same("send_buffer")),
            rule("udpRxBufSize", How::Tunes(BUFFERS)),
            rule("udpTxBufSize", How::Tunes(BUFFERS)),
            rule("direct", How::Tunes(BUFFERS)),
            rule("useBufferPool", How::Tunes(BUFFERS)),
            rule("tcpNoDelay", How::Same("nodelay")),
            rule("soKeepAlive", How::Tunes("see keepalive: on by default, so that dead hosts are noticed")),
            rule("ooBInline", How::Tunes(SOCKET)),
            rule("soReuseAddress", How::Tunes(SOCKET)),
            rule("soLingerOn", How::Tunes("closing never waits")),
            rule("soLingerTime", How::Tunes("closing never waits")),
            rule("soTrafficClass", How::OrNone("traffic_class", "system")),
        ],
        // Tomcat's "auto" is an address of the machine; ours is loopback.
        defaults: &[("address", "bind", "0.0.0.0")],
        members: None,
    },
    Class {
        kind: PartKind::Sender,
        java: &["PooledParallelSender"],
        ours: "pooled-parallel",
        rules: &[
            rule("timeout", How::Millis("timeout", None)),
            rule("keepAliveCount", How::OrNone("keep_alive_count", "off")),
            rule("keepAliveTime", How::Millis("keep_alive_time", Some("off"))),
            rule("poolSize", How::Tunes("not needed: one connection a member carries any number of sends")),
            rule("maxWait", How::Tunes("not needed: there is no pool to wait for")),
            rule(
                "maxRetryAttempts",
                How::Unless("1", "always 1 towards Java; between our own nodes what was lost is sent again"),
            ),
            rule("throwOnFailedAck", How::Unless("true", "a negative acknowledgement always fails the send")),
            rule("rxBufSize", How::Tunes(BUFFERS)),
            rule("txBufSize", How::Tunes(BUFFERS)),
            rule("udpRxBufSize", How::Tunes(BUFFERS)),
            rule("udpTxBufSize", How::Tunes(BUFFERS)),
            rule("directBuffer", How::Tunes(BUFFERS)),
            rule("tcpNoDelay", How::Unless("true", "always on")),
            rule("soKeepAlive", How::Tunes("on by default, so that dead hosts are noticed")),
            rule("ooBInline", How::Tunes(SOCKET)),
            rule("soReuseAddress", How::Tunes(SOCKET)),
            rule("soLingerOn", How::Tunes("closing never waits")),
            rule("soLingerTime", How::Tunes("closing never waits")),
            rule("soTrafficClass", How::Tunes(SOCKET)),
        ],
        defaults: &[],
        members: None,
    },
    interceptor(
        &["MessageDispatchInterceptor", "MessageDispatch15Interceptor"],
        "message-dispatch",
        &[
            rule("optionFlag", How::Unless("8", "always 8")),
            rule("maxQueueSize", How::Budget),
            rule(
                "alwaysSend",
                How::Tunes("see policy: a full queue makes the sender wait, and then fails for that member only"),
            ),
            rule("useDeepClone", How::Tunes("not needed: bodies are immutable")),
            rule("maxThreads", How::Tunes(THREADS)),
            rule("maxSpareThreads", How::Tunes(THREADS)),
            rule("keepAliveTime", How::Tunes(THREADS)),
        ],
    ),
    interceptor(
        &["TcpFailureDetector"],
        "tcp-failure-detector",
        &[
            TRIGGER,
            rule("connectTimeout", How::Millis("connect_timeout", None)),
            rule("performSendTest", How::Unless("true", "a probe must always be answered")),
            rule("performReadTest", How::Same("read_test")),
            rule("readTestTimeout", How::Millis("read_test_timeout", None)),
            rule("removeSuspectsTimeout", How::Seconds),
        ],
    ),
    interceptor(
        &["ThroughputInterceptor"],
        "throughput",
        &[rule("optionFlag", How::Unless("0", "always counts every message")), rule("interval", How::Same("interval"))],
    ),
    interceptor(
        &["GzipInterceptor"],
        "gzip",
        &[
            TRIGGER,
            rule("compressionMinSize", How::Same("min_size")),
            rule("statsEnabled", How::Tunes(REPORTS)),
            rule("interval", How::Tunes(REPORTS)),
        ],
    ),
    interceptor(
        &["FragmentationInterceptor"],
        "fragmentation",
        &[TRIGGER, rule("maxSize", How::Same("max_size")), rule("expire", How::Millis("expire", None))],
    ),
    interceptor(
        &["OrderInterceptor"],
        "order",
        &[
            TRIGGER,
            rule("expire", How::Millis("expire", None)),
            rule("maxQueue", How::Same("max_queue")),
            rule("forwardExpired", How::Same("forward_expired")),
        ],
    ),
    interceptor(
        &["EncryptInterceptor"],
        "encrypt",
        &[
            rule("encryptionAlgorithm", How::Algorithm),
            rule("encryptionKey", How::Same("key")),
            rule("providerName", How::Tunes("there is one implementation")),
            rule("replayWindowTime", How::Millis("replay_window_time", None)),
            rule("replayWindowMessageCount", How::Same("replay_window_message_count")),
            rule("optionFlag", How::Unless("0", "always encrypts every message")),
        ],
    ),
    interceptor(
        &["DomainFilterInterceptor"],
        "domain-filter",
        &[
            rule("domain", How::Bytes("domain")),
            rule("logInterval", How::Same("log_interval")),
            rule("optionFlag", How::Unless("0", "always filters every message")),
        ],
    ),
    Class { members: Some("members"), ..interceptor(&["StaticMembershipInterceptor"], "static-members", &[TRIGGER]) },
    interceptor(
        &["TcpPingInterceptor"],
        "tcp-ping",
        &[
            TRIGGER,
            rule("interval", How::Millis("interval", None)),
            rule("useThread", How::Tunes("not needed: it always keeps its own time")),
            rule("staticOnly", How::Unless("false", "all members are pinged")),
        ],
    ),
    interceptor(
        &["TwoPhaseCommitInterceptor"],
        "two-phase-commit",
        &[
            TRIGGER,
            rule("expire", How::Millis("expire", None)),
            rule("deepclone", How::Tunes("not needed: bodies are immutable")),
        ],
    ),
    interceptor(&["NonBlockingCoordinator"], "coordinator", &[rule("optionFlag", How::Unless("0", "always on"))]),
    interceptor(&["SimpleCoordinator"], "simple-coordinator", &[rule("optionFlag", How::Unless("0", "always on"))]),
];

/// What an attribute with this value becomes.
pub(super) fn convert(rule: &Rule, value: &str) -> Target {
    let value = value.trim();
    let number = value.parse::<i64>();
    match rule.how {
        How::Same(key) => Target::Here(key, value.to_owned()),
        How::Millis(key, none) => match (number, none) {
            (Ok(millis), _) if millis >= 0 => Target::Here(key, format!("{millis}ms")),
            (Ok(_), Some(none)) => Target::Here(key, none.to_owned()),
            _ => Target::Wrong("a number of milliseconds"),
        },
        How::Seconds => match number {
            Ok(seconds) if seconds > 0 => Target::Here("remove_suspects_timeout", format!("{seconds}s")),
            Ok(_) => Target::Here("remove_suspects_timeout", "24h".to_owned()),
            Err(_) => Target::Wrong("a number of seconds"),
        },
        How::Budget => match number {
            Ok(bytes) if bytes > 0 => Target::ChannelBoth(
                "budget_total",
                bytes.to_string(),
                "budget_per_member",
                (bytes / 4).max(1).to_string(),
            ),
            _ => Target::Wrong("a number of bytes above zero"),
        },
        How::OrNone(key, none) => match number {
            Ok(number) if number < 0 => Target::Here(key, none.to_owned()),
            Ok(number) => Target::Here(key, number.to_string()),
            Err(_) => Target::Wrong("a whole number"),
        },
        How::AtLeastOne(key) => match number {
            Ok(number) => Target::Here(key, number.max(1).to_string()),
            Err(_) => Target::Wrong("a whole number"),
        },
        How::Not(key) => match value {
            "true" => Target::Here(key, "false".to_owned()),
            "false" => Target::Here(key, "true".to_owned()),
            _ => Target::Wrong("true or false"),
        },
        How::Bind(key) if value == "auto" => Target::Here(key, "0.0.0.0".to_owned()),
        How::Bind(key) => Target::Here(key, value.to_owned()),
        How::Channel(key) => Target::Channel(key, value.to_owned()),
        How::ChannelMillis(key) => match number {
            Ok(millis) if millis > 0 => Target::Channel(key, format!("{millis}ms")),
            _ => Target::Wrong("a number of milliseconds above zero"),
        },
        How::ChannelBytes(key) => bytes(value).map_or(Target::Wrong(BYTES), |text| Target::Channel(key, text)),
        How::Bytes(key) => bytes(value).map_or(Target::Wrong(BYTES), |text| Target::Here(key, text)),
        How::Algorithm => {
            // Tomcat warns only; here it needs leave, and a file that Tomcat takes has it.
            let legacy = !value.contains("/GCM/");
            Target::Both("algorithm", value.to_owned(), "legacy", legacy.to_string())
        }
        How::Tunes(why) => Target::Note(why, false),
        How::Unless(same, _) if value == same => Target::Default,
        How::Unless(_, why) => Target::Note(why, true),
    }
}

const BYTES: &str = "a text, or bytes as in {1,2,3}";

/// Tomcat's `{1,2,3}` as `hex:010203`; any other text as it is.
fn bytes(text: &str) -> Option<String> {
    if !text.starts_with('{') {
        return Some(text.to_owned());
    }
    let bytes = list_of_bytes(text)?;
    Some(bytes.iter().fold("hex:".to_owned(), |text, byte| format!("{text}{byte:02x}")))
}

fn list_of_bytes(text: &str) -> Option<Vec<u8>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let byte = |text: &str| {
        let number: i16 = text.trim().parse().ok()?;
        // Java's bytes have a sign.
        u8::try_from(number).ok().or_else(|| i8::try_from(number).ok().map(i8::cast_unsigned))
    };
    inner.split(',').map(byte).collect()
}

/// A `uniqueId` such as `{0,1,2,…}`, as 32 hexadecimal digits.
pub(super) fn unique_id(text: &str) -> Option<String> {
    let bytes = list_of_bytes(text).filter(|bytes| bytes.len() == 16)?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
