//! Settings of the stack by their paths below /proc/sys, as scripts and scenarios set them.

use std::time::Duration;

use netstack::stack::Stack;
use netstack::transport::Host;
use netstack::transport::tcp::{
    EcnPolicy, MtuProbing, SynCookies, TcpConfig, TimeWaitReuse, congestion,
};

/// Sets a value. Errors: a setting that is not there, a value that it does not take.
pub fn set(stack: &Stack, path: &str, value: &str) -> Result<(), String> {
    let wrong = || format!("{path} does not take {value:?}");
    let Some(name) = path.strip_prefix("net/ipv4/tcp_") else {
        return other(stack, path, value);
    };
    if name == "congestion_control" {
        let known = congestion::known(value.as_bytes()).ok_or_else(wrong)?;
        stack.edit_tcp_config(|config| config.congestion = known);
        return Ok(());
    }
    let numbers: Option<Vec<u64>> =
        value.split_whitespace().map(|word| word.parse().ok()).collect();
    let numbers = numbers.filter(|numbers| !numbers.is_empty()).ok_or_else(wrong)?;
    let mut config = (*stack.tcp_config()).clone();
    let done = match (name, &numbers[..]) {
        // The least of each is fixed.
        ("rmem", [4096, first, most]) => {
            (config.receive_buffer, config.receive_buffer_max) = (size(*first), size(*most));
            Some(())
        }
        ("wmem", [4096, first, most]) => {
            (config.send_buffer, config.send_buffer_max) = (size(*first), size(*most));
            Some(())
        }
        ("rmem" | "wmem", _) => {
            return Err(format!("{path}: three numbers, the first of which is 4096"));
        }
        (_, [number]) => number_of_tcp(&mut config, name, *number),
        _ => return Err(wrong()),
    };
    done.ok_or_else(|| format!("{path} is no setting of the stack, or does not take {value:?}"))?;
    stack.edit_tcp_config(|edited| *edited = config);
    Ok(())
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A setting of TCP that is one number. `None` where it is not there, or does not take it.
// tidy: table
fn number_of_tcp(config: &mut TcpConfig, name: &str, number: u64) -> Option<()> {
    let small = u32::try_from(number).ok().filter(|n| *n <= i32::MAX as u32);
    let on = || (number <= 255).then_some(number != 0);
    let (seconds, millis) = (Duration::from_secs(number), Duration::from_millis(number));
    match name {
        "abort_on_overflow" => config.abort_on_overflow = on()?,
        "base_mss" => config.base_mss = size(number),
        "challenge_ack_limit" => config.challenge_ack_limit = small?,
        "ecn" => {
            config.ecn = match number {
                0 => EcnPolicy::Off,
                1 => EcnPolicy::Request,
                2 => EcnPolicy::Grant,
                _ => return None,
            }
        }
        "ecn_fallback" => config.ecn_fallback = on()?,
        "fastopen" => config.fast_open = small?,
        "fastopen_blackhole_timeout_sec" => config.fast_open_blackhole = seconds,
        "fin_timeout" => config.fin_timeout = seconds,
        "frto" => config.detect_spurious_timeouts = on()?,
        "invalid_ratelimit" => config.invalid_ratelimit = millis,
        "keepalive_intvl" => config.keep_interval = seconds,
        "keepalive_probes" => config.keep_count = small?,
        "keepalive_time" => config.keep_idle = seconds,
        "max_orphans" => config.max_orphans = size(number),
        "max_syn_backlog" => config.max_syn_backlog = size(number),
        "max_tw_buckets" => config.max_time_wait = size(number),
        "min_rtt_wlen" => config.min_rtt_window = seconds,
        "min_snd_mss" => config.min_send_mss = size(number),
        "mtu_probing" => {
            config.mtu_probing = match number {
                0 => MtuProbing::Off,
                1 => MtuProbing::BlackHole,
                _ => MtuProbing::Always,
            }
        }
        "notsent_lowat" => config.not_sent_low_water = size(number),
        // 0 stands for 8.
        "orphan_retries" => config.orphan_retries = if number == 0 { 8 } else { small? },
        "probe_interval" => config.mtu_probe_interval = seconds,
        "probe_threshold" => config.mtu_probe_threshold = size(number),
        "mtu_probe_floor" => config.mtu_probe_floor = size(number),
        "retries1" => config.retries_soft = small?,
        "retries2" => config.retries = small?,
        "rfc1337" => config.rfc1337 = on()?,
        "rto_max_ms" => config.rto_max = millis,
        "rto_min_us" => config.rto_min = Duration::from_micros(number),
        "sack" => config.sack = on()?,
        "slow_start_after_idle" => config.slow_start_after_idle = on()?,
        "syn_linear_timeouts" => config.syn_linear_timeouts = small?,
        "syn_retries" => config.syn_retries = small?,
        "synack_retries" => config.synack_retries = small?,
        "syncookies" => {
            config.syncookies = match number {
                0 => SynCookies::Off,
                1 => SynCookies::WhenFull,
                2 => SynCookies::Always,
                _ => return None,
            }
        }
        "thin_linear_timeouts" => config.thin_linear_timeouts = on()?,
        "timestamps" => config.timestamps = on()?,
        "tw_reuse" => {
            config.time_wait_reuse = match number {
                0 => TimeWaitReuse::Off,
                1 => TimeWaitReuse::All,
                2 => TimeWaitReuse::Loopback,
                _ => return None,
            }
        }
        "window_scaling" => config.window_scaling = on()?,
        _ => return None,
    }
    Some(())
}

/// What is not TCP's.
fn other(stack: &Stack, path: &str, value: &str) -> Result<(), String> {
    let wrong = || format!("{path} does not take {value:?}");
    let numbers: Option<Vec<u32>> =
        value.split_whitespace().map(|word| word.parse().ok()).collect();
    let numbers = numbers.ok_or_else(wrong)?;
    match (path, &numbers[..]) {
        ("net/core/somaxconn", [n]) => {
            stack.edit_tcp_config(|config| config.somaxconn = *n as usize)
        }
        ("net/ipv4/ip_default_ttl", [n @ 1..=255]) => {
            stack.edit_ip_conf(|ip| ip.ip_default_ttl = *n as u8);
        }
        ("net/ipv4/ip_no_pmtu_disc", [n @ 0..=255]) => {
            stack.edit_ip_conf(|ip| ip.ip_no_pmtu_disc = *n as u8);
        }
        ("net/ipv4/route/min_pmtu", [n @ 68..=65_535]) => stack.edit_ip_conf(|ip| ip.min_pmtu = *n),
        ("net/ipv4/icmp_ratelimit", [n]) => stack.edit_ip_conf(|ip| ip.icmp_ratelimit = *n),
        ("net/ipv6/icmp/ratelimit", [n]) => stack.edit_ip_conf(|ip| ip.icmp6_ratelimit = *n),
        ("net/ipv4/ip_local_port_range", [first @ 1024..=65_535, last @ 1024..=65_535])
            if first <= last =>
        {
            stack.shared().ports.set_ephemeral_range(*first as u16, *last as u16);
        }
        _ => {
            return Err(format!(
                "{path} is no setting that scripts change here, or does not take {value:?}"
            ));
        }
    }
    Ok(())
}
