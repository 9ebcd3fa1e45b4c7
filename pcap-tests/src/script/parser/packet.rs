//! Packets as tcpdump writes them.

use super::{Parsed, Parser};
use crate::script::lexer::Token;
use crate::script::syntax::{
    About, Body, Cookie, EcnMark, FLAGS, Icmp, Packet, Tcp, TcpOption, Udp,
};

/// ICMP errors: their words, and type and code of ICMP (RFC 792) and of ICMPv6 (RFC 4443), where they have it.
type Kind = (&'static str, &'static str, Option<(u8, u8)>, Option<(u8, u8)>);
const ICMP: &[Kind] = &[
    ("unreachable", "net_unreachable", Some((3, 0)), Some((1, 0))),
    ("unreachable", "host_unreachable", Some((3, 1)), None),
    ("unreachable", "protocol_unreachable", Some((3, 2)), None),
    ("unreachable", "port_unreachable", Some((3, 3)), Some((1, 4))),
    ("unreachable", "frag_needed", Some((3, 4)), None),
    ("unreachable", "source_route_failed", Some((3, 5)), None),
    ("unreachable", "net_unknown", Some((3, 6)), None),
    ("unreachable", "host_unknown", Some((3, 7)), None),
    ("unreachable", "net_prohibited", Some((3, 9)), None),
    ("unreachable", "host_prohibited", Some((3, 10)), None),
    ("unreachable", "packet_filtered", Some((3, 13)), Some((1, 1))),
    ("unreachable", "admin_prohibited", None, Some((1, 1))),
    ("unreachable", "address_unreachable", None, Some((1, 3))),
    ("packet_too_big", "", None, Some((2, 0))),
    ("source_quench", "", Some((4, 0)), None),
    ("time_exceeded", "ttl", Some((11, 0)), Some((3, 0))),
    ("parameter_problem", "", Some((12, 0)), Some((4, 0))),
];

/// The words of an ICMP error.
pub fn icmp_name(kind: (u8, u8), v6: bool) -> Option<(&'static str, &'static str)> {
    let found = ICMP.iter().find(|(.., v4, of_v6)| *if v6 { of_v6 } else { v4 } == Some(kind));
    found.map(|(name, code, ..)| (*name, *code))
}

impl<'a> Parser<'a> {
    pub(super) fn packet(&mut self) -> Parsed<Packet> {
        let (mark, ttl) = self.ip_notes()?;
        let ports = self.ports()?;
        let body = if self.eat_word("udp") {
            self.sign('(')?;
            let len = self.number("a length in bytes")?;
            self.sign(')')?;
            Body::Udp(Udp { ports, len: self.length(len)? })
        } else if ports.is_none() && self.eat_word("icmp") {
            Body::Icmp(self.icmp()?)
        } else {
            Body::Tcp(self.tcp(ports)?)
        };
        Ok(Packet { mark, ttl, body })
    }

    /// `[ECT0]`, `[ttl 64]`, `[ce,ttl 1]`
    fn ip_notes(&mut self) -> Parsed<(Option<EcnMark>, Option<u8>)> {
        let (mut mark, mut ttl) = (None, None);
        if !self.eat(Token::Sign('[')) {
            return Ok((mark, ttl));
        }
        loop {
            let word = self.word("noecn, ECT0, ECT1, ECT01, CE or ttl")?;
            match word.to_ascii_lowercase().as_str() {
                "noecn" => mark = Some(EcnMark::None),
                "ect0" => mark = Some(EcnMark::Ect0),
                "ect1" => mark = Some(EcnMark::Ect1),
                "ect01" => mark = Some(EcnMark::Ect),
                "ce" => mark = Some(EcnMark::Ce),
                "ttl" => ttl = Some(self.number("a time to live")?),
                _ => {
                    self.next -= 1;
                    return Err(self.missing("noecn, ECT0, ECT1, ECT01, CE or ttl"));
                }
            }
            if self.eat(Token::Sign(']')) {
                return Ok((mark, ttl));
            }
            self.sign(',')?;
        }
    }

    /// `1234 > 8080`
    fn ports(&mut self) -> Parsed<Option<(u16, u16)>> {
        if !matches!(self.peek(), Some(Token::Number(_))) {
            return Ok(None);
        }
        let from = self.number("a port")?;
        self.sign('>')?;
        Ok(Some((from, self.number("a port")?)))
    }

    fn length(&self, len: u32) -> Parsed<u32> {
        match len {
            0..=65_535 => Ok(len),
            _ => Err(self.error(format!("{len} bytes are more than a packet has"))),
        }
    }

    fn tcp(&mut self, ports: Option<(u16, u16)>) -> Parsed<Tcp> {
        let flags = self.flags()?;
        let (seq, len) = self.range()?;
        let mut tcp = Tcp {
            ports,
            flags,
            seq,
            len,
            ack: None,
            window: None,
            urgent: None,
            options: Some(Vec::new()),
        };
        loop {
            if self.eat_word("ack") {
                tcp.ack = Some(self.number("an acknowledgment number")?);
            } else if self.eat_word("win") {
                tcp.window = Some(self.number("a window of 16 bits")?);
            } else if self.eat_word("urg") {
                tcp.urgent = Some(self.number("an urgent pointer of 16 bits")?);
            } else {
                break;
            }
        }
        if self.eat(Token::Sign('<')) {
            tcp.options = self.options()?;
        }
        if tcp.ack.is_some() && tcp.flags & crate::packet::ACK == 0 {
            return Err(self.error("a segment with \"ack\" has the flag \".\""));
        }
        Ok(tcp)
    }

    /// Letters and points that touch each other.
    fn flags(&mut self) -> Parsed<u16> {
        let mut flags = 0;
        let mut count = 0;
        loop {
            if count > 0 && !self.adjoins() {
                return Ok(flags);
            }
            match self.peek() {
                Some(Token::Word(word)) => {
                    for letter in word.chars() {
                        let known = FLAGS.iter().find(|(known, _)| *known == letter);
                        let (_, bit) = known.ok_or_else(|| {
                            self.error(format!(
                                "\"{word}\" are no flags: F S R P . U E W A, or udp, or icmp"
                            ))
                        })?;
                        flags |= bit;
                    }
                }
                Some(Token::Sign('.')) => flags |= crate::packet::ACK,
                Some(Token::Sign('-')) if count == 0 => {}
                _ if count == 0 => return Err(self.missing("the flags of a segment, udp or icmp")),
                _ => return Ok(flags),
            }
            count += 1;
            self.next += 1;
        }
    }

    /// `1:1001(1000)`: the first number and the length; the end must be their sum.
    fn range(&mut self) -> Parsed<(u32, u32)> {
        let seq: u32 = self.number("a sequence number")?;
        self.sign(':')?;
        let end: u32 = self.number("the sequence number behind the last byte")?;
        self.sign('(')?;
        let len = self.number("a length in bytes")?;
        let len = self.length(len)?;
        if seq.wrapping_add(len) != end {
            return Err(self.error(format!("from {seq} to {end} are not {len} bytes")));
        }
        self.sign(')')?;
        Ok((seq, len))
    }

    /// What stands between `<` and `>`; none for `...`.
    fn options(&mut self) -> Parsed<Option<Vec<TcpOption>>> {
        if self.eat(Token::Ellipsis) {
            self.sign('>')?;
            return Ok(None);
        }
        let mut options = Vec::new();
        loop {
            options.push(self.option()?);
            if self.eat(Token::Sign('>')) {
                break;
            }
            if !self.eat(Token::Sign(',')) {
                return Err(self.missing("\",\" or \">\" after an option of TCP"));
            }
        }
        if super::super::wire::options_len(&options) > 40 {
            return Err(self.error("more than 40 bytes of options"));
        }
        Ok(Some(options))
    }

    fn option(&mut self) -> Parsed<TcpOption> {
        let what = "an option of TCP: mss, wscale, sackOK, sack, TS, FO, FOEXP, nop or eol";
        let word = self.word(what)?;
        Ok(match word.to_ascii_lowercase().as_str() {
            "eol" => TcpOption::End,
            "nop" => TcpOption::Nop,
            "mss" => TcpOption::Mss(self.number("a segment size of 16 bits")?),
            "wscale" => TcpOption::WindowScale(self.number("a shift")?),
            "sackok" => TcpOption::SackPermitted,
            "sack" => TcpOption::Sack(self.blocks()?),
            "ts" => {
                if !self.eat_word("val") {
                    return Err(self.missing("\"val\""));
                }
                let val = self.number("a timestamp")?;
                if !self.eat_word("ecr") {
                    return Err(self.missing("\"ecr\""));
                }
                TcpOption::Timestamps { val, ecr: self.number("a timestamp")? }
            }
            "fo" => TcpOption::FastOpen(self.cookie()?),
            "foexp" => TcpOption::FastOpenExperimental(self.cookie()?),
            _ => {
                self.next -= 1;
                return Err(self.missing(what));
            }
        })
    }

    fn blocks(&mut self) -> Parsed<Vec<(u32, u32)>> {
        let mut blocks = Vec::new();
        while let Some(Token::Number(_)) = self.peek() {
            let from = self.number("the first number of a block")?;
            self.sign(':')?;
            blocks.push((from, self.number("the number behind a block")?));
        }
        if blocks.is_empty() {
            return Err(self.missing("a block: 1001:2001"));
        }
        Ok(blocks)
    }

    /// Hexadecimal digits, or a name that begins with a capital letter beyond those.
    fn cookie(&mut self) -> Parsed<Cookie> {
        let mut text = String::new();
        while let Some(Token::Word(part) | Token::Number(part)) = self.peek() {
            if !text.is_empty() && !self.adjoins() {
                break;
            }
            text.push_str(part);
            self.next += 1;
        }
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex {
            return Ok(Cookie::Named(text));
        }
        if !text.len().is_multiple_of(2) {
            return Err(self.error("a cookie has two hexadecimal digits for each byte"));
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
        let pairs = text.as_bytes().chunks_exact(2);
        Ok(Cookie::Bytes(pairs.map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()))
    }

    fn icmp(&mut self) -> Parsed<Icmp> {
        let place = self.next;
        let name = self.word("the name of an ICMP error")?;
        let has_codes = ICMP.iter().any(|(known, code, ..)| *known == name && !code.is_empty());
        let code = if has_codes { self.word("the code of this ICMP error")? } else { "" };
        let found = ICMP.iter().find(|(a, b, ..)| (*a, *b) == (name, code));
        let Some((name, code, v4, v6)) = found else {
            self.next = place;
            return Err(self.error(format!("there is no ICMP error \"{name} {code}\"")));
        };
        let Some(kind) = *(if self.v6 { v6 } else { v4 }) else {
            self.next = place;
            return Err(self.error(format!("\"{name} {code}\" is no error of this --ip_version")));
        };
        let mtu = if self.eat_word("mtu") { Some(self.number("an MTU")?) } else { None };
        self.sign('[')?;
        let about = if self.eat_word("udp") {
            self.sign('(')?;
            let len = self.number("a length in bytes")?;
            self.sign(')')?;
            About::Udp(self.length(len)?)
        } else {
            let (seq, len) = self.range()?;
            About::Tcp(seq, len)
        };
        self.sign(']')?;
        Ok(Icmp { name: (name, code), kind, mtu, about })
    }
}
