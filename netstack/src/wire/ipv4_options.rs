//! The options of an IPv4 header (RFC 791 section 3.1): up to 40 bytes. Source routes are not among them: who carries one is
//! refused (RFC 7126 section 4.3).

use core::net::Ipv4Addr;

/// Bytes that the longest header leaves for options.
pub const OPTIONS_MAX: usize = 40;

const END: u8 = 0;
const NOP: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const ROUTER_ALERT: u8 = 148;
const STRICT_SOURCE_ROUTE: u8 = 137;
/// The bit of a kind that says that every fragment carries the option.
const COPIED: u8 = 0x80;

/// What a list of options asks of whoever takes the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kinds {
    /// Nothing that changes its way.
    Harmless,
    /// A way that the sender chose.
    SourceRoute,
}

/// Options, padded to a multiple of four bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Options {
    len: u8,
    bytes: [u8; OPTIONS_MAX],
}

impl core::fmt::Debug for Options {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.as_slice().fmt(f)
    }
}

/// One option: where it begins, and its length with kind and length bytes.
#[derive(Clone, Copy)]
struct Place {
    kind: u8,
    at: usize,
    len: usize,
}

/// The options of a list, each with its own length; `None` at the end of one that is broken.
fn places(bytes: &[u8]) -> impl Iterator<Item = Option<Place>> + '_ {
    let mut at = 0;
    core::iter::from_fn(move || {
        let kind = *bytes.get(at)?;
        let left = bytes.len() - at;
        let len = match kind {
            END => {
                at = bytes.len();
                return None;
            }
            NOP => 1,
            _ => bytes.get(at + 1).map_or(0, |len| usize::from(*len)),
        };
        if len == 0 || len > left || (kind != NOP && len < 2) {
            at = bytes.len();
            return Some(None);
        }
        let place = Place { kind, at, len };
        at += len;
        Some(Some(place))
    })
}

/// Whether the pointer of an option that is filled on the way lies where it can.
fn pointer_holds(bytes: &[u8], place: Place) -> bool {
    let (least, unit) = match place.kind {
        RECORD_ROUTE => (4, 4),
        TIMESTAMP => (5, 4),
        _ => return true,
    };
    let body = place.len.checked_sub(least - 1);
    let pointer = bytes.get(place.at + 2).map_or(0, |pointer| usize::from(*pointer));
    pointer >= least && body.is_some_and(|body| body % unit == 0)
}

/// Where within an option the first wrong thing lies.
fn check_option(kind: u8, option: &[u8]) -> Result<(), usize> {
    let len = option.len();
    let pointer = option.get(2).map_or(0, |pointer| usize::from(*pointer));
    match kind {
        LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE if len < 3 => Err(1),
        LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE if pointer < 4 => Err(2),
        RECORD_ROUTE if len < 3 => Err(1),
        RECORD_ROUTE if pointer < 4 || (pointer <= len && pointer + 3 > len) => Err(2),
        TIMESTAMP if len < 4 => Err(1),
        TIMESTAMP if pointer < 5 || (pointer <= len && pointer + 3 > len) => Err(2),
        TIMESTAMP => {
            let flags = option.get(3).copied().unwrap_or_default();
            let addressed = matches!(flags & 0xf, 1 | 3);
            match pointer <= len {
                true if addressed && pointer + 7 > len => Err(2),
                // The count of hosts that found no room is full.
                false if flags >> 4 == 15 => Err(3),
                _ => Ok(()),
            }
        }
        ROUTER_ALERT if len < 4 => Err(1),
        _ => Ok(()),
    }
}

impl Options {
    /// No options.
    pub const NONE: Options = Options { len: 0, bytes: [0; OPTIONS_MAX] };

    /// Reads options. `None` for those that are too long, broken, or route by the source.
    pub fn parse(bytes: &[u8]) -> Option<Options> {
        let padded = bytes.len().next_multiple_of(4);
        let mut out = Options { len: u8::try_from(padded).ok()?, ..Options::NONE };
        out.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        for place in places(bytes) {
            let place = place?;
            let routed = matches!(place.kind, LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE);
            if routed || !pointer_holds(bytes, place) {
                return None;
            }
        }
        Some(out)
    }

    /// Judges the options of a packet that came in, as Linux's `ip_options_compile` does.
    ///
    /// # Errors
    ///
    /// Where the first thing wrong lies, counted from the first option: what a Parameter Problem points at.
    pub fn check(bytes: &[u8]) -> Result<Kinds, usize> {
        let mut kinds = Kinds::Harmless;
        let mut seen = 0u8;
        let mut at = 0;
        while let Some(kind) = bytes.get(at).copied() {
            let len = match kind {
                END => break,
                NOP => 1,
                _ => bytes.get(at + 1).map_or(0, |len| usize::from(*len)),
            };
            if (kind != NOP && len < 2) || len > bytes.len() - at {
                return Err(at);
            }
            let option = bytes.get(at..at + len).unwrap_or_default();
            let bit = match kind {
                LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => 1,
                RECORD_ROUTE => 2,
                TIMESTAMP => 4,
                _ => 0,
            };
            // Each of these may come once.
            if seen & bit != 0 {
                return Err(at);
            }
            seen |= bit;
            check_option(kind, option).map_err(|within| at + within)?;
            if bit == 1 {
                kinds = Kinds::SourceRoute;
            }
            at += len;
        }
        Ok(kinds)
    }

    /// The bytes, a multiple of four.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Bytes, a multiple of four.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What the fragments after the first carry: the others are replaced by no-operations.
    pub fn of_later_fragments(&self) -> Options {
        let mut out = *self;
        let mut copied = false;
        for place in places(self.as_slice()).flatten() {
            if place.kind & COPIED != 0 {
                copied = true;
            } else if let Some(option) = out.bytes.get_mut(place.at..place.at + place.len) {
                option.fill(NOP);
            }
        }
        if copied { out } else { Options::NONE }
    }

    /// Writes a host that the packet passes into the options that ask for it, where they have room: its address, and its time
    /// as ICMP writes it. `owns` tells whether an address that the sender named is this host's.
    /// A host that finds no room for its time counts itself in the overflow.
    pub fn record(&mut self, address: Ipv4Addr, time: u32, owns: impl Fn(Ipv4Addr) -> bool) {
        let known = *self;
        self.stamp(address, time, owns);
        // RFC 781: the overflow counts the hosts that could not register.
        for place in places(known.as_slice()).flatten().filter(|place| place.kind == TIMESTAMP) {
            if let Some([_, len, pointer, flags]) = self.bytes.get_mut(place.at..place.at + 4)
                && *pointer > *len
                && known.bytes.get(place.at + 2) == Some(pointer)
                && *flags >> 4 < 15
            {
                *flags += 0x10;
            }
        }
    }

    /// The same of the host that sends the packet, which is not counted (`ip_options_build`).
    pub fn stamp(&mut self, address: Ipv4Addr, time: u32, owns: impl Fn(Ipv4Addr) -> bool) {
        let time = time.to_be_bytes();
        let known = *self;
        for place in places(known.as_slice()).flatten() {
            match place.kind {
                RECORD_ROUTE => self.fill(place, &address.octets()),
                TIMESTAMP => match known.bytes.get(place.at + 3).map(|flags| flags & 0xf) {
                    Some(0) => self.fill(place, &time),
                    Some(1) => {
                        let mut both = [0; 8];
                        both[..4].copy_from_slice(&address.octets());
                        both[4..].copy_from_slice(&time);
                        self.fill(place, &both);
                    }
                    // "The IP module of the gateway ... registers its timestamp if it matches its own address with the next
                    // specified internet address."
                    Some(3) => {
                        let named = known.pointed_at(place);
                        if let Some(named) = named.filter(|named| owns(Ipv4Addr::from(*named))) {
                            let mut both = [0; 8];
                            both[..4].copy_from_slice(&named);
                            both[4..].copy_from_slice(&time);
                            self.fill(place, &both);
                        }
                    }
                    _ => {}
                },
                _ => {}
            }
        }
    }

    /// What an answer carries (Linux's `ip_options_echo`): the route and the times that were recorded, one behind the other.
    pub fn echoed(&self) -> Options {
        let mut out = Options::NONE;
        let mut len = 0;
        for kind in [RECORD_ROUTE, TIMESTAMP] {
            for place in places(self.as_slice()).flatten().filter(|place| place.kind == kind) {
                let option = self.bytes.get(place.at..place.at + place.len).unwrap_or_default();
                if let Some(slot) = out.bytes.get_mut(len..len + option.len()) {
                    slot.copy_from_slice(option);
                    len += option.len();
                }
            }
        }
        out.len = len.next_multiple_of(4).min(OPTIONS_MAX) as u8;
        out
    }

    /// The address at an option's pointer.
    fn pointed_at(&self, place: Place) -> Option<[u8; 4]> {
        let option = self.bytes.get(place.at..place.at + place.len)?;
        let from = usize::from(*option.get(2)?).checked_sub(1)?;
        option.get(from..from + 4)?.try_into().ok()
    }

    /// Puts bytes where an option's pointer points, and moves it on.
    fn fill(&mut self, place: Place, bytes: &[u8]) {
        let Some(option) = self.bytes.get_mut(place.at..place.at + place.len) else { return };
        let Some(pointer) = option.get(2).copied() else { return };
        let from = usize::from(pointer).saturating_sub(1);
        if let Some(slot) = option.get_mut(from..from + bytes.len()) {
            slot.copy_from_slice(bytes);
            option[2] = pointer + bytes.len() as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_keeps_routes_and_times() {
        let told =
            [NOP, RECORD_ROUTE, 11, 8, 10, 0, 0, 1, 0, 0, 0, 0, TIMESTAMP, 8, 5, 0, 0, 0, 0, 0];
        let echo = Options::parse(&told).unwrap().echoed();
        let kept =
            [RECORD_ROUTE, 11, 8, 10, 0, 0, 1, 0, 0, 0, 0, TIMESTAMP, 8, 5, 0, 0, 0, 0, 0, 0];
        assert_eq!(echo.as_slice(), kept);
        let full = [RECORD_ROUTE, 7, 8, 10, 0, 0, 1, NOP];
        assert_eq!(
            Options::parse(&full).unwrap().echoed().as_slice(),
            [RECORD_ROUTE, 7, 8, 10, 0, 0, 1, 0]
        );
        assert_eq!(Options::parse(&[ROUTER_ALERT, 4, 0, 0]).unwrap().echoed(), Options::NONE);
    }

    #[test]
    fn a_route_is_recorded_until_the_option_is_full() {
        let mut options =
            Options::parse(&[NOP, RECORD_ROUTE, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        for last in 1..=3 {
            options.record(Ipv4Addr::new(10, 0, 0, last), 0, |_| false);
        }
        assert_eq!(options.as_slice(), [NOP, RECORD_ROUTE, 11, 12, 10, 0, 0, 1, 10, 0, 0, 2]);
        assert_eq!(options.of_later_fragments(), Options::NONE);
    }

    #[test]
    fn times_are_recorded_alone_or_with_addresses() {
        let mut alone = Options::parse(&[TIMESTAMP, 8, 5, 0, 0, 0, 0, 0]).unwrap();
        alone.record(Ipv4Addr::LOCALHOST, 5, |_| false);
        assert_eq!(alone.as_slice(), [TIMESTAMP, 8, 9, 0, 0, 0, 0, 5]);
        let mut both = Options::parse(&[TIMESTAMP, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        both.record(Ipv4Addr::LOCALHOST, 6, |_| false);
        assert_eq!(both.as_slice(), [TIMESTAMP, 12, 13, 1, 127, 0, 0, 1, 0, 0, 0, 6]);
        // Those whom the sender names write in turn.
        let mut named =
            Options::parse(&[NOP, TIMESTAMP, 12, 5, 3, 10, 0, 0, 9, 0, 0, 0, 0]).unwrap();
        named.record(Ipv4Addr::LOCALHOST, 7, |at| at == Ipv4Addr::new(10, 0, 0, 8));
        assert_eq!(named.as_slice()[3], 5);
        named.record(Ipv4Addr::LOCALHOST, 7, |at| at == Ipv4Addr::new(10, 0, 0, 9));
        assert_eq!(named.as_slice()[1..13], [TIMESTAMP, 12, 13, 3, 10, 0, 0, 9, 0, 0, 0, 7]);
        let mixed = [&[NOP, 148, 4, 0, 0], alone.as_slice(), &[NOP, RECORD_ROUTE, 3, 4]].concat();
        let echoed = Options::parse(&mixed).unwrap().echoed();
        let expected = [&[RECORD_ROUTE, 3, 4], alone.as_slice(), &[END]].concat();
        assert_eq!(echoed.as_slice(), expected);
    }

    #[test]
    fn the_first_wrong_byte_is_pointed_at() {
        for (bytes, at) in [
            (&[7u8][..], 0),
            (&[7, 1], 0),
            (&[1, 7, 2], 2),
            (&[7, 3, 3], 2),
            (&[7, 5, 4, 0, 0], 2),
            (&[7, 3, 4, 7, 3, 4], 3),
            (&[68, 3, 5], 1),
            (&[68, 12, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0], 2),
            (&[68, 4, 5, 0xf0], 3),
            (&[148, 3, 0], 1),
            (&[131, 2], 1),
            (&[1, 137, 3, 3], 3),
            (&[9, 5, 1, 1], 0),
        ] {
            assert_eq!(Options::check(bytes), Err(at), "{bytes:?}");
        }
        for bytes in [&[][..], &[1, 1, 0, 9], &[7, 7, 4, 0, 0, 0, 0], &[68, 4, 5, 0], &[9, 2]] {
            assert_eq!(Options::check(bytes), Ok(Kinds::Harmless), "{bytes:?}");
        }
        assert_eq!(Options::check(&[131, 7, 4, 10, 0, 0, 1]), Ok(Kinds::SourceRoute));
        // A host that finds no room in a timestamp is counted.
        let mut full = Options::parse(&[TIMESTAMP, 4, 5, 0x20]).unwrap();
        full.record(Ipv4Addr::LOCALHOST, 1, |_| false);
        assert_eq!(full.as_slice(), [TIMESTAMP, 4, 5, 0x30]);
    }

    #[test]
    fn options_that_are_broken_or_route_are_refused_and_others_padded() {
        let long = [NOP; 41];
        for broken in [
            &[RECORD_ROUTE][..],
            &[7, 2],
            &[7, 3, 3],
            &[7, 9, 4],
            &[68, 3, 5],
            &[9, 0],
            &[9, 1],
            &long,
        ] {
            assert_eq!(Options::parse(broken), None, "{broken:?}");
        }
        assert_eq!(Options::parse(&[LOOSE_SOURCE_ROUTE, 7, 4, 10, 0, 0, 1]), None);
        assert_eq!(Options::parse(&[]), Some(Options::NONE));
        // A router alert is copied into every fragment.
        let alert = Options::parse(&[148, 4, 0, 0, NOP]).unwrap();
        assert_eq!(alert.as_slice(), [148, 4, 0, 0, NOP, 0, 0, 0]);
        assert_eq!(alert.of_later_fragments().as_slice(), [148, 4, 0, 0, NOP, 0, 0, 0]);
    }
}
