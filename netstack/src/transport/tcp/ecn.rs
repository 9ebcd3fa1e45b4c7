//! Explicit congestion notification: negotiation, echo and feedback of RFC 3168, and the accurate feedback of RFC 9768.
//! What the network says through it is the congestion controller's business.

use crate::wire::tcp::{AccurateEcn, Flags};

/// The two bits of the IP header (RFC 3168 section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codepoint {
    /// Not ECN-capable.
    #[default]
    NotEct,
    /// ECN-capable, the other way.
    Ect1,
    /// ECN-capable.
    Ect0,
    /// A router met congestion.
    Ce,
}

impl Codepoint {
    /// The bits of a TOS or traffic class byte.
    pub fn of_tos(tos: u8) -> Codepoint {
        match tos & 3 {
            0 => Codepoint::NotEct,
            1 => Codepoint::Ect1,
            2 => Codepoint::Ect0,
            _ => Codepoint::Ce,
        }
    }

    /// The bits.
    pub fn bits(self) -> u8 {
        match self {
            Codepoint::NotEct => 0,
            Codepoint::Ect1 => 1,
            Codepoint::Ect0 => 2,
            Codepoint::Ce => 3,
        }
    }
}

/// What connections ask for and grant (tcp_ecn).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EcnPolicy {
    /// 0: neither.
    Off,
    /// 1: asks for and grants RFC 3168.
    Request,
    /// 2: grants RFC 3168 to who asks.
    #[default]
    Grant,
    /// 3: asks for and grants RFC 9768, and RFC 3168 where the peer knows no more.
    RequestAccurate,
}

/// What both ends agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    #[default]
    Off,
    /// RFC 3168.
    Classic,
    /// RFC 9768.
    Accurate,
}

/// RFC 9768 section 3.2.1: "r.cep = s.cep = 5".
const INITIAL_PACKETS: u32 = 5;
/// The counters of the option are modulo 2^24.
const COUNTER: u32 = 0xff_ffff;

/// The state of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Ecn {
    mode: Mode,
    /// What our SYN asked for.
    asked: Mode,
    /// ECE until the peer's CWR (Linux's TCP_ECN_DEMAND_CWR).
    echoes: bool,
    /// "r.cep": packets with CE that came.
    marked: u32,
    /// "r.e0b", "r.ceb", "r.e1b": payload that came with each codepoint.
    bytes: [u32; 3],
    /// "s.cep": the peer's count as last heard, modulo 8.
    peer_marked: u32,
    /// "s.ceb", once the peer's option told.
    peer_bytes: Option<u32>,
    /// The SYN or SYN-ACK came with this; told by the first acknowledgment.
    handshake: Codepoint,
    /// Whether the next acknowledgment has the encoding of the handshake.
    answers_handshake: bool,
    /// Whether the peer's first acknowledgment has that encoding.
    awaits_handshake: bool,
    /// Whether an option with changed counters is due.
    option_due: bool,
    /// Whether data goes out as ECN-capable.
    capable: bool,
    /// Whether something came as ECN-capable (Linux's TCP_ECN_SEEN).
    seen: bool,
}

impl Default for Ecn {
    fn default() -> Ecn {
        Ecn {
            mode: Mode::Off,
            asked: Mode::Off,
            echoes: false,
            marked: INITIAL_PACKETS,
            // Section 3.2.1: "r.e0b = s.e0b = 1, r.e1b = s.e1b = 1, r.ceb = s.ceb = 0".
            bytes: [1, 0, 1],
            peer_marked: INITIAL_PACKETS,
            peer_bytes: None,
            handshake: Codepoint::NotEct,
            answers_handshake: false,
            awaits_handshake: false,
            option_due: false,
            capable: false,
            seen: false,
        }
    }
}

/// The codepoint of a SYN or SYN-ACK in the bits AE, CWR, ECE (RFC 9768 table 2).
fn handshake_bits(codepoint: Codepoint) -> u16 {
    match codepoint {
        Codepoint::NotEct => 0b010,
        Codepoint::Ect1 => 0b011,
        Codepoint::Ect0 => 0b100,
        Codepoint::Ce => 0b110,
    }
}

/// The bits AE, CWR, ECE of a header as a number.
fn ace(flags: Flags) -> u16 {
    u16::from(flags.contains(Flags::AE)) << 2
        | u16::from(flags.contains(Flags::CWR)) << 1
        | u16::from(flags.contains(Flags::ECE))
}

fn flags_of_ace(ace: u16) -> Flags {
    let mut flags = Flags::empty();
    flags.set(Flags::AE, ace & 4 != 0);
    flags.set(Flags::CWR, ace & 2 != 0);
    flags.set(Flags::ECE, ace & 1 != 0);
    flags
}

impl Ecn {
    /// What was agreed on.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the peer shall hear of every mark (ECE) still.
    pub fn echoes(&self) -> bool {
        self.echoes
    }

    /// The flags of our SYN. A SYN that is sent again asks for nothing, because a middlebox may have dropped the first for
    /// asking (RFC 3168 section 6.1.1.1, tcp_ecn_fallback).
    pub fn ask(&mut self, policy: EcnPolicy, again: bool) -> Flags {
        if again {
            return Flags::empty();
        }
        self.asked = match policy {
            EcnPolicy::Off | EcnPolicy::Grant => Mode::Off,
            EcnPolicy::Request => Mode::Classic,
            EcnPolicy::RequestAccurate => Mode::Accurate,
        };
        match self.asked {
            Mode::Off => Flags::empty(),
            Mode::Classic => Flags::ECE | Flags::CWR,
            Mode::Accurate => Flags::AE | Flags::ECE | Flags::CWR,
        }
    }

    /// A SYN came: what is granted.
    pub fn on_syn(&mut self, policy: EcnPolicy, flags: Flags, codepoint: Codepoint) {
        self.handshake = codepoint;
        self.mode = match (ace(flags), policy) {
            (_, EcnPolicy::Off) => Mode::Off,
            (0b111, EcnPolicy::RequestAccurate) => Mode::Accurate,
            // RFC 3168 section 6.1.1: "ECT on SYN" is not allowed there; Linux grants nothing then.
            (0b111 | 0b011, _) if codepoint == Codepoint::NotEct => Mode::Classic,
            _ => Mode::Off,
        };
        self.awaits_handshake = self.mode == Mode::Accurate;
        self.settle();
    }

    /// The flags of our SYN-ACK.
    pub fn grant(&self) -> Flags {
        match self.mode {
            Mode::Off => Flags::empty(),
            Mode::Classic => Flags::ECE,
            Mode::Accurate => flags_of_ace(handshake_bits(self.handshake)),
        }
    }

    /// The SYN-ACK came: what was granted.
    pub fn on_syn_ack(&mut self, flags: Flags, codepoint: Codepoint) {
        self.handshake = codepoint;
        self.mode = match (self.asked, ace(flags)) {
            // RFC 9768 table 2: all but these four are RFC 3168, its predecessor, or nothing.
            (Mode::Accurate, 0b010 | 0b011 | 0b100 | 0b110) => Mode::Accurate,
            (Mode::Accurate | Mode::Classic, 0b001) => Mode::Classic,
            _ => Mode::Off,
        };
        if self.mode == Mode::Accurate {
            self.answers_handshake = true;
            // "If the SYN/ACK was CE-marked, r.cep is 6".
            self.marked += u32::from(codepoint == Codepoint::Ce);
        }
        self.settle();
    }

    fn settle(&mut self) {
        self.capable = self.mode != Mode::Off;
        self.option_due = self.mode == Mode::Accurate;
    }

    /// Whether something came as ECN-capable.
    pub fn is_seen(&self) -> bool {
        self.seen
    }

    /// With accurate feedback: packets that came with a mark, and payload that came as ECT(0), CE and ECT(1).
    pub fn received(&self) -> Option<(u32, [u32; 3])> {
        let [ect0, ce, ect1] = self.bytes;
        (self.mode == Mode::Accurate).then(|| {
            // Section 3.2.1 lets some begin at one.
            let bytes = [ect0.wrapping_sub(1) & COUNTER, ce, ect1.wrapping_sub(1) & COUNTER];
            (self.marked.wrapping_sub(INITIAL_PACKETS), bytes)
        })
    }

    /// A segment after the handshake came, `segments` of the wire in one; returns whether it is to be acknowledged at once.
    pub fn on_segment(
        &mut self,
        flags: Flags,
        codepoint: Codepoint,
        payload: usize,
        segments: usize,
    ) -> bool {
        self.seen |= self.mode != Mode::Off && codepoint != Codepoint::NotEct;
        match self.mode {
            Mode::Off => false,
            Mode::Classic => {
                if payload == 0 {
                    return false;
                }
                let told = flags.contains(Flags::CWR);
                if told {
                    // RFC 3168 section 6.1.3: "After the receipt of the CWR packet, acknowledgements for subsequent non-CE
                    // data packets will not have the ECN-Echo flag set". Its window may be small: answer at once.
                    self.echoes = false;
                }
                let news = codepoint == Codepoint::Ce && !self.echoes;
                self.echoes |= codepoint == Codepoint::Ce;
                told || news
            }
            Mode::Accurate => {
                let counter = match codepoint {
                    Codepoint::NotEct => return false,
                    Codepoint::Ect0 => 0,
                    Codepoint::Ce => 1,
                    Codepoint::Ect1 => 2,
                };
                self.bytes[counter] = self.bytes[counter].wrapping_add(payload as u32) & COUNTER;
                let marked = codepoint == Codepoint::Ce;
                if marked {
                    self.marked = self.marked.wrapping_add(segments as u32);
                    self.option_due = true;
                }
                // RFC 9768 section 3.2.2.5.1: an acknowledgment at once where the count of marks changed.
                marked && payload > 0
            }
        }
    }

    /// What an acknowledgment tells: how many marked packets the peer newly saw; for RFC 3168 one, whatever their number.
    /// `acked` segments of the wire are acknowledged by it.
    pub fn on_ack(
        &mut self,
        flags: Flags,
        option: Option<&AccurateEcn>,
        acked: usize,
        mss: usize,
    ) -> usize {
        match self.mode {
            Mode::Off => 0,
            Mode::Classic => usize::from(flags.contains(Flags::ECE)),
            Mode::Accurate if core::mem::take(&mut self.awaits_handshake) => {
                self.on_first_ack(ace(flags));
                0
            }
            Mode::Accurate => self.marks_told(ace(flags), option, acked, mss),
        }
    }

    /// RFC 9768 section 3.2.2.1: the acknowledgment of our SYN-ACK tells how that one came.
    fn on_first_ack(&mut self, ace: u16) {
        match ace {
            0b110 => self.peer_marked = INITIAL_PACKETS + 1,
            // "If it is zero, the field was bleached: the server MUST NOT set ECT".
            0 => self.capable = false,
            _ => {}
        }
    }

    fn marks_told(
        &mut self,
        ace: u16,
        option: Option<&AccurateEcn>,
        acked: usize,
        mss: usize,
    ) -> usize {
        // Section 3.2.2.5.2: "d.cep = (ACE + 8 - (s.cep mod 8)) mod 8".
        let delta = (u32::from(ace) + 8 - self.peer_marked % 8) % 8;
        let mut marks = delta as usize;
        let told = option.and_then(|option| option.ce_bytes());
        let fresh = match (told, self.peer_bytes) {
            (Some(told), before) => Some(told.wrapping_sub(before.unwrap_or(0)) & COUNTER),
            (None, _) => None,
        };
        if let Some(fresh) = fresh.filter(|fresh| *fresh < COUNTER / 2) {
            self.peer_bytes = told;
            // The field may have wrapped while acknowledgments were lost: the bytes tell how often.
            while acked >= 8 && marks + 8 <= acked && (marks + 4) * mss < fresh as usize {
                marks += 8;
            }
        } else if acked > 8 + marks {
            // "d.cep SHOULD be calculated safely": without the option, the most that fits.
            let wraps = (acked - marks) / 8;
            marks += if delta > 0 { wraps * 8 } else { 0 };
        }
        self.peer_marked = self.peer_marked.wrapping_add(marks as u32);
        marks
    }

    /// The flags of a segment after the handshake. `reduced` is whether it shall tell that the window was reduced.
    pub fn flags(&mut self, reduced: bool) -> Flags {
        match self.mode {
            Mode::Off => Flags::empty(),
            Mode::Classic => {
                let mut flags = Flags::empty();
                flags.set(Flags::ECE, self.echoes);
                flags.set(Flags::CWR, reduced);
                flags
            }
            Mode::Accurate if core::mem::take(&mut self.answers_handshake) => {
                flags_of_ace(handshake_bits(self.handshake))
            }
            Mode::Accurate => flags_of_ace((self.marked % 8) as u16),
        }
    }

    /// The option of a segment without data, where the counters changed or the peer has not heard them yet.
    pub fn option(&mut self) -> Option<AccurateEcn> {
        if self.mode != Mode::Accurate || !core::mem::take(&mut self.option_due) {
            return None;
        }
        Some(AccurateEcn::new(self.bytes))
    }

    /// How data goes out that was not sent before (RFC 3168 section 6.1.5: "retransmitted packets SHOULD NOT be
    /// ECN-capable").
    pub fn codepoint(&self) -> Codepoint {
        if self.capable { Codepoint::Ect0 } else { Codepoint::NotEct }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agree(client: EcnPolicy, server: EcnPolicy) -> (Ecn, Ecn) {
        let (mut a, mut b) = (Ecn::default(), Ecn::default());
        let asked = a.ask(client, false);
        b.on_syn(server, asked, Codepoint::NotEct);
        a.on_syn_ack(b.grant(), Codepoint::NotEct);
        assert_eq!(a.mode(), b.mode(), "{client:?} {server:?}");
        (a, b)
    }

    #[test]
    fn both_ends_agree_on_the_most_that_both_know() {
        use EcnPolicy::*;
        for (client, server, mode) in [
            (Off, RequestAccurate, Mode::Off),
            (Grant, RequestAccurate, Mode::Off),
            (Request, Off, Mode::Off),
            (Request, Grant, Mode::Classic),
            (Request, RequestAccurate, Mode::Classic),
            (RequestAccurate, Grant, Mode::Classic),
            (RequestAccurate, Off, Mode::Off),
            (RequestAccurate, RequestAccurate, Mode::Accurate),
        ] {
            assert_eq!(agree(client, server).0.mode(), mode, "{client:?} {server:?}");
        }
        let mut asked = Ecn::default();
        asked.ask(Request, false);
        // A middlebox that reflects the flags of the SYN grants nothing.
        asked.on_syn_ack(Flags::ECE | Flags::CWR, Codepoint::NotEct);
        assert_eq!((asked.mode(), asked.codepoint()), (Mode::Off, Codepoint::NotEct));
    }

    #[test]
    fn a_mark_is_echoed_until_the_peer_says_that_it_reduced() {
        let (mut a, mut b) = agree(EcnPolicy::Request, EcnPolicy::Grant);
        assert!(b.on_segment(Flags::ACK, Codepoint::Ce, 1000, 1));
        for _ in 0..3 {
            assert_eq!(b.flags(false), Flags::ECE);
            b.on_segment(Flags::ACK, Codepoint::Ect0, 1000, 1);
        }
        assert_eq!(a.on_ack(Flags::ACK | Flags::ECE, None, 1, 1000), 1);
        assert_eq!(a.flags(true), Flags::CWR);
        b.on_segment(Flags::ACK | Flags::CWR, Codepoint::Ect0, 1000, 1);
        assert_eq!(b.flags(false), Flags::empty());
        // One that comes with the CWR is a new one.
        b.on_segment(Flags::ACK | Flags::CWR, Codepoint::Ce, 1000, 1);
        assert_eq!(b.flags(false), Flags::ECE);
    }

    #[test]
    fn the_accurate_field_counts_marks_modulo_eight_and_the_option_counts_on() {
        let (mut a, mut b) = agree(EcnPolicy::RequestAccurate, EcnPolicy::RequestAccurate);
        let first = a.flags(false);
        assert_eq!(b.on_ack(first, None, 1, 1000), 0);
        a.on_ack(b.flags(false), b.option().as_ref(), 1, 1000);
        for marks in [1, 3, 7, 0, 2] {
            (0..marks).for_each(|_| {
                b.on_segment(Flags::ACK, Codepoint::Ce, 1000, 1);
            });
            assert_eq!(a.on_ack(b.flags(false), None, 7, 1000), marks);
        }
        // Twenty at once, whose acknowledgments but one were lost.
        let option = |b: &mut Ecn| {
            b.option_due = true;
            b.option()
        };
        a.on_ack(b.flags(false), option(&mut b).as_ref(), 1, 1000);
        (0..20).for_each(|_| {
            b.on_segment(Flags::ACK, Codepoint::Ce, 1000, 1);
        });
        let told = option(&mut b);
        assert_eq!(a.on_ack(b.flags(false), told.as_ref(), 40, 1000), 20);
    }

    #[test]
    fn a_bleached_first_acknowledgment_ends_capability() {
        let (_, mut b) = agree(EcnPolicy::RequestAccurate, EcnPolicy::RequestAccurate);
        b.on_ack(Flags::ACK, None, 0, 1000);
        assert_eq!(b.codepoint(), Codepoint::NotEct);
    }
}
