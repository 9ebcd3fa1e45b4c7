//! Group management: IGMP (RFC 1112, RFC 2236, RFC 3376) and MLD (RFC 2710, RFC 3810). The two say the same with addresses of
//! different length; what is parsed and emitted here begins after the IP header (IGMP) or after the four bytes of the ICMPv6
//! header's type, code and checksum (MLD).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use super::be16;

/// Types of IGMP messages.
pub mod igmp {
    /// Query of every version.
    pub const QUERY: u8 = 0x11;
    /// Report of version 1.
    pub const REPORT_V1: u8 = 0x12;
    /// Report of version 2.
    pub const REPORT_V2: u8 = 0x16;
    /// Leave of version 2.
    pub const LEAVE: u8 = 0x17;
    /// Report of version 3.
    pub const REPORT_V3: u8 = 0x22;
}

/// Types of MLD messages (ICMPv6).
pub mod mld {
    /// Query of both versions.
    pub const QUERY: u8 = 130;
    /// Report of version 1.
    pub const REPORT: u8 = 131;
    /// Done of version 1.
    pub const DONE: u8 = 132;
    /// Report of version 2.
    pub const REPORT_V2: u8 = 143;
}

/// A router's question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    /// The version that the router speaks: 1 to 3 for IGMP, 1 or 2 for MLD.
    pub version: u8,
    /// Within which time to answer.
    pub max_response: Duration,
    /// The group asked for; None for all.
    pub group: Option<IpAddr>,
    /// The sources asked for.
    pub sources: Vec<IpAddr>,
    /// How often the querier repeats itself (QRV); 0 when it does not tell.
    pub robustness: u8,
    /// The time between its general queries (QQI).
    pub interval: Duration,
}

/// A floating-point code of eight bits: RFC 3376 section 4.1.1 for 8 bits, RFC 3810 section 5.1.3 for 16.
fn decode(code: u16, bits: u32) -> u64 {
    let top = 1u16 << (bits - 1);
    if code < top {
        return u64::from(code);
    }
    let mantissa_bits = bits - 4;
    let mantissa = u64::from(code & ((1 << mantissa_bits) - 1)) | 1 << mantissa_bits;
    mantissa << (u64::from(code >> mantissa_bits & 7) + 3)
}

fn address_at(bytes: &[u8], at: usize, v6: bool) -> Option<IpAddr> {
    let rest = bytes.get(at..)?;
    Some(match v6 {
        false => IpAddr::V4(Ipv4Addr::from(*rest.first_chunk::<4>()?)),
        true => IpAddr::V6(Ipv6Addr::from(*rest.first_chunk::<16>()?)),
    })
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

impl Query {
    /// Reads an IGMP query, its type included.
    pub fn parse_igmp(bytes: &[u8]) -> Option<Query> {
        let group = address_at(bytes, 4, false)?;
        let group = Some(group).filter(|group| !group.is_unspecified());
        let code = u16::from(*bytes.get(1)?);
        let tenths = |n: u64| Duration::from_millis(n * 100);
        if bytes.len() < 12 {
            // RFC 3376 section 7.1: 8 bytes with a zero code are version 1, which means ten seconds, others version 2.
            let version = if code == 0 { 1 } else { 2 };
            let max_response = if code == 0 { tenths(100) } else { tenths(code.into()) };
            let (sources, robustness) = (Vec::new(), 0);
            let interval = Duration::from_secs(125);
            return Some(Query { version, max_response, group, sources, robustness, interval });
        }
        let max_response = tenths(decode(code, 8).max(1));
        Query::parse_rest(bytes, (8, false), Query { version: 3, max_response, ..Query::of(group) })
    }

    /// Reads an MLD query: `bytes` begins after the checksum.
    pub fn parse_mld(bytes: &[u8]) -> Option<Query> {
        let group = address_at(bytes, 4, true)?;
        let group = Some(group).filter(|group| !group.is_unspecified());
        let code = be16(bytes, 0)?;
        match bytes.len() {
            20 => {
                let max_response = Duration::from_millis(code.into());
                Some(Query { version: 1, max_response, ..Query::of(group) })
            }
            24.. => {
                let max_response = Duration::from_millis(decode(code, 16).max(1));
                let query = Query { version: 2, max_response, ..Query::of(group) };
                Query::parse_rest(bytes, (20, true), query)
            }
            _ => None,
        }
    }

    fn of(group: Option<IpAddr>) -> Query {
        let (sources, robustness) = (Vec::new(), 0);
        let (version, max_response) = (0, Duration::ZERO);
        Query {
            version,
            max_response,
            group,
            sources,
            robustness,
            interval: Duration::from_secs(125),
        }
    }

    /// Reads what both have from the robustness on.
    fn parse_rest(bytes: &[u8], (at, v6): (usize, bool), query: Query) -> Option<Query> {
        let [flags, code] = *bytes.get(at..)?.first_chunk::<2>()?;
        let count = usize::from(be16(bytes, at + 2)?);
        let width = if v6 { 16 } else { 4 };
        let sources: Option<Vec<IpAddr>> =
            (0..count).map(|n| address_at(bytes, at + 4 + n * width, v6)).collect();
        let interval = Duration::from_secs(decode(u16::from(code), 8));
        Some(Query { robustness: flags & 7, interval, sources: sources?, ..query })
    }
}

/// What a group record says (RFC 3376 section 4.2.12, RFC 3810 section 5.2.12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RecordType {
    /// Only these sources are heard.
    ModeIsInclude = 1,
    /// All but these are heard.
    ModeIsExclude = 2,
    /// From now on only these.
    ChangeToInclude = 3,
    /// From now on all but these.
    ChangeToExclude = 4,
    /// These too.
    AllowNewSources = 5,
    /// These no longer.
    BlockOldSources = 6,
}

/// One group of a report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// What it says.
    pub kind: RecordType,
    /// Of which group.
    pub group: IpAddr,
    /// And which sources.
    pub sources: Vec<IpAddr>,
}

impl Record {
    /// How many bytes it takes.
    pub fn len(&self) -> usize {
        let width = if self.group.is_ipv4() { 4 } else { 16 };
        4 + width * (1 + self.sources.len())
    }

    /// Never: a record has a head.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// The body of a report of IGMPv3 or MLDv2: a count, then the records. It follows type, code and checksum.
pub fn report_body(records: &[Record]) -> Vec<u8> {
    let count = u16::try_from(records.len()).unwrap_or(u16::MAX);
    let mut body = vec![0, 0];
    body.extend(count.to_be_bytes());
    for record in records.iter().take(usize::from(count)) {
        let sources = u16::try_from(record.sources.len()).unwrap_or(u16::MAX);
        body.extend([record.kind as u8, 0]);
        body.extend(sources.to_be_bytes());
        body.extend(octets(record.group));
        for source in record.sources.iter().take(usize::from(sources)) {
            body.extend(octets(*source));
        }
    }
    body
}

/// Reads the records of a report's body, for whoever watches.
pub fn parse_report(body: &[u8], v6: bool) -> Option<Vec<Record>> {
    let count = be16(body, 2)?;
    let width = if v6 { 16 } else { 4 };
    let mut at = 4;
    let mut records = Vec::new();
    for _ in 0..count {
        let kind = match body.get(at)? {
            1 => RecordType::ModeIsInclude,
            2 => RecordType::ModeIsExclude,
            3 => RecordType::ChangeToInclude,
            4 => RecordType::ChangeToExclude,
            5 => RecordType::AllowNewSources,
            6 => RecordType::BlockOldSources,
            _ => return None,
        };
        let sources = usize::from(be16(body, at + 2)?);
        let group = address_at(body, at + 4, v6)?;
        at += 4 + width;
        let source = |n: usize| address_at(body, at + n * width, v6);
        let all: Option<Vec<IpAddr>> = (0..sources).map(source).collect();
        records.push(Record { kind, group, sources: all? });
        at += sources * width;
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_count_and_float() {
        assert_eq!(
            [decode(100, 8), decode(0x7f, 8), decode(0x80, 8), decode(0xff, 8)],
            [100, 127, 128, 31_744]
        );
        assert_eq!(
            [decode(10_000, 16), decode(0x8000, 16), decode(0xffff, 16)],
            [10_000, 32_768, 8_387_584]
        );
    }

    #[test]
    fn queries_of_every_version_are_told_apart() {
        let version = |bytes: &[u8]| Query::parse_igmp(bytes).map(|query| query.version);
        assert_eq!(version(&[0x11, 0, 0, 0, 0, 0, 0, 0]), Some(1));
        assert_eq!(version(&[0x11, 100, 0, 0, 0, 0, 0, 0]), Some(2));
        let v3 = [0x11, 20, 0, 0, 239, 1, 2, 3, 2, 125, 0, 1, 10, 0, 0, 9];
        let query = Query::parse_igmp(&v3).unwrap();
        assert_eq!((query.version, query.robustness, query.sources.len()), (3, 2, 1));
        assert_eq!(query.max_response, Duration::from_secs(2));
        assert_eq!(version(&v3[..15]), None, "a source is missing");
        assert_eq!(Query::parse_mld(&[0; 20]).map(|query| query.version), Some(1));
        assert_eq!(Query::parse_mld(&[0; 24]).map(|query| query.version), Some(2));
        assert_eq!(Query::parse_mld(&[0; 22]), None);
    }

    #[test]
    fn reports_parse_what_they_emit() {
        let record = |kind, group: &str, sources: &[&str]| Record {
            kind,
            group: group.parse().unwrap(),
            sources: sources.iter().map(|at| at.parse().unwrap()).collect(),
        };
        let v4 = vec![
            record(RecordType::ChangeToExclude, "239.1.2.3", &[]),
            record(RecordType::AllowNewSources, "232.1.1.1", &["10.0.0.1", "10.0.0.2"]),
        ];
        assert_eq!(parse_report(&report_body(&v4), false), Some(v4));
        let v6 = vec![record(RecordType::ModeIsInclude, "ff3e::1", &["fd00::1"])];
        assert_eq!(parse_report(&report_body(&v6), true), Some(v6.clone()));
        assert_eq!(v6[0].len(), report_body(&v6).len() - 4);
    }
}
