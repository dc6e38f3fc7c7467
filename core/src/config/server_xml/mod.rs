//! Tomcat's `server.xml`: its `<Cluster>` or `<Channel>` element as a configuration.
//!
//! Attributes have Tomcat's names and, where nothing is said, Tomcat's defaults. What has no equivalent here is named by a
//! [`Note`], never passed over: an attribute that only tunes Java's machinery, one that this project decides otherwise, or one
//! that nobody knows. Parts of the web tier (`Manager`, `Valve`, `Deployer`, `ClusterListener`) are not part of the channel.

mod table;

use std::fmt;
use std::sync::Arc;

use roxmltree::{Document, Node, ParsingOptions};

use self::table::{Class, Target};
use super::fault::{ConfigError, ConfigFault, Origin};
use super::{Config, Entry, Part, default_stack};
use crate::registry::PartKind;

/// Something in a `server.xml` that this configuration cannot say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Note {
    /// Where it stands.
    pub origin: Origin,
    /// The element, as in `Receiver`.
    pub element: String,
    /// The attribute; empty if it is the element as a whole.
    pub attribute: String,
    /// What becomes of it.
    pub message: String,
    /// Whether the channel behaves otherwise than Tomcat's because of it; otherwise it only tunes what does not exist here.
    pub matters: bool,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: <{}>", self.origin, self.element)?;
        if !self.attribute.is_empty() {
            write!(f, " {}", self.attribute)?;
        }
        write!(f, ": {}", self.message)
    }
}

pub(super) fn read(text: &str, name: &str) -> Result<(Config, Vec<Note>), ConfigError> {
    let name: Arc<str> = name.into();
    let source = Origin::File { name: Arc::clone(&name), line: 0, column: 0 };
    let options = ParsingOptions { allow_dtd: false, nodes_limit: 100_000, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).map_err(|error| {
        let at =
            Origin::File { name: Arc::clone(&name), line: error.pos().row as usize, column: error.pos().col as usize };
        ConfigError::one(ConfigFault::new(&at, "", format!("no XML: {error}")))
    })?;
    let clusters: Vec<_> = document.descendants().filter(|node| node.has_tag_name("Cluster")).collect();
    let channels: Vec<_> = document.descendants().filter(|node| node.has_tag_name("Channel")).collect();
    let mut reader = Reader {
        name,
        document: &document,
        config: Config { source: source.clone(), is_stack_given: true, ..Config::default() },
        notes: Vec::new(),
        faults: Vec::new(),
    };
    match (clusters.as_slice(), channels.as_slice()) {
        ([cluster], _) => reader.cluster(*cluster),
        ([], [channel]) => reader.channel(*channel, false),
        ([], []) => {
            let message = "there is no <Cluster> and no <Channel> element";
            return Err(ConfigError::one(ConfigFault::new(&source, "", message)));
        }
        _ => {
            let message = "there are several: a channel is made of one; give each a file of its own";
            return Err(ConfigError::one(ConfigFault::new(&source, "<Cluster>, <Channel>", message)));
        }
    }
    ConfigError::unless_empty(&source, reader.faults)?;
    Ok((reader.config, reader.notes))
}

/// Every setting of a part that an attribute may become.
pub(super) fn settings() -> Vec<(PartKind, &'static str, &'static str)> {
    let of_class = |class: &'static Class| {
        let rules = class.rules.iter().filter_map(table::Rule::key);
        let defaults = class.defaults.iter().map(|(_, key, _)| *key);
        rules.chain(defaults).chain(class.members).map(|key| (class.kind, class.ours, key))
    };
    table::CLASSES.iter().flat_map(of_class).collect()
}

struct Reader<'d, 'i> {
    name: Arc<str>,
    document: &'d Document<'i>,
    config: Config,
    notes: Vec<Note>,
    faults: Vec<ConfigFault>,
}

impl Reader<'_, '_> {
    fn at(&self, offset: usize) -> Origin {
        let at = self.document.text_pos_at(offset);
        Origin::File { name: Arc::clone(&self.name), line: at.row as usize, column: at.col as usize }
    }

    fn cluster(&mut self, cluster: Node<'_, '_>) {
        self.attributes(cluster, &table::CLUSTER);
        self.class(cluster, &table::CLUSTER);
        // Tomcat's own default; a bare channel has none.
        if cluster.attribute("channelSendOptions").is_none() {
            let origin = self.at(cluster.range().start);
            self.config.channel.push(Entry { key: "send_options".to_owned(), value: "8".to_owned(), origin });
        }
        self.repeated(cluster, &["Channel"]);
        let mut channel = None;
        for child in cluster.children().filter(Node::is_element) {
            match child.tag_name().name() {
                "Channel" => channel = Some(child),
                "Manager" | "Valve" | "Deployer" | "ClusterListener" => {
                    self.note(child, "", "not part of the channel: it belongs to the web tier", false);
                }
                _ => self.note(child, "", "not known here", true),
            }
        }
        match channel {
            Some(channel) => self.channel(channel, true),
            None => self.receiver_of_tomcat(cluster),
        }
    }

    fn channel(&mut self, channel: Node<'_, '_>, in_cluster: bool) {
        self.attributes(channel, &table::CHANNEL);
        self.class(channel, &table::CHANNEL);
        self.repeated(channel, &["Membership", "Receiver", "Sender"]);
        let mut stack = Vec::new();
        let mut seen_receiver = false;
        for child in channel.children().filter(Node::is_element) {
            match child.tag_name().name() {
                "Membership" => self.part(child, PartKind::Membership, None),
                "MembershipListener" | "ChannelListener" => {
                    self.note(child, "", "not part of the channel: listeners are code", true);
                }
                "Receiver" => {
                    seen_receiver = true;
                    self.part(child, PartKind::Receiver, None);
                }
                "Sender" => self.sender(child),
                "Interceptor" => self.part(child, PartKind::Interceptor, Some(&mut stack)),
                _ => self.note(child, "", "not known here", true),
            }
        }
        if !seen_receiver {
            self.receiver_of_tomcat(channel);
        }
        // Within a cluster Tomcat adds dispatcher and failure detector to an empty stack; a bare channel adds the dispatcher only.
        self.config.interceptors = match (stack.is_empty(), in_cluster) {
            (false, _) => stack,
            (true, true) => default_stack(),
            (true, false) => vec![Part::new(PartKind::Interceptor, "message-dispatch")],
        };
    }

    /// Names a class of an element that stands for no part, if it is not Tomcat's own.
    fn class(&mut self, element: Node<'_, '_>, class: &Class) {
        let Some(name) = element.attribute("className") else { return };
        let simple = name.rsplit('.').next().unwrap_or(name);
        if !class.java.contains(&simple) {
            let message = format!("there is no {name} here: it is taken for Tomcat's {}", class.java.join(" or "));
            self.note(element, "className", &message, true);
        }
    }

    /// Names elements that stand in `parent` more often than once. As in Tomcat the last one counts.
    fn repeated(&mut self, parent: Node<'_, '_>, names: &[&str]) {
        for name in names {
            let mut before = parent.children().filter(|child| child.has_tag_name(*name)).peekable();
            while let Some(child) = before.next() {
                if before.peek().is_some() {
                    self.note(child, "", "passed over: another one follows, which counts", true);
                }
            }
        }
    }

    /// A receiver that nothing is said of listens where Tomcat's does.
    fn receiver_of_tomcat(&mut self, near: Node<'_, '_>) {
        let origin = self.at(near.range().start);
        self.config.receiver.entries.push(Entry { key: "bind".to_owned(), value: "0.0.0.0".to_owned(), origin });
    }

    fn sender(&mut self, sender: Node<'_, '_>) {
        self.attributes(sender, &table::REPLICATION_TRANSMITTER);
        self.class(sender, &table::REPLICATION_TRANSMITTER);
        self.repeated(sender, &["Transport"]);
        for child in sender.children().filter(Node::is_element) {
            if child.tag_name().name() == "Transport" {
                self.part(child, PartKind::Sender, None);
            } else {
                self.note(child, "", "not known here", true);
            }
        }
    }

    /// Reads an element that stands for a part. `stack`: where an interceptor goes.
    fn part(&mut self, element: Node<'_, '_>, kind: PartKind, stack: Option<&mut Vec<Part>>) {
        let class_name = element.attribute("className").unwrap_or_else(|| table::default_class(kind));
        let simple = class_name.rsplit('.').next().unwrap_or(class_name);
        let origin = self.at(element.range().start);
        let Some(class) = table::CLASSES.iter().find(|class| class.kind == kind && class.java.contains(&simple)) else {
            let known: Vec<_> = table::CLASSES
                .iter()
                .filter(|class| class.kind == kind)
                .flat_map(|class| class.java)
                .copied()
                .collect();
            let message = format!("there is no equivalent of {class_name} (known: {})", known.join(", "));
            let element = format!("<{}>", element.tag_name().name());
            return self.faults.push(ConfigFault::new(&origin, element, message));
        };
        let entries = self.settings(element, class);
        let part = Part { kind, name: class.ours.to_owned(), origin, entries };
        match (kind, stack) {
            (PartKind::Interceptor, Some(stack)) => stack.push(part),
            (PartKind::Receiver, _) => self.config.receiver = part,
            (PartKind::Sender, _) => self.config.sender = part,
            _ => self.config.membership = part,
        }
    }

    /// The settings that attributes and child elements of a part stand for.
    fn settings(&mut self, element: Node<'_, '_>, class: &Class) -> Vec<Entry> {
        let mut entries = self.attributes(element, class);
        for (attribute, key, value) in class.defaults {
            if element.attribute(*attribute).is_none() {
                let origin = self.at(element.range().start);
                entries.push(Entry { key: (*key).to_owned(), value: (*value).to_owned(), origin });
            }
        }
        let mut members = Vec::new();
        for child in element.children().filter(Node::is_element) {
            match (child.tag_name().name(), class.members) {
                ("Member", Some(_)) => members.push(self.member(child)),
                ("LocalMember", Some(_)) => self.local_member(child),
                _ => self.note(child, "", "not known here", true),
            }
        }
        if let (Some(key), false) = (class.members, members.is_empty()) {
            let origin = self.at(element.range().start);
            let listed: Vec<_> = members.into_iter().flatten().collect();
            entries.push(Entry { key: key.to_owned(), value: listed.join("+"), origin });
        }
        entries
    }

    /// The list says who this member is; what else it is to be called, the channel does.
    fn local_member(&mut self, member: Node<'_, '_>) {
        self.note(member, "", "not needed: the local member is recognised in the list", false);
        for (attribute, instead) in [
            (
                "uniqueId",
                "this member makes an id of its own; where Java members list it under this one, set [channel] id",
            ),
            ("domain", "not taken over: set [channel] domain"),
        ] {
            if member.attribute(attribute).is_some() {
                self.note(member, attribute, instead, true);
            }
        }
    }

    /// A `<Member>` of a static list as `HOST:PORT@ID`.
    fn member(&mut self, member: Node<'_, '_>) -> Option<String> {
        let origin = self.at(member.range().start);
        for attribute in member.attributes() {
            let name = attribute.name();
            if !matches!(name, "className" | "host" | "port" | "uniqueId") {
                let unset = matches!((name, attribute.value()), ("securePort" | "udpPort", "-1"));
                self.note(member, name, "members tell this themselves when they answer", !unset && name != "domain");
            }
        }
        let (host, port) = (member.attribute("host"), member.attribute("port"));
        let (Some(host), Some(port)) = (host, port) else {
            self.faults.push(ConfigFault::new(&origin, "<Member>", "host and port are needed"));
            return None;
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        match member.attribute("uniqueId").map(table::unique_id) {
            None => Some(format!("{host}:{port}")),
            Some(Some(id)) => Some(format!("{host}:{port}@{id}")),
            Some(None) => {
                let message = "uniqueId must be 16 bytes, as in {0,1,2,…,15}";
                self.faults.push(ConfigFault::new(&origin, "<Member>", message));
                None
            }
        }
    }

    /// The settings of `class` that the attributes stand for; those of the channel go there.
    fn attributes(&mut self, element: Node<'_, '_>, class: &Class) -> Vec<Entry> {
        let mut entries = Vec::new();
        for attribute in element.attributes() {
            let (name, value) = (attribute.name(), attribute.value());
            if name == "className" {
                continue;
            }
            let origin = self.at(attribute.range().start);
            let Some(rule) = class.rules.iter().chain(table::EVERYWHERE).find(|rule| rule.attribute == name) else {
                let known = class.rules.iter().map(|rule| rule.attribute);
                let near = crate::settings::nearest(name, known)
                    .map_or_else(String::new, |near| format!("; did you mean {near}?"));
                self.note(element, name, &format!("not an attribute that is known here{near}"), true);
                continue;
            };
            match table::convert(rule, value) {
                Target::Here(key, value) => entries.push(Entry { key: key.to_owned(), value, origin }),
                Target::Channel(key, value) => {
                    self.config.channel.push(Entry { key: key.to_owned(), value, origin });
                }
                Target::Both(key, value, also, other) => {
                    entries.push(Entry { key: key.to_owned(), value, origin: origin.clone() });
                    entries.push(Entry { key: also.to_owned(), value: other, origin });
                }
                Target::ChannelBoth(key, value, also, other) => {
                    self.config.channel.push(Entry { key: key.to_owned(), value, origin: origin.clone() });
                    self.config.channel.push(Entry { key: also.to_owned(), value: other, origin });
                }
                Target::Note(message, matters) => self.note(element, name, message, matters),
                Target::Default => {}
                Target::Wrong(expected) => {
                    let place = format!("<{}>", element.tag_name().name());
                    let message = format!("{name} is {value:?}, but must be {expected}");
                    self.faults.push(ConfigFault::new(&origin, place, message));
                }
            }
        }
        entries
    }

    fn note(&mut self, element: Node<'_, '_>, attribute: &str, message: &str, matters: bool) {
        let offset = element.attribute_node(attribute).map_or_else(|| element.range().start, |node| node.range().start);
        self.notes.push(Note {
            origin: self.at(offset),
            element: element.tag_name().name().to_owned(),
            attribute: attribute.to_owned(),
            message: message.to_owned(),
            matters,
        });
    }
}
