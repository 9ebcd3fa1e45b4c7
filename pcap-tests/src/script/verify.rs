//! What the kernel sent against what the script says: the first thing that differs, and the rule that it breaks where one is known.

use super::syntax::{Body, Packet, Tcp, TcpOption};
use crate::packet::{ACK, ECE, FIN, PSH, RST, SYN, URG};

/// Something that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What, in words.
    pub what: String,
    /// Where it is written how it should be.
    pub rule: Option<&'static str>,
}

fn difference(what: impl Into<String>, rule: Option<&'static str>) -> Option<Difference> {
    Some(Difference { what: what.into(), rule })
}

/// Compares a packet of the kernel, told with the script's numbers, with the one that the script says.
pub fn compare(expected: &Packet, found: &Packet) -> Option<Difference> {
    if let (Some(mark), Some(found)) = (expected.mark, found.mark)
        && !mark.allows(found.bits())
    {
        return difference(
            "the ECN field",
            Some("RFC 3168 section 6.1: which segments are ECN-capable"),
        );
    }
    if expected.ttl.is_some() && expected.ttl != found.ttl {
        return difference("the time to live", None);
    }
    match (&expected.body, &found.body) {
        (Body::Tcp(expected), Body::Tcp(found)) => tcp(expected, found),
        (Body::Udp(expected), Body::Udp(found)) => match expected.len == found.len {
            true => ports(expected.ports, found.ports),
            false => difference("the length of the datagram", None),
        },
        (Body::Icmp(expected), Body::Icmp(found)) => match expected == found {
            true => None,
            false => {
                difference("the ICMP error", Some("RFC 1122 section 3.2.2, RFC 4443 section 3"))
            }
        },
        _ => difference("the protocol", None),
    }
}

fn ports(expected: Option<(u16, u16)>, found: Option<(u16, u16)>) -> Option<Difference> {
    if expected.is_some() && expected != found { difference("the ports", None) } else { None }
}

fn tcp(expected: &Tcp, found: &Tcp) -> Option<Difference> {
    if let Some(ports) = ports(expected.ports, found.ports) {
        return Some(ports);
    }
    // A segment of another length is pushed at other places: what is behind that is told first.
    let flags = expected.flags ^ found.flags;
    if flags & !PSH != 0 {
        return difference("the flags", flag_rule(flags));
    }
    if expected.seq != found.seq {
        return difference("the sequence number", Some(sequence_rule(expected, found)));
    }
    if expected.len != found.len {
        return difference(
            "the length",
            Some("RFC 9293 section 3.7: segment size, windows and the Nagle algorithm"),
        );
    }
    if flags != 0 {
        return difference("the flags", flag_rule(flags));
    }
    if expected.ack.is_some() && expected.ack != found.ack {
        return difference(
            "the acknowledgment number",
            Some("RFC 9293 section 3.4: what is next expected"),
        );
    }
    if expected.window.is_some() && expected.window != found.window {
        return difference("the window", Some("RFC 9293 section 3.8.6: managing the window"));
    }
    if expected.urgent.is_some() && expected.urgent != found.urgent {
        return difference("the urgent pointer", Some("RFC 9293 section 3.8.5, RFC 6093"));
    }
    match (&expected.options, &found.options) {
        (Some(expected), Some(found)) if expected != found => option_difference(expected, found),
        _ => None,
    }
}

fn flag_rule(differing: u16) -> Option<&'static str> {
    Some(match differing {
        bits if bits & RST != 0 => "RFC 9293 section 3.5.2: when resets are sent",
        bits if bits & SYN != 0 => "RFC 9293 section 3.5: establishing a connection",
        bits if bits & FIN != 0 => "RFC 9293 section 3.6: closing a connection",
        bits if bits & ACK != 0 => {
            "RFC 9293 section 3.10.7: all segments but the first SYN acknowledge"
        }
        bits if bits & URG != 0 => "RFC 9293 section 3.8.5: urgent data",
        bits if bits & PSH != 0 => "RFC 9293 section 3.9.1: the last segment of a write is pushed",
        bits if bits & (ECE | 128) != 0 => "RFC 3168 section 6.1: ECE and CWR",
        _ => return None,
    })
}

fn sequence_rule(expected: &Tcp, found: &Tcp) -> &'static str {
    match found.len > 0 && found.seq.wrapping_sub(expected.seq) as i32 > 0 {
        true => "RFC 6675, RFC 8985: which segment is sent again",
        false => "RFC 9293 section 3.4: sequence numbers",
    }
}

fn option_difference(expected: &[TcpOption], found: &[TcpOption]) -> Option<Difference> {
    // What pads the options differs where they do.
    let telling = |options: &[TcpOption]| -> Vec<TcpOption> {
        let padding = |option: &&TcpOption| !matches!(option, TcpOption::Nop | TcpOption::End);
        options.iter().filter(padding).cloned().collect()
    };
    let (wanted, came) = (telling(expected), telling(found));
    let at = wanted.iter().zip(&came).position(|(wanted, came)| wanted != came);
    let at = at.unwrap_or(wanted.len().min(came.len()));
    let first = wanted.get(at).filter(|option| !came.contains(option)).or(came.get(at));
    let rule = first.or(wanted.get(at)).and_then(|option| {
        Some(match option {
            TcpOption::Mss(_) => "RFC 9293 section 3.7.1: the MSS that is offered",
            TcpOption::WindowScale(_) => "RFC 7323 section 2: the window scale option",
            TcpOption::Timestamps { .. } => {
                "RFC 7323 sections 3 and 4.3: which timestamp is echoed"
            }
            TcpOption::SackPermitted => "RFC 2018 section 2: SACK permitted",
            TcpOption::Sack(_) => {
                "RFC 2018 section 4, RFC 2883: which blocks are told, the latest first"
            }
            TcpOption::FastOpen(_) | TcpOption::FastOpenExperimental(_) => {
                "RFC 7413 section 4.1: cookies"
            }
            _ => return None,
        })
    });
    let told = |option: Option<&TcpOption>| option.map_or("none".into(), TcpOption::to_string);
    if wanted == came {
        return difference("how the options are padded", None);
    }
    let what = format!("expected {}, found {}", told(wanted.get(at)), told(came.get(at)));
    difference(format!("option {}: {what}", at + 1), rule)
}

/// The rule that says when such a segment is sent.
pub fn timing_rule(expected: &Packet) -> Option<&'static str> {
    let Body::Tcp(tcp) = &expected.body else { return None };
    let sacks = |option: &TcpOption| matches!(option, TcpOption::Sack(_));
    if tcp.options.iter().flatten().any(sacks) {
        return Some(
            "RFC 5681 section 4.2: what is out of order is acknowledged at once; RFC 2018",
        );
    }
    Some(match (tcp.flags & SYN != 0, tcp.len > 0 || tcp.flags & FIN != 0) {
        (true, _) => "RFC 6298 section 2.1: the first time-out is a second, and doubles",
        (false, true) => {
            "RFC 6298 (time-outs), RFC 8985 (RACK and tail loss probes), RFC 9293 section 3.7.4 (Nagle)"
        }
        (false, false) if tcp.flags & RST != 0 => return None,
        (false, false) => {
            "RFC 9293 section 3.8.6.3: an acknowledgment waits less than half a second, and not for a second full segment"
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;
    use crate::script::syntax::Action;

    fn packet(text: &str) -> Packet {
        let script = Script::parse(&format!("0 > {text}")).expect("a packet");
        match script.events.into_iter().next().map(|event| event.action) {
            Some(Action::Outbound(packet)) => packet,
            other => panic!("{other:?}"),
        }
    }

    fn told(expected: &str, found: &str) -> String {
        compare(&packet(expected), &packet(found)).map_or("".into(), |found| found.what)
    }

    #[test]
    fn what_is_not_said_is_not_compared() {
        let found = "[ECT0] P. 1:11(10) ack 5 win 77 <nop,nop,TS val 1 ecr 2>";
        assert_eq!(told("P. 1:11(10) ack 5 <...>", found), "");
        assert_eq!(told(found, found), "");
    }

    #[test]
    fn the_first_difference_is_told() {
        let found = "[noecn] P. 1:11(10) ack 5 win 77 urg 1 <nop,nop,sack 9:10>";
        for (expected, what) in [
            ("[ECT0] P. 1:11(10) ack 5 <...>", "the ECN field"),
            (". 1:11(10) ack 5 <...>", "the flags"),
            ("P. 2:12(10) ack 5 <...>", "the sequence number"),
            ("P. 1:10(9) ack 5 <...>", "the length"),
            ("P. 1:11(10) ack 6 <...>", "the acknowledgment number"),
            ("P. 1:11(10) ack 5 win 78 <...>", "the window"),
            ("P. 1:11(10) ack 5 urg 2 <...>", "the urgent pointer"),
            ("P. 1:11(10) ack 5", "option 1: expected none, found sack 9:10"),
            ("P. 1:11(10) ack 5 <sack 9:10,nop,nop>", "how the options are padded"),
            (
                "P. 1:11(10) ack 5 <nop,nop,sack 8:10>",
                "option 1: expected sack 8:10, found sack 9:10",
            ),
            ("udp (10)", "the protocol"),
        ] {
            assert_eq!(told(expected, found), what, "{expected}");
        }
    }
}
