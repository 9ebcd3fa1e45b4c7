//! What a scenario file says.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::units::{Bound, Bytes, Count, Rate, Share, Span};

/// A scenario: hosts, links, flows, and what is expected of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What it shows.
    pub title: String,
    /// The seed of its randomness, where the command names none.
    #[serde(default = "one")]
    pub seed: u64,
    /// All flows must have ended by then (virtual time).
    #[serde(default = "minute")]
    pub limit: Span,
    /// The hosts; those that links name need no entry unless there is something to say of them.
    #[serde(default)]
    pub host: Vec<Host>,
    /// The links.
    pub link: Vec<Link>,
    /// The flows.
    pub flow: Vec<Flow>,
}

fn one() -> u64 {
    1
}

fn minute() -> Span {
    Span(std::time::Duration::from_secs(60))
}

/// A host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Whether it passes on what is not for it.
    #[serde(default)]
    pub router: bool,
    /// Settings by their names: `"net.ipv4.tcp_sack" = 0`.
    #[serde(default)]
    pub sysctl: BTreeMap<String, Setting>,
}

/// A value of a setting.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    /// Without quotes.
    Number(i64),
    /// In quotes.
    Text(String),
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Setting::Number(number) => number.fmt(f),
            Setting::Text(text) => text.fmt(f),
        }
    }
}

/// A link between hosts. What is said of it holds in each direction.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Its name; by default the names of its hosts, with a hyphen between.
    pub name: Option<String>,
    /// The names of its hosts, two or more.
    pub between: Vec<String>,
    /// The largest packet, in bytes.
    #[serde(default = "ethernet")]
    pub mtu: u32,
    /// How many bits pass in a second; by default any.
    pub rate: Option<Rate>,
    /// How long a frame waits for its turn before the queue counts as full.
    #[serde(default = "queue")]
    pub queue: Span,
    /// How long every frame takes.
    #[serde(default)]
    pub delay: Span,
    /// Up to this much longer, without overtaking.
    #[serde(default)]
    pub jitter: Span,
    /// How many frames vanish.
    #[serde(default)]
    pub loss: Share,
    /// How many frames in a row, on average, vanish at a time; 1 is independent loss.
    #[serde(default = "one_frame")]
    pub burst: u32,
    /// How many frames are held back so that later ones overtake them.
    #[serde(default)]
    pub reorder: Share,
    /// How long they are held back at most.
    #[serde(default = "held_back")]
    pub reorder_by: Span,
    /// How many frames come twice.
    #[serde(default)]
    pub duplicate: Share,
    /// In how many frames a bit flips.
    #[serde(default)]
    pub corrupt: Share,
    /// Frames that waited longer are marked (RFC 3168) where their sender is capable.
    pub mark_above: Option<Span>,
    /// Whether the marks are cleared on the way.
    #[serde(default)]
    pub bleach: bool,
    /// Times in which nothing passes.
    #[serde(default)]
    pub down: Vec<Outage>,
}

fn ethernet() -> u32 {
    1500
}

fn queue() -> Span {
    Span(std::time::Duration::from_millis(50))
}

fn one_frame() -> u32 {
    1
}

fn held_back() -> Span {
    Span(std::time::Duration::from_millis(10))
}

/// A time in which a link passes nothing.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// Its beginning.
    pub from: Span,
    /// Its end.
    pub until: Span,
}

/// Which family of addresses a flow uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
pub enum Version {
    /// IPv4.
    #[default]
    #[serde(rename = "ipv4")]
    V4,
    /// IPv6.
    #[serde(rename = "ipv6")]
    V6,
}

/// TCP connections one after the other: each sends, is answered, and ends.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// Its name; by default its hosts, with an arrow between.
    pub name: Option<String>,
    /// Who connects and sends.
    pub from: String,
    /// Who is connected to.
    pub to: String,
    /// When it begins.
    #[serde(default)]
    pub start: Span,
    /// How much each connection sends.
    #[serde(default)]
    pub bytes: Bytes,
    /// How much each is answered.
    #[serde(default)]
    pub answer: Bytes,
    /// How many connections.
    #[serde(default = "once")]
    pub times: u32,
    /// The family.
    #[serde(default)]
    pub version: Version,
    /// Congestion control of both ends; by default the hosts'.
    pub congestion: Option<String>,
    /// How fast the receiving program reads; by default at once.
    pub read: Option<Rate>,
    /// What is expected.
    #[serde(default)]
    pub expect: Expect,
}

fn once() -> u32 {
    1
}

/// What is expected of a flow.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// How long it takes from its first connect to its last end.
    pub time: Option<Bound<Span>>,
    /// Payload, both ways, over that time.
    pub goodput: Option<Bound<Rate>>,
    /// Of the payload that was sent, how much was sent again.
    pub retransmitted: Option<Bound<Share>>,
    /// Retransmission timeouts of both ends.
    pub timeouts: Option<Bound<Count>>,
    /// The longest time in which the receiving program got nothing while it waited.
    pub pause: Option<Bound<Span>>,
    /// The smoothed round trip at the end of the last connection.
    pub rtt: Option<Bound<Span>>,
    /// Whether it is expected to fail: some connection does not end well by the limit.
    #[serde(default)]
    pub fails: bool,
}
