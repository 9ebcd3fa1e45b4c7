//! Tests of the neighbour cache.

use super::*;

const PEER: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 2));
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);

fn cache() -> Neighbours {
    Neighbours::new(KeyedState::new(SipKey::new(1, 2)), SipKey::new(3, 4))
}

fn packet(n: u8) -> PacketBuffer {
    PacketBuffer::from_vec(vec![n])
}

fn secs(n: u64) -> Instant {
    Instant::from_secs(n)
}

fn answer(mac: MacAddr) -> Claim {
    Claim { mac, solicited: true, override_cached: true, router: None, gratuitous: false }
}

#[test]
fn packets_wait_for_the_answer_and_leave_in_order() {
    let mut cache = cache();
    let first = cache.resolve(secs(0), PEER, packet(1));
    assert!(matches!(first, Resolution::Waiting(Some(Probe { mac: None, .. }))));
    assert!(matches!(cache.resolve(secs(0), PEER, packet(2)), Resolution::Waiting(None)));
    let Claimed { mac, waiting, .. } = cache.claim(secs(0), PEER, answer(MAC));
    assert_eq!(mac, MAC);
    assert_eq!(waiting.iter().map(PacketBuffer::to_vec).collect::<Vec<_>>(), [[1], [2]]);
    assert!(matches!(cache.resolve(secs(1), PEER, packet(3)), Resolution::Send(MAC, _)));
}

#[test]
fn an_address_that_does_not_answer_fails_after_three_probes_a_second_apart() {
    let mut cache = cache();
    cache.resolve(secs(0), PEER, packet(1));
    let mut probes = 1;
    for second in 1..=2 {
        assert_eq!(cache.next_deadline(), Some(secs(second)));
        probes += cache.on_timer(secs(second)).len();
    }
    assert_eq!(probes, 3);
    let actions = cache.on_timer(secs(3));
    let [Action::Failed(PEER, waiting)] = actions.as_slice() else { unreachable!() };
    assert_eq!(waiting.len(), 1);
    assert!(cache.is_failed(PEER));
    // The next packet asks anew, and an entry nobody uses is forgotten after a minute.
    assert!(matches!(cache.resolve(secs(4), PEER, packet(2)), Resolution::Waiting(Some(_))));
    for second in 5..68 {
        cache.on_timer(secs(second));
    }
    assert!(cache.list().is_empty() && cache.next_deadline().is_none());
}

#[test]
fn a_stale_entry_that_is_used_is_probed_directly_and_confirmed_by_progress() {
    let mut cache = cache();
    cache.learn(secs(0), PEER, MAC);
    assert!(matches!(cache.resolve(secs(1), PEER, packet(1)), Resolution::Send(MAC, _)));
    assert_eq!(cache.next_deadline(), Some(secs(6)));
    let actions = cache.on_timer(secs(6));
    assert!(matches!(actions.as_slice(), [Action::Probe(Probe { mac: Some(MAC), .. })]));
    cache.confirm(secs(7), PEER);
    assert_eq!(cache.list()[0].state, State::Reachable);
    // The reachable time is drawn from 15 to 45 seconds.
    cache.on_timer(secs(7 + 14));
    assert_eq!(cache.list()[0].state, State::Reachable);
    cache.on_timer(secs(7 + 46));
    assert_eq!(cache.list()[0].state, State::Stale);
}

#[test]
fn an_unasked_answer_is_ignored_and_one_without_override_only_makes_stale() {
    let mut cache = cache();
    cache.claim(secs(0), PEER, answer(MAC));
    assert!(cache.list().is_empty());
    cache.resolve(secs(0), PEER, packet(1));
    cache.claim(secs(0), PEER, answer(MAC));
    let weak = Claim { override_cached: false, ..answer(OTHER) };
    cache.claim(secs(1), PEER, weak);
    assert_eq!((cache.list()[0].mac, cache.list()[0].state), (Some(MAC), State::Stale));
}

#[test]
fn the_cache_and_its_queues_are_bounded() {
    let mut cache = cache();
    for n in 0..500u32 {
        cache.resolve(secs(0), PEER, packet((n % 256) as u8));
    }
    let Claimed { waiting, .. } = cache.claim(secs(0), PEER, answer(MAC));
    let fit = cache.conf[0].unres_qlen_bytes / (entry::OVERHEAD + 1);
    assert_eq!(waiting.len(), fit);
    assert_eq!(waiting[0].to_vec(), [((500 - fit) % 256) as u8]);
    for n in 0..3000u32 {
        cache.learn(secs(1), IpAddr::V4(n.into()), MAC);
    }
    assert_eq!(cache.list().len(), NeighGc::default().gc_thresh3);
    for n in 0..3000u32 {
        cache.resolve(secs(2), IpAddr::V4((n + 10_000).into()), packet(1));
    }
    assert_eq!(cache.list().len(), NeighGc::default().gc_thresh3);
}

#[test]
fn an_entry_that_changed_is_locked_for_a_second() {
    let mut cache = cache();
    cache.resolve(secs(1), PEER, packet(1));
    cache.claim(secs(1), PEER, answer(MAC));
    cache.claim(secs(1), PEER, answer(OTHER));
    assert_eq!(cache.list()[0].mac, Some(MAC));
    cache.claim(secs(3), PEER, answer(OTHER));
    assert_eq!(cache.list()[0].mac, Some(OTHER));
}

#[test]
fn a_silent_neighbour_is_asked_directly_and_then_by_everybody() {
    let mut cache = cache();
    let neigh_v4 = NeighConf { ucast_solicit: 2, mcast_resolicit: 1, ..NeighConf::v4() };
    cache.configure(&NicTunables { neigh_v4, ..NicTunables::default() });
    cache.set(secs(1), &Neighbour::new(PEER, Some(MAC), State::Stale));
    cache.resolve(secs(2), PEER, packet(1));
    let mut asked = Vec::new();
    for second in 3..20 {
        asked.extend(cache.on_timer(secs(second)).into_iter().map(|action| match action {
            Action::Probe(probe) => Some(probe.mac),
            Action::Failed(..) => None,
        }));
    }
    assert_eq!(asked, [Some(Some(MAC)), Some(Some(MAC)), Some(None), None]);
}

#[test]
fn changes_are_noted_for_those_who_watch() {
    let mut cache = cache();
    cache.watch();
    cache.resolve(secs(1), PEER, packet(1));
    cache.claim(secs(1), PEER, answer(MAC));
    cache.remove(PEER);
    let seen: Vec<_> = cache.take_events().iter().map(|(gone, at)| (*gone, at.state)).collect();
    let expected = [
        (Gone::No, State::Incomplete),
        (Gone::No, State::Reachable),
        (Gone::Yes, State::Reachable),
    ];
    assert_eq!(seen, expected);
    assert!(cache.take_events().is_empty());
}

#[test]
fn reachable_times_are_drawn_by_a_key_of_their_own() {
    let drawn = |map, key| {
        let cache = Neighbours::new(KeyedState::new(SipKey::new(map, 2)), SipKey::new(key, 4));
        cache.timing(secs(0), Family::V4).reachable
    };
    assert_eq!(drawn(1, 3), drawn(2, 3));
    assert_ne!(drawn(1, 3), drawn(1, 4));
}
