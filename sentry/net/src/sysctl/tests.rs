//! The tree over a namespace: what is listed can be read, what is written holds, what is wrong is refused.

use super::*;
use crate::inet::tests::namespace;

fn read(tree: &Tree, path: &str) -> String {
    String::from_utf8(tree.read(path).unwrap_or_else(|error| panic!("{path}: {error}"))).unwrap()
}

fn walk(tree: &Tree, path: &str, files: &mut Vec<String>) {
    for (name, kind) in tree.list(path) {
        let below = if path.is_empty() { name } else { format!("{path}/{name}") };
        assert_eq!(tree.find(&below), Some(kind), "{below}");
        match kind {
            Setting::Directory => walk(tree, &below, files),
            Setting::File { .. } => files.push(below),
        }
    }
}

#[test]
fn every_listed_file_can_be_read_and_written_back() {
    let net = namespace();
    let tree = Tree::new(&net);
    let mut files = Vec::new();
    walk(&tree, "", &mut files);
    assert!(files.contains(&"ipv4/conf/lo/rp_filter".to_owned()), "{files:?}");
    assert!(files.contains(&"ipv6/neigh/default/gc_interval".to_owned()));
    assert!(!files.iter().any(|path| path.starts_with("ipv4/neigh/all")));
    let readable = |path: &&String| !path.ends_with("stable_secret") && !path.ends_with("/flush");
    for path in files.iter().filter(readable) {
        let before = tree.read(path).unwrap();
        if tree.find(path) == Some(Setting::File { mode: 0o644 }) {
            tree.write(path, &before).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(tree.read(path).unwrap(), before, "{path}");
        }
    }
}

#[test]
fn what_is_written_holds_and_reaches_the_stack() {
    let net = namespace();
    let tree = Tree::new(&net);
    tree.write("ipv4/tcp_sack", b"0\n").unwrap();
    assert!(!net.stack().tcp_config().sack);
    tree.write("ipv4/tcp_congestion_control", b"reno\n").unwrap();
    assert_eq!(net.stack().tcp_config().congestion, "reno");
    // Who writes fewer numbers changes the first ones.
    tree.write("ipv4/ip_local_port_range", b"20000").unwrap();
    assert_eq!(read(&tree, "ipv4/ip_local_port_range"), "20000\t60999\n");
    tree.write("ipv4/ip_forward", b"1").unwrap();
    assert_eq!(read(&tree, "ipv4/conf/lo/forwarding"), "1\n");
    tree.write("ipv4/conf/lo/rp_filter", b"2").unwrap();
    assert_eq!(read(&tree, "ipv4/conf/default/rp_filter"), "0\n");
    assert_eq!(read(&tree, "ipv4/conf/lo/rp_filter"), "2\n");
    tree.write("ipv4/neigh/lo/retrans_time_ms", b"250").unwrap();
    assert_eq!(read(&tree, "ipv4/neigh/lo/retrans_time"), "25\n");
}

#[test]
fn what_is_flushed_is_written_alone() {
    let net = namespace();
    let tree = Tree::new(&net);
    for path in ["ipv4/route/flush", "ipv6/route/flush"] {
        assert!(tree.read(path).unwrap_err().is(Errno::EACCES));
        tree.write(path, b"1\n").unwrap();
    }
    tree.write("ipv4/route/flush", b"x").unwrap();
    for bad in [&b"x"[..], b" \n"] {
        assert!(tree.write("ipv6/route/flush", bad).unwrap_err().is(Errno::EINVAL));
    }
}

#[test]
fn wrong_values_and_paths_are_refused() {
    let net = namespace();
    let tree = Tree::new(&net);
    for (path, value) in [
        ("ipv4/tcp_sack", "x"),
        ("ipv4/tcp_sack", ""),
        ("ipv4/tcp_sack", "256"),
        ("ipv4/tcp_syncookies", "3"),
        ("ipv4/ip_default_ttl", "0"),
        ("ipv4/ip_local_port_range", "9000 8000"),
        ("ipv4/tcp_rmem", "8192"),
        ("core/rmem_max", "10"),
    ] {
        let refused = tree.write(path, value.as_bytes());
        assert!(refused.is_err_and(|error| error.is(Errno::EINVAL)), "{path} {value:?}");
    }
    let unknown = tree.write("ipv4/tcp_congestion_control", b"vegas");
    assert!(unknown.is_err_and(|error| error.is(Errno::ENOENT)));
    for path in ["ipv4/tcp_nothing", "ipv4/conf/eth9/rp_filter", "ipv4/tcp_sack/x", "x"] {
        assert_eq!(tree.find(path), None, "{path}");
    }
}
