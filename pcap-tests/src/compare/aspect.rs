//! What can be compared, and the rule behind it.

/// Something in which two traces can differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// Which flows there are.
    Flows,
    /// How a connection began.
    Opening,
    /// What the SYNs offer.
    Options,
    /// The bytes of both directions, or the datagrams.
    Stream,
    /// How a connection ended.
    Ending,
    /// How many segments were sent again.
    Retransmissions,
    /// How often a window was closed.
    ZeroWindow,
    /// ICMP errors about the flow.
    Icmp,
    /// Strictly: how the stream is cut into segments.
    Segments,
    /// Strictly: what is acknowledged, and in how many acknowledgments.
    Acks,
    /// Strictly: the windows offered.
    Window,
    /// Strictly: when each segment came, within the tolerance.
    Timing,
}

impl Aspect {
    /// All of them; those that are strict stand last.
    pub const ALL: [Self; 12] = [
        Self::Flows,
        Self::Opening,
        Self::Options,
        Self::Stream,
        Self::Ending,
        Self::Retransmissions,
        Self::ZeroWindow,
        Self::Icmp,
        Self::Segments,
        Self::Acks,
        Self::Window,
        Self::Timing,
    ];
    /// Those that are compared unless told otherwise.
    pub const DEFAULT: &[Self] = Self::ALL.split_at(8).0;

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flows => "flows",
            Self::Opening => "opening",
            Self::Options => "options",
            Self::Stream => "stream",
            Self::Ending => "ending",
            Self::Retransmissions => "retransmissions",
            Self::ZeroWindow => "zero-window",
            Self::Icmp => "icmp",
            Self::Segments => "segments",
            Self::Acks => "acks",
            Self::Window => "window",
            Self::Timing => "timing",
        }
    }

    /// The standard that says how it should be; empty where none does.
    pub fn rule(self) -> &'static str {
        match self {
            Self::Flows | Self::Stream | Self::Timing => "",
            Self::Opening => "RFC 9293, 3.5",
            Self::Options => "RFC 9293, 3.2; RFC 7323, 2.2 and 3.2; RFC 2018, 2",
            Self::Ending => "RFC 9293, 3.6",
            Self::Retransmissions => "RFC 6298, 5; RFC 8985",
            Self::ZeroWindow => "RFC 9293, 3.8.6",
            Self::Icmp => "RFC 1122, 4.2.3.9; RFC 5927",
            Self::Segments => "RFC 9293, 3.7.4 and 3.8.6.2.1",
            Self::Acks => "RFC 5681, 4.2; RFC 9293, 3.8.6.3",
            Self::Window => "RFC 9293, 3.8.6.2.2; RFC 7323, 2.3",
        }
    }
}

impl std::str::FromStr for Aspect {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|aspect| aspect.name() == name);
        found.ok_or_else(|| format!("{name:?} is none of {}", known()))
    }
}
