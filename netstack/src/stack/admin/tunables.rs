//! The tunables, as `/proc/sys/net` reads and writes them.

use std::sync::Arc;

use crate::ip::Family;
use crate::ip::conf::{ConfTarget, IpConf, Ipv4Conf, Ipv6Conf, NeighConf, NicTunables, Tunables};
use crate::link::NicId;
use crate::stack::Stack;
use crate::stack::admin::NicError;
use crate::stack::observe::Change;
use crate::stack::topology::Topology;

impl Topology {
    /// Edits the tunables of one interface.
    pub(in crate::stack) fn edit_nic(
        &mut self,
        nic: NicId,
        changes: &mut Vec<Change>,
        edit: impl FnOnce(&mut NicTunables),
    ) -> Result<(), NicError> {
        let own = self.nic(nic).cloned().ok_or(NicError::NotFound)?;
        let before = self.own_routes(&own);
        let mut tunables = *self.of_nic(nic);
        let was_disabled = tunables.ipv6.disable_ipv6;
        edit(&mut tunables);
        self.nic_tunables.insert(nic, Arc::new(tunables));
        let after = self.own_routes(&own);
        self.replace_routes(&before, &after, changes);
        if tunables.ipv6.disable_ipv6 && !was_disabled {
            self.edit_addresses(&own, changes, |own| own.retain(|at| at.ip().is_ipv4()));
        } else if was_disabled && !tunables.ipv6.disable_ipv6 && own.is_up() {
            let first = super::first_addresses(self, &own);
            self.edit_addresses(&own, changes, |own| own.extend(first));
        }
        own.neighbours.lock().configure(&tunables);
        own.set_mtu_v6(tunables.ipv6.mtu);
        changes.push(Change::Tunables(nic));
        Ok(())
    }

    fn edit_all(&mut self, edit: impl FnOnce(&mut Tunables)) {
        let mut tunables = *self.tunables;
        edit(&mut tunables);
        self.tunables = Arc::new(tunables);
    }
}

impl Stack {
    /// All tunables that are not of one interface.
    pub fn tunables(&self) -> Tunables {
        *self.topology().tunables()
    }

    /// The tunables of an interface.
    pub fn nic_tunables(&self, nic: NicId) -> Result<NicTunables, NicError> {
        let topology = self.topology();
        topology.nic(nic).ok_or(NicError::NotFound)?;
        Ok(*topology.of_nic(nic))
    }

    /// Changes what has one value.
    pub fn edit_ip_conf(&self, edit: impl FnOnce(&mut IpConf)) {
        let _ = self.change(|topology, _| -> Result<(), ()> {
            topology.edit_all(|tunables| edit(&mut tunables.ip));
            let ip = &topology.tunables.ip;
            for nic in topology.nics.values() {
                nic.neighbours.lock().bound(ip.neigh_gc_v4, ip.neigh_gc_v6);
            }
            Ok(())
        });
    }

    /// Forgets what ICMP taught about the paths of a family: MTUs and redirects (`route/flush`, `ip route flush cache`).
    pub fn flush_paths(&self, family: Family) {
        self.path_mtus.flush(family);
        self.redirects.flush(family);
    }

    /// One instance of `net.ipv4.conf`.
    pub fn ipv4_conf(&self, target: ConfTarget) -> Result<Ipv4Conf, NicError> {
        match target {
            ConfTarget::All => Ok(self.tunables().ipv4_all),
            ConfTarget::Default => Ok(self.tunables().default.ipv4),
            ConfTarget::Nic(nic) => Ok(self.nic_tunables(nic)?.ipv4),
        }
    }

    /// Changes one instance of `net.ipv4.conf`. Forwarding of "all" (`ip_forward`) becomes that of every interface and the
    /// default, as on Linux.
    pub fn edit_ipv4_conf(
        &self,
        target: ConfTarget,
        edit: impl FnOnce(&mut Ipv4Conf),
    ) -> Result<(), NicError> {
        self.change(|topology, changes| match target {
            ConfTarget::Nic(nic) => topology.edit_nic(nic, changes, |own| edit(&mut own.ipv4)),
            ConfTarget::Default => {
                topology.edit_all(|tunables| edit(&mut tunables.default.ipv4));
                Ok(())
            }
            ConfTarget::All => {
                let before = topology.tunables.ipv4_all;
                topology.edit_all(|tunables| edit(&mut tunables.ipv4_all));
                let forwarding = topology.tunables.ipv4_all.forwarding;
                if forwarding == before.forwarding {
                    return Ok(());
                }
                topology.edit_all(|tunables| {
                    tunables.default.ipv4.forwarding = forwarding;
                    // A router does not follow redirects, a host does.
                    tunables.ipv4_all.accept_redirects = !forwarding;
                });
                for nic in topology.nics.keys().copied().collect::<Vec<_>>() {
                    topology.edit_nic(nic, changes, |own| own.ipv4.forwarding = forwarding)?;
                }
                Ok(())
            }
        })
    }

    /// One instance of `net.ipv6.conf`.
    pub fn ipv6_conf(&self, target: ConfTarget) -> Result<Ipv6Conf, NicError> {
        match target {
            ConfTarget::All => Ok(self.tunables().ipv6_all),
            ConfTarget::Default => Ok(self.tunables().default.ipv6),
            ConfTarget::Nic(nic) => Ok(self.nic_tunables(nic)?.ipv6),
        }
    }

    /// Changes one instance of `net.ipv6.conf`. Forwarding and disable_ipv6 of "all" become those of every interface and
    /// the default, as on Linux.
    pub fn edit_ipv6_conf(
        &self,
        target: ConfTarget,
        edit: impl FnOnce(&mut Ipv6Conf),
    ) -> Result<(), NicError> {
        self.change(|topology, changes| match target {
            ConfTarget::Nic(nic) => topology.edit_nic(nic, changes, |own| edit(&mut own.ipv6)),
            ConfTarget::Default => {
                topology.edit_all(|tunables| edit(&mut tunables.default.ipv6));
                Ok(())
            }
            ConfTarget::All => {
                let before = topology.tunables.ipv6_all;
                topology.edit_all(|tunables| edit(&mut tunables.ipv6_all));
                let after = topology.tunables.ipv6_all;
                let same = (before.forwarding, before.disable_ipv6)
                    == (after.forwarding, after.disable_ipv6);
                if same {
                    return Ok(());
                }
                let spread = |own: &mut Ipv6Conf| {
                    if after.forwarding != before.forwarding {
                        own.forwarding = after.forwarding;
                    }
                    if after.disable_ipv6 != before.disable_ipv6 {
                        own.disable_ipv6 = after.disable_ipv6;
                    }
                };
                topology.edit_all(|tunables| spread(&mut tunables.default.ipv6));
                for nic in topology.nics.keys().copied().collect::<Vec<_>>() {
                    topology.edit_nic(nic, changes, |own| spread(&mut own.ipv6))?;
                }
                Ok(())
            }
        })
    }

    /// The neighbour tunables of an interface, or of new ones ("all" does not exist: it is the default's).
    pub fn neigh_conf(&self, target: ConfTarget, family: Family) -> Result<NeighConf, NicError> {
        match target {
            ConfTarget::All | ConfTarget::Default => Ok(*self.tunables().default.neigh(family)),
            ConfTarget::Nic(nic) => Ok(*self.nic_tunables(nic)?.neigh(family)),
        }
    }

    /// Changes the neighbour tunables of an interface, or of new ones.
    pub fn edit_neigh_conf(
        &self,
        target: ConfTarget,
        family: Family,
        edit: impl FnOnce(&mut NeighConf),
    ) -> Result<(), NicError> {
        let of = |own: &mut NicTunables| match family {
            Family::V4 => edit(&mut own.neigh_v4),
            Family::V6 => edit(&mut own.neigh_v6),
        };
        self.change(|topology, changes| match target {
            ConfTarget::Nic(nic) => topology.edit_nic(nic, changes, of),
            ConfTarget::All | ConfTarget::Default => {
                topology.edit_all(|tunables| of(&mut tunables.default));
                Ok(())
            }
        })
    }
}
