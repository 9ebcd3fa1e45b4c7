//! A plan as a diff for people.

use super::Change;

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// The diff of one file in the unified format; of one that is no text its size.
pub fn diff(change: &Change) -> String {
    let path = change.path.display();
    let text = |content: &Option<Vec<u8>>| String::from_utf8(content.clone().unwrap_or_default());
    let (Ok(before), Ok(after)) = (text(&change.before), text(&change.after)) else {
        let size = |content: &Option<Vec<u8>>| match content {
            None => "nothing".to_owned(),
            Some(bytes) => format!("{} bytes", bytes.len()),
        };
        let (from, to) = (size(&change.before), size(&change.after));
        return format!("--- {path}\n+++ {path}\n  a program: {from} becomes {to}\n");
    };
    let name = |content: &Option<Vec<u8>>| match content {
        None => "/dev/null".to_owned(),
        Some(_) => path.to_string(),
    };
    let mut shown = format!("--- {}\n+++ {}\n", name(&change.before), name(&change.after));
    shown.push_str(&hunk(&before, &after));
    shown
}

/// All changes are in one place: what is the same at both ends is left out.
fn hunk(before: &str, after: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old[same..], &new[same..]);
    let pairs = old_rest.iter().rev().zip(new_rest.iter().rev());
    let tail = pairs.take_while(|(a, b)| a == b).count();
    let removed = &old_rest[..old_rest.len() - tail];
    let added = &new_rest[..new_rest.len() - tail];
    let above = &old[same.saturating_sub(CONTEXT)..same];
    let below = &old_rest[removed.len()..old_rest.len().min(removed.len() + CONTEXT)];
    let first = same - above.len() + 1;
    let (context, start) =
        (above.len() + below.len(), |lines: usize| if lines == 0 { 0 } else { first });
    let (minus, plus) = (context + removed.len(), context + added.len());
    let mut shown = format!("@@ -{},{minus} +{},{plus} @@\n", start(minus), start(plus));
    for (sign, lines) in [(' ', above), ('-', removed), ('+', added), (' ', below)] {
        for line in lines {
            shown.push(sign);
            shown.push_str(line);
            shown.push('\n');
        }
    }
    shown
}
