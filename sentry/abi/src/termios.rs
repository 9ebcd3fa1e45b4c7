//! Terminals: asm-generic/termbits.h, asm-generic/termios.h and the terminal requests of asm-generic/ioctls.h.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Number of control characters in [`KernelTermios`].
pub const NCCS: usize = 19;

/// `struct termios` of the kernel (TCGETS, TCSETS).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct KernelTermios {
    /// Input modes.
    pub iflag: u32,
    /// Output modes.
    pub oflag: u32,
    /// Control modes.
    pub cflag: u32,
    /// Local modes.
    pub lflag: u32,
    /// Line discipline.
    pub line: u8,
    /// Control characters.
    pub cc: [u8; NCCS],
}
const _: () = assert!(size_of::<KernelTermios>() == 36);

/// `struct termios2` (TCGETS2, TCSETS2): the same with speeds in bauds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct KernelTermios2 {
    /// The modes.
    pub termios: KernelTermios,
    /// Input speed.
    pub ispeed: u32,
    /// Output speed.
    pub ospeed: u32,
}
const _: () = assert!(size_of::<KernelTermios2>() == 44);

/// `struct winsize`.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct WinSize {
    /// Rows of characters.
    pub rows: u16,
    /// Columns of characters.
    pub columns: u16,
    /// Width in pixels.
    pub x_pixels: u16,
    /// Height in pixels.
    pub y_pixels: u16,
}
const _: () = assert!(size_of::<WinSize>() == 8);

bitflags! {
    /// c_iflag
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct InputModes: u32 {
        /// Ignore break.
        const IGNBRK = 0o1;
        /// Signal on break.
        const BRKINT = 0o2;
        /// Strip the eighth bit.
        const ISTRIP = 0o40;
        /// NL to CR.
        const INLCR = 0o100;
        /// Ignore CR.
        const IGNCR = 0o200;
        /// CR to NL.
        const ICRNL = 0o400;
        /// Output flow control.
        const IXON = 0o2000;
        /// Any character restarts output.
        const IXANY = 0o4000;
        /// Input flow control.
        const IXOFF = 0o10000;
        /// Ring at a full line.
        const IMAXBEL = 0o20000;
        /// Erase whole UTF-8 characters.
        const IUTF8 = 0o40000;
        const _ = !0;
    }

    /// c_oflag
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OutputModes: u32 {
        /// Process output.
        const OPOST = 0o1;
        /// NL to CR NL.
        const ONLCR = 0o4;
        /// CR to NL.
        const OCRNL = 0o10;
        /// No CR at column 0.
        const ONOCR = 0o20;
        /// NL returns the carriage.
        const ONLRET = 0o40;
        /// Tabs to spaces (TAB3).
        const XTABS = 0o14000;
        const _ = !0;
    }

    /// c_lflag
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct LocalModes: u32 {
        /// Control characters raise signals.
        const ISIG = 0o1;
        /// Lines, with editing.
        const ICANON = 0o2;
        /// Echo.
        const ECHO = 0o10;
        /// Erase rubs out.
        const ECHOE = 0o20;
        /// Kill starts a new line.
        const ECHOK = 0o40;
        /// Echo NL even without ECHO.
        const ECHONL = 0o100;
        /// No flush on a signal.
        const NOFLSH = 0o200;
        /// Background writers are stopped.
        const TOSTOP = 0o400;
        /// Echo control characters as ^X.
        const ECHOCTL = 0o1000;
        /// Kill rubs out the line.
        const ECHOKE = 0o4000;
        /// Extended characters (LNEXT, WERASE, REPRINT).
        const IEXTEN = 0o100000;
        const _ = !0;
    }
}

/// Indices into `cc`.
pub mod cc {
    /// ^C
    pub const VINTR: usize = 0;
    /// ^\
    pub const VQUIT: usize = 1;
    /// DEL
    pub const VERASE: usize = 2;
    /// ^U
    pub const VKILL: usize = 3;
    /// ^D
    pub const VEOF: usize = 4;
    /// Inter-byte time in tenths of a second.
    pub const VTIME: usize = 5;
    /// Least number of bytes.
    pub const VMIN: usize = 6;
    /// ^Q
    pub const VSTART: usize = 8;
    /// ^S
    pub const VSTOP: usize = 9;
    /// ^Z
    pub const VSUSP: usize = 10;
    /// Another end of line.
    pub const VEOL: usize = 11;
    /// ^R
    pub const VREPRINT: usize = 12;
    /// ^W
    pub const VWERASE: usize = 14;
    /// ^V
    pub const VLNEXT: usize = 15;
    /// A second other end of line.
    pub const VEOL2: usize = 16;
}

/// TCGETS
pub const TCGETS: u32 = 0x5401;
/// TCSETS
pub const TCSETS: u32 = 0x5402;
/// TCSETSW
pub const TCSETSW: u32 = 0x5403;
/// TCSETSF
pub const TCSETSF: u32 = 0x5404;
/// TCSBRK
pub const TCSBRK: u32 = 0x5409;
/// TCXONC
pub const TCXONC: u32 = 0x540A;
/// TCFLSH
pub const TCFLSH: u32 = 0x540B;
/// TIOCEXCL
pub const TIOCEXCL: u32 = 0x540C;
/// TIOCNXCL
pub const TIOCNXCL: u32 = 0x540D;
/// TIOCSCTTY
pub const TIOCSCTTY: u32 = 0x540E;
/// TIOCGPGRP
pub const TIOCGPGRP: u32 = 0x540F;
/// TIOCSPGRP
pub const TIOCSPGRP: u32 = 0x5410;
/// TIOCOUTQ
pub const TIOCOUTQ: u32 = 0x5411;
/// TIOCSTI
pub const TIOCSTI: u32 = 0x5412;
/// TIOCGWINSZ
pub const TIOCGWINSZ: u32 = 0x5413;
/// TIOCSWINSZ
pub const TIOCSWINSZ: u32 = 0x5414;
/// FIONREAD, TIOCINQ
pub const FIONREAD: u32 = 0x541B;
/// TIOCNOTTY
pub const TIOCNOTTY: u32 = 0x5422;
/// TIOCGETD
pub const TIOCGETD: u32 = 0x5424;
/// TCSBRKP
pub const TCSBRKP: u32 = 0x5425;
/// TIOCGSID
pub const TIOCGSID: u32 = 0x5429;
/// TCGETS2
pub const TCGETS2: u32 = 0x802C_542A;
/// TCSETS2
pub const TCSETS2: u32 = 0x402C_542B;
/// TCSETSW2
pub const TCSETSW2: u32 = 0x402C_542C;
/// TCSETSF2
pub const TCSETSF2: u32 = 0x402C_542D;
/// TIOCGPTN
pub const TIOCGPTN: u32 = 0x8004_5430;
/// TIOCSPTLCK
pub const TIOCSPTLCK: u32 = 0x4004_5431;
/// TIOCGPTLCK
pub const TIOCGPTLCK: u32 = 0x8004_5439;
/// TIOCGPTPEER
pub const TIOCGPTPEER: u32 = 0x5441;

impl KernelTermios {
    /// What a fresh terminal has (tty_std_termios, then stty's sane eighth bit off).
    pub const fn standard() -> Self {
        Self {
            iflag: 0o400 | 0o2000,
            oflag: 0o1 | 0o4,
            cflag: 0o17 | 0o60 | 0o200,
            lflag: 0o1 | 0o2 | 0o10 | 0o20 | 0o40 | 0o1000 | 0o4000 | 0o100000,
            line: 0,
            cc: [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0],
        }
    }

    /// Input modes.
    pub fn input(&self) -> InputModes {
        InputModes::from_bits_retain(self.iflag)
    }

    /// Output modes.
    pub fn output(&self) -> OutputModes {
        OutputModes::from_bits_retain(self.oflag)
    }

    /// Local modes.
    pub fn local(&self) -> LocalModes {
        LocalModes::from_bits_retain(self.lflag)
    }

    /// True in canonical mode.
    pub fn is_canonical(&self) -> bool {
        self.local().contains(LocalModes::ICANON)
    }
}
