//! A packet socket as the kernel sees it: the file and the socket traits over the endpoint.

use std::sync::Arc;

use sentry_abi::socket::*;
use sentry_abi::{Errno, UserAddr};
use sentry_kernel::Result;
use sentry_kernel::file::{FileKind, FileOps, WriteAt, Written};
use sentry_kernel::io::{Sink, Source};
use sentry_kernel::mm::Mappable;
use sentry_kernel::socket::{Received, SendMessage, Shutdown, SockAddr, Socket};
use sentry_kernel::task::CurrentTask;
use sentry_kernel::wait::{Events, WaitQueue};

use super::socket::{FrameSocket, decode, nic_of};
use crate::errno;
use crate::inet::{events_of, netdev};
use crate::sockopt::filter;

impl FileOps for FrameSocket {
    fn opened(&self, id: u64) {
        self.inode.open(id);
    }

    fn read(&self, _: u64, dst: &mut dyn Sink) -> Result<usize> {
        Ok(self.take(dst, 0)?.len)
    }

    fn write(&self, _: WriteAt, src: &mut dyn Source) -> Result<Written> {
        Ok(Written { len: self.give(src, None)?, end: 0 })
    }

    fn readiness(&self) -> Events {
        events_of(self.endpoint.readiness())
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.waiters)
    }

    fn ioctl(&self, task: &CurrentTask, request: u32, arg: UserAddr) -> Result<u64> {
        match request {
            FIONREAD => crate::ioctl::write_int(task, arg, self.endpoint.next_len()),
            SIOCOUTQ => crate::ioctl::write_int(task, arg, 0),
            _ => netdev::ioctl(&self.net, task, request, arg),
        }
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        let settings = self.settings.lock();
        let ring = settings.ring.as_ref().ok_or(Errno::EINVAL)?;
        Ok(ring.mappable())
    }

    fn kind(&self) -> FileKind<'_> {
        FileKind::Socket(self)
    }
}

impl Socket for FrameSocket {
    fn identity(&self) -> (i32, i32, i32) {
        (AF_PACKET, self.kind, 0)
    }

    fn bind(&self, _: &CurrentTask, addr: &SockAddr) -> Result<()> {
        let raw = decode(addr)?;
        if raw.ifindex < 0 {
            return Err(Errno::ENODEV.into());
        }
        let bound = self.endpoint.bind(nic_of(raw.ifindex), u16::from_be_bytes(raw.protocol));
        bound.map_err(|error| errno::of_socket(error).into())
    }

    fn connect(&self, _: &CurrentTask, _: &SockAddr) -> Result<()> {
        Err(Errno::EOPNOTSUPP.into())
    }

    fn send(&self, _: &CurrentTask, src: &mut dyn Source, message: SendMessage) -> Result<usize> {
        self.give(src, message.to.as_ref())
    }

    fn receive(
        &self,
        _: &CurrentTask,
        dst: &mut dyn Sink,
        flags: u32,
        _: usize,
    ) -> Result<Received> {
        self.take(dst, flags)
    }

    fn shutdown(&self, _: Shutdown) -> Result<()> {
        Err(Errno::EOPNOTSUPP.into())
    }

    fn local_address(&self) -> Result<SockAddr> {
        Ok(self.bound_address())
    }

    fn peer_address(&self) -> Result<SockAddr> {
        Err(Errno::EOPNOTSUPP.into())
    }

    fn set_option(&self, task: &CurrentTask, level: i32, name: i32, value: &[u8]) -> Result<()> {
        self.store(task, level, name, value)
    }

    fn option(&self, _: &CurrentTask, level: i32, name: i32, value: &[u8]) -> Result<Vec<u8>> {
        self.load(level, name, value)
    }

    fn filter(&self) -> Vec<u8> {
        self.endpoint.filter().as_ref().map(filter::encode).unwrap_or_default()
    }

    fn timeouts_ns(&self) -> (Option<u64>, Option<u64>) {
        self.options.timeouts_ns()
    }
}
