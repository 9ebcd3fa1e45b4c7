//! A network namespace: a stack with its interfaces, the driver that feeds it, captures, and the socket families over it.

use core::net::IpAddr;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use netstack::ip::IpCidr;
use netstack::ip::conf::ConfTarget;
use netstack::ip::route::Route;
use netstack::link::{Link, MacAddr, NicId, NicKind};
use netstack::stack::{AddressError, Config, NicConfig, NicError, RouteError, Stack};
use netstack::time::Instant;
use netstack_host::capture::{Capture, CaptureError};
use netstack_host::device::Device;
use netstack_host::driver::{Driver, Feed};
use netstack_host::loopback::Loopback as HostLoopback;
use netstack_host::netns::{Following, TakeError, Taken};
use parking_lot::Mutex;
use sentry_abi::socket::SO_SNDBUF;
use sentry_kernel::cred::Credentials;
use sentry_kernel::kernel::Kernel;
use sentry_kernel::log::{Level, Log};
use sentry_kernel::socket::SocketFamily;
use sentry_kernel::time::Clock;

use crate::identity::Registry;
use crate::inet::{InetFamily, InetSocket};
use crate::mirror::{self, Wrap};
use crate::netlink::{Bus, NetlinkFamily};
use crate::owners::Owners;
use crate::packet::{FrameSocket, PacketFamily};
use crate::proc_net::{self, Generator};
use crate::sockopt::common::BUFFER_DEFAULT;
use crate::sockopt::socket::BUFFER_MAX;
use crate::unix::{UnixFamily, UnixSocket};

/// How often a namespace that ends looks whether its connections are done.
const DRAIN_INTERVAL: Duration = Duration::from_millis(1);

/// Whether there is a loopback interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loopback {
    /// `lo` with 127.0.0.1/8 and ::1/128, up.
    Up,
    /// None.
    Absent,
}

/// What carries an interface's frames.
#[derive(Clone)]
pub enum NicLink {
    /// A device of the host, which the namespace's driver reads.
    Device(Arc<dyn Device>),
    /// A device behind something that loses, delays or repeats frames on their way.
    Wrapped(Arc<dyn Device>, Arc<dyn Link>),
    /// Anything that feeds the stack by itself.
    Other(Arc<dyn Link>),
}

/// An Ethernet interface to make.
pub struct NicSetup {
    /// Its name in the sandbox, such as `eth0`.
    pub name: String,
    /// What carries its frames.
    pub link: NicLink,
    /// Its link-layer address.
    pub mac: MacAddr,
    /// Its addresses with their prefixes.
    pub addresses: Vec<IpCidr>,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// A route to make.
#[derive(Clone, Debug)]
pub struct RouteSetup {
    /// The destination prefix.
    pub dst: IpCidr,
    /// The gateway, if any.
    pub via: Option<IpAddr>,
    /// The interface's name.
    pub nic: String,
}

/// What a namespace is made of.
pub struct NetConfig {
    /// The loopback interface.
    pub loopback: Loopback,
    /// Further interfaces, in the order of their indices.
    pub nics: Vec<NicSetup>,
    /// Routes beyond those that come with addresses.
    pub routes: Vec<RouteSetup>,
    /// The secret behind the stack's keys and random numbers: 32 bytes from the host.
    pub seed: [u8; 32],
    /// The kernel's clock, so that programs and packets see one time.
    pub clock: Arc<dyn Clock>,
}

/// Why a namespace could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// An interface.
    #[error("cannot add the network interface {name}: {source}")]
    Nic {
        /// Its name.
        name: String,
        /// Why.
        source: NicError,
    },
    /// An address.
    #[error("cannot give {address} to {name}: {source}")]
    Address {
        /// The address.
        address: IpCidr,
        /// The interface.
        name: String,
        /// Why.
        source: AddressError,
    },
    /// A route.
    #[error("cannot add the route to {dst}: {source}")]
    Route {
        /// Its destination.
        dst: IpCidr,
        /// Why.
        source: RouteError,
    },
    /// A route over an interface that is not there.
    #[error("the route to {dst} names the interface {name}, which does not exist")]
    NoSuchNic {
        /// Its destination.
        dst: IpCidr,
        /// The name.
        name: String,
    },
    /// A network namespace of the host.
    #[error(transparent)]
    Host(#[from] TakeError),
    /// The thread that carries connections of the loopback.
    #[error("cannot serve the loopback of the network namespace: {0}")]
    Loopback(#[source] io::Error),
    /// The driver's thread.
    #[error("cannot start the network driver: {0}")]
    Driver(#[source] io::Error),
}

/// Why a capture could not begin.
#[derive(Debug, thiserror::Error)]
pub enum CaptureStart {
    /// An interface that is not there.
    #[error("there is no interface {0:?}")]
    NoSuchNic(String),
    /// The file or the writer.
    #[error(transparent)]
    Capture(#[from] CaptureError),
}

/// A network namespace.
pub struct NetNamespace {
    stack: Arc<Stack>,
    clock: Arc<dyn Clock>,
    captures: Mutex<Vec<Arc<Capture>>>,
    driver: Mutex<Option<Driver>>,
    /// The namespace of the host that it is like.
    following: Mutex<Option<Following>>,
    /// Who carries connections between that one's loopback and ours.
    carried: Mutex<Option<HostLoopback>>,
    /// The internet sockets, for listings.
    sockets: Registry<InetSocket>,
    /// The local sockets, for listings.
    local_sockets: Registry<UnixSocket>,
    /// The packet sockets, for listings.
    packet_sockets: Registry<FrameSocket>,
    /// The netlink sockets by their ports and groups.
    netlink: Arc<Bus>,
    /// What of the sockets' habits can be changed (net.core).
    pub(crate) limits: Limits,
}

/// Bounds of net.core that sockets look at.
pub(crate) struct Limits {
    /// rmem_max in bytes; a buffer may be double.
    pub(crate) rmem_max: AtomicI64,
    /// wmem_max likewise.
    pub(crate) wmem_max: AtomicI64,
    /// rmem_default in bytes.
    pub(crate) rmem_default: AtomicI64,
    /// wmem_default in bytes.
    pub(crate) wmem_default: AtomicI64,
    /// net.ipv4.ip_unprivileged_port_start
    pub(crate) unprivileged_port_start: AtomicI64,
    /// net.ipv6.bindv6only
    pub(crate) bind_v6_only: AtomicI64,
    ping_groups: Mutex<(i64, i64)>,
}

impl Limits {
    /// net.ipv4.ping_group_range: the first and last group whose members may have ping sockets.
    pub(crate) fn ping_groups(&self) -> (i64, i64) {
        *self.ping_groups.lock()
    }

    /// Changes them; nobody may where the last is before the first.
    pub(crate) fn set_ping_groups(&self, first: i64, last: i64) {
        *self.ping_groups.lock() = (first, last);
    }

    /// Whether somebody may have a ping socket (ping_init_sock).
    pub(crate) fn may_ping(&self, creds: &Credentials) -> bool {
        let (first, last) = self.ping_groups();
        let within = |group: u32| (first..=last).contains(&i64::from(group));
        within(creds.egid) || creds.groups.iter().any(|group| within(*group))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rmem_max: AtomicI64::new(BUFFER_MAX),
            wmem_max: AtomicI64::new(BUFFER_MAX),
            rmem_default: AtomicI64::new(BUFFER_DEFAULT as i64),
            wmem_default: AtomicI64::new(BUFFER_DEFAULT as i64),
            unprivileged_port_start: AtomicI64::new(1024),
            bind_v6_only: AtomicI64::new(0),
            ping_groups: Mutex::new((0, i64::from(i32::MAX))),
        }
    }
}

/// The stack's time of the kernel's clock.
fn now_of(clock: &dyn Clock) -> Instant {
    Instant::from_nanos(clock.monotonic().0)
}

/// Tells the stack what time of day it is.
fn tell_time(stack: &Stack, clock: &dyn Clock) {
    const DAY_NS: i64 = 86_400_000_000_000;
    stack.set_time_of_day(now_of(clock), clock.realtime_ns().rem_euclid(DAY_NS) as u64);
}

impl NetNamespace {
    /// Makes the stack, its interfaces, addresses and routes, and starts the driver.
    pub fn new(config: NetConfig) -> Result<Arc<NetNamespace>, NetError> {
        let stack = Stack::new(Config::new(config.seed));
        if config.loopback == Loopback::Up {
            let (loopback, name) = (NicConfig::loopback(), "lo".to_owned());
            stack.add_nic(loopback).map_err(|source| NetError::Nic { name, source })?;
        }
        let clock = config.clock;
        tell_time(&stack, &*clock);
        let driver_clock = clock.clone();
        let clock_of = Arc::new(move || now_of(&*driver_clock));
        let driver =
            Driver::start(stack.clone(), Vec::new(), clock_of).map_err(NetError::Driver)?;
        let net = Arc::new(NetNamespace {
            stack,
            clock,
            captures: Mutex::default(),
            driver: Mutex::new(Some(driver)),
            following: Mutex::default(),
            carried: Mutex::default(),
            sockets: Registry::default(),
            limits: Limits::default(),
            local_sockets: Registry::default(),
            packet_sockets: Registry::default(),
            netlink: Arc::default(),
        });
        let stack = net.stack();
        let mut names = HashMap::new();
        // The operator chose these links and addresses: they are used at once, and nobody is asked whether he has them (as
        // `ip addr add … nodad`). What comes later follows the default again.
        let detections = edit_dad(stack, 0);
        for nic in config.nics {
            let name = nic.name.clone();
            let id = net.add_device(None, nic)?;
            names.insert(name, id);
        }
        edit_dad(stack, detections);
        for route in config.routes {
            add_route(stack, &names, route)?;
        }
        Ok(net)
    }

    /// Makes an interface of a device, with a number where one is wanted, and lets the driver read it.
    pub(crate) fn add_device(
        &self,
        wanted: Option<NicId>,
        nic: NicSetup,
    ) -> Result<NicId, NetError> {
        let (link, device): (Arc<dyn Link>, _) = match nic.link {
            NicLink::Device(device) => (device.clone(), Some(device)),
            NicLink::Wrapped(device, link) => (link, Some(device)),
            NicLink::Other(link) => (link, None),
        };
        let kind = NicKind::Ethernet;
        let (name, mac, mtu) = (nic.name.clone(), nic.mac, nic.mtu);
        let config = NicConfig { name, kind, mac, mtu, link };
        let added = match wanted {
            None => self.stack.add_nic(config),
            Some(number) => self.stack.add_numbered_nic(number, config),
        };
        let name = nic.name;
        let id = added.map_err(|source| NetError::Nic { name: name.clone(), source })?;
        for address in nic.addresses {
            let added = self.stack.add_address(id, address);
            let name = name.clone();
            added.map_err(|source| NetError::Address { address, name, source })?;
        }
        if let (Some(device), Some(driver)) = (device, &*self.driver.lock()) {
            driver.attach(Feed { nic: id, device });
        }
        Ok(id)
    }

    /// Adds an interface that its namespace of the host does not have. Its addresses are used at once.
    pub fn add(&self, nic: NicSetup) -> Result<NicId, NetError> {
        let detections = edit_dad(&self.stack, 0);
        let added = self.add_device(None, nic);
        edit_dad(&self.stack, detections);
        added
    }

    /// Takes an interface away, which may be gone.
    pub(crate) fn remove_device(&self, nic: NicId) {
        if let Some(driver) = &*self.driver.lock() {
            driver.detach(nic);
        }
        let _ = self.stack.remove_nic(nic);
    }

    /// Makes it like a network namespace of the host, and keeps it so.
    pub fn mirror(
        self: &Arc<Self>,
        taken: Taken,
        wrap: Wrap,
        log: Arc<dyn Log>,
    ) -> Result<(), NetError> {
        let (namespace, resolver) = (taken.namespace.clone(), taken.resolver);
        let following = mirror::start(self, taken, wrap, log.clone())?;
        *self.following.lock() = Some(following);
        let tell = Box::new(move |told| log.write(Level::Warn, format_args!("{told}")));
        let clock = self.clock.clone();
        let clock = Arc::new(move || now_of(&*clock));
        let carried = HostLoopback::start(namespace, self.stack.clone(), clock, resolver, tell);
        *self.carried.lock() = Some(carried.map_err(NetError::Loopback)?);
        Ok(())
    }

    /// Its stack.
    pub fn stack(&self) -> &Arc<Stack> {
        &self.stack
    }

    /// SO_NETNS_COOKIE: there is one namespace a sandbox, as there is one initial namespace of a machine.
    pub(crate) fn cookie(&self) -> u64 {
        1
    }

    /// net.ipv4.ip_default_ttl
    pub(crate) fn default_ttl(&self) -> u8 {
        self.stack.default_ttl()
    }

    /// net.core.wmem_max for SO_SNDBUF, rmem_max for SO_RCVBUF, in bytes.
    pub(crate) fn buffer_max(&self, option: i32) -> i64 {
        let max = if option == SO_SNDBUF { &self.limits.wmem_max } else { &self.limits.rmem_max };
        max.load(Ordering::Relaxed)
    }

    /// The stack's time now.
    pub fn now(&self) -> Instant {
        now_of(&*self.clock)
    }

    /// The wall-clock time of a moment of the stack's, in nanoseconds since the epoch.
    pub fn wall_ns(&self, at: Instant) -> i64 {
        let ago = i64::try_from(self.now().nanos().saturating_sub(at.nanos())).unwrap_or(i64::MAX);
        self.clock.realtime_ns().saturating_sub(ago)
    }

    /// The socket families of the namespace, for the kernel's registry: unix, inet, inet6, netlink, packet.
    pub fn families(self: &Arc<Self>) -> Vec<Arc<dyn SocketFamily>> {
        vec![
            Arc::new(UnixFamily::new(self)),
            Arc::new(InetFamily::v4(self)),
            Arc::new(InetFamily::v6(self)),
            Arc::new(NetlinkFamily::new(self)),
            Arc::new(PacketFamily::new(self)),
        ]
    }

    /// The internet sockets.
    pub(crate) fn sockets(&self) -> &Registry<InetSocket> {
        &self.sockets
    }

    /// The local sockets.
    pub(crate) fn local_sockets(&self) -> &Registry<UnixSocket> {
        &self.local_sockets
    }

    /// The packet sockets.
    pub(crate) fn packet_sockets(&self) -> &Registry<FrameSocket> {
        &self.packet_sockets
    }

    /// The netlink sockets.
    pub(crate) fn netlink(&self) -> &Arc<Bus> {
        &self.netlink
    }

    /// The files of /proc/net by name, for proc to show.
    pub fn proc_files(self: &Arc<Self>) -> Vec<(&'static str, Generator)> {
        proc_net::files(self)
    }

    /// Waits until the connections that programs have closed have brought the rest to their peers, as Linux goes on to do when
    /// programs are gone. Gives up once nothing has moved for `patience`.
    pub fn drain(&self, patience: Duration) {
        let mut left = self.stack.unfinished();
        let mut moved = self.now();
        while left > 0 && self.now() - moved < patience {
            std::thread::sleep(DRAIN_INTERVAL);
            let now_left = self.stack.unfinished();
            if now_left != left {
                (left, moved) = (now_left, self.now());
            }
        }
    }

    /// Begins to write what passes the interfaces of these names onto a file or pipe that is called `path`; without names, what
    /// passes all of them but loopback. `kernel` tells the names of programs.
    pub fn capture(
        self: &Arc<Self>,
        (file, path): (File, &Path),
        nics: &[String],
        kernel: &Arc<Kernel>,
    ) -> Result<Arc<Capture>, CaptureStart> {
        let all: HashMap<NicId, String> =
            self.stack.topology().nics().map(|nic| (nic.id, nic.name.to_string())).collect();
        if let Some(unknown) = nics.iter().find(|name| all.values().all(|known| known != *name)) {
            return Err(CaptureStart::NoSuchNic(unknown.clone()));
        }
        let wanted = |name: &String| match nics {
            [] => name != "lo",
            named => named.contains(name),
        };
        let label = Owners::new(self, kernel);
        let capture = Capture::start(file, path, self.now(), all.clone(), label)?;
        for id in all.iter().filter(|(_, name)| wanted(name)).map(|(id, _)| *id) {
            self.stack.add_tap(Some(id), capture.clone());
        }
        self.captures.lock().push(capture.clone());
        Ok(capture)
    }

    /// Completes a capture before the namespace ends. Errors: what went wrong while it was written.
    pub fn end_capture(&self, capture: &Arc<Capture>) -> Result<(), CaptureError> {
        let tap: Arc<dyn netstack::link::Tap> = capture.clone();
        self.stack.remove_tap(&tap);
        self.captures.lock().retain(|other| !Arc::ptr_eq(other, capture));
        capture.finish()
    }

    /// Ends it: stops the driver and completes the captures. Errors: those of the first capture that has any.
    pub fn stop(&self) -> Result<(), CaptureError> {
        drop(self.carried.lock().take());
        drop(self.following.lock().take());
        drop(self.driver.lock().take());
        self.stack.clear_taps();
        let captures = std::mem::take(&mut *self.captures.lock());
        let results: Vec<_> = captures.iter().map(|capture| capture.finish()).collect();
        self.stack.shut_down();
        results.into_iter().collect()
    }
}

impl Drop for NetNamespace {
    fn drop(&mut self) {
        // Whoever wants to know of errors has called it before.
        let _ = self.stop();
    }
}

/// Sets how often new interfaces ask whether an address is taken (`conf/default/dad_transmits`); gives what it was.
fn edit_dad(stack: &Stack, transmits: u8) -> u8 {
    let mut before = 0;
    // The default is always there.
    let _ = stack.edit_ipv6_conf(ConfTarget::Default, |conf| {
        before = core::mem::replace(&mut conf.dad_transmits, transmits);
    });
    before
}

fn add_route(
    stack: &Stack,
    names: &HashMap<String, NicId>,
    route: RouteSetup,
) -> Result<(), NetError> {
    let RouteSetup { dst, via, nic: name } = route;
    let Some(nic) = names.get(&name) else { return Err(NetError::NoSuchNic { dst, name }) };
    stack.add_route(Route::new(dst, via, *nic)).map_err(|source| NetError::Route { dst, source })
}
