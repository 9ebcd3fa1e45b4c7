//! linux/dirent.h: the records of getdents64(2) and getdents(2).

/// Bytes before the name in `struct linux_dirent64`: d_ino, d_off, d_reclen, d_type.
pub const DIRENT64_HEADER: usize = 19;
/// Bytes before the name in `struct linux_dirent`: d_ino, d_off, d_reclen. The type follows the name's zero, as the record's last byte.
pub const DIRENT_HEADER: usize = 18;

fn padded(len: usize) -> usize {
    len.div_ceil(8) * 8
}

/// A `linux_dirent64` record, padded to 8 bytes.
pub fn dirent64(ino: u64, next: u64, kind: u8, name: &[u8]) -> Vec<u8> {
    let len = padded(DIRENT64_HEADER + name.len() + 1);
    let mut record = Vec::with_capacity(len);
    record.extend_from_slice(&ino.to_ne_bytes());
    record.extend_from_slice(&next.to_ne_bytes());
    record.extend_from_slice(&(len as u16).to_ne_bytes());
    record.push(kind);
    record.extend_from_slice(name);
    record.resize(len, 0);
    record
}

/// A `linux_dirent` record, padded to 8 bytes, with the type in its last byte.
pub fn dirent(ino: u64, next: u64, kind: u8, name: &[u8]) -> Vec<u8> {
    let len = padded(DIRENT_HEADER + name.len() + 2);
    let mut record = Vec::with_capacity(len);
    record.extend_from_slice(&ino.to_ne_bytes());
    record.extend_from_slice(&next.to_ne_bytes());
    record.extend_from_slice(&(len as u16).to_ne_bytes());
    record.extend_from_slice(name);
    record.resize(len, 0);
    record[len - 1] = kind;
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_padded_and_hold_their_length() {
        let record = dirent64(7, 9, 4, b"name");
        assert_eq!((record.len(), record[16], record[18]), (24, 24, 4));
        assert_eq!(&record[19..24], b"name\0");
        let record = dirent(7, 9, 8, b"abcd");
        assert_eq!((record.len(), record[23], record[22]), (24, 8, 0));
    }
}
