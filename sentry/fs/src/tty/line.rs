//! The line discipline N_TTY as a pure state machine (termios(3)): typed bytes in, lines and signals and echo out. It must not know tasks or files.

use std::collections::VecDeque;

use sentry_abi::termios::{InputModes, KernelTermios, LocalModes, OutputModes, cc};

/// Most bytes that wait to be read, as N_TTY_BUF_SIZE.
const BUFFER: usize = 4096;
/// A control character with this value is switched off (_POSIX_VDISABLE).
const DISABLED: u8 = 0;

/// A signal that a typed character raises in the foreground process group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TtySignal {
    /// SIGINT
    Interrupt,
    /// SIGQUIT
    Quit,
    /// SIGTSTP
    Suspend,
}

/// What a read gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Line {
    /// These bytes; empty at an end of file.
    Bytes(Vec<u8>),
    /// Nothing yet.
    Wait,
}

/// State of one terminal's line discipline.
pub struct LineDiscipline {
    termios: KernelTermios,
    /// Bytes that a reader may take; in canonical mode whole lines.
    ready: VecDeque<u8>,
    /// Lengths of the complete lines in `ready`; the flag tells that the line ended with EOF, which is not in `ready`.
    lines: VecDeque<(usize, bool)>,
    /// The line being typed.
    editing: Vec<u8>,
    /// The next character is taken literally (VLNEXT).
    literal: bool,
    /// Output is stopped (VSTOP).
    stopped: bool,
    column: usize,
}

impl LineDiscipline {
    /// A discipline in the standard modes.
    pub fn new() -> Self {
        Self {
            termios: KernelTermios::standard(),
            ready: VecDeque::new(),
            lines: VecDeque::new(),
            editing: Vec::new(),
            literal: false,
            stopped: false,
            column: 0,
        }
    }

    /// The modes.
    pub fn termios(&self) -> &KernelTermios {
        &self.termios
    }

    /// Changes the modes. Leaving canonical mode makes all typed bytes readable.
    pub fn set_termios(&mut self, termios: KernelTermios) {
        let was_canonical = self.termios.is_canonical();
        self.termios = termios;
        if was_canonical && !termios.is_canonical() {
            self.ready.extend(self.editing.drain(..));
            self.lines.clear();
        } else if !was_canonical && termios.is_canonical() && !self.ready.is_empty() {
            self.lines.push_back((self.ready.len(), false));
        }
        if !termios.input().contains(InputModes::IXON) {
            self.stopped = false;
        }
    }

    /// True while ^S holds output back.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Stops or goes on with output (TCXONC).
    pub fn hold_output(&mut self) {
        self.stopped = true;
    }

    /// Goes on with output.
    pub fn release_output(&mut self) {
        self.stopped = false;
    }

    /// Bytes that a read could take now (FIONREAD).
    pub fn available(&self) -> usize {
        if self.termios.is_canonical() {
            self.lines.front().map_or(0, |l| l.0)
        } else {
            self.ready.len()
        }
    }

    /// True where a read would return at once.
    pub fn is_readable(&self) -> bool {
        if self.termios.is_canonical() {
            return !self.lines.is_empty();
        }
        let (min, time) = (self.termios.cc[cc::VMIN], self.termios.cc[cc::VTIME]);
        let enough = if time == 0 { usize::from(min).max(1) } else { 1 };
        self.ready.len() >= enough
    }

    /// How many more bytes can be typed.
    pub fn room(&self) -> usize {
        BUFFER.saturating_sub(self.ready.len() + self.editing.len())
    }

    /// Throws away what was typed (TCFLSH).
    pub fn flush_input(&mut self) {
        self.ready.clear();
        self.lines.clear();
        self.editing.clear();
    }

    /// Takes at most `max` bytes: a line or a part of one in canonical mode; otherwise as VMIN and VTIME say.
    pub fn read(&mut self, max: usize) -> Line {
        if self.termios.is_canonical() {
            let Some((len, ended)) = self.lines.front_mut() else { return Line::Wait };
            let take = (*len).min(max);
            *len -= take;
            // A line that ends with EOF gives its bytes, and only an empty one gives the end of file.
            if *len == 0 && (take > 0 || *ended || max > 0) {
                self.lines.pop_front();
            }
            return Line::Bytes(self.ready.drain(..take).collect());
        }
        let (min, time) = (usize::from(self.termios.cc[cc::VMIN]), self.termios.cc[cc::VTIME]);
        if self.ready.is_empty() && min == 0 && time == 0 {
            return Line::Bytes(Vec::new());
        }
        if !self.is_readable() && self.ready.len() < max {
            return Line::Wait;
        }
        let take = self.ready.len().min(max);
        Line::Bytes(self.ready.drain(..take).collect())
    }

    /// Takes a typed byte. Echo is appended to `echo` (already processed for output).
    pub fn input(&mut self, byte: u8, echo: &mut Vec<u8>) -> Option<TtySignal> {
        let modes = self.termios.input();
        let local = self.termios.local();
        let mut byte = if modes.contains(InputModes::ISTRIP) { byte & 0x7f } else { byte };
        if self.literal {
            self.literal = false;
            self.store(byte, echo);
            return None;
        }
        match byte {
            b'\r' if modes.contains(InputModes::IGNCR) => return None,
            b'\r' if modes.contains(InputModes::ICRNL) => byte = b'\n',
            b'\n' if modes.contains(InputModes::INLCR) => byte = b'\r',
            _ => {}
        }
        if modes.contains(InputModes::IXON) && self.flow_control(byte) {
            return None;
        }
        if local.contains(LocalModes::ISIG)
            && let Some(signal) = self.signal(byte)
        {
            if !local.contains(LocalModes::NOFLSH) {
                self.flush_input();
            }
            self.echo(byte, echo);
            return Some(signal);
        }
        if local.contains(LocalModes::ICANON) {
            self.edit(byte, echo)
        } else {
            self.store(byte, echo)
        }
        None
    }

    fn is(&self, byte: u8, index: usize) -> bool {
        self.termios.cc[index] != DISABLED && self.termios.cc[index] == byte
    }

    fn flow_control(&mut self, byte: u8) -> bool {
        if self.is(byte, cc::VSTOP) {
            self.stopped = true;
            return true;
        }
        if self.is(byte, cc::VSTART) {
            self.stopped = false;
            return true;
        }
        if self.stopped && self.termios.input().contains(InputModes::IXANY) {
            self.stopped = false;
        }
        false
    }

    fn signal(&self, byte: u8) -> Option<TtySignal> {
        if self.is(byte, cc::VINTR) {
            Some(TtySignal::Interrupt)
        } else if self.is(byte, cc::VQUIT) {
            Some(TtySignal::Quit)
        } else if self.is(byte, cc::VSUSP) {
            Some(TtySignal::Suspend)
        } else {
            None
        }
    }

    /// Canonical mode: a character edits the line or ends it.
    fn edit(&mut self, byte: u8, echo: &mut Vec<u8>) {
        let extended = self.termios.local().contains(LocalModes::IEXTEN);
        if self.is(byte, cc::VERASE) {
            self.erase_character(echo);
        } else if self.is(byte, cc::VKILL) {
            self.kill_line(byte, echo);
        } else if extended && self.is(byte, cc::VWERASE) {
            self.erase_word(echo);
        } else if extended && self.is(byte, cc::VREPRINT) {
            self.reprint(byte, echo);
        } else if extended && self.is(byte, cc::VLNEXT) {
            self.literal = true;
            if self.termios.local().contains(LocalModes::ECHO | LocalModes::ECHOCTL) {
                echo.extend_from_slice(b"^\x08");
            }
        } else if self.is(byte, cc::VEOF) {
            self.end_line(true);
        } else if byte == b'\n' || self.is(byte, cc::VEOL) || (extended && self.is(byte, cc::VEOL2))
        {
            self.editing.push(byte);
            let local = self.termios.local();
            if byte == b'\n' && local.intersects(LocalModes::ECHO | LocalModes::ECHONL) {
                self.output(b"\n", echo);
            } else {
                self.echo(byte, echo);
            }
            self.end_line(false);
        } else {
            self.store(byte, echo);
        }
    }

    fn end_line(&mut self, at_eof: bool) {
        self.lines.push_back((self.editing.len(), at_eof));
        self.ready.extend(self.editing.drain(..));
    }

    /// Adds a byte to what is typed; a full buffer rings instead.
    fn store(&mut self, byte: u8, echo: &mut Vec<u8>) {
        // One byte is kept for the newline that ends an overlong line.
        let canonical = self.termios.is_canonical();
        if self.room() <= usize::from(canonical) {
            if self.termios.input().contains(InputModes::IMAXBEL) {
                echo.push(7);
            }
            return;
        }
        if canonical {
            self.editing.push(byte)
        } else {
            self.ready.push_back(byte)
        }
        self.echo(byte, echo);
    }

    fn echo(&mut self, byte: u8, echo: &mut Vec<u8>) {
        if !self.termios.local().contains(LocalModes::ECHO) {
            return;
        }
        if self.shows_caret(byte) {
            echo.extend_from_slice(&[b'^', byte ^ 0x40]);
            self.column += 2;
        } else {
            self.output(&[byte], echo);
        }
    }

    fn shows_caret(&self, byte: u8) -> bool {
        let control = (byte < 0x20 && byte != b'\t' && byte != b'\n') || byte == 0x7f;
        control && self.termios.local().contains(LocalModes::ECHOCTL)
    }

    fn width(&self, byte: u8) -> usize {
        if self.shows_caret(byte) {
            2
        } else if self.is_continuation(byte) || byte < 0x20 {
            0
        } else {
            1
        }
    }

    fn is_continuation(&self, byte: u8) -> bool {
        self.termios.input().contains(InputModes::IUTF8) && byte & 0xc0 == 0x80
    }

    fn erase_character(&mut self, echo: &mut Vec<u8>) {
        let mut columns = 0;
        let mut erased = false;
        while let Some(byte) = self.editing.pop() {
            erased = true;
            columns += self.width(byte);
            if !self.is_continuation(byte) {
                break;
            }
        }
        let local = self.termios.local();
        if !erased || !local.contains(LocalModes::ECHO) {
            return;
        }
        if local.contains(LocalModes::ECHOE) {
            rub_out(columns, echo);
            self.column = self.column.saturating_sub(columns);
        } else {
            self.echo(self.termios.cc[cc::VERASE], echo);
        }
    }

    fn erase_word(&mut self, echo: &mut Vec<u8>) {
        let is_word = |b: Option<&u8>| {
            b.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80)
        };
        while !self.editing.is_empty() && !is_word(self.editing.last()) {
            self.erase_character(echo);
        }
        while is_word(self.editing.last()) {
            self.erase_character(echo);
        }
    }

    fn kill_line(&mut self, byte: u8, echo: &mut Vec<u8>) {
        let local = self.termios.local();
        if local.contains(LocalModes::ECHOKE | LocalModes::ECHOE) {
            while !self.editing.is_empty() {
                self.erase_character(echo);
            }
            return;
        }
        self.editing.clear();
        self.echo(byte, echo);
        if local.contains(LocalModes::ECHOK) {
            self.output(b"\n", echo);
        }
    }

    fn reprint(&mut self, byte: u8, echo: &mut Vec<u8>) {
        self.echo(byte, echo);
        self.output(b"\n", echo);
        for byte in self.editing.clone() {
            self.echo(byte, echo);
        }
    }

    /// Processes bytes that a program writes, as OPOST and its modes say, and appends them to `out`.
    pub fn output(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let modes = self.termios.output();
        if !modes.contains(OutputModes::OPOST) {
            out.extend_from_slice(bytes);
            return;
        }
        for &byte in bytes {
            self.output_byte(byte, modes, out);
        }
    }

    fn output_byte(&mut self, byte: u8, modes: OutputModes, out: &mut Vec<u8>) {
        match byte {
            b'\n' => {
                if modes.contains(OutputModes::ONLCR) {
                    out.push(b'\r');
                }
                if modes.intersects(OutputModes::ONLCR | OutputModes::ONLRET) {
                    self.column = 0;
                }
                out.push(b'\n');
            }
            b'\r' if modes.contains(OutputModes::ONOCR) && self.column == 0 => {}
            b'\r' if modes.contains(OutputModes::OCRNL) => {
                self.output_byte(b'\n', modes & !OutputModes::OCRNL, out)
            }
            b'\r' => {
                self.column = 0;
                out.push(b'\r');
            }
            b'\t' => {
                let spaces = 8 - self.column % 8;
                self.column += spaces;
                if modes.contains(OutputModes::XTABS) {
                    out.extend(std::iter::repeat_n(b' ', spaces));
                } else {
                    out.push(b'\t');
                }
            }
            8 => {
                self.column = self.column.saturating_sub(1);
                out.push(8);
            }
            _ => {
                if byte >= 0x20 && !self.is_continuation(byte) {
                    self.column += 1;
                }
                out.push(byte);
            }
        }
    }
}

impl Default for LineDiscipline {
    fn default() -> Self {
        Self::new()
    }
}

fn rub_out(columns: usize, echo: &mut Vec<u8>) {
    for _ in 0..columns {
        echo.extend_from_slice(b"\x08 \x08");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &mut LineDiscipline, bytes: &[u8]) -> (Vec<u8>, Vec<TtySignal>) {
        let mut echo = Vec::new();
        let signals = bytes.iter().filter_map(|b| line.input(*b, &mut echo)).collect();
        (echo, signals)
    }

    #[test]
    fn a_line_is_readable_only_when_it_ends() {
        let mut line = LineDiscipline::new();
        assert_eq!(typed(&mut line, b"abc").0, b"abc");
        assert_eq!(line.read(10), Line::Wait);
        assert_eq!(typed(&mut line, b"\r").0, b"\r\n");
        assert_eq!(line.read(2), Line::Bytes(b"ab".to_vec()));
        assert_eq!(line.read(10), Line::Bytes(b"c\n".to_vec()));
        assert_eq!(line.read(10), Line::Wait);
    }

    #[test]
    fn end_of_file_ends_a_line_without_a_character() {
        let mut line = LineDiscipline::new();
        typed(&mut line, b"ab\x04\x04");
        assert_eq!(line.read(10), Line::Bytes(b"ab".to_vec()));
        assert_eq!(line.read(10), Line::Bytes(Vec::new()));
        assert_eq!(line.read(10), Line::Wait);
    }

    #[test]
    fn editing_rubs_out_characters_words_and_lines() {
        let mut line = LineDiscipline::new();
        assert_eq!(typed(&mut line, b"ax\x7f").0, b"ax\x08 \x08");
        typed(&mut line, b" foo  \x17b\n");
        assert_eq!(line.read(10), Line::Bytes(b"a b\n".to_vec()));
        typed(&mut line, b"junk\x15ok\n");
        assert_eq!(line.read(10), Line::Bytes(b"ok\n".to_vec()));
    }

    #[test]
    fn control_characters_signal_and_flush() {
        let mut line = LineDiscipline::new();
        let (echo, signals) = typed(&mut line, b"abc\x03\x1a");
        assert_eq!(
            (echo.as_slice(), signals),
            (&b"abc^C^Z"[..], vec![TtySignal::Interrupt, TtySignal::Suspend])
        );
        typed(&mut line, b"\n");
        assert_eq!(line.read(10), Line::Bytes(b"\n".to_vec()));
    }

    #[test]
    fn raw_mode_gives_bytes_as_vmin_says() {
        let mut line = LineDiscipline::new();
        let mut raw = KernelTermios::standard();
        raw.lflag = 0;
        raw.iflag = 0;
        raw.cc[cc::VMIN] = 2;
        line.set_termios(raw);
        typed(&mut line, b"\x03");
        assert_eq!(line.read(10), Line::Wait);
        typed(&mut line, b"\r");
        assert_eq!(line.read(10), Line::Bytes(b"\x03\r".to_vec()));
        raw.cc[cc::VMIN] = 0;
        line.set_termios(raw);
        assert_eq!(line.read(10), Line::Bytes(Vec::new()));
    }

    #[test]
    fn an_overlong_line_keeps_room_for_its_end() {
        let mut line = LineDiscipline::new();
        typed(&mut line, &[b'x'; 5000]);
        typed(&mut line, b"\n");
        assert_eq!(line.read(10_000), Line::Bytes([vec![b'x'; 4095], b"\n".to_vec()].concat()));
    }

    #[test]
    fn output_is_processed() {
        let mut line = LineDiscipline::new();
        let mut out = Vec::new();
        line.output(b"a\nb", &mut out);
        assert_eq!(out, b"a\r\nb");
    }

    #[test]
    fn literal_next_takes_control_characters() {
        let mut line = LineDiscipline::new();
        typed(&mut line, b"\x16\x03\n");
        assert_eq!(line.read(10), Line::Bytes(b"\x03\n".to_vec()));
    }
}
