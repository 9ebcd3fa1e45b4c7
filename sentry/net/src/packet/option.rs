//! Options of packet sockets: level SOL_PACKET (packet(7)), and what of SOL_SOCKET only they know.

use std::sync::Arc;

use netstack::link::NicId;
use netstack::socket::packet::FrameRing;
use sentry_abi::Errno;
use sentry_abi::if_packet::*;
use sentry_abi::socket::*;
use sentry_kernel::Result;
use sentry_kernel::task::CurrentTask;
use zerocopy::IntoBytes;

use super::ring::{Plan, Ring, Version};
use super::socket::{FrameSocket, nic_of};
use crate::sockopt::{filter, value};
use crate::{errno, identity};

/// The most memberships of a socket.
const MEMBERSHIPS_MAX: usize = 4096;
/// Bytes of a link-layer address.
const LINK_ADDRESS: u16 = 6;

/// What only packet sockets have.
#[derive(Default)]
pub struct Settings {
    /// PACKET_AUXDATA
    pub auxdata: bool,
    /// The ring that frames go to.
    pub ring: Option<Arc<Ring>>,
    ignores_outgoing: bool,
    orig_dev: bool,
    loss: bool,
    bypasses_queue: bool,
    timestamp: i32,
    reserve: u32,
    version: Version,
    // An interface shows every frame of its link, so that these change nothing that is seen.
    memberships: Vec<PacketMreq>,
}

impl FrameSocket {
    /// setsockopt(2).
    pub(super) fn store(
        &self,
        task: &CurrentTask,
        level: i32,
        name: i32,
        bytes: &[u8],
    ) -> Result<()> {
        match level {
            SOL_SOCKET if filter::is_filter(name) => self.store_filter(task, name, bytes),
            SOL_SOCKET if name == SO_BINDTODEVICE => Err(Errno::ENOPROTOOPT.into()),
            SOL_SOCKET => {
                self.options.set(&identity::credentials(task), name, bytes)?;
                if matches!(name, SO_RCVBUF | SO_RCVBUFFORCE) {
                    let bytes = self.options.number(SOL_SOCKET, SO_RCVBUF).unwrap_or(0);
                    self.endpoint.set_receive_buffer(usize::try_from(bytes).unwrap_or(0));
                }
                Ok(())
            }
            SOL_PACKET => self.store_packet(task, name, bytes),
            _ => Err(Errno::ENOPROTOOPT.into()),
        }
    }

    fn store_filter(&self, task: &CurrentTask, name: i32, bytes: &[u8]) -> Result<()> {
        match self.filter_lock.change(task, name, bytes)? {
            filter::Change::Attach(program) => self.endpoint.set_filter(Some(program)),
            filter::Change::Detach if self.endpoint.filter().is_none() => {
                return Err(Errno::ENOENT.into());
            }
            filter::Change::Detach => self.endpoint.set_filter(None),
            // Packet sockets form no such groups.
            filter::Change::Choose(_) => return Err(Errno::EINVAL.into()),
            filter::Change::None => {}
        }
        Ok(())
    }

    // tidy: table
    fn store_packet(&self, task: &CurrentTask, name: i32, bytes: &[u8]) -> Result<()> {
        let exact = || match bytes.len() {
            4 => value::int(bytes),
            _ => Err(Errno::EINVAL.into()),
        };
        let flag = || Ok::<bool, sentry_kernel::Error>(value::int(bytes)? != 0);
        let mut settings = self.settings.lock();
        let has_ring = settings.ring.is_some();
        match name {
            PACKET_ADD_MEMBERSHIP | PACKET_DROP_MEMBERSHIP => {
                return self.store_membership(&mut settings, name, bytes);
            }
            PACKET_RX_RING => {
                drop(settings);
                return self.store_ring(task, bytes);
            }
            PACKET_VERSION | PACKET_RESERVE | PACKET_LOSS if exact().is_ok() && has_ring => {
                return Err(Errno::EBUSY.into());
            }
            PACKET_VERSION => settings.version = Version::of(exact()?)?,
            PACKET_RESERVE => match u32::try_from(exact()?) {
                Ok(reserve) => settings.reserve = reserve,
                Err(_) => return Err(Errno::EINVAL.into()),
            },
            PACKET_LOSS => settings.loss = exact()? != 0,
            PACKET_TIMESTAMP => settings.timestamp = exact()?,
            PACKET_QDISC_BYPASS => settings.bypasses_queue = exact()? != 0,
            PACKET_AUXDATA => settings.auxdata = flag()?,
            PACKET_ORIGDEV => settings.orig_dev = flag()?,
            PACKET_IGNORE_OUTGOING => match exact()? {
                on @ 0..=1 => {
                    settings.ignores_outgoing = on == 1;
                    self.endpoint.set_ignores_outgoing(on == 1);
                }
                _ => return Err(Errno::EINVAL.into()),
            },
            _ => return Err(Errno::ENOPROTOOPT.into()),
        }
        Ok(())
    }

    /// Adds or drops a membership: a program may have several of one kind, and each must be dropped.
    fn store_membership(&self, settings: &mut Settings, name: i32, bytes: &[u8]) -> Result<()> {
        let request: PacketMreq = value::object(bytes)?;
        let nic = nic_of(request.ifindex);
        let known = nic.is_some_and(|nic: NicId| self.endpoint.link(nic).is_some());
        if name == PACKET_DROP_MEMBERSHIP {
            let found = settings.memberships.iter().position(|one| *one == request);
            // Linux says nothing of one that is not there.
            if let Some(found) = found {
                settings.memberships.swap_remove(found);
            }
            return Ok(());
        }
        if !known {
            return Err(Errno::ENODEV.into());
        }
        let addressed = matches!(request.kind, PACKET_MR_MULTICAST | PACKET_MR_UNICAST);
        if request.alen > LINK_ADDRESS || (addressed && request.alen != LINK_ADDRESS) {
            return Err(Errno::EINVAL.into());
        }
        if settings.memberships.len() >= MEMBERSHIPS_MAX {
            return Err(Errno::ENOBUFS.into());
        }
        settings.memberships.push(request);
        Ok(())
    }

    fn store_ring(&self, task: &CurrentTask, bytes: &[u8]) -> Result<()> {
        let mut settings = self.settings.lock();
        let needed = match settings.version {
            Version::V3 => size_of::<TpacketReq3>(),
            Version::V1 | Version::V2 => TPACKET_REQ_LEN,
        };
        let mut request = TpacketReq3::default();
        let given = bytes.get(..needed).ok_or(Errno::EINVAL)?;
        request.as_mut_bytes()[..needed].copy_from_slice(given);
        if request.block_nr == 0 {
            if request.frame_nr != 0 {
                return Err(Errno::EINVAL.into());
            }
            settings.ring = None;
            self.endpoint.set_ring(None);
            return Ok(());
        }
        if settings.ring.is_some() {
            return Err(Errno::EBUSY.into());
        }
        let (version, reserve) = (settings.version, settings.reserve as usize);
        let plan = Plan { version, reserve, request };
        drop(settings);
        // Memory is taken without the lock: its own locks come first.
        let ring = Ring::new(&self.net, task.mm().memory_file(), plan)?;
        settings = self.settings.lock();
        if settings.ring.is_some() {
            return Err(Errno::EBUSY.into());
        }
        settings.ring = Some(ring.clone());
        drop(settings);
        self.endpoint.set_ring(Some(ring as Arc<dyn FrameRing>));
        Ok(())
    }

    /// getsockopt(2).
    pub(super) fn load(&self, level: i32, name: i32, given: &[u8]) -> Result<Vec<u8>> {
        match level {
            SOL_SOCKET => self.load_socket(name, given),
            SOL_PACKET => self.load_packet(name, given),
            _ => Err(Errno::ENOPROTOOPT.into()),
        }
    }

    fn load_socket(&self, name: i32, room: &[u8]) -> Result<Vec<u8>> {
        match name {
            SO_ERROR => {
                let pending = self.endpoint.take_error().map(errno::of_socket);
                Ok(value::from_int(pending.map_or(0, Errno::number)))
            }
            SO_ACCEPTCONN => Ok(value::from_int(0)),
            SO_LOCK_FILTER => Ok(value::from_flag(self.filter_lock.is_locked())),
            _ => self.options.option(name, room),
        }
    }

    // tidy: table
    fn load_packet(&self, name: i32, given: &[u8]) -> Result<Vec<u8>> {
        if name == PACKET_STATISTICS {
            let v3 = self.settings.lock().version == Version::V3;
            let counts = self.endpoint.take_counts();
            let all = [counts.packets, counts.drops, counts.freezes];
            return Ok(all[..if v3 { 3 } else { 2 }].as_bytes().to_vec());
        }
        let settings = self.settings.lock();
        Ok(value::from_int(match name {
            PACKET_AUXDATA => i32::from(settings.auxdata),
            PACKET_ORIGDEV => i32::from(settings.orig_dev),
            PACKET_LOSS => i32::from(settings.loss),
            PACKET_IGNORE_OUTGOING => i32::from(settings.ignores_outgoing),
            PACKET_QDISC_BYPASS => i32::from(settings.bypasses_queue),
            PACKET_TIMESTAMP => settings.timestamp,
            PACKET_RESERVE => settings.reserve as i32,
            PACKET_VERSION => match settings.version {
                Version::V1 => TPACKET_V1,
                Version::V2 => TPACKET_V2,
                Version::V3 => TPACKET_V3,
            },
            PACKET_HDRLEN => Version::of(value::int(given)?)?.header_len() as i32,
            _ => return Err(Errno::ENOPROTOOPT.into()),
        }))
    }
}
