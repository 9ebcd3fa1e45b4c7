//! The options that only message sockets have, and their filter.

use super::{Datagram, Kind};
use crate::filter::Program;
use crate::socket::options::{Asks, DatagramOption, DatagramOptionKind, OptionError};
use crate::time::Instant;

impl Datagram {
    pub(super) fn set_datagram_option(
        &self,
        now: Instant,
        value: DatagramOption,
    ) -> Result<(), OptionError> {
        let raw = matches!(self.kind, Kind::Raw(_));
        let udp = self.kind == Kind::Udp;
        let mut state = self.state.lock();
        let settings = &mut state.settings;
        match value {
            DatagramOption::Cork(on) if udp => {
                settings.cork = on;
                if !on {
                    drop(state);
                    // As on Linux, what becomes of the datagram is nobody's to ask.
                    let _ = self.uncork(now);
                }
            }
            DatagramOption::Segment(size) if udp => settings.segment = size,
            DatagramOption::Coalesce(on) if udp => settings.coalesce = on,
            DatagramOption::NoCheck6Send(on) if udp => settings.no_check6_send = on,
            DatagramOption::NoCheck6Receive(on) if udp => settings.no_check6_receive = on,
            DatagramOption::Icmp6Filter(filter) if raw => settings.icmp6_filter = filter,
            DatagramOption::MulticastAll(on) => settings.multicast_all = on,
            DatagramOption::Tell(told) => {
                settings.asks.at(told.level).set(told.what, told.on);
                if told.what.contains(Asks::ERRORS) && !told.on {
                    state.reports.clear();
                }
            }
            DatagramOption::PeekOffset(offset) => settings.peek_offset = offset,
            DatagramOption::SendFlow(on) => settings.send_flow = on,
            DatagramOption::AutoFlowLabel(on) => settings.auto_flow_label = on,
            DatagramOption::DontFragment(on) => settings.dont_fragment = on,
            DatagramOption::UnicastInterface(nic) => settings.unicast_nic = nic,
            DatagramOption::MessageInterface(nic) => settings.message_nic = nic,
            DatagramOption::LargestPacket(size) => settings.largest_packet = size,
            DatagramOption::Cork(_)
            | DatagramOption::Segment(_)
            | DatagramOption::Coalesce(_)
            | DatagramOption::NoCheck6Send(_)
            | DatagramOption::NoCheck6Receive(_)
            | DatagramOption::Icmp6Filter(_) => return Err(OptionError::NotSupported),
        }
        Ok(())
    }

    pub(super) fn datagram_option(
        &self,
        kind: DatagramOptionKind,
    ) -> Result<DatagramOption, OptionError> {
        use DatagramOptionKind as Asked;
        let state = self.state.lock();
        let settings = &state.settings;
        Ok(match kind {
            Asked::Cork => DatagramOption::Cork(settings.cork),
            Asked::Segment => DatagramOption::Segment(settings.segment),
            Asked::Coalesce => DatagramOption::Coalesce(settings.coalesce),
            Asked::NoCheck6Send => DatagramOption::NoCheck6Send(settings.no_check6_send),
            Asked::NoCheck6Receive => DatagramOption::NoCheck6Receive(settings.no_check6_receive),
            Asked::MulticastAll => DatagramOption::MulticastAll(settings.multicast_all),
            Asked::PeekOffset => DatagramOption::PeekOffset(settings.peek_offset),
            Asked::SendFlow => DatagramOption::SendFlow(settings.send_flow),
            Asked::AutoFlowLabel => DatagramOption::AutoFlowLabel(settings.auto_flow_label),
            Asked::DontFragment => DatagramOption::DontFragment(settings.dont_fragment),
            Asked::Icmp6Filter => DatagramOption::Icmp6Filter(settings.icmp6_filter),
            Asked::UnicastInterface => DatagramOption::UnicastInterface(settings.unicast_nic),
            Asked::MessageInterface => DatagramOption::MessageInterface(settings.message_nic),
            Asked::LargestPacket => DatagramOption::LargestPacket(settings.largest_packet),
            Asked::Tell => return Err(OptionError::NotSupported),
        })
    }

    /// Sets the filter that messages must pass, or takes it away (SO_ATTACH_FILTER). Messages that wait stay.
    pub fn set_filter(&self, filter: Option<Program>) {
        self.state.lock().settings.filter = filter;
    }

    /// Sets the program that chooses among the sockets of this one's port, or takes it away (SO_ATTACH_REUSEPORT_CBPF).
    ///
    /// # Errors
    ///
    /// `Invalid` for a socket without SO_REUSEPORT, or bound before it had it, or of another protocol than UDP; `NotFound` where
    /// there is none to take away.
    pub fn set_chooser(&self, chooser: Option<Program>) -> Result<(), OptionError> {
        let mut state = self.state.lock();
        if !state.settings.reuse_port {
            return Err(OptionError::Invalid);
        }
        if self.kind != Kind::Udp || !state.places.is_empty() && !state.balanced {
            let (attach, detach) = (OptionError::Invalid, OptionError::NotFound);
            return Err(if chooser.is_some() { attach } else { detach });
        }
        let demux = &self.host.shared().demux;
        let mut before = core::mem::replace(&mut state.settings.chooser, chooser.clone());
        for place in &state.places {
            before = demux.set_chooser(place, chooser.clone()).or(before);
        }
        match (chooser, before) {
            (None, None) => Err(OptionError::NotFound),
            _ => Ok(()),
        }
    }

    /// The filter.
    pub fn filter(&self) -> Option<Program> {
        self.state.lock().settings.filter.clone()
    }
}
