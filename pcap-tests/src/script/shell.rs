//! Lines for a shell: `sysctl` sets the kernel's settings. Nothing else is run: a script must not touch the host.

/// The settings of a backquoted text: paths below /proc/sys and their values. Errors: the line that is none, and why.
pub fn settings(text: &str) -> Result<Vec<(String, String)>, String> {
    let text = text.replace("\\\n", " ");
    let mut settings = Vec::new();
    for line in text.split(['\n', ';']).flat_map(|line| line.split("&&")) {
        let line = line.split_once('#').map_or(line, |(line, _)| line).trim();
        let words = words(line).ok_or_else(|| format!("`{line}`: a quotation has no end"))?;
        let Some((command, arguments)) = words.split_first() else { continue };
        if !matches!(command.as_str(), "sysctl" | "/sbin/sysctl" | "/usr/sbin/sysctl") {
            return Err(format!(
                "`{line}`: only sysctl is understood here; nothing is run by a shell"
            ));
        }
        for argument in arguments {
            match (argument.as_str(), argument.split_once('=')) {
                ("-q" | "-w" | "-qw" | "-wq", _) => {}
                (_, Some((name, value))) if !name.starts_with('-') => {
                    // A name with slashes keeps its points: those of an interface.
                    let path =
                        if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
                    settings.push((path, value.to_owned()));
                }
                _ => {
                    return Err(format!(
                        "`{line}`: sysctl [-q] [-w] NAME=VALUE… is understood here"
                    ));
                }
            }
        }
    }
    Ok(settings)
}

/// Words between blanks; what stands in quotation marks is one.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read() {
        let text = "sysctl -q net.ipv4.tcp_sack=0; sysctl -q -w net.ipv4.tcp_rmem=\"4096 8192 9000\" \\\n net/core/somaxconn=7\n# none\n";
        let expected = [
            ("net/ipv4/tcp_sack", "0"),
            ("net/ipv4/tcp_rmem", "4096 8192 9000"),
            ("net/core/somaxconn", "7"),
        ];
        let expected = expected.map(|(path, value)| (path.to_owned(), value.to_owned()));
        assert_eq!(settings(text), Ok(expected.to_vec()));
    }

    #[test]
    fn nothing_else_is_run() {
        for (text, why) in [
            ("ip route add 10.0.0.0/8 dev tun0", "nothing is run by a shell"),
            ("sysctl net.ipv4.tcp_sack", "NAME=VALUE"),
            ("sysctl -a", "NAME=VALUE"),
            ("sysctl -w a='1", "has no end"),
        ] {
            assert!(settings(text).is_err_and(|error| error.contains(why)), "{text}");
        }
    }
}
