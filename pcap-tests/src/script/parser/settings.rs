//! The options at the head of a script.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use super::{Parsed, Parser};
use crate::script::lexer::Token;
use crate::script::syntax::{IpVersion, Settings};

/// The longest MTU, and the least that either family allows.
const MTU: std::ops::RangeInclusive<u32> = 68..=65_535;

impl Settings {
    /// Those of a script that says nothing, for a family: the addresses of RFC 5737 and RFC 4193.
    pub fn new(version: IpVersion) -> Settings {
        let (local, remote) = match version {
            IpVersion::V4 | IpVersion::Mapped => ([192, 168, 0, 1].into(), [192, 0, 2, 1].into()),
            IpVersion::V6 => (
                [0xfd3d, 0x0a0b, 0x17d6, 0, 0, 0, 0, 1].into(),
                [0xfd3d, 0xfa7b, 0xd17d, 0, 0, 0, 0, 1].into(),
            ),
        };
        Settings {
            version,
            tolerance: Duration::from_micros(4000),
            mtu: 1500,
            local,
            remote,
            bind_port: 8080,
            connect_port: 8080,
            tick: None,
        }
    }
}

impl<'a> Parser<'a> {
    /// All options before the first event.
    pub(super) fn settings(&mut self) -> Parsed<Settings> {
        // The family first: the addresses of the others depend on it.
        let begin = self.next;
        let mut version = IpVersion::default();
        while let Some(Token::Option(option)) = self.peek() {
            if let Some(name) = option.strip_prefix("--ip_version=") {
                version = match name {
                    "ipv4" => IpVersion::V4,
                    "ipv6" => IpVersion::V6,
                    "ipv4-mapped-ipv6" => IpVersion::Mapped,
                    _ => return Err(self.error("ipv4, ipv6 or ipv4-mapped-ipv6")),
                };
            }
            self.next += 1;
        }
        self.next = begin;
        let mut settings = Settings::new(version);
        while let Some(Token::Option(option)) = self.peek() {
            self.setting(&mut settings, option)?;
            self.next += 1;
        }
        if settings.mtu < 1280 && settings.version.is_v6_on_the_wire() {
            return Err(self.error("IPv6 needs an MTU of 1280 bytes (RFC 8200 section 5)"));
        }
        Ok(settings)
    }

    fn setting(&self, settings: &mut Settings, option: &str) -> Parsed<()> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "--ip_version" => {}
            "--tolerance_usecs" => settings.tolerance = Duration::from_micros(self.value(value)?),
            "--tcp_ts_tick_usecs" => {
                let tick = self.value::<u64>(value)?;
                settings.tick = (tick > 0).then(|| Duration::from_micros(tick));
            }
            "--mtu" => {
                settings.mtu = self.value(value)?;
                if !MTU.contains(&settings.mtu) {
                    return Err(self.error("an MTU is a number from 68 to 65535"));
                }
            }
            "--local_ip" => settings.local = self.address(settings, value)?,
            "--remote_ip" => settings.remote = self.address(settings, value)?,
            "--bind_port" => settings.bind_port = self.value(value)?,
            "--connect_port" => settings.connect_port = self.value(value)?,
            _ => {
                return Err(self.error(format!(
                    "{name} is not an option of scripts here; those are --ip_version, --tolerance_usecs, --mtu, --local_ip, \
                     --remote_ip, --bind_port, --connect_port, --tcp_ts_tick_usecs"
                )));
            }
        }
        Ok(())
    }

    fn value<T: FromStr>(&self, text: &str) -> Parsed<T>
    where
        T::Err: Display,
    {
        text.parse().map_err(|error| self.error(format!("{text:?}: {error}")))
    }

    fn address(&self, settings: &Settings, text: &str) -> Parsed<IpAddr> {
        let address: IpAddr = self.value(text)?;
        if address.is_ipv6() != settings.version.is_v6_on_the_wire() {
            return Err(self.error(format!("{address} is not of the script's --ip_version")));
        }
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            return Err(self.error(format!("{address} is no address of a host on a link")));
        }
        Ok(address)
    }
}
