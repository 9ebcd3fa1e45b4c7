//! Characters become words, numbers and signs, each with its place. Comments end here.

use super::SyntaxError;

/// A piece of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// A name: letters, digits and underlines, not beginning with a digit.
    Word(&'a str),
    /// What begins with a digit: `10`, `0x1f`, `0.25`, `.1`, and the hexadecimal digits of a cookie.
    Number(&'a str),
    /// What stands between quotation marks.
    Text(&'a str),
    /// What stands between backquotes.
    Shell(&'a str),
    /// What stands between `%{` and `}%`.
    Code(&'a str),
    /// `--name` or `--name=value`
    Option(&'a str),
    /// `...`
    Ellipsis,
    /// Any other character.
    Sign(char),
}

impl std::fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Token::Word(text) | Token::Number(text) | Token::Option(text) => {
                write!(f, "\"{text}\"")
            }
            Token::Text(_) => f.write_str("a text"),
            Token::Shell(_) => f.write_str("a line for the shell"),
            Token::Code(_) => f.write_str("Python"),
            Token::Ellipsis => f.write_str("\"...\""),
            Token::Sign(sign) => write!(f, "\"{sign}\""),
        }
    }
}

/// A token with the place of its first byte, and whether it touches the one before.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// The token.
    pub token: Token<'a>,
    /// Byte offset in the script.
    pub at: usize,
    /// Nothing stands between it and the one before.
    pub adjoins: bool,
}

/// All tokens of a script.
pub fn tokens(text: &str) -> Result<Vec<Placed<'_>>, SyntaxError> {
    let mut lexer = Lexer { text, at: 0, in_head: true };
    let mut tokens = Vec::new();
    let mut end = usize::MAX;
    loop {
        lexer.skip_blanks()?;
        let at = lexer.at;
        let Some(token) = lexer.token()? else { return Ok(tokens) };
        lexer.in_head = matches!(token, Token::Option(_));
        tokens.push(Placed { token, at, adjoins: at == end });
        end = lexer.at;
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// Only options so far.
    in_head: bool,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn error(&self, at: usize, what: impl Into<String>) -> SyntaxError {
        SyntaxError::at(self.text, at, what)
    }

    /// Passes over blanks and comments.
    fn skip_blanks(&mut self) -> Result<(), SyntaxError> {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start().len();
            self.at += blanks;
            let rest = self.rest();
            if rest.starts_with("//") || rest.starts_with('#') {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                let end = rest.find("*/");
                let end = end.ok_or_else(|| self.error(self.at, "this comment has no end"))?;
                self.at += end + 2;
            } else {
                return Ok(());
            }
        }
    }

    /// What stands between two marks; the lexer is at the first.
    fn between(&mut self, open: &str, close: &str) -> Result<&'a str, SyntaxError> {
        let inner = &self.rest()[open.len()..];
        let end = inner.find(close);
        let end = end.ok_or_else(|| self.error(self.at, format!("{open} without {close}")))?;
        self.at += open.len() + end + close.len();
        Ok(&inner[..end])
    }

    fn take(&mut self, len: usize) -> &'a str {
        let taken = &self.rest()[..len];
        self.at += len;
        taken
    }

    fn token(&mut self) -> Result<Option<Token<'a>>, SyntaxError> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(None) };
        let second = rest[first.len_utf8()..].chars().next();
        let is_option = rest.starts_with("--") && self.in_head;
        Ok(Some(match first {
            '`' => Token::Shell(self.between("`", "`")?),
            '%' if second == Some('{') => Token::Code(self.between("%{", "}%")?),
            '"' => self.quoted()?,
            '-' if is_option => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                Token::Option(self.take(end))
            }
            '.' if rest.starts_with("...") => {
                self.at += 3;
                Token::Ellipsis
            }
            '.' if second.is_some_and(|c| c.is_ascii_digit()) => Token::Number(self.number()),
            '0'..='9' => Token::Number(self.number()),
            c if c.is_ascii_alphabetic() || c == '_' => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                Token::Word(self.take(end))
            }
            sign => {
                self.at += sign.len_utf8();
                Token::Sign(sign)
            }
        }))
    }

    /// A text with its escapes left in.
    fn quoted(&mut self) -> Result<Token<'a>, SyntaxError> {
        let inner = &self.rest()[1..];
        let mut escaped = false;
        for (at, c) in inner.char_indices() {
            match c {
                '"' if !escaped => {
                    self.at += at + 2;
                    return Ok(Token::Text(&inner[..at]));
                }
                '\n' => break,
                _ => escaped = c == '\\' && !escaped,
            }
        }
        Err(self.error(self.at, "this text has no end"))
    }

    /// Digits and letters; a point only between digits, so that `0...1` is three tokens.
    fn number(&mut self) -> &'a str {
        let bytes = self.rest().as_bytes();
        let mut len = 0;
        let mut points = 0;
        while let Some(byte) = bytes.get(len) {
            let next_is_digit = bytes.get(len + 1).is_some_and(u8::is_ascii_digit);
            let is_point = *byte == b'.' && points == 0 && next_is_digit;
            if !byte.is_ascii_alphanumeric() && !is_point {
                break;
            }
            points += usize::from(is_point);
            len += 1;
        }
        self.take(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<Token<'_>> {
        tokens(text).expect("tokens").iter().map(|placed| placed.token).collect()
    }

    #[test]
    fn points_are_told_apart() {
        use Token::{Ellipsis, Number, Sign, Word};
        assert_eq!(of("0...0.200"), [Number("0"), Ellipsis, Number("0.200")]);
        assert_eq!(of("+.1 P. 1"), [Sign('+'), Number(".1"), Word("P"), Sign('.'), Number("1")]);
        assert_eq!(of("FO 12ab34"), [Word("FO"), Number("12ab34")]);
    }

    #[test]
    fn comments_are_blanks_and_texts_keep_them() {
        assert_eq!(of("// a\n/* b\n */ # c\n\"// \\\" x\""), [Token::Text("// \\\" x")]);
        assert_eq!(of("--mtu=1280\n`ip x`"), [Token::Option("--mtu=1280"), Token::Shell("ip x")]);
    }

    #[test]
    fn what_has_no_end_is_told_with_its_place() {
        for (text, line, column) in [("\n  \"abc\n", 2, 3), ("/* x", 1, 1), ("a\n `ip", 2, 2)] {
            let error = tokens(text).expect_err("no end");
            assert_eq!((error.line, error.column), (line, column), "{text:?}");
        }
    }
}
