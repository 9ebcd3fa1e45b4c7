//! A TAP device beside the container's interface, and frames redirected both ways between them: what comes in by the one leaves
//! by the other. The host's stack in that namespace sees nothing any more, and keeps its addresses.

use tun_rs::{DeviceBuilder, Layer};

use crate::call::Call;
use crate::error::{CniError, Code};
use crate::handoff::Tap;
use crate::names::AttachmentKey;
use crate::netlink::{Link, Rtnl};
use crate::netns::Netns;
use crate::undo::Undo;

use super::{changed, invalid, refused};

/// Where the kernel makes TAP devices.
const CLONE_DEVICE: &str = "/dev/net/tun";

/// Makes it, in the container's namespace.
pub(super) fn make<'a>(
    call: &'a Call,
    netns: &'a Netns,
    undo: &mut Undo<'a>,
) -> Result<Tap, CniError> {
    let key = call.key();
    let alias = key.alias(&call.container_id, &call.ifname);
    let made = netns.run(|| {
        let mut rtnl = Rtnl::open()?;
        let link = expect_link(&mut rtnl, &call.ifname)?;
        let mut is_new = false;
        let done = make_device(&mut rtnl, &key.tap(), &alias, || is_new = true).and_then(|tap| {
            rtnl.set_mtu(tap.index, link.mtu).map_err(refused("set the MTU of the TAP device"))?;
            rtnl.set_up(tap.index).map_err(refused("bring the TAP device up"))?;
            let both = [(tap.index, link.index), (link.index, tap.index)];
            both.into_iter().try_for_each(|(from, to)| {
                rtnl.redirect(from, to).map_err(refused("redirect frames (tc ingress)"))
            })
        });
        Ok((is_new, done))
    });
    let (is_new, done) = made?;
    if is_new {
        undo.push(move || remove(&call.key(), &call.ifname, netns));
    }
    done?;
    Ok(Tap { name: key.tap(), netns: Some(netns.path().to_owned()) })
}

/// Whether both redirections are there.
pub(super) fn check(call: &Call, netns: &Netns) -> Result<(), CniError> {
    let name = call.key().tap();
    netns.run(|| {
        let mut rtnl = Rtnl::open()?;
        let link = expect_link(&mut rtnl, &call.ifname)?;
        let tap = rtnl.link(&name).map_err(refused("look for the TAP device"))?;
        let tap = tap.ok_or_else(|| changed(format!("the TAP device {name} is gone")))?;
        for (from, to) in [(&link, &tap), (&tap, &link)] {
            let there = rtnl.is_redirected(from.index, to.index);
            if !there.map_err(refused("read the filters"))? {
                let msg =
                    format!("frames of {} are not redirected to {} any more", from.name, to.name);
                return Err(changed(msg));
            }
        }
        Ok(())
    })
}

/// Removes it with its redirections. Nothing there is no error.
pub(crate) fn remove(key: &AttachmentKey, ifname: &str, netns: &Netns) -> Result<(), CniError> {
    netns.run(|| {
        let mut rtnl = Rtnl::open()?;
        let name = key.tap();
        let Some(tap) = rtnl.link(&name).map_err(refused("look for the TAP device"))? else {
            return Ok(());
        };
        if let Some(link) = rtnl.link(ifname).map_err(refused("look for the interface"))? {
            let ours = rtnl.is_redirected(link.index, tap.index);
            if ours.map_err(refused("read the filters"))? {
                rtnl.stop_redirect(link.index).map_err(refused("stop redirecting frames"))?;
            }
        }
        rtnl.delete_link(tap.index).map_err(refused("remove the TAP device"))
    })
}

/// Makes a TAP device that stays, in the namespace of this thread, with an owner's alias. `made` is called as soon as it is there.
pub(super) fn make_device(
    rtnl: &mut Rtnl,
    name: &str,
    alias: &str,
    made: impl FnOnce(),
) -> Result<Link, CniError> {
    // To open a device of this name would succeed.
    if rtnl.link(name).map_err(refused("look for the TAP device"))?.is_some() {
        return Err(invalid(format!(
            "the TAP device {name} exists: this interface was added already"
        )));
    }
    clone_device()?;
    let device = DeviceBuilder::new().name(name).layer(Layer::L2).enable(false).build_sync();
    device.and_then(|device| device.persist()).map_err(|e| {
        CniError::new(Code::Network, format!("cannot make the TAP device {name}")).because(e)
    })?;
    made();
    let link = rtnl.link(name).map_err(refused("look for the TAP device"))?;
    let link = link.ok_or_else(|| invalid(format!("the TAP device {name} vanished")))?;
    rtnl.set_alias(link.index, alias).map_err(refused("name the TAP device's owner"))?;
    Ok(link)
}

/// Whether TAP devices can be made; error 50 says what is missing.
pub(crate) fn clone_device() -> Result<(), CniError> {
    if std::path::Path::new(CLONE_DEVICE).exists() {
        return Ok(());
    }
    let msg = format!("{CLONE_DEVICE} is missing");
    Err(CniError::new(Code::NotAvailable, msg).because("load the kernel's module: modprobe tun"))
}

fn expect_link(rtnl: &mut Rtnl, ifname: &str) -> Result<Link, CniError> {
    let link = rtnl.link(ifname).map_err(refused("look for the interface"))?;
    link.ok_or_else(|| changed(format!("the interface {ifname} is gone")))
}
