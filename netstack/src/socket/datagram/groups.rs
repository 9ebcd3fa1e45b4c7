//! The multicast groups of one socket, with the sources that it wants to hear or not (RFC 3376 section 3, RFC 3678).

use core::net::IpAddr;

use super::Datagram;
use crate::ip::{IpError, SourceFilter};
use crate::link::NicId;
use crate::socket::options::{Membership, OptionError};
use crate::time::Instant;

pub use crate::ip::multicast::FilterMode;

/// The most groups of a socket: Linux's igmp_max_memberships bounds IPv4 with 20, IPv6 by memory alone.
const GROUPS_MAX_V4: usize = 20;
const GROUPS_MAX_V6: usize = 4096;
/// The most sources of a group (igmp_max_msf, mld_max_msf).
const SOURCES_MAX_V4: usize = 10;
const SOURCES_MAX_V6: usize = 64;

/// One change of the sources of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SourceChange {
    /// Hear this one, too; joins the group (IP_ADD_SOURCE_MEMBERSHIP).
    Join,
    /// Hear it no more; the last one leaves the group (IP_DROP_SOURCE_MEMBERSHIP).
    Leave,
    /// Do not hear this one (IP_BLOCK_SOURCE).
    Block,
    /// Hear it again (IP_UNBLOCK_SOURCE).
    Unblock,
}

/// A group that a socket is a member of.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub address: IpAddr,
    pub nic: NicId,
    mode: FilterMode,
    sources: Vec<IpAddr>,
}

impl Group {
    /// Whether a source is heard.
    pub fn hears(&self, source: IpAddr) -> bool {
        self.sources.contains(&source) == (self.mode == FilterMode::Include)
    }

    /// What the interface is asked for on its behalf.
    pub fn filter(&self) -> SourceFilter {
        SourceFilter { mode: self.mode, sources: self.sources.iter().copied().collect() }
    }

    fn sources_max(&self) -> usize {
        if self.address.is_ipv4() { SOURCES_MAX_V4 } else { SOURCES_MAX_V6 }
    }
}

fn of_ip(error: IpError) -> OptionError {
    match error {
        IpError::NoDevice => OptionError::NoDevice,
        _ => OptionError::Invalid,
    }
}

impl Datagram {
    /// Becomes a member of a group that hears every source.
    pub(super) fn join(&self, now: Instant, wanted: Membership) -> Result<(), OptionError> {
        self.join_with(now, wanted, FilterMode::Exclude).map(drop)
    }

    /// The same with a mode; gives the interface.
    fn join_with(
        &self,
        now: Instant,
        wanted: Membership,
        mode: FilterMode,
    ) -> Result<NicId, OptionError> {
        let filter = SourceFilter { mode, sources: Default::default() };
        let at = (wanted.group, wanted.nic);
        let nic = self.host.change_membership(now, at, (None, Some(&filter))).map_err(of_ip)?;
        let mut state = self.state.lock();
        let known = |group: &Group| group.address == wanted.group && group.nic == nic;
        let most = if wanted.group.is_ipv4() { GROUPS_MAX_V4 } else { GROUPS_MAX_V6 };
        let same_family = |group: &&Group| group.address.is_ipv4() == wanted.group.is_ipv4();
        let refused = if state.groups.iter().any(known) {
            Some(OptionError::InUse)
        } else if state.groups.iter().filter(same_family).count() >= most {
            Some(OptionError::NoBuffers)
        } else {
            None
        };
        if let Some(error) = refused {
            drop(state);
            // It was joined once more for this; the interface may be gone by now.
            let at = (wanted.group, Some(nic));
            let _ = self.host.change_membership(now, at, (Some(&filter), None));
            return Err(error);
        }
        state.groups.push(Group { address: wanted.group, nic, mode, sources: Vec::new() });
        Ok(nic)
    }

    /// Leaves a group.
    pub(super) fn leave(&self, now: Instant, wanted: Membership) -> Result<(), OptionError> {
        let mut state = self.state.lock();
        let at = place(&state.groups, wanted).ok_or(OptionError::AddressNotAvailable)?;
        let known = state.groups.remove(at);
        drop(state);
        self.give_up(now, &known);
        Ok(())
    }

    /// Tells the interface that a membership is over.
    pub(super) fn give_up(&self, now: Instant, group: &Group) {
        let at = (group.address, Some(group.nic));
        // The interface may be gone, and the membership with it.
        let _ = self.host.change_membership(now, at, (Some(&group.filter()), None));
    }

    /// Tells the interface that a membership wants other sources (RFC 3376 section 3.2). The changes of several threads may come in
    /// any order: each takes away what it replaces.
    fn replace(&self, now: Instant, before: &Group, after: &SourceFilter) {
        let at = (before.address, Some(before.nic));
        // As above.
        let _ = self.host.change_membership(now, at, (Some(&before.filter()), Some(after)));
    }

    /// Changes which sources of a group are heard. Errors: Invalid for a group that is not joined or has the other mode,
    /// AddressNotAvailable for a source that is or is not listed already, NoBuffers for too many, NoDevice.
    pub fn change_source(
        &self,
        now: Instant,
        wanted: Membership,
        source: IpAddr,
        change: SourceChange,
    ) -> Result<(), OptionError> {
        if change == SourceChange::Join {
            match self.join_with(now, wanted, FilterMode::Include) {
                Ok(_) | Err(OptionError::InUse) => {}
                Err(error) => return Err(error),
            }
        }
        let mode = match change {
            SourceChange::Join | SourceChange::Leave => FilterMode::Include,
            SourceChange::Block | SourceChange::Unblock => FilterMode::Exclude,
        };
        let mut state = self.state.lock();
        let at = place(&state.groups, wanted).ok_or(OptionError::Invalid)?;
        let group = state.groups.get_mut(at).ok_or(OptionError::Invalid)?;
        let before = group.clone();
        if group.mode != mode {
            if !group.sources.is_empty() {
                return Err(OptionError::Invalid);
            }
            // Linux: "allow mode switches for empty-set filters".
            group.mode = mode;
        }
        let listed = group.sources.iter().position(|known| *known == source);
        match (change, listed) {
            (SourceChange::Join | SourceChange::Block, Some(_))
            | (SourceChange::Leave | SourceChange::Unblock, None) => {
                return Err(OptionError::AddressNotAvailable);
            }
            (SourceChange::Join | SourceChange::Block, None) => {
                if group.sources.len() >= group.sources_max() {
                    return Err(OptionError::NoBuffers);
                }
                group.sources.push(source);
            }
            (SourceChange::Leave, Some(_)) if group.sources.len() == 1 => {
                drop(state);
                return self.leave(now, wanted);
            }
            (SourceChange::Leave | SourceChange::Unblock, Some(known)) => {
                group.sources.remove(known);
            }
        }
        let after = group.filter();
        drop(state);
        self.replace(now, &before, &after);
        Ok(())
    }

    /// Sets the whole filter of a group (IP_MSFILTER, MCAST_MSFILTER). No source to include leaves it. Errors: Invalid for a
    /// group that is not joined, NoBuffers for too many sources.
    pub fn set_sources(
        &self,
        now: Instant,
        wanted: Membership,
        mode: FilterMode,
        sources: Vec<IpAddr>,
    ) -> Result<(), OptionError> {
        if mode == FilterMode::Include && sources.is_empty() {
            return self.leave(now, wanted);
        }
        let mut state = self.state.lock();
        let at = place(&state.groups, wanted).ok_or(OptionError::Invalid)?;
        let group = state.groups.get_mut(at).ok_or(OptionError::Invalid)?;
        if sources.len() > group.sources_max() {
            return Err(OptionError::NoBuffers);
        }
        let before = group.clone();
        (group.mode, group.sources) = (mode, sources);
        let after = group.filter();
        drop(state);
        self.replace(now, &before, &after);
        Ok(())
    }

    /// The filter of a group. Errors: AddressNotAvailable for one that is not joined.
    pub fn sources(&self, wanted: Membership) -> Result<(FilterMode, Vec<IpAddr>), OptionError> {
        let state = self.state.lock();
        let at = place(&state.groups, wanted).ok_or(OptionError::AddressNotAvailable)?;
        let group = state.groups.get(at).ok_or(OptionError::AddressNotAvailable)?;
        Ok((group.mode, group.sources.clone()))
    }
}

/// Where a membership stands; the first of the group where no interface is named.
fn place(groups: &[Group], wanted: Membership) -> Option<usize> {
    groups.iter().position(|group| {
        group.address == wanted.group && wanted.nic.is_none_or(|nic| nic == group.nic)
    })
}
