//! Traces that mean the same, and traces that differ in one thing.

use super::*;
use crate::testing::{Segment, segment, summed};

/// A connection with other initial sequence numbers each time it is asked for.
fn talk(client: u32, server: u32) -> Vec<(u64, Segment)> {
    let at = |base: u32, bytes: u32| base.wrapping_add(bytes);
    vec![
        (0, segment(true, SYN, client, 0, 0)),
        (20, segment(false, SYN | ACK, server, at(client, 1), 0)),
        (21, segment(true, ACK, at(client, 1), at(server, 1), 0)),
        (22, segment(true, ACK | PSH, at(client, 1), at(server, 1), 600)),
        (42, segment(false, ACK, at(server, 1), at(client, 601), 1000)),
        (43, segment(true, ACK, at(client, 601), at(server, 1001), 0)),
        (44, segment(true, FIN | ACK, at(client, 601), at(server, 1001), 0)),
        (64, segment(false, FIN | ACK, at(server, 1001), at(client, 602), 0)),
        (65, segment(true, ACK, at(client, 602), at(server, 1002), 0)),
    ]
}

fn strict() -> Terms {
    Terms { aspects: Aspect::ALL.to_vec(), ..Terms::default() }
}

/// The aspects in which a changed connection differs, strictly.
fn unlike(change: impl FnOnce(&mut Vec<(u64, Segment)>)) -> Vec<(Aspect, [Option<u64>; 2])> {
    let mut changed = talk(7, 9);
    change(&mut changed);
    let verdict = compare(&summed(&talk(1000, u32::MAX - 100)), &summed(&changed), &strict());
    assert_eq!(verdict.compared, 1);
    verdict.differences.iter().map(|d| (d.aspect, d.frames)).collect()
}

#[test]
fn initial_sequence_numbers_and_small_delays_do_not_matter() {
    assert_eq!(unlike(|_| {}), []);
    assert_eq!(unlike(|talk| talk.iter_mut().for_each(|(ms, _)| *ms += *ms / 20)), []);
}

#[test]
fn each_change_is_told_by_its_name_with_its_frames() {
    let both = |n| [Some(n), Some(n)];
    assert_eq!(unlike(|talk| talk[3].1.fill = 8), [(Aspect::Stream, both(4))]);
    assert_eq!(unlike(|talk| talk[5].1.window = 7), [(Aspect::Window, both(6))]);
    assert_eq!(unlike(|talk| talk[4].0 = 48), [(Aspect::Timing, both(5))]);
    let smaller = &[2, 4, 2, 0, 1, 3, 3, 7];
    assert_eq!(unlike(|talk| talk[1].1.options = smaller), [(Aspect::Options, both(2))]);
    // A refused close: RST where the FIN was.
    let reset = unlike(|talk| {
        talk.truncate(7);
        talk.push((64, segment(false, RST, 1010, 0, 0)));
    });
    assert_eq!(reset[0], (Aspect::Ending, both(8)));
}

#[test]
fn data_in_other_pieces_is_the_same_stream_and_strictly_other_segments() {
    let found = unlike(|talk| {
        talk[3].1.payload = 200;
        talk.insert(4, (23, segment(true, ACK, 208, 10, 400)));
    });
    let aspects: Vec<_> = found.iter().map(|(aspect, _)| *aspect).collect();
    assert!(aspects.contains(&Aspect::Segments), "{aspects:?}");
    assert!(!aspects.contains(&Aspect::Stream), "{aspects:?}");
}

#[test]
fn a_retransmission_is_counted_and_what_is_ignored_is_not_told() {
    let mut again = talk(7, 9);
    let copy = again[3].1.clone();
    again.insert(5, (300, copy));
    let (one, other) = (summed(&talk(1, 1)), summed(&again));
    let mut terms = Terms::default();
    let found = compare(&one, &other, &terms).differences;
    let [difference] = &found[..] else { panic!("{found:?}") };
    assert_eq!((difference.aspect, difference.frames), (Aspect::Retransmissions, [None, Some(6)]));
    assert!(difference.to_string().contains("RFC 6298"), "{difference}");
    terms.aspects.retain(|aspect| *aspect != Aspect::Retransmissions);
    assert_eq!(compare(&one, &other, &terms).differences, []);
}

#[test]
fn flows_are_paired_over_other_ports_and_what_is_left_is_told() {
    let mut summary = summed(&talk(5, 6));
    let one = compare(&summed(&talk(1, 2)), &Summary::recording(), &Terms::default());
    assert_eq!(one.differences[0].aspect, Aspect::Flows);
    assert_eq!(one.differences[0].flows, [Some(1), None]);
    // Another ephemeral port: the same conversation.
    let mut bytes = crate::testing::bytes(&segment(true, SYN, 1, 0, 0));
    bytes[20..22].copy_from_slice(&50_000_u16.to_be_bytes());
    let mut other = Summary::recording();
    for (number, summary) in [(1, &mut other), (10, &mut summary)] {
        summary.add(&crate::capture::Frame {
            number,
            time: Duration::from_secs(1),
            interface: 0,
            link: crate::capture::LinkType::RawIp,
            wire_len: bytes.len() as u32,
            bytes: &bytes,
        });
    }
    let verdict = compare(&summary, &other, &Terms::default());
    assert_eq!((verdict.compared, verdict.differences.len()), (1, 1), "{verdict:?}");
    assert_eq!(verdict.differences[0].flows, [Some(1), None]);
}
