//! Reads netlink requests: headers, fixed parts and attributes of programs that may send anything (lib/nlattr.c's rules).

use core::net::IpAddr;

use sentry_abi::Errno;
use sentry_abi::netlink::*;
use zerocopy::FromBytes;

use super::build::Message;

/// Why a request is refused: the errno, and what NETLINK_EXT_ACK tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The errno.
    pub errno: Errno,
    /// Words for people.
    pub message: Option<&'static str>,
    /// Offset of the attribute in question from the start of the message.
    pub offset: Option<u32>,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        Refusal { errno, message: None, offset: None }
    }
}

impl Refusal {
    /// A refusal with words.
    pub fn new(errno: Errno, message: &'static str) -> Refusal {
        Refusal { errno, message: Some(message), offset: None }
    }

    /// Of an attribute.
    pub fn at(self, attribute: &Attribute<'_>) -> Refusal {
        Refusal { offset: Some(attribute.offset), ..self }
    }

    /// Adds the attributes of an extended acknowledgment; answers whether there are any.
    pub fn describe(&self, message: &mut Message) -> bool {
        if let Some(text) = self.message {
            message.string(NLMSGERR_ATTR_MSG, text);
        }
        if let Some(offset) = self.offset {
            message.number(NLMSGERR_ATTR_OFFS, offset);
        }
        self.message.is_some() || self.offset.is_some()
    }
}

/// One message of a program.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Its header.
    pub header: NlMsgHdr,
    /// All of it, the header included.
    pub message: &'a [u8],
    /// What follows the header.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// Splits the next message off; None where the rest is none (which Linux drops in silence).
    pub fn next(bytes: &'a [u8]) -> Option<(Request<'a>, &'a [u8])> {
        let (header, _) = NlMsgHdr::read_from_prefix(bytes).ok()?;
        let len = header.len as usize;
        let message = bytes.get(..len)?;
        let body = message.get(size_of::<NlMsgHdr>()..)?;
        let rest = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((Request { header, message, body }, rest))
    }

    /// The first byte: every request of rtnetlink and sock_diag begins with a family.
    pub fn family(&self) -> i32 {
        i32::from(self.body.first().copied().unwrap_or_default())
    }

    /// The fixed part. Errors: EINVAL for a short one.
    pub fn fixed<T: FromBytes>(&self) -> Result<T, Refusal> {
        match T::read_from_prefix(self.body) {
            Ok((fixed, _)) => Ok(fixed),
            Err(_) => Err(Refusal::new(Errno::EINVAL, "Invalid header length")),
        }
    }

    /// The attributes behind a fixed part of type `T`.
    pub fn attributes<T>(
        &self,
        policy: &[Rule],
        how: Strictness,
    ) -> Result<Attributes<'a>, Refusal> {
        let fixed = size_of::<T>();
        if self.body.len() < fixed {
            return Err(Refusal::new(Errno::EINVAL, "Invalid header length"));
        }
        let start = (size_of::<NlMsgHdr>() + fixed).next_multiple_of(4);
        let bytes = self.message.get(start..).unwrap_or_default();
        Attributes::parse(bytes, start as u32, policy, how)
    }
}

/// What an attribute's value must look like.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// A number of so many bytes.
    Number(usize),
    /// At least so many bytes.
    AtLeast(usize),
    /// At most so many bytes.
    AtMost(usize),
    /// A name of at most so many bytes, its zero byte not counted.
    Text(usize),
    /// Attributes.
    Nested,
    /// An address of either family: 4 or 16 bytes.
    Address,
}

/// A row of a policy: an attribute's number and shape.
pub type Rule = (u16, Shape);

/// How much a parser forgives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strictness {
    /// Unknown attributes and bytes behind the last one are skipped, longer numbers are cut: how rtnetlink began.
    Liberal,
    /// Nothing unknown, no bytes left over (NETLINK_GET_STRICT_CHK).
    Strict,
}

/// An attribute.
#[derive(Clone, Copy, Debug)]
pub struct Attribute<'a> {
    /// Its number, without the flags.
    pub kind: u16,
    /// Its value.
    pub value: &'a [u8],
    /// Where it begins, from the start of the message.
    pub offset: u32,
}

impl Attribute<'_> {
    /// Its value as a number of 32 bits; shorter ones are extended by zeros.
    pub fn number(&self) -> u32 {
        let mut bytes = [0; 4];
        for (to, from) in bytes.iter_mut().zip(self.value) {
            *to = *from;
        }
        u32::from_ne_bytes(bytes)
    }

    /// Its value up to the first zero byte.
    pub fn text(&self) -> &[u8] {
        self.value.split(|b| *b == 0).next().unwrap_or_default()
    }

    /// Its value as an address. Errors: EINVAL.
    pub fn address(&self) -> Result<IpAddr, Refusal> {
        address(self.value).ok_or_else(|| Refusal::from(Errno::EINVAL).at(self))
    }
}

/// Four or sixteen bytes as an address.
pub fn address(bytes: &[u8]) -> Option<IpAddr> {
    match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
        (Ok(v4), _) => Some(IpAddr::from(v4)),
        (_, Ok(v6)) => Some(IpAddr::from(v6)),
        _ => None,
    }
}

/// The attributes of a message.
pub struct Attributes<'a>(Vec<Attribute<'a>>);

impl<'a> Attributes<'a> {
    /// Splits and checks attributes that begin at `offset` of their message.
    pub fn parse(
        bytes: &'a [u8],
        offset: u32,
        policy: &[Rule],
        how: Strictness,
    ) -> Result<Attributes<'a>, Refusal> {
        let mut all = Vec::new();
        let (mut rest, mut offset) = (bytes, offset);
        while let Ok((header, _)) = RtAttr::read_from_prefix(rest) {
            let len = usize::from(header.len);
            let Some(value) = rest.get(size_of::<RtAttr>()..len) else { break };
            // The two high bits are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER).
            let attribute = Attribute { kind: header.kind & NLA_TYPE_MASK, value, offset };
            match policy.iter().find(|(kind, _)| *kind == attribute.kind) {
                Some((_, shape)) => check(&attribute, *shape, how)?,
                None if how == Strictness::Strict => {
                    return Err(
                        Refusal::new(Errno::EINVAL, "Unknown attribute type").at(&attribute)
                    );
                }
                None => {}
            }
            all.push(attribute);
            let whole = len.next_multiple_of(4);
            offset += whole as u32;
            rest = rest.get(whole..).unwrap_or_default();
        }
        if !rest.is_empty() && how == Strictness::Strict {
            return Err(Refusal::new(Errno::EINVAL, "bytes leftover after parsing attributes"));
        }
        Ok(Attributes(all))
    }

    /// All, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Attribute<'a>> {
        self.0.iter()
    }

    /// The last of its number, as Linux's table of attributes keeps it.
    pub fn find(&self, kind: u16) -> Option<&Attribute<'a>> {
        self.0.iter().rev().find(|attribute| attribute.kind == kind)
    }

    /// A number.
    pub fn number(&self, kind: u16) -> Option<u32> {
        self.find(kind).map(Attribute::number)
    }

    /// An address. Errors: EINVAL where it is none.
    pub fn address(&self, kind: u16) -> Result<Option<IpAddr>, Refusal> {
        self.find(kind).map(Attribute::address).transpose()
    }

    /// The attributes inside one.
    pub fn nested(
        &self,
        kind: u16,
        policy: &[Rule],
        how: Strictness,
    ) -> Result<Option<Attributes<'a>>, Refusal> {
        let Some(outer) = self.find(kind) else { return Ok(None) };
        let inside = outer.offset + size_of::<RtAttr>() as u32;
        Attributes::parse(outer.value, inside, policy, how).map(Some)
    }
}

/// Linux's validate_nla for one attribute.
fn check(attribute: &Attribute<'_>, shape: Shape, how: Strictness) -> Result<(), Refusal> {
    let len = attribute.value.len();
    let text_len = attribute.text().len();
    let failed =
        |errno| Err(Refusal::new(errno, "Attribute failed policy validation").at(attribute));
    match shape {
        Shape::Number(size) if len > size && how == Strictness::Strict => {
            Err(Refusal::new(Errno::EINVAL, "invalid attribute length").at(attribute))
        }
        Shape::Number(size) | Shape::AtLeast(size) if len < size => failed(Errno::ERANGE),
        Shape::AtMost(size) if len > size => failed(Errno::ERANGE),
        // NLA_STRING: at least one byte, and no longer than the bound once the zero byte is taken off.
        Shape::Text(_) if len == 0 => failed(Errno::ERANGE),
        Shape::Text(max) if text_len > max => failed(Errno::ERANGE),
        Shape::Nested if len != 0 && len < size_of::<RtAttr>() => failed(Errno::ERANGE),
        Shape::Address if len != 4 && len != 16 => failed(Errno::ERANGE),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    const POLICY: &[Rule] = &[(1, Shape::Number(4)), (3, Shape::Text(15)), (5, Shape::Address)];

    #[test]
    fn attributes_are_checked_as_linux_does() {
        let parse =
            |bytes: &[u8], how| Attributes::parse(bytes, 16, POLICY, how).map(|all| all.0.len());
        let good = [attribute(1, &[7, 0, 0, 0]), attribute(3, b"eth0\0")].concat();
        assert_eq!(parse(&good, Strictness::Strict), Ok(2));
        let refusal = parse(&attribute(1, &[7]), Strictness::Liberal).unwrap_err();
        assert_eq!((refusal.errno, refusal.offset), (Errno::ERANGE, Some(16)));
        let long_name = attribute(3, &[b'x'; 16]);
        assert_eq!(parse(&long_name, Strictness::Liberal).unwrap_err().errno, Errno::ERANGE);
        let unknown = attribute(9, &[1]);
        assert_eq!(parse(&unknown, Strictness::Liberal), Ok(1));
        let refusal = parse(&unknown, Strictness::Strict).unwrap_err();
        assert_eq!(refusal.message, Some("Unknown attribute type"));
        let trailing = [good, vec![1, 2, 3]].concat();
        assert_eq!(parse(&trailing, Strictness::Liberal), Ok(2));
        assert!(parse(&trailing, Strictness::Strict).is_err());
        let wide = attribute(1, &[7, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(parse(&wide, Strictness::Liberal), Ok(1));
        assert!(parse(&wide, Strictness::Strict).is_err());
    }

    #[test]
    fn lengths_that_lie_end_the_parsing() {
        for len in [0u16, 3, 9, u16::MAX] {
            let mut bytes = attribute(1, &[7, 0, 0, 0]);
            bytes[..2].copy_from_slice(&len.to_ne_bytes());
            let all = Attributes::parse(&bytes, 16, POLICY, Strictness::Liberal).unwrap();
            assert_eq!(all.0.len(), 0, "{len}");
        }
        assert!(Request::next(&[20, 0, 0, 0]).is_none());
        let mut message = vec![0u8; 16];
        message[0] = 15;
        assert!(Request::next(&message).is_none());
        message[0] = 17;
        assert!(Request::next(&message).is_none());
        message[0] = 16;
        assert!(Request::next(&message).is_some());
    }
}
