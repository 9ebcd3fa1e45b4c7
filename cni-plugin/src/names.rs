//! Names from outside that become file names and names of links, and the names that we make of them.

/// Longest container id in bytes: with it every name that we make of it fits.
const CONTAINER_ID_MAX: usize = 128;
/// Longest name of a link in bytes (IFNAMSIZ without its zero).
pub(crate) const IFNAME_MAX: usize = 15;

/// Whether this may be a container id. Specification, section "Parameters": "Must start with an alphanumeric character,
/// optionally followed by any combination of one or more alphanumeric characters, underscore (), dot (.) or hyphen (-)."
pub(crate) fn is_container_id(id: &str) -> bool {
    id.len() <= CONTAINER_ID_MAX && is_network_name(id)
}

/// Whether this may be the name of a network, which has the same letters.
pub(crate) fn is_network_name(name: &str) -> bool {
    let mut letters = name.bytes();
    letters.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-'))
        && name.len() <= 255
}

/// Whether Linux takes this as the name of a link (dev_valid_name in net/core/dev.c), and a file system as that of a file.
pub(crate) fn is_ifname(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= IFNAME_MAX
        && !matches!(name, "." | "..")
        && name.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | ':'))
}

/// First word of our links' aliases.
const ALIAS: &str = "netcell-cni";

/// What one attachment is called on the host: links, comments of rules. It says nothing about who attached, so that it is short.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AttachmentKey {
    network: u64,
    attachment: u64,
}

impl AttachmentKey {
    /// The key of an interface of a container on a network.
    pub(crate) fn new(network: &str, container_id: &str, ifname: &str) -> Self {
        let attachment = hash(&[container_id.as_bytes(), ifname.as_bytes()]);
        Self { network: hash(&[network.as_bytes()]), attachment }
    }

    /// The host's end of a pair of links.
    pub(crate) fn host_link(&self) -> String {
        format!("nch{:012x}", self.attachment & 0xffff_ffff_ffff)
    }

    /// A TAP device.
    pub(crate) fn tap(&self) -> String {
        format!("nct{:012x}", self.attachment & 0xffff_ffff_ffff)
    }

    /// What our links say about themselves (`ip link`): whose they are, so that no other one is removed by a chance of its name.
    pub(crate) fn alias(&self, container_id: &str, ifname: &str) -> String {
        format!("{ALIAS} {} {container_id} {ifname}", self.network_comment())
    }

    /// The container id and the name of the interface of an alias of this network.
    pub(crate) fn of_alias<'a>(&self, alias: &'a str) -> Option<(&'a str, &'a str)> {
        let mut words = alias.split(' ');
        let ours = words.next() == Some(ALIAS) && words.next() == Some(&self.network_comment());
        let (container_id, ifname) = (words.next()?, words.next()?);
        let fine = ours && is_container_id(container_id) && is_ifname(ifname);
        (fine && words.next().is_none()).then_some((container_id, ifname))
    }

    /// What the elements of rules are marked with, so that they are found again.
    pub(crate) fn comment(&self) -> String {
        format!("{} {:016x}", self.network_comment(), self.attachment)
    }

    /// What the marks of all attachments to this network begin with.
    pub(crate) fn network_comment(&self) -> String {
        format!("{:016x}", self.network)
    }
}

/// FNV-1a over parts that are kept apart. Collisions do no harm: they meet a link that exists, and an error.
fn hash(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter().copied().chain([0]));
    bytes
        .fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_container_ids_are_none() {
        for id in
            ["", ".", "..", "../x", "a/b", "-a", "_a", "a b", "a\n", "a\0b", "é", &"a".repeat(129)]
        {
            assert!(!is_container_id(id), "{id:?}");
        }
        for id in ["a", "0", "A.b-c_d", "a..", &"a".repeat(128)] {
            assert!(is_container_id(id), "{id:?}");
        }
    }

    #[test]
    fn names_of_links_are_those_of_linux() {
        for name in ["", ".", "..", "a/b", "a:b", "a b", "a\t", "sixteen-letters0", "é", "a\u{7f}"]
        {
            assert!(!is_ifname(name), "{name:?}");
        }
        for name in ["eth0", "-", "...", "fifteen-letters"] {
            assert!(is_ifname(name), "{name:?}");
        }
    }

    #[test]
    fn keys_differ_by_each_part_and_names_fit() {
        let key = AttachmentKey::new("net", "ab", "c");
        assert_ne!(key, AttachmentKey::new("net", "a", "bc"));
        assert_ne!(key.comment(), AttachmentKey::new("other", "ab", "c").comment());
        assert!(key.host_link().len() <= IFNAME_MAX && key.tap().len() <= IFNAME_MAX);
        assert!(key.comment().starts_with(&key.network_comment()));
        let alias = key.alias("ab", "c");
        assert_eq!(key.of_alias(&alias), Some(("ab", "c")));
        assert_eq!(AttachmentKey::new("other", "ab", "c").of_alias(&alias), None);
        assert_eq!(key.of_alias(&format!("{alias} x")), None);
        assert!(key.alias(&"a".repeat(128), "fifteen-letters").len() < 256, "IFALIASZ");
    }
}
