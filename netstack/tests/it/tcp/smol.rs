//! A node whose stack is smoltcp: the differential peer.

use super::world::Node;
use netstack::time::{Duration, Instant};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{EthernetAddress, IpCidr, IpEndpoint};
use std::collections::VecDeque;

/// Frames in memory.
#[derive(Default)]
struct Queues {
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

struct Received(Vec<u8>);
struct Sending<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _now: SmolInstant) -> Option<(Received, Sending<'_>)> {
        Some((Received(self.received.pop_front()?), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _now: SmolInstant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// smoltcp with one TCP socket that sends, receives and closes.
pub struct SmolNode {
    device: Queues,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    pub to_send: Vec<u8>,
    pub sent: usize,
    pub received: Vec<u8>,
    closed: bool,
}

fn smol(now: Instant) -> SmolInstant {
    SmolInstant::from_micros(now.micros() as i64)
}

impl SmolNode {
    pub fn new(seed: u64, address: IpCidr, to_send: Vec<u8>) -> SmolNode {
        let mut device = Queues::default();
        let mut config = Config::new(EthernetAddress([2, 0, 0, 0, 0, 2]).into());
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut device, SmolInstant::from_millis(0));
        interface.update_ip_addrs(|addresses| addresses.push(address).unwrap());
        let buffer = || tcp::SocketBuffer::new(vec![0; 16 << 10]);
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(tcp::Socket::new(buffer(), buffer()));
        SmolNode {
            device,
            interface,
            sockets,
            handle,
            to_send,
            sent: 0,
            received: Vec::new(),
            closed: false,
        }
    }

    pub fn listen(&mut self, port: u16) {
        self.sockets.get_mut::<tcp::Socket<'_>>(self.handle).listen(port).unwrap();
    }

    pub fn connect(&mut self, to: IpEndpoint, port: u16) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        socket.connect(self.interface.context(), to, port).unwrap();
    }

    pub fn state(&mut self) -> tcp::State {
        self.sockets.get_mut::<tcp::Socket<'_>>(self.handle).state()
    }

    fn program(&mut self) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        if socket.can_send() && self.sent < self.to_send.len() {
            self.sent += socket.send_slice(&self.to_send[self.sent..]).unwrap();
        }
        while socket.can_recv() {
            let received = &mut self.received;
            socket
                .recv(|bytes| {
                    received.extend_from_slice(bytes);
                    (bytes.len(), ())
                })
                .unwrap();
        }
        let connected = socket.may_send();
        if connected && !self.closed && self.sent == self.to_send.len() {
            self.closed = true;
            socket.close();
        }
    }
}

impl Node for SmolNode {
    fn receive(&mut self, _now: Instant, frame: Vec<u8>) {
        self.device.received.push_back(frame);
    }

    fn work(&mut self, now: Instant) {
        for _ in 0..2 {
            self.interface.poll(smol(now), &mut self.device, &mut self.sockets);
            self.program();
        }
        self.interface.poll(smol(now), &mut self.device, &mut self.sockets);
    }

    fn next_deadline(&mut self, now: Instant) -> Option<Instant> {
        let at = self.interface.poll_at(smol(now), &self.sockets)?;
        // smoltcp counts microseconds: never wake it a fraction too early, nor without time passing.
        let at = Instant::from_micros(at.total_micros().max(0) as u64);
        Some(at.max(now + Duration::from_micros(1)))
    }

    fn describe(&self) -> String {
        let socket = self.sockets.get::<tcp::Socket<'_>>(self.handle);
        let (sent, all) = (self.sent, self.to_send.len());
        format!("{}: sent {sent} of {all}, received {}", socket.state(), self.received.len())
    }

    fn take_frames(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.device.sent)
    }
}
