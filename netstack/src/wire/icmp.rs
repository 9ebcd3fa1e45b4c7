//! The ICMP header of both families (RFC 792, RFC 4443): type, code, checksum and four bytes by type.

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;
/// Where the checksum lies in the header.
pub const CHECKSUM_OFFSET: u16 = 2;

/// Types and codes of ICMP for IPv4.
pub mod v4 {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Source quench (ignored, RFC 6633).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
    /// Timestamp request.
    pub const TIMESTAMP: u8 = 13;
    /// Timestamp reply.
    pub const TIMESTAMP_REPLY: u8 = 14;
    /// Code of unreachable: administratively prohibited.
    pub const CODE_PROHIBITED: u8 = 13;
    /// Code of unreachable: host.
    pub const CODE_HOST: u8 = 1;
    /// Code of unreachable: protocol.
    pub const CODE_PROTOCOL: u8 = 2;
    /// Code of unreachable: port.
    pub const CODE_PORT: u8 = 3;
    /// Code of unreachable: fragmentation needed.
    pub const CODE_FRAGMENTATION: u8 = 4;
    /// Code of time exceeded: reassembly.
    pub const CODE_REASSEMBLY: u8 = 1;
}

/// Types and codes of ICMPv6.
pub mod v6 {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request.
    pub const ECHO: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Router solicitation.
    pub const ROUTER_SOLICIT: u8 = 133;
    /// Router advertisement.
    pub const ROUTER_ADVERT: u8 = 134;
    /// Neighbour solicitation.
    pub const NEIGHBOUR_SOLICIT: u8 = 135;
    /// Neighbour advertisement.
    pub const NEIGHBOUR_ADVERT: u8 = 136;
    /// Redirect.
    pub const REDIRECT: u8 = 137;
    /// Code of unreachable: administratively prohibited.
    pub const CODE_PROHIBITED: u8 = 1;
    /// Code of unreachable: beyond the scope of the source address.
    pub const CODE_BEYOND_SCOPE: u8 = 2;
    /// Code of parameter problem: the first fragment lacks headers (RFC 7112).
    pub const CODE_INCOMPLETE: u8 = 3;
    /// Code of unreachable: address.
    pub const CODE_ADDRESS: u8 = 3;
    /// Code of unreachable: port.
    pub const CODE_PORT: u8 = 4;
    /// Code of time exceeded: reassembly.
    pub const CODE_REASSEMBLY: u8 = 1;
    /// Code of parameter problem: unrecognised next header.
    pub const CODE_NEXT_HEADER: u8 = 1;
    /// Code of parameter problem: unrecognised option.
    pub const CODE_OPTION: u8 = 2;
}

/// The header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Icmp {
    /// What the message is.
    pub kind: u8,
    /// Which case of it.
    pub code: u8,
    /// The checksum.
    pub checksum: u16,
    /// Identifier and sequence number, an MTU, a pointer, or unused.
    pub rest: [u8; 4],
}

impl Icmp {
    /// A message whose checksum is still to be filled in.
    pub fn new(kind: u8, code: u8, rest: [u8; 4]) -> Icmp {
        Icmp { kind, code, checksum: 0, rest }
    }

    /// Reads a header.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Icmp {
        let [kind, code, c0, c1, rest @ ..] = *bytes;
        Icmp { kind, code, checksum: u16::from_be_bytes([c0, c1]), rest }
    }

    /// Writes the header.
    pub fn emit(&self, bytes: &mut [u8; HEADER_LEN]) {
        bytes[0] = self.kind;
        bytes[1] = self.code;
        bytes[2..4].copy_from_slice(&self.checksum.to_be_bytes());
        bytes[4..].copy_from_slice(&self.rest);
    }

    /// The identifier of an echo message.
    pub fn ident(&self) -> u16 {
        u16::from_be_bytes([self.rest[0], self.rest[1]])
    }
}

/// Whether an ICMPv4 type is an error, about which no further error may be sent (RFC 1122 section 3.2.2).
pub fn is_error_v4(kind: u8) -> bool {
    matches!(
        kind,
        v4::UNREACHABLE
            | v4::SOURCE_QUENCH
            | v4::REDIRECT
            | v4::TIME_EXCEEDED
            | v4::PARAMETER_PROBLEM
    )
}

/// Whether an ICMPv6 type is an error (RFC 4443 section 2.1: the high-order bit is clear).
pub fn is_error_v6(kind: u8) -> bool {
    kind < 128
}
