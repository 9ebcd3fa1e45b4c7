//! Behaviour of chains and packets.

use super::*;

fn chain(parts: &[&[u8]]) -> Chain {
    let mut chain = Chain::new();
    for part in parts {
        chain.push(Slice::from(part.to_vec()));
    }
    chain
}

#[test]
fn a_chain_splits_and_ranges_across_slices() {
    let mut all = chain(&[b"abc", b"", b"defg", b"h"]);
    assert_eq!(all.len(), 8);
    assert_eq!(all.range(2, 3).to_vec(), b"cde");
    assert_eq!(all.range(7, 99).to_vec(), b"h");
    let head = all.split_to(5);
    assert_eq!((head.to_vec(), all.to_vec()), (b"abcde".to_vec(), b"fgh".to_vec()));
    all.advance(2);
    assert_eq!((all.len(), all.to_vec()), (1, b"h".to_vec()));
    all.advance(10);
    assert!(all.is_empty() && all.first().is_empty());
}

proptest::proptest! {
    /// Whatever was done to it before: a chain is the bytes that a plain vector would be, and so is each range of it.
    #[test]
    fn a_chain_is_a_vector_of_bytes(
        steps in proptest::collection::vec((0..6u8, 0..12usize), 1..40),
        (offset, len) in (0..40usize, 0..40usize),
    ) {
        let (mut chain, mut bytes, mut next) = (Chain::new(), Vec::new(), 0u8);
        for (what, n) in steps {
            let fresh: Vec<u8> = (0..n).map(|_| { next = next.wrapping_add(1); next }).collect();
            let part = n.min(bytes.len());
            match what {
                0 => { chain.push(Slice::from(fresh.clone())); bytes.extend(fresh) }
                1 => { chain.push_copy(&fresh); bytes.extend(fresh) }
                2 => { chain.push_front(Slice::from(fresh.clone())); bytes.splice(..0, fresh); }
                3 => { chain.advance(n); bytes.drain(..part); }
                4 => { let head = chain.split_to(n).to_vec(); proptest::prop_assert_eq!(head, bytes.drain(..part).collect::<Vec<_>>()) }
                _ => if let Some(slice) = chain.pop() { bytes.drain(..slice.len()); },
            }
            let end = bytes.len().min(offset + len);
            let expected = bytes.get(offset.min(end)..end).unwrap_or_default();
            proptest::prop_assert_eq!(chain.range(offset, len).to_vec(), expected);
        }
        proptest::prop_assert_eq!((chain.len(), chain.to_vec()), (bytes.len(), bytes));
    }
}

#[test]
fn a_chain_from_a_source_takes_at_most_max_and_fills_slabs() {
    let bytes: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    let mut source: &[u8] = &bytes;
    let pool = SlabPool::new(1);
    let chain = Chain::from_source(&pool, &mut source, 150_000).unwrap();
    assert_eq!(chain.to_vec(), bytes[..150_000]);
    assert_eq!(source.len(), 50_000);
    assert_eq!(chain.slices().count(), 3);
    // Few bytes hold no slab; one byte holds its own.
    let few = Chain::from_source(&pool, &mut source, 100).unwrap();
    assert_eq!((few.to_vec(), pool.idle()), (bytes[150_000..150_100].to_vec(), 0));
    let kept = chain.range(1, 2);
    drop(chain);
    assert_eq!((kept.to_vec(), pool.idle()), (vec![1, 2], 2));
    drop(kept);
    assert_eq!(pool.idle(), 2, "the peak of three comes down when all are back");
}

#[test]
fn a_pool_keeps_what_a_burst_needs_within_its_bounds_and_comes_down_at_rest() {
    let pool = SlabPool::new(2);
    let burst = |count: usize| (0..count).map(|_| pool.take()).collect::<Vec<_>>();
    drop(burst(1));
    assert_eq!(pool.idle(), 1);
    drop(burst(6));
    assert_eq!(pool.idle(), 5);
    drop(burst(100));
    assert_eq!(pool.idle(), 8, "four times the least");
    (0..100).for_each(|_| drop(burst(1)));
    assert_eq!(pool.idle(), 2);
}

#[test]
fn a_slab_that_is_used_again_shows_nothing_of_its_earlier_use() {
    let pool = SlabPool::new(1);
    drop(Chain::from_source(&pool, &mut &[1u8; 65_536][..], usize::MAX));
    let mut again = Chain::from_source(&pool, &mut &[2u8; 20_000][..], usize::MAX).unwrap();
    again.push_copy(&[3]);
    assert_eq!(pool.idle(), 0);
    assert_eq!(again.to_vec(), [vec![2; 20_000], vec![3]].concat());
}

#[test]
fn writing_to_a_small_sink_stops_when_it_is_full() {
    let mut room = [0u8; 4];
    let mut sink: &mut [u8] = &mut room;
    assert_eq!(chain(&[b"abc", b"def"]).write_to(&mut sink), Ok(4));
    assert_eq!(&room, b"abcd");
}

#[test]
fn headers_are_prepended_pulled_and_consumed() {
    let mut packet = PacketBuffer::new(chain(&[b"pay", b"load"]));
    packet.prepend_slice(b"tcp");
    *packet.prepend::<2>() = *b"ip";
    assert_eq!(packet.to_vec(), b"iptcppayload");
    assert_eq!(packet.pull(2), Some(&b"ip"[..]));
    packet.advance(2);
    assert_eq!(packet.pull(7), Some(&b"tcppayl"[..]));
    packet.advance(6);
    assert_eq!(packet.clone().into_chain().to_vec(), b"load");
    assert_eq!(packet.pull(5), None);
    packet.truncate(2);
    assert_eq!(packet.to_vec(), b"lo");
}

#[test]
fn headers_beyond_the_room_spill_into_the_chain() {
    let mut packet = PacketBuffer::from_vec(vec![1; 3]);
    packet.prepend_slice(&[2; 100]);
    packet.prepend_slice(&[3; 100]);
    packet.prepend_slice(&[4; 300]);
    let want = [vec![4; 300], vec![3; 100], vec![2; 100], vec![1; 3]].concat();
    assert_eq!(packet.to_vec(), want);
}

#[test]
fn a_partial_checksum_follows_its_header_and_is_completed_in_place() {
    let mut packet = PacketBuffer::new(chain(&[&[0x12], &[0x34, 0x56]]));
    packet.prepend_slice(&[0, 1, 0, 0]);
    packet.offload.checksum = ChecksumOffload::Partial { start: 0, offset: 2 };
    packet.prepend_slice(&[0xee; 6]);
    let captured = packet.to_vec_complete();
    packet.complete_checksum();
    assert_eq!(packet.to_vec(), captured);
    let mut sum = crate::wire::checksum::Checksum::new();
    sum.add_bytes(&captured[6..]);
    assert_eq!(sum.finish(), 0);
}

#[test]
fn only_udp_writes_the_sum_zero_as_its_other_form() {
    for (offset, sum) in [(6, [0xff, 0xff]), (16, [0, 0]), (2, [0, 0])] {
        let mut bytes = [0; 20];
        bytes[..2].copy_from_slice(&[0xff, 0xff]);
        let mut packet = PacketBuffer::from_slice(&bytes);
        packet.offload.checksum = ChecksumOffload::Partial { start: 0, offset };
        assert_eq!(packet.to_vec_complete()[usize::from(offset)..][..2], sum, "{offset}");
        packet.complete_checksum();
        assert_eq!(packet.to_vec()[usize::from(offset)..][..2], sum, "{offset}");
    }
}

#[test]
fn a_chain_knows_the_memory_that_it_keeps_alive() {
    let slab = Slice::from(vec![7; 10_000]);
    let mut all = Chain::new();
    // Two pieces of one slab, in order: one run, counted once.
    all.push(slab.part(0, 4000));
    all.push(slab.part(4000, 6000));
    assert_eq!((all.slices().count(), all.len()), (1, 10_000));
    let whole = all.held();
    assert!((10_000..11_000).contains(&whole));
    all.push(slab.part(0, 10));
    assert!(all.held() >= 2 * 10_000, "a run of its own keeps the slab alive, too");
    let tail = all.range(10_000, 10);
    assert!(tail.held() >= 10_000 && tail.clone().compacted().held() < 200);
    let mut queue = Chain::new();
    for _ in 0..100 {
        queue.append_compact(tail.clone());
    }
    assert_eq!((queue.len(), queue.to_vec()), (1000, vec![7; 1000]));
    assert!(queue.held() < 3000, "{}", queue.held());
    all.advance(10_000);
    assert!(all.held() < whole + 200);
    all.advance(10);
    queue.split_to(1000);
    assert_eq!((all.held(), queue.held()), (0, 0));
}

#[test]
fn memory_of_frames_comes_back_and_counts_as_what_it_fills() {
    let pool = FramePool::new();
    let frame = |len: usize| {
        let mut bytes = pool.take(len);
        bytes.resize(len, 7);
        PacketBuffer::from_frame(bytes, &pool).into_chain()
    };
    let alike = |len: usize| Chain::from(vec![7; len]);
    for len in [60, 1023, 1024, 1514, 2048, 2049, 9000] {
        let (mut pooled, mut own) = (frame(len), alike(len));
        assert_eq!((pooled.len(), pooled.held()), (own.len(), own.held()), "{len} bytes");
        // What follows finds no room behind either.
        pooled.push_copy(b"next");
        own.push_copy(b"next");
        assert_eq!((pooled.to_vec(), pooled.held()), (own.to_vec(), own.held()), "{len} bytes");
        drop(pooled);
        assert_eq!(pool.idle(), usize::from((1024..=2048).contains(&len)), "{len} bytes");
        // It is taken again, without a byte of the frame before.
        if pool.idle() > 0 {
            assert!(pool.take(1500).is_empty() && pool.idle() == 0);
        }
    }
    let many: Vec<Chain> = (0..100).map(|_| frame(1514)).collect();
    drop(many);
    assert_eq!(pool.idle(), 64);
}
