//! The same as over a TAP device, over a packet socket on one end of a veth pair whose other end is the host's; and what only a
//! packet socket meets: tags, an interface that goes down, frames of its own host.

use std::process::Command;

use netstack::link::{Link, MacAddr};
use netstack_host::device::{Device, FrameRoom, Offloading};
use netstack_host::packet::{Filtering, PacketConfig, PacketDevice};
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::tap::{
    GUEST4, GUEST6, HOST4, HOST6, Made, datagrams, in_namespace, lossy, ping, streams,
};

/// Runs a command in the calling thread's namespace.
fn sh(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().expect("sh");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

const GUEST_MAC: &str = "02:00:00:00:00:02";

fn veth_with(mtu: u32, offloading: Offloading) -> Made {
    sh(&format!(
        "ip link add host0 mtu {mtu} type veth peer name guest0 mtu {mtu} address {GUEST_MAC}; sysctl -qw net.ipv6.conf.guest0.disable_ipv6=1;
         ip addr add {HOST4}/24 dev host0; ip addr add {HOST6}/64 dev host0 nodad; ip link set host0 up; ip link set guest0 up"
    ));
    let device = open("guest0", offloading);
    Made { device, name: "guest0".into(), mac: MacAddr([2, 0, 0, 0, 0, 2]), mtu }
}

fn open(name: &str, offloading: Offloading) -> std::sync::Arc<PacketDevice> {
    let ifindex = if_nametoindex(name).unwrap();
    let filtering = Filtering::Own;
    PacketDevice::open(&PacketConfig { name: name.into(), ifindex, offloading, filtering }).unwrap()
}

fn veth(offloading: Offloading) -> Made {
    veth_with(1500, offloading)
}

fn jumbo(offloading: Offloading) -> Made {
    veth_with(9000, offloading)
}

#[test]
fn the_host_pings_the_stack_over_a_veth() {
    in_namespace(veth, Offloading::Full, |_bed| {
        ping(GUEST4);
        ping(GUEST6);
    });
}

#[test]
fn datagrams_of_many_sizes_cross_a_veth_both_ways() {
    datagrams(veth);
}

#[test]
fn streams_cross_a_veth_with_plain_frames() {
    streams(veth, Offloading::None, 1 << 20, |device| device);
}

#[test]
fn streams_cross_a_veth_with_offloads() {
    streams(veth, Offloading::Full, 8 << 20, |device| device);
}

#[test]
fn streams_cross_a_veth_of_jumbo_frames() {
    streams(jumbo, Offloading::Full, 8 << 20, |device| device);
}

#[test]
fn streams_cross_a_veth_that_loses_reorders_and_repeats() {
    streams(veth, Offloading::None, 256 << 10, lossy);
}

/// The next frame whose type is none of those that the host sends by itself.
fn next(device: &PacketDevice, room: &mut FrameRoom) -> Vec<u8> {
    loop {
        if let Some(frame) = device.receive(room).unwrap() {
            let bytes = frame.to_vec();
            if !bytes.get(12..14).is_some_and(|kind| kind == [0x86, 0xdd] || kind == [8, 6]) {
                return bytes;
            }
            continue;
        }
        let mut fds = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
        let n = poll(&mut fds, PollTimeout::from(30_000u16)).unwrap();
        assert_eq!(n, 1, "no frame came");
    }
}

/// Sends a frame from the host's end.
fn send(from: &PacketDevice, frame: &[u8]) {
    let packet = netstack::buffer::PacketBuffer::from_slice(frame);
    from.transmit(netstack::time::Instant::ZERO, &packet).unwrap();
}

fn frame(kind: &[u8], rest: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], kind, rest].concat()
}

#[test]
fn tags_of_virtual_networks_stay_in_their_frames_and_mere_priorities_do_not() {
    in_namespace(veth, Offloading::Full, |bed| {
        drop(bed);
        let (host, guest) = (open("host0", Offloading::Full), open("guest0", Offloading::Full));
        let mut room = FrameRoom::default();
        // An experimental type of IEEE 802, which no stack answers.
        let payload = [0x5a; 60];
        let plain = frame(&[0x88, 0xb5], &payload);
        let tagged = frame(&[0x81, 0, 0x20, 5, 0x88, 0xb5], &payload);
        let service = frame(&[0x88, 0xa8, 0x20, 7, 0x88, 0xb5], &payload);
        let priority = frame(&[0x81, 0, 0xa0, 0, 0x88, 0xb5], &payload);
        for (sent, received) in
            [(&plain, &plain), (&tagged, &tagged), (&service, &service), (&priority, &plain)]
        {
            send(&host, sent);
            assert_eq!(next(&guest, &mut room), *received);
        }
    });
}

#[test]
fn what_the_device_sends_itself_does_not_come_back_and_a_pause_of_the_interface_is_survived() {
    in_namespace(veth, Offloading::Full, |bed| {
        drop(bed);
        let (host, guest) = (open("host0", Offloading::Full), open("guest0", Offloading::Full));
        let mut room = FrameRoom::default();
        let own = frame(&[0x88, 0xb5], &[1; 60]);
        let other = frame(&[0x88, 0xb5], &[2; 60]);
        send(&guest, &own);
        send(&host, &other);
        assert_eq!(next(&guest, &mut room), other, "its own frame came back");
        sh("ip link set guest0 down");
        assert!(guest.receive(&mut room).unwrap().is_none());
        sh("ip link set guest0 up");
        let again = frame(&[0x88, 0xb5], &[3; 60]);
        send(&host, &again);
        assert_eq!(next(&guest, &mut room), again);
        assert_eq!(guest.lost(), 0);
        sh("ip link del guest0");
        assert!(guest.receive(&mut room).unwrap().is_none());
    });
}

#[test]
fn frames_that_nobody_reads_in_time_are_counted_once() {
    in_namespace(veth, Offloading::Full, |bed| {
        drop(bed);
        let (host, guest) = (open("host0", Offloading::Full), open("guest0", Offloading::Full));
        // More than its queue takes.
        let long = frame(&[0x88, 0xb5], &[1; 1400]);
        (0..20_000).for_each(|_| send(&host, &long));
        let lost = guest.lost();
        assert!(lost > 0);
        assert_eq!(guest.lost(), lost, "what was told before is told again");
        let mut room = FrameRoom::default();
        let read = std::iter::from_fn(|| guest.receive(&mut room).unwrap()).count() as u64;
        // The host adds a few of its own.
        assert!(read > 0 && read + lost <= 20_100, "{read} read, {lost} lost");
    });
}
