use serde_json::Value;

/// One line of a node's standard output.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The node runs.
    Ready(MemberInfo),
    /// Another member joined.
    MemberAdded(MemberInfo),
    /// Another member left or was found dead.
    MemberRemoved(MemberInfo, Removal),
    /// A message reached the application.
    Message(MessageInfo),
    /// A `send` command was carried out, with the outcomes of all of its messages.
    Sent(SentInfo),
    /// The answer to `members`: everybody else.
    Members(Vec<MemberInfo>),
    /// The node reports a mistake of its own or of its driver.
    Error(String),
    /// The node left the group.
    Stopped,
    /// An event that only one of the implementations has, as it came; its name is under `event`.
    Other(Value),
    /// A line that is not an event at all.
    Garbage(String),
}

/// A member as a node describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberInfo {
    /// Unique id, 32 hex digits.
    pub id: String,
    /// Address as text.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Domain in hex.
    pub domain: String,
    /// Payload in hex.
    pub payload: String,
    /// How long the member says it has been up, in milliseconds.
    pub alive_ms: i64,
}

/// Why a member was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It said goodbye.
    Shutdown,
    /// It was found dead.
    Failed,
}

/// A message as its receiver saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageInfo {
    /// Id of the sender.
    pub from: String,
    /// Send options as they came off the wire.
    pub options: Option<u32>,
    /// Id of the message in hex.
    pub id: Option<String>,
    /// Length of the body.
    pub len: u64,
    /// Digest of the body in hex.
    pub sha256: String,
    /// The body in hex, when it is small enough to be shown (256 bytes).
    pub bytes: Option<String>,
}

impl MessageInfo {
    /// The number that `size:` bodies carry in front when several are sent by one command.
    pub fn number(&self) -> Option<u64> {
        u64::from_str_radix(self.bytes.as_deref()?.get(..16)?, 16).ok()
    }
}

/// What became of a `send` command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentInfo {
    /// How many messages were sent.
    pub count: u64,
    /// How many of them failed for at least one member.
    pub failed: u64,
    /// Digest of the last body in hex.
    pub sha256: String,
    /// The members that failed and their reasons; empty when none did.
    pub why: String,
}

impl Event {
    /// Reads one line.
    pub(crate) fn parse(line: &str) -> Self {
        let Ok(json) = serde_json::from_str::<Value>(line) else {
            return Self::Garbage(line.to_owned());
        };
        Self::read(&json).unwrap_or_else(|| Self::Garbage(line.to_owned()))
    }

    fn read(json: &Value) -> Option<Self> {
        let member = |key| MemberInfo::read(json.get(key)?);
        Some(match json.get("event")?.as_str()? {
            "ready" => Self::Ready(member("local")?),
            "member_added" => Self::MemberAdded(member("member")?),
            "member_removed" => {
                let why = match json.get("reason")?.as_str()? {
                    "shutdown" => Removal::Shutdown,
                    "failed" => Removal::Failed,
                    _ => return None,
                };
                Self::MemberRemoved(member("member")?, why)
            }
            "message" => Self::Message(MessageInfo {
                from: text(json, "from")?,
                options: json.get("options").and_then(Value::as_u64).and_then(|n| n.try_into().ok()),
                id: text(json, "id"),
                len: json.get("len")?.as_u64()?,
                sha256: text(json, "sha256")?,
                bytes: text(json, "bytes"),
            }),
            "sent" => Self::Sent(SentInfo {
                count: json.get("count")?.as_u64()?,
                failed: json.get("failed")?.as_u64()?,
                sha256: text(json, "sha256")?,
                why: text(json, "why").unwrap_or_default(),
            }),
            "members" => Self::Members(
                json.get("members")?.as_array()?.iter().map(MemberInfo::read).collect::<Option<Vec<_>>>()?,
            ),
            "error" => Self::Error(text(json, "error")?),
            "stopped" => Self::Stopped,
            _ => Self::Other(json.clone()),
        })
    }
}

impl MemberInfo {
    fn read(json: &Value) -> Option<Self> {
        Some(Self {
            id: text(json, "id")?,
            host: text(json, "host")?,
            port: json.get("port")?.as_u64()?.try_into().ok()?,
            domain: text(json, "domain")?,
            payload: text(json, "payload")?,
            alive_ms: json.get("alive_ms")?.as_i64()?,
        })
    }
}

fn text(json: &Value, key: &str) -> Option<String> {
    json.get(key)?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBER: &str = r#"{"id":"00ff","host":"127.0.0.1","port":4000,"domain":"","payload":"0a","alive_ms":-1}"#;

    fn member() -> MemberInfo {
        MemberInfo {
            id: "00ff".into(),
            host: "127.0.0.1".into(),
            port: 4000,
            domain: String::new(),
            payload: "0a".into(),
            alive_ms: -1,
        }
    }

    #[test]
    fn events_are_read_field_by_field() {
        assert_eq!(Event::parse(&format!(r#"{{"event":"ready","local":{MEMBER}}}"#)), Event::Ready(member()));
        assert_eq!(
            Event::parse(&format!(r#"{{"event":"member_removed","member":{MEMBER},"reason":"failed"}}"#)),
            Event::MemberRemoved(member(), Removal::Failed)
        );
        assert_eq!(
            Event::parse(&format!(r#"{{"event":"members","members":[{MEMBER},{MEMBER}]}}"#)),
            Event::Members(vec![member(), member()])
        );
        let sent = SentInfo { count: 2, failed: 1, sha256: "ab".into(), why: "00ff: refused".into() };
        assert_eq!(
            Event::parse(r#"{"event":"sent","count":2,"failed":1,"sha256":"ab","why":"00ff: refused"}"#),
            Event::Sent(sent)
        );
    }

    #[test]
    fn a_numbered_message_tells_its_number() {
        let line = r#"{"event":"message","from":"00ff","options":3,"id":"01","len":9,"sha256":"ab","bytes":"000000000000270fcc"}"#;
        let bytes = Some("000000000000270fcc".to_owned());
        let id = Some("01".to_owned());
        let message = MessageInfo { from: "00ff".into(), options: Some(3), id, len: 9, sha256: "ab".into(), bytes };
        assert_eq!(Event::parse(line), Event::Message(message.clone()));
        assert_eq!(message.number(), Some(9999));
        assert_eq!(MessageInfo { bytes: None, ..message }.number(), None);
    }

    #[test]
    fn what_is_no_event_is_garbage_and_a_strange_event_is_kept() {
        for line in ["panicked at src/main.rs", "[]", r#"{"event":"ready"}"#, r#"{"event":"sent","count":-1}"#] {
            assert_eq!(Event::parse(line), Event::Garbage(line.into()));
        }
        assert!(matches!(Event::parse(r#"{"event":"probe_sent","alive":true}"#), Event::Other(_)));
    }
}
