//! Tests of what needs no program memory.

use super::*;
use crate::table::FAMILIES;

#[test]
fn every_format_belongs_to_a_call_and_no_call_has_more_than_six() {
    for (name, words) in formats::CALLS {
        assert!(words.split_ascii_whitespace().count() <= 6, "{name}");
    }
    for row in FAMILIES.iter().flat_map(|(_, rows)| rows.iter()) {
        for format in formats::of(row) {
            if let Format::Named(table) = format {
                assert!(flags::names(table).is_some(), "{}: no table {table}", row.name);
            }
        }
    }
}

#[test]
fn flags_are_named_and_the_rest_is_hexadecimal() {
    assert_eq!(flags::named("open", 0o2000001), "O_WRONLY|O_CLOEXEC");
    assert_eq!(flags::named("open", 0), "O_RDONLY");
    assert_eq!(flags::named("prot", 3), "PROT_READ|PROT_WRITE");
    assert_eq!(flags::named("prot", 0), "PROT_NONE");
    assert_eq!(flags::named("map", 0x22), "MAP_PRIVATE|MAP_ANONYMOUS");
    assert_eq!(flags::named("futex", 0x81), "FUTEX_WAKE|FUTEX_PRIVATE_FLAG");
    assert_eq!(flags::named("atflags", 0x4100), "AT_SYMLINK_NOFOLLOW|0x4000");
    assert_eq!(flags::named("access", 0), "F_OK");
    assert_eq!(flags::named("ioctl", 0x1234), "0x1234");
}

#[test]
fn strings_are_escaped_and_addresses_decoded() {
    use values::{Cut, address, quoted};
    assert_eq!(quoted(b"a\"\\\n\x01\xff", Cut::Yes), r#""a\"\\\n\1\377"..."#);
    let inet = [2, 0, 0, 80, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let shown = r#"{sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}"#;
    assert_eq!(address(&inet), shown);
    assert_eq!(address(b"\x01\x00/tmp/s\0"), r#"{sa_family=AF_UNIX, sun_path="/tmp/s"}"#);
    assert_eq!(address(b"\x01\x00\0abc"), r#"{sa_family=AF_UNIX, sun_path=@"abc"}"#);
    assert_eq!(address(b"\x0a"), "{}");
    assert_eq!(address(b"\x0a\0"), "{sa_family=AF_INET6, ...}");
}

#[test]
fn errors_are_told_in_words() {
    assert_eq!(errno_text(Errno::ENOENT), "ENOENT (No such file or directory)");
}
