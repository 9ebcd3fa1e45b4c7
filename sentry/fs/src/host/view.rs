//! Which names of a host tree exist for programs: everything but some paths, or only some paths.

use std::collections::HashMap;
use std::sync::Arc;

/// What is visible below one directory. Paths are relative to the root of the tree; a component may hold `*`.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// This very name does not exist.
    hidden: bool,
    /// Names that are not listed exist.
    rest_visible: bool,
    names: HashMap<Vec<u8>, Arc<View>>,
    patterns: Vec<(Vec<u8>, Arc<View>)>,
}

/// What a view says of a name.
#[derive(Clone, Debug)]
pub(super) enum Sight {
    /// It does not exist.
    Hidden,
    /// It exists with everything below it.
    Whole,
    /// It exists, with this view of what is below it.
    Part(Arc<View>),
}

impl View {
    /// Everything is visible.
    pub fn everything() -> Self {
        Self { rest_visible: true, ..Self::default() }
    }

    /// Only the root directory is visible.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Makes `path` and all below it visible, and the directories on the way to it (with nothing else in them that was not visible).
    #[must_use]
    pub fn show(mut self, path: &str) -> Self {
        self.apply(&components(path), &|view| {
            view.hidden = false;
            view.rest_visible = true;
        });
        self
    }

    /// Hides `path` and all below it.
    #[must_use]
    pub fn hide(mut self, path: &str) -> Self {
        self.apply(&components(path), &|view| {
            *view = View { hidden: true, ..View::default() };
        });
        self
    }

    fn apply(&mut self, path: &[&[u8]], change: &dyn Fn(&mut View)) {
        let Some((first, rest)) = path.split_first() else {
            return change(self);
        };
        let fresh = Arc::new(View { rest_visible: self.rest_visible, ..View::default() });
        let child = if first.contains(&b'*') {
            let at = self.patterns.iter().position(|(known, _)| known == first);
            let at = at.unwrap_or_else(|| {
                self.patterns.push((first.to_vec(), fresh));
                self.patterns.len() - 1
            });
            &mut self.patterns[at].1
        } else {
            self.names.entry(first.to_vec()).or_insert(fresh)
        };
        let child = Arc::make_mut(child);
        child.hidden = false;
        child.apply(rest, change);
    }

    /// What exists under `name`.
    pub(super) fn see(&self, name: &[u8]) -> Sight {
        let pattern =
            || self.patterns.iter().find(|(known, _)| matches(known, name)).map(|(_, v)| v);
        match self.names.get(name).or_else(pattern) {
            Some(view) if view.hidden => Sight::Hidden,
            Some(view) if view.is_whole() => Sight::Whole,
            Some(view) => Sight::Part(view.clone()),
            None if self.rest_visible => Sight::Whole,
            None => Sight::Hidden,
        }
    }

    /// True where nothing at all is hidden.
    pub(super) fn is_whole(&self) -> bool {
        self.rest_visible && self.names.is_empty() && self.patterns.is_empty()
    }
}

fn components(path: &str) -> Vec<&[u8]> {
    path.split('/').filter(|part| !part.is_empty()).map(str::as_bytes).collect()
}

/// Matches a name against a pattern in which `*` stands for any bytes.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let mut parts = pattern.split(|byte| *byte == b'*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle.iter().filter(|part| !part.is_empty()) {
        match rest.windows(part.len()).position(|window| window == *part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visible(view: &View, path: &str) -> bool {
        let mut view = Arc::new(view.clone());
        for name in components(path) {
            match view.see(name) {
                Sight::Hidden => return false,
                Sight::Whole => return true,
                Sight::Part(below) => view = below,
            }
        }
        true
    }

    #[test]
    fn hidden_paths_and_patterns_do_not_exist_and_the_rest_does() {
        let view = View::everything().hide("/etc/shadow").hide("etc/ssh/ssh_host_*_key");
        assert!(visible(&view, "etc/passwd"));
        assert!(!visible(&view, "etc/shadow"));
        assert!(!visible(&view, "etc/shadow/below"));
        assert!(!visible(&view, "etc/ssh/ssh_host_rsa_key"));
        assert!(visible(&view, "etc/ssh/ssh_host_rsa_key.pub"));
    }

    #[test]
    fn only_shown_paths_and_the_way_to_them_exist() {
        let view = View::nothing().show("usr").show("home/u/project").hide("home/u/project/.env");
        assert!(visible(&view, "usr/bin/env"));
        assert!(visible(&view, "home/u"));
        assert!(!visible(&view, "home/u/.ssh"));
        assert!(!visible(&view, "home/v"));
        assert!(visible(&view, "home/u/project/src"));
        assert!(!visible(&view, "home/u/project/.env"));
        assert!(!visible(&view, "root"));
    }
}
