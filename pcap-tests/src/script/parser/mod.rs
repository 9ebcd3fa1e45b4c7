//! Tokens become a script. By recursive descent: each rule is a function, and says what it misses at the token where it misses it.

mod packet;
mod settings;

pub use packet::icmp_name;

use std::time::Duration;

use super::SyntaxError;
use super::lexer::{self, Placed, Token};
use super::syntax::{Action, Base, Call, Event, Expr, Script, When};

/// Lists and calls within each other, at most.
const MAX_DEPTH: u32 = 16;
/// Events, at most: what is read must be bounded.
const MAX_EVENTS: usize = 100_000;
/// The latest time of a script.
const MAX_SECONDS: f64 = 1e6;

/// Reads a script.
pub fn parse(text: &str) -> Result<Script, SyntaxError> {
    let tokens = lexer::tokens(text)?;
    let mut parser = Parser { text, tokens: &tokens, next: 0, v6: false };
    let settings = parser.settings()?;
    parser.v6 = settings.version.is_v6_on_the_wire();
    let mut events = Vec::new();
    while parser.peek().is_some() {
        if events.len() == MAX_EVENTS {
            return Err(parser.error(format!("more than {MAX_EVENTS} events")));
        }
        events.push(parser.event()?);
    }
    if events.is_empty() {
        return Err(parser.error("nothing happens in this script"));
    }
    Ok(Script { about: about(text), settings, events })
}

/// The comment at the head of a script, in one line.
fn about(text: &str) -> String {
    let lines = text.trim_start().lines().map_while(|line| {
        let line = line.trim_start();
        line.strip_prefix("//").or_else(|| line.strip_prefix('#')).map(str::trim)
    });
    lines.collect::<Vec<_>>().join(" ")
}

struct Parser<'a> {
    text: &'a str,
    tokens: &'a [Placed<'a>],
    next: usize,
    /// ICMP is that of IPv6.
    v6: bool,
}

type Parsed<T> = Result<T, SyntaxError>;

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.next).map(|placed| placed.token)
    }

    fn peek_second(&self) -> Option<Token<'a>> {
        self.tokens.get(self.next + 1).map(|placed| placed.token)
    }

    /// Whether the next token touches the one before.
    fn adjoins(&self) -> bool {
        self.tokens.get(self.next).is_some_and(|placed| placed.adjoins)
    }

    fn place(&self) -> usize {
        self.tokens.get(self.next).map_or(self.text.len(), |placed| placed.at)
    }

    /// An error at the next token.
    fn error(&self, what: impl Into<String>) -> SyntaxError {
        SyntaxError::at(self.text, self.place(), what)
    }

    fn missing(&self, what: &str) -> SyntaxError {
        match self.peek() {
            Some(token) => self.error(format!("expected {what}, found {token}")),
            None => self.error(format!("expected {what}, found the end of the script")),
        }
    }

    fn eat(&mut self, token: Token<'_>) -> bool {
        let found = self.peek() == Some(token);
        self.next += usize::from(found);
        found
    }

    fn sign(&mut self, sign: char) -> Parsed<()> {
        if self.eat(Token::Sign(sign)) {
            return Ok(());
        }
        Err(self.missing(&format!("\"{sign}\"")))
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found =
            matches!(self.peek(), Some(Token::Word(found)) if found.eq_ignore_ascii_case(word));
        self.next += usize::from(found);
        found
    }

    fn word(&mut self, what: &str) -> Parsed<&'a str> {
        let Some(Token::Word(word)) = self.peek() else { return Err(self.missing(what)) };
        self.next += 1;
        Ok(word)
    }

    /// A whole number that fits.
    fn number<T: TryFrom<u64>>(&mut self, what: &str) -> Parsed<T> {
        let Some(Token::Number(text)) = self.peek() else { return Err(self.missing(what)) };
        let value = whole(text).and_then(|value| T::try_from(value).ok());
        let value = value.ok_or_else(|| self.error(format!("{text} is not {what}")))?;
        self.next += 1;
        Ok(value)
    }

    fn event(&mut self) -> Parsed<Event> {
        let line = SyntaxError::at(self.text, self.place(), "").line;
        // A line for the shell may stand before all times.
        let when = match self.peek() {
            Some(Token::Shell(_)) => {
                let now = Duration::ZERO;
                When { base: Base::Before, from: now, until: None, end: None }
            }
            _ => self.when()?,
        };
        let action = match self.peek() {
            Some(Token::Shell(text)) => {
                self.next += 1;
                Action::Shell(text.to_owned())
            }
            Some(Token::Code(text)) => {
                self.next += 1;
                Action::Code(text.to_owned())
            }
            Some(Token::Sign('<')) => {
                self.next += 1;
                Action::Inbound(self.packet()?)
            }
            Some(Token::Sign('>')) => {
                self.next += 1;
                Action::Outbound(self.packet()?)
            }
            Some(Token::Word(_)) => Action::Call(self.call()?),
            _ => {
                return Err(
                    self.missing("a packet, a call, `a line for the shell` or %{ Python }%")
                );
            }
        };
        let is_call = matches!(action, Action::Call(_));
        let is_outbound = matches!(action, Action::Outbound(_));
        if when.end.is_some() && !is_call {
            return Err(SyntaxError::on(
                line,
                "only a system call may take from one time ... to another",
            ));
        }
        if (when.until.is_some() || when.base == Base::Any) && !is_outbound {
            return Err(SyntaxError::on(
                line,
                "only what the kernel sends may come at any time or in a range",
            ));
        }
        Ok(Event { line, when, action })
    }

    fn when(&mut self) -> Parsed<When> {
        if self.eat(Token::Sign('*')) {
            return Ok(When { base: Base::Any, from: Duration::ZERO, until: None, end: None });
        }
        let relative = self.eat(Token::Sign('+'));
        let base = if relative { Base::Before } else { Base::Start };
        let from = self.seconds()?;
        let mut when = When { base, from, until: None, end: None };
        if self.eat(Token::Sign('~')) {
            self.same_base(base)?;
            when.until = Some(self.seconds()?);
        } else if self.eat(Token::Ellipsis) {
            self.eat(Token::Sign('+'));
            when.end = Some(self.seconds()?);
        }
        if when.until.or(when.end).is_some_and(|later| later < from) {
            return Err(self.error("this time ends before it begins"));
        }
        Ok(when)
    }

    fn same_base(&mut self, base: Base) -> Parsed<()> {
        if self.eat(Token::Sign('+')) == (base == Base::Before) {
            return Ok(());
        }
        Err(self.error("both ends of a range count from the same time: +0.1~+0.2 or 0.1~0.2"))
    }

    fn seconds(&mut self) -> Parsed<Duration> {
        let Some(Token::Number(text)) = self.peek() else {
            return Err(self.missing("a time in seconds"));
        };
        let seconds = text.parse::<f64>().ok().filter(|s| (0.0..=MAX_SECONDS).contains(s));
        let seconds = seconds.ok_or_else(|| self.error(format!("{text} is no time in seconds")))?;
        self.next += 1;
        Ok(Duration::from_micros((seconds * 1e6).round() as u64))
    }

    fn call(&mut self) -> Parsed<Call> {
        let name = self.word("a system call")?.to_owned();
        if self.peek() != Some(Token::Sign('(')) {
            return Err(self.missing("\"(\" after the name of a call"));
        }
        let arguments = self.list('(', ')', 0)?;
        let mut call = Call { name, arguments, result: None, errno: None };
        if !self.eat(Token::Sign('=')) {
            return Ok(call);
        }
        if !self.eat(Token::Ellipsis) {
            call.result = Some(self.expr(0)?);
        }
        if let Some(Token::Word(errno)) = self.peek() {
            self.next += 1;
            call.errno = Some(errno.to_owned());
            if self.eat(Token::Sign('(')) {
                self.skip_note()?;
            }
        }
        Ok(call)
    }

    /// The words that strace puts behind an error.
    fn skip_note(&mut self) -> Parsed<()> {
        while !self.eat(Token::Sign(')')) {
            if self.peek().is_none() {
                return Err(self.missing("\")\""));
            }
            self.next += 1;
        }
        Ok(())
    }

    fn list(&mut self, open: char, close: char, depth: u32) -> Parsed<Vec<Expr>> {
        if depth == MAX_DEPTH {
            return Err(self.error(format!("more than {MAX_DEPTH} lists within each other")));
        }
        self.sign(open)?;
        let mut elements = Vec::new();
        if self.eat(Token::Sign(close)) {
            return Ok(elements);
        }
        loop {
            elements.push(self.expr(depth + 1)?);
            if self.eat(Token::Sign(close)) {
                return Ok(elements);
            }
            if !self.eat(Token::Sign(',')) {
                return Err(self.missing(&format!("\",\" or \"{close}\"")));
            }
        }
    }

    fn expr(&mut self, depth: u32) -> Parsed<Expr> {
        Ok(match self.peek() {
            Some(Token::Ellipsis) => {
                self.next += 1;
                Expr::Ellipsis
            }
            Some(Token::Number(_)) => self.maybe_product()?,
            Some(Token::Sign('-')) => {
                self.next += 1;
                let value: u32 = self.number("a number")?;
                Expr::Number(-i64::from(value))
            }
            Some(Token::Text(text)) => {
                let text = unescaped(text).ok_or_else(|| self.error("an escape that is none"))?;
                self.next += 1;
                Expr::Text(text)
            }
            Some(Token::Sign('[')) => Expr::List(self.list('[', ']', depth)?),
            Some(Token::Sign('{')) => self.structure(depth)?,
            Some(Token::Sign('&')) => {
                self.next += 1;
                self.expr(depth)?
            }
            Some(Token::Word(name)) if self.peek_second() == Some(Token::Sign('(')) => {
                self.next += 1;
                Expr::Function(name.to_owned(), self.list('(', ')', depth)?)
            }
            Some(Token::Word(_)) => self.names()?,
            _ => return Err(self.missing("an argument")),
        })
    }

    /// A number, or several with `*` between.
    fn maybe_product(&mut self) -> Parsed<Expr> {
        let mut value: i64 = self.number("a number")?;
        // The next line may begin with a star: a packet that comes at any time.
        while self.peek() == Some(Token::Sign('*'))
            && matches!(self.peek_second(), Some(Token::Number(_)))
        {
            self.next += 1;
            let factor: i64 = self.number("a number")?;
            value =
                value.checked_mul(factor).ok_or_else(|| self.error("this number is too large"))?;
        }
        Ok(Expr::Number(value))
    }

    fn names(&mut self) -> Parsed<Expr> {
        let mut names = vec![self.word("a constant")?.to_owned()];
        while self.eat(Token::Sign('|')) {
            names.push(self.word("a constant")?.to_owned());
        }
        Ok(Expr::Names(names))
    }

    /// `{name = value, name(1) = value, value}`
    fn structure(&mut self, depth: u32) -> Parsed<Expr> {
        if depth == MAX_DEPTH {
            return Err(self.error(format!("more than {MAX_DEPTH} lists within each other")));
        }
        self.sign('{')?;
        let mut members = Vec::new();
        while !self.eat(Token::Sign('}')) {
            if !members.is_empty() {
                self.sign(',')?;
            }
            let value = self.expr(depth + 1)?;
            if !self.eat(Token::Sign('=')) {
                members.push((String::new(), value));
                continue;
            }
            let name = match value {
                Expr::Names(mut names) if names.len() == 1 => names.remove(0),
                // msg_iov(1)=[…]: the number is that of the elements, which stand there.
                Expr::Function(name, _) => name,
                _ => return Err(self.error("only a member has a value")),
            };
            members.push((name, self.expr(depth + 1)?));
        }
        Ok(Expr::Struct(members))
    }
}

/// A whole number as C writes it.
fn whole(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The bytes of a text with C's escapes.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next()? {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                b'0' => 0,
                b'x' => {
                    let mut digit = || char::from(rest.next()?).to_digit(16);
                    (digit()? * 16 + digit()?) as u8
                }
                other => other,
            },
            byte => byte,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
