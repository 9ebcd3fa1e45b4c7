//! The filter programs of sock_diag (INET_DIAG_REQ_BYTECODE), which `ss` makes of its expressions: checked once, then run for
//! each socket. Every step goes forward, so that a program ends.

use core::net::{IpAddr, SocketAddr};

use netstack::ip::IpCidr;
use sentry_abi::Errno;
use sentry_abi::diag::*;
use sentry_abi::socket::{AF_INET, AF_INET6, AF_UNSPEC};
use zerocopy::FromBytes;

use crate::netlink::parse;

const OP: usize = size_of::<InetDiagBcOp>();
const HOST: usize = size_of::<InetDiagHostCond>();
/// struct inet_diag_markcond: mark and mask.
const MARK: usize = 8;
/// What a filter costs at most; Linux's bound is that of an attribute.
const MAX: usize = 65_532;

/// A program that was checked.
pub struct Bytecode<'a>(&'a [u8]);

/// What a filter looks at.
pub struct Subject {
    /// Our end.
    pub local: SocketAddr,
    /// The peer's.
    pub peer: SocketAddr,
    /// Interface that the socket is bound to, or 0.
    pub interface: u32,
    /// SO_MARK
    pub mark: u32,
    /// Whether the program chose the port (SOCK_BINDPORT_LOCK).
    pub user_locks: bool,
}

fn op(code: &[u8], at: usize) -> Option<InetDiagBcOp> {
    InetDiagBcOp::read_from_prefix(code.get(at..)?).ok().map(|(op, _)| op)
}

impl<'a> Bytecode<'a> {
    /// Checks a program as inet_diag_bc_audit does. Errors: EINVAL; EPERM for marks without CAP_NET_ADMIN.
    pub fn check(code: &'a [u8], is_admin: bool) -> Result<Bytecode<'a>, Errno> {
        if code.len() > MAX || code.len() < OP {
            return Err(Errno::EINVAL);
        }
        // Where an operation begins, reached by the `yes` steps from the first: jumps may lead only there.
        let mut starts = Vec::new();
        let mut at = 0;
        while at < code.len() {
            let op = op(code, at).ok_or(Errno::EINVAL)?;
            let room = code.len() - at;
            let min = match op.code {
                INET_DIAG_BC_S_COND | INET_DIAG_BC_D_COND => host_len(code, at, room)?,
                INET_DIAG_BC_DEV_COND => OP + 4,
                INET_DIAG_BC_S_GE | INET_DIAG_BC_S_LE | INET_DIAG_BC_D_GE | INET_DIAG_BC_D_LE
                | INET_DIAG_BC_S_EQ | INET_DIAG_BC_D_EQ => OP * 2,
                INET_DIAG_BC_MARK_COND if !is_admin => return Err(Errno::EPERM),
                INET_DIAG_BC_MARK_COND => OP + MARK,
                INET_DIAG_BC_AUTO | INET_DIAG_BC_JMP | INET_DIAG_BC_NOP => OP,
                _ => return Err(Errno::EINVAL),
            };
            let (yes, no) = (usize::from(op.yes), usize::from(op.no));
            if room < min {
                return Err(Errno::EINVAL);
            }
            if op.code != INET_DIAG_BC_NOP && (no < min || no > room + 4 || no & 3 != 0) {
                return Err(Errno::EINVAL);
            }
            if yes < min || yes > room + 4 || yes & 3 != 0 {
                return Err(Errno::EINVAL);
            }
            starts.push(at);
            at += yes;
        }
        if at != code.len() {
            return Err(Errno::EINVAL);
        }
        starts.push(at);
        let leads = |from: usize| {
            let op = op(code, from).unwrap_or_default();
            let to = from + usize::from(op.no);
            op.code == INET_DIAG_BC_NOP || to > code.len() || starts.binary_search(&to).is_ok()
        };
        match starts.iter().take(starts.len() - 1).all(|from| leads(*from)) {
            true => Ok(Bytecode(code)),
            false => Err(Errno::EINVAL),
        }
    }

    /// Whether a socket passes: it does when the program ends exactly behind its last operation (inet_diag_bc_run).
    pub fn accepts(&self, subject: &Subject) -> bool {
        let mut at = 0;
        while at < self.0.len() {
            let Some(op) = op(self.0, at) else { return false };
            let step = match holds(self.0, at, &op, subject) {
                true => usize::from(op.yes),
                false => usize::from(op.no),
            };
            // The check has seen to it that no step is 0.
            at += step.max(OP);
        }
        at == self.0.len()
    }
}

fn holds(code: &[u8], at: usize, this: &InetDiagBcOp, subject: &Subject) -> bool {
    let number = || op(code, at + OP).map_or(0, |next| next.no);
    let word = |skip: usize| {
        let bytes = code.get(at + OP + skip..).and_then(|rest| rest.first_chunk::<4>());
        bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    };
    let (sport, dport) = (subject.local.port(), subject.peer.port());
    match this.code {
        INET_DIAG_BC_JMP => false,
        INET_DIAG_BC_S_EQ => sport == number(),
        INET_DIAG_BC_S_GE => sport >= number(),
        INET_DIAG_BC_S_LE => sport <= number(),
        INET_DIAG_BC_D_EQ => dport == number(),
        INET_DIAG_BC_D_GE => dport >= number(),
        INET_DIAG_BC_D_LE => dport <= number(),
        INET_DIAG_BC_AUTO => !subject.user_locks,
        INET_DIAG_BC_S_COND => host_matches(code, at, subject.local),
        INET_DIAG_BC_D_COND => host_matches(code, at, subject.peer),
        INET_DIAG_BC_DEV_COND => word(0) == subject.interface,
        INET_DIAG_BC_MARK_COND => subject.mark & word(4) == word(0),
        _ => true,
    }
}

fn host(code: &[u8], at: usize) -> Option<InetDiagHostCond> {
    InetDiagHostCond::read_from_prefix(code.get(at + OP..)?).ok().map(|(host, _)| host)
}

fn address_len(family: u8) -> Option<usize> {
    match i32::from(family) {
        AF_UNSPEC => Some(0),
        AF_INET => Some(4),
        AF_INET6 => Some(16),
        _ => None,
    }
}

/// The length of a host condition (valid_hostcond).
fn host_len(code: &[u8], at: usize, room: usize) -> Result<usize, Errno> {
    let host = host(code, at).ok_or(Errno::EINVAL)?;
    let len = address_len(host.family).ok_or(Errno::EINVAL)?;
    if room < OP + HOST + len || usize::from(host.prefix_len) > len * 8 {
        return Err(Errno::EINVAL);
    }
    Ok(OP + HOST + len)
}

fn host_matches(code: &[u8], at: usize, of: SocketAddr) -> bool {
    let Some(host) = host(code, at) else { return false };
    if host.port != -1 && host.port != i32::from(of.port()) {
        return false;
    }
    let len = address_len(host.family).unwrap_or(0);
    let start = at + OP + HOST;
    let Some(wanted) = code.get(start..start + len).and_then(parse::address) else {
        // AF_UNSPEC: the port alone.
        return host.prefix_len == 0;
    };
    // An IPv4 condition meets an IPv6 socket that speaks IPv4.
    let own = match (wanted, of.ip()) {
        (IpAddr::V4(_), IpAddr::V6(v6)) => v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4),
        (_, own) => own,
    };
    match (wanted, own) {
        (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
            IpCidr::new(wanted, host.prefix_len).contains(own)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(ops: &[(u8, u8, u16)]) -> Vec<u8> {
        let bytes = |(code, yes, no): &(u8, u8, u16)| {
            let [low, high] = no.to_ne_bytes();
            [*code, *yes, low, high]
        };
        ops.iter().flat_map(bytes).collect()
    }

    fn subject(local: &str, peer: &str) -> Subject {
        let (local, peer) = (local.parse().unwrap(), peer.parse().unwrap());
        Subject { local, peer, interface: 0, mark: 6, user_locks: true }
    }

    fn accepts(code: &[u8], local: &str, peer: &str) -> bool {
        Bytecode::check(code, true).unwrap().accepts(&subject(local, peer))
    }

    #[test]
    fn ports_and_alternatives() {
        // sport >= 80 and sport <= 90, as ss writes it: the false branch leads beyond the end.
        let code = words(&[
            (INET_DIAG_BC_S_GE, 8, 20),
            (0, 0, 80),
            (INET_DIAG_BC_S_LE, 8, 12),
            (0, 0, 90),
        ]);
        for (port, passes) in [(79, false), (80, true), (90, true), (91, false)] {
            assert_eq!(accepts(&code, &format!("10.0.0.1:{port}"), "0.0.0.0:0"), passes, "{port}");
        }
        // sport = 1 or dport = 2: the first true branch jumps over the second.
        let code = words(&[
            (INET_DIAG_BC_S_EQ, 8, 12),
            (0, 0, 1),
            (INET_DIAG_BC_JMP, 4, 12),
            (INET_DIAG_BC_D_EQ, 8, 12),
            (0, 0, 2),
        ]);
        assert!(accepts(&code, "10.0.0.1:1", "10.0.0.2:9"));
        assert!(accepts(&code, "10.0.0.1:8", "10.0.0.2:2"));
        assert!(!accepts(&code, "10.0.0.1:8", "10.0.0.2:9"));
    }

    #[test]
    fn hosts_match_by_prefix_and_through_mapped_addresses() {
        let mut code = words(&[(INET_DIAG_BC_D_COND, 16, 20)]);
        code.extend_from_slice(&[AF_INET as u8, 8, 0, 0]);
        code.extend_from_slice(&(-1i32).to_ne_bytes());
        code.extend_from_slice(&[10, 0, 0, 0]);
        assert!(accepts(&code, "10.0.0.1:1", "10.9.9.9:2"));
        assert!(accepts(&code, "[::1]:1", "[::ffff:10.9.9.9]:2"));
        assert!(!accepts(&code, "10.0.0.1:1", "11.9.9.9:2"));
        assert!(!accepts(&code, "[::1]:1", "[fd00::1]:2"));
    }

    #[test]
    fn hostile_programs_are_refused_and_none_runs_for_ever() {
        let refused = |code: &[u8]| Bytecode::check(code, true).is_err();
        assert!(refused(&[]) && refused(&[0, 4, 4]));
        assert!(refused(&words(&[(INET_DIAG_BC_NOP, 0, 0)])), "a step of nothing");
        assert!(refused(&words(&[(INET_DIAG_BC_JMP, 4, 12)])), "far beyond the end");
        assert!(refused(&words(&[(INET_DIAG_BC_S_EQ, 8, 8)])), "an operand that is not there");
        assert!(refused(&words(&[(99, 4, 4)])));
        let into_an_operand =
            words(&[(INET_DIAG_BC_JMP, 4, 8), (INET_DIAG_BC_S_EQ, 8, 12), (0, 0, 7)]);
        assert!(refused(&into_an_operand));
        let mut bad_prefix = words(&[(INET_DIAG_BC_S_COND, 16, 20)]);
        bad_prefix.extend_from_slice(&[AF_INET as u8, 33, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
        assert!(refused(&bad_prefix));
        let mark = words(&[(INET_DIAG_BC_MARK_COND, 12, 16), (2, 0, 0), (2, 0, 0)]);
        assert_eq!(Bytecode::check(&mark, false).err(), Some(Errno::EPERM));
        assert!(accepts(&mark, "10.0.0.1:1", "10.0.0.1:1"));
        // All programs of two operations over small numbers: whatever passes the check ends.
        for n in 0..(1u32 << 20) {
            let byte = |shift: u32| (n >> shift) as u8;
            let code = [byte(0) & 15, byte(4) & 12, (byte(6) & 7) << 2, 0];
            let next = [byte(9) & 15, byte(13) & 12, (byte(15) & 7) << 2, 0];
            if let Ok(program) = Bytecode::check(&[code, next].concat(), true) {
                program.accepts(&subject("10.0.0.1:1", "10.0.0.2:2"));
            }
        }
    }
}
