//! A TAP device of the host: made or opened by name, brought up with the host's addresses, read and written as frames.
//!
//! The device is made without TUNSETPERSIST, so it disappears when its descriptor is closed, however we end.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use netstack::buffer::{Chain, PacketBuffer};
use netstack::ip::IpCidr;
use netstack::link::{Capabilities, ChecksumSupport, Link, LinkError};
use netstack::time::Instant;
use nix::errno::Errno;
use nix::libc;
use nix::sys::uio::readv;

use crate::device::{self, Device, FrameRoom, GSO_MAX, Offloading};
use crate::rtnetlink::{RouteSocket, is_host_address};
use crate::vnet;

/// Where the kernel makes TAP devices.
pub const CLONE_DEVICE: &str = "/dev/net/tun";
const TUN_F_CSUM: libc::c_ulong = 1;
const TUN_F_TSO4: libc::c_ulong = 2;
const TUN_F_TSO6: libc::c_ulong = 4;
const TUN_F_USO4: libc::c_ulong = 0x20;
const TUN_F_USO6: libc::c_ulong = 0x40;

mod ioctl {
    //! The two ioctls of linux/if_tun.h.
    nix::ioctl_write_ptr_bad!(tun_set_iff, nix::libc::TUNSETIFF, nix::libc::ifreq);
    nix::ioctl_write_int_bad!(tun_set_offload, nix::libc::TUNSETOFFLOAD);
}

/// What device to make.
#[derive(Clone, Debug)]
pub struct TapConfig {
    /// Name of at most 15 bytes; a `%d` in it is replaced by the first free number.
    pub name: String,
    /// Addresses of the host's end.
    pub host_addresses: Vec<IpCidr>,
    /// MTU of both ends in bytes.
    pub mtu: u32,
    /// What the device does for us.
    pub offloading: Offloading,
}

impl Default for TapConfig {
    fn default() -> Self {
        let offloading = Offloading::default();
        Self { name: "netcell%d".into(), host_addresses: Vec::new(), mtu: 1500, offloading }
    }
}

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The clone device is absent.
    #[error(
        "{CLONE_DEVICE} does not exist: load the kernel's tun module (modprobe tun), or give the container access to the device"
    )]
    NoCloneDevice,
    /// Not privileged.
    #[error("not permitted to make the network device {name}: run as root or with CAP_NET_ADMIN")]
    NotPermitted {
        /// Its name.
        name: String,
    },
    /// Somebody else uses it.
    #[error(
        "the network device {name} is in use or is no TAP device: choose another name (--net tap:NAME)"
    )]
    Busy {
        /// Its name.
        name: String,
    },
    /// A name that the kernel refuses.
    #[error("{name:?} is no name for a network device: 1 to 15 bytes without '/', ':' or blanks")]
    BadName {
        /// As given.
        name: String,
    },
    /// The host has it on another device.
    #[error("the address {address} is already in use on this host: choose another network (--ip)")]
    AddressTaken {
        /// Which.
        address: IpAddr,
    },
    /// Anything else.
    #[error("cannot {what} the network device {name}: {errno}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// The device's name.
        name: String,
        /// The host's answer.
        errno: Errno,
    },
}

/// A TAP device: the stack's link, and where the driver loop reads.
pub struct Tap {
    file: File,
    name: String,
    ifindex: u32,
    mtu: u32,
    offloading: Offloading,
    segments_udp: bool,
    host_addresses: Vec<IpCidr>,
}

impl Tap {
    /// Makes the device, or opens it where it exists, and brings it up with the host's addresses.
    pub fn open(config: &TapConfig) -> Result<Arc<Tap>, TapError> {
        check_name(&config.name)?;
        for cidr in &config.host_addresses {
            if is_host_address(cidr.address()) {
                return Err(TapError::AddressTaken { address: cidr.address() });
            }
        }
        let (file, name) = attach(config)?;
        let ifindex = nix::net::if_::if_nametoindex(name.as_str())
            .map_err(|errno| TapError::Host { what: "find", name: name.clone(), errno })?;
        let segments_udp = match config.offloading {
            Offloading::Full => set_offload(&file, &name)?,
            Offloading::None => false,
        };
        let mut tap = Tap {
            file,
            name,
            ifindex,
            mtu: config.mtu,
            offloading: config.offloading,
            segments_udp,
            host_addresses: Vec::new(),
        };
        tap.bring_up(&config.host_addresses)?;
        Ok(Arc::new(tap))
    }

    /// Opens a device of the caller's namespace that somebody else has made, and brings it up. Errors: Host (ENODEV) where there
    /// is none of this name, and others of [`Tap::open`].
    pub fn join(name: &str, mtu: u32, offloading: Offloading) -> Result<Arc<Tap>, TapError> {
        check_name(name)?;
        // To open a device that is not there would make one.
        nix::net::if_::if_nametoindex(name).map_err(|errno| TapError::Host {
            what: "find",
            name: name.to_owned(),
            errno,
        })?;
        Tap::open(&TapConfig { name: name.to_owned(), host_addresses: Vec::new(), mtu, offloading })
    }

    fn bring_up(&mut self, addresses: &[IpCidr]) -> Result<(), TapError> {
        let name = self.name.clone();
        let fail = |what| {
            let name = name.clone();
            move |errno| match errno {
                Errno::EPERM | Errno::EACCES => TapError::NotPermitted { name },
                errno => TapError::Host { what, name, errno },
            }
        };
        let mut route = RouteSocket::open().map_err(fail("configure"))?;
        route.set_link_up(self.ifindex, self.mtu).map_err(fail("bring up"))?;
        for cidr in addresses {
            match route.add_address(self.ifindex, cidr.address(), cidr.prefix_len()) {
                Ok(()) => self.host_addresses.push(*cidr),
                // A device that existed before us may have it.
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(fail("give an address to")(errno)),
            }
        }
        Ok(())
    }

    /// Its name, as the kernel chose it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its index on the host.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Its MTU in bytes.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // A device of our own goes away with its descriptor; one that existed before us keeps no address of ours.
        if let Ok(mut route) = RouteSocket::open() {
            for cidr in &self.host_addresses {
                let _ = route.remove_address(self.ifindex, cidr.address(), cidr.prefix_len());
            }
        }
    }
}

fn check_name(name: &str) -> Result<(), TapError> {
    let bad = |b: u8| b == b'/' || b == b':' || b == 0 || b.is_ascii_whitespace();
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.bytes().any(bad) {
        return Err(TapError::BadName { name: name.to_owned() });
    }
    Ok(())
}

/// Opens the clone device and ties it to a name; returns the name that the kernel chose.
fn attach(config: &TapConfig) -> Result<(File, String), TapError> {
    let name = &config.name;
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
    let file = options.open(CLONE_DEVICE).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => TapError::NoCloneDevice,
        Some(libc::EPERM | libc::EACCES) => TapError::NotPermitted { name: name.clone() },
        code => {
            let errno = Errno::from_raw(code.unwrap_or(libc::EIO));
            TapError::Host { what: "open", name: name.clone(), errno }
        }
    })?;
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI;
    if config.offloading == Offloading::Full {
        flags |= libc::IFF_VNET_HDR;
    }
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags as libc::c_short },
    };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the descriptor is open, and TUNSETIFF reads and writes only the ifreq, which lives across the call.
    let result = unsafe { ioctl::tun_set_iff(file.as_raw_fd(), &raw mut request) };
    result.map_err(|errno| match errno {
        Errno::EPERM | Errno::EACCES => TapError::NotPermitted { name: name.clone() },
        Errno::EBUSY | Errno::EINVAL => TapError::Busy { name: name.clone() },
        errno => TapError::Host { what: "make", name: name.clone(), errno },
    })?;
    let chosen: Vec<u8> =
        request.ifr_name.iter().map(|c| *c as u8).take_while(|byte| *byte != 0).collect();
    Ok((file, String::from_utf8_lossy(&chosen).into_owned()))
}

/// Tells the kernel that we take partial checksums and large frames; gives whether it also cuts UDP (since Linux 6.2).
fn set_offload(file: &File, name: &str) -> Result<bool, TapError> {
    let set = |flags: libc::c_ulong| {
        // SAFETY: TUNSETOFFLOAD takes its argument by value and touches no memory of ours.
        unsafe { ioctl::tun_set_offload(file.as_raw_fd(), flags as libc::c_int) }
    };
    let tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
    let result = match set(tcp | TUN_F_USO4 | TUN_F_USO6) {
        Ok(_) => return Ok(true),
        Err(Errno::EINVAL) => set(tcp),
        Err(errno) => Err(errno),
    };
    let fail = |errno| TapError::Host { what: "set the offloads of", name: name.to_owned(), errno };
    result.map(|_| false).map_err(fail)
}

impl Device for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn receive(&self, room: &mut FrameRoom) -> io::Result<Option<PacketBuffer>> {
        let vnet = match self.offloading {
            Offloading::None => 0,
            Offloading::Full => vnet::HEADER,
        };
        let (head, slab) = (&mut room.head[vnet::HEADER - vnet..], &mut room.slab);
        let mut pieces = [io::IoSliceMut::new(head), io::IoSliceMut::new(slab.room())];
        let n = match readv(&self.file, &mut pieces) {
            Ok(n) => n,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            // EBADFD when the device was deleted.
            Err(errno) => return Err(errno.into()),
        };
        let mut payload = Chain::new();
        if n > head.len() {
            payload.push(slab.take_filled(n - head.len()));
        }
        let frame = head.get(vnet..n.min(head.len())).unwrap_or_default();
        let mut packet = PacketBuffer::from_parts(frame, payload);
        if let Some(header) = head.first_chunk().filter(|_| vnet > 0) {
            vnet::read(header, &mut packet);
        }
        Ok(Some(packet))
    }
}

impl Link for Tap {
    fn transmit(&self, _: Instant, frame: &PacketBuffer) -> Result<(), LinkError> {
        let header = vnet::header(frame);
        let header = match self.offloading {
            Offloading::Full => &header[..],
            Offloading::None => &[],
        };
        device::transmit(&self.file, header, frame)
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        if self.offloading == Offloading::Full {
            capabilities.max_gso = GSO_MAX;
            capabilities.checksum = ChecksumSupport::Device;
            capabilities.segments_udp = self.segments_udp;
        }
        capabilities
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_would_refuse_are_refused_before() {
        for name in ["", "a/b", "x y", "sixteen-bytes-ab", "c:d"] {
            assert!(matches!(check_name(name), Err(TapError::BadName { .. })), "{name}");
        }
        assert!(check_name("netcell%d").is_ok());
    }
}
