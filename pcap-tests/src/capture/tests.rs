//! Files of every kind, and what is damaged in them.

use std::io::Write;

use super::*;

/// Number, time, bytes and length on the wire.
type Read = (u64, Duration, Vec<u8>, u32);

fn read_all(bytes: &[u8]) -> (Vec<Read>, Option<ReadError>, u64) {
    let mut reader = match Reader::new(std::io::Cursor::new(bytes.to_vec())) {
        Ok(reader) => reader,
        Err(error) => return (Vec::new(), Some(error), 0),
    };
    let mut frames = Vec::new();
    loop {
        match reader.next() {
            Ok(Some(f)) => frames.push((f.number, f.time, f.bytes.to_vec(), f.wire_len)),
            Ok(None) => return (frames, None, reader.skipped_count()),
            Err(error) => return (frames, Some(error), reader.skipped_count()),
        }
    }
}

/// Three records: 1.5 s apart, the second cut by a snapshot length of 4.
fn pcap(big: bool, magic: u32, unit: u32) -> Vec<u8> {
    let word = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
    let half = |n: u16| if big { n.to_be_bytes() } else { n.to_le_bytes() };
    let mut file = [word(magic), [half(2), half(4)].concat().try_into().expect("four")].concat();
    file.extend([word(0), word(0), word(4), word(1)].concat());
    for n in 0..3_u32 {
        let half_second = 500_000_000 / unit * (n & 1);
        file.extend([word(n + n / 2), word(half_second), word(4), word(4 + n % 2 * 96)].concat());
        file.extend([n as u8; 4]);
    }
    file
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u32 + 12).to_le_bytes();
    [&kind.to_le_bytes()[..], &len, body, &len].concat()
}

/// A section, an interface in microseconds and one in 1/1024 s, a frame on each, and a block with a false length between.
fn pcapng() -> Vec<u8> {
    let section = [&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
    let interface = [1, 0, 0, 0, 0, 0, 0, 0];
    let halves = [&interface[..], &[9, 0, 1, 0, 0x8a, 0, 0, 0], &[0, 0, 0, 0]].concat();
    let frame = |interface: u32, time: u32, captured: u32| {
        let words = [interface, 0, time, captured, 60].map(u32::to_le_bytes).concat();
        [words, vec![5; 4]].concat()
    };
    [
        block(0x0a0d_0d0a, &section),
        block(1, &interface),
        block(1, &halves),
        block(6, &frame(0, 1_500_000, 4)),
        block(6, &frame(0, 2_000_000, 400)),
        block(6, &frame(9, 0, 4)),
        block(77, &[1, 2, 3, 4]),
        block(6, &frame(1, 2560, 4)),
    ]
    .concat()
}

#[test]
fn both_byte_orders_and_units_of_pcap_give_the_same_frames() {
    let expected: Vec<_> = [(0, 4), (1500, 100), (3000, 4)]
        .iter()
        .zip(1_u64..)
        .map(|(&(ms, wire), n)| (n, Duration::from_millis(ms), vec![n as u8 - 1; 4], wire))
        .collect();
    for big in [false, true] {
        for (magic, unit) in [(0xa1b2_c3d4, 1000), (0xa1b2_3c4d, 1)] {
            let (frames, error, skipped) = read_all(&pcap(big, magic, unit));
            assert!(error.is_none() && skipped == 0, "{error:?}");
            assert_eq!(frames, expected);
        }
    }
}

#[test]
fn pcapng_times_follow_the_interface_and_damaged_blocks_are_passed_over() {
    let (frames, error, skipped) = read_all(&pcapng());
    assert!(error.is_none(), "{error:?}");
    let times: Vec<_> = frames.iter().map(|f| f.1.as_millis()).collect();
    assert_eq!((times, skipped), (vec![1500, 2500], 2));
    assert_eq!(frames[1].3, 60);
}

#[test]
fn compressed_files_are_read() {
    let plain = pcap(false, 0xa1b2_c3d4, 1000);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).expect("memory");
    let gzip = gzip.finish().expect("memory");
    let zstd =
        ruzstd::encoding::compress_to_vec(&plain[..], ruzstd::encoding::CompressionLevel::Fastest);
    for packed in [gzip, zstd] {
        let (frames, error, _) = read_all(&packed);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(frames.len(), 3);
        let (_, error, _) = read_all(&packed[..packed.len() / 2]);
        assert!(error.is_some(), "half a file was accepted");
    }
}

#[test]
fn every_truncation_ends_with_the_frames_before_it() {
    for file in [pcap(false, 0xa1b2_c3d4, 1000), pcapng()] {
        let whole = read_all(&file).0.len();
        for len in 0..file.len() {
            let (frames, _, _) = read_all(&file[..len]);
            assert!(frames.len() < whole || len > file.len() - 20, "{len}");
        }
        let cut = read_all(&file[..file.len() - 1]);
        let Some(ReadError::Truncated { after }) = cut.1 else { panic!("{:?}", cut.1) };
        assert_eq!(after, whole as u64 - 1);
    }
    assert!(matches!(read_all(b"GIF89a").1, Some(ReadError::Unknown)));
    assert!(matches!(read_all(b"").1, Some(ReadError::Unknown)));
}
