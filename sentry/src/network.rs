//! The sandbox's network from its configuration: loopback, and where asked a TAP device whose other end is the host,
//! or the interfaces of a network namespace of the host.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use netstack::ip::IpCidr;
use netstack::link::MacAddr;
use netstack::link::fault::{FaultLink, Faults};
use netstack_host::device::{Device, Offloading};
use netstack_host::netns::{self, Namespace, TakenNic, Taking};
use netstack_host::tap::{Tap, TapConfig};
use sentry_kernel::log::{Level, Log};
use sentry_kernel::time::Clock;
use sentry_net::netns::{
    Loopback, NetConfig, NetError, NetNamespace, NicLink, NicSetup, RouteSetup,
};

use crate::attachment;
use crate::boot::BootError;
use crate::config::{self, NamespaceNetwork, Network, TapNetwork};

/// MTU of the TAP device in bytes.
const MTU: u32 = 1500;
/// The interface's name inside.
const NIC: &str = "eth0";
/// How late a reordered frame comes.
const REORDER_DELAY: Duration = Duration::from_millis(2);

/// Makes the namespace.
pub(crate) fn make(
    network: Network,
    clock: Arc<dyn Clock>,
    log: Arc<dyn Log>,
) -> Result<Arc<NetNamespace>, BootError> {
    let mut seed = [0; 32];
    platform::host::random::fill(&mut seed).map_err(|_| BootError::Step {
        what: "read random bytes".into(),
        errno: sentry_abi::Errno::EIO,
    })?;
    let mut config =
        NetConfig { loopback: Loopback::Up, nics: Vec::new(), routes: Vec::new(), seed, clock };
    match network {
        Network::Loopback => Ok(NetNamespace::new(config)?),
        Network::Tap(tap) => {
            add_tap(&mut config, tap)?;
            Ok(NetNamespace::new(config)?)
        }
        Network::Namespace(namespace) => {
            let net = NetNamespace::new(config)?;
            mirror(&net, namespace, log)?;
            Ok(net)
        }
    }
}

/// Takes a namespace of the host, makes the stack like it and keeps it so.
pub(crate) fn mirror(
    net: &Arc<NetNamespace>,
    network: NamespaceNetwork,
    log: Arc<dyn Log>,
) -> Result<(), BootError> {
    let namespace = network.namespace.map_or_else(Namespace::own, Namespace::of);
    let attachments = network.attachments;
    let taking = Taking {
        offloading: offloading(network.faults.as_ref()),
        rules: network.rules,
        redirected: attachment::redirected(&attachments),
        ..Taking::default()
    };
    let taken = netns::take::take(&namespace, taking).map_err(NetError::Host)?;
    let faults = network.faults;
    let limits = attachment::limits(&attachments);
    let wrap = move |nic: &TakenNic| {
        let link = match faults {
            None => NicLink::Device(nic.device.clone()),
            Some(faults) => with_faults(nic.device.clone(), faults),
        };
        attachment::limited(link, limits.get(&nic.link.name).copied().unwrap_or_default())
    };
    net.mirror(taken, Box::new(wrap), log.clone())?;
    for told in attachment::check(net.stack(), &attachments)? {
        log.write(Level::Warn, format_args!("{told}"));
    }
    attachment::complete(net, attachments)
}

/// A fault hits a frame, and a frame shall be what a wire carries.
fn offloading(faults: Option<&config::Faults>) -> Offloading {
    if faults.is_some() { Offloading::None } else { Offloading::Full }
}

fn add_tap(config: &mut NetConfig, network: TapNetwork) -> Result<(), BootError> {
    let addresses: Vec<IpCidr> =
        network.addresses.iter().map(|(a, p)| IpCidr::new(*a, *p)).collect();
    let mut host_addresses = Vec::new();
    for gateway in &network.gateways {
        let Some(net) = addresses.iter().find(|net| net.contains(*gateway)) else {
            return Err(BootError::Addresses(format!(
                "the gateway {gateway} lies in no network of --ip: give the sandbox an address beside it"
            )));
        };
        if net.address() == *gateway {
            return Err(BootError::Addresses(format!(
                "{gateway} cannot be both the sandbox and its gateway"
            )));
        }
        host_addresses.push(IpCidr::new(*gateway, net.prefix_len()));
        let any: IpAddr = if gateway.is_ipv4() { [0u8; 4].into() } else { [0u16; 8].into() };
        config.routes.push(RouteSetup {
            dst: IpCidr::new(any, 0),
            via: Some(*gateway),
            nic: NIC.into(),
        });
    }
    let default = TapConfig::default();
    let tap = Tap::open(&TapConfig {
        name: network.device.unwrap_or(default.name),
        host_addresses,
        mtu: MTU,
        offloading: offloading(network.faults.as_ref()),
    })?;
    let link = match network.faults {
        None => NicLink::Device(tap),
        Some(faults) => with_faults(tap, faults),
    };
    config.nics.push(NicSetup {
        name: NIC.into(),
        link,
        mac: mac(&config.seed),
        addresses,
        mtu: MTU,
    });
    Ok(())
}

fn with_faults(device: Arc<dyn Device>, asked: config::Faults) -> NicLink {
    let faults = Faults {
        loss_ppm: asked.loss_ppm,
        reorder_ppm: asked.reorder_ppm,
        reorder_delay: REORDER_DELAY,
        duplicate_ppm: asked.duplicate_ppm,
        corrupt_ppm: asked.corrupt_ppm,
        ..Faults::default()
    };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&asked.seed.to_le_bytes());
    let link = FaultLink::new(device.clone(), faults, faults, &seed);
    NicLink::Wrapped(device, Arc::new(link))
}

/// A locally administered unicast address.
fn mac(seed: &[u8; 32]) -> MacAddr {
    MacAddr([0x02, seed[0], seed[1], seed[2], seed[3], seed[4]])
}
