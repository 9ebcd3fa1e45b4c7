//! A summary told: as tables for people, as JSON for programs.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::json;

use crate::capture::{LinkType, Reader};
use crate::flows::{Flow, Half, Protocol, Summary};
use crate::packet::Endpoint;

/// What a report shows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Hosts, those with the most bytes first.
    pub hosts: usize,
    /// Flows, those with the most bytes.
    pub flows: usize,
}

/// The tables.
pub fn text(name: &str, summary: &Summary, reader: &Reader, limits: Limits) -> String {
    let mut out = String::new();
    // A String takes whatever is written to it.
    let _ = writeln!(out, "{name}: {}", head(summary));
    let protocols: Vec<String> =
        summary.protocols().iter().map(|(name, n)| format!("{name} {}", grouped(*n))).collect();
    if !protocols.is_empty() {
        let _ = writeln!(out, "{}", protocols.join("  "));
    }
    hosts(&mut out, summary, limits.hosts);
    flows(&mut out, summary, limits.flows);
    anomalies(&mut out, summary);
    skipped(&mut out, summary, reader);
    out
}

fn head(summary: &Summary) -> String {
    let mut head = format!("{} frames, {} bytes", grouped(summary.frames), grouped(summary.bytes));
    if let Some((first, last)) = summary.span {
        let _ = write!(head, ", {} s from {}", seconds(last - first), date(first));
    }
    let links: Vec<String> = summary.links.iter().map(|link| link_name(*link)).collect();
    if !links.is_empty() {
        let _ = write!(head, ", {}", links.join(" and "));
    }
    for (count, what) in
        [(summary.cut, "cut by the snapshot length"), (summary.tagged, "with VLAN tags")]
    {
        if count > 0 {
            let _ = write!(head, ", {} {what}", grouped(count));
        }
    }
    head
}

/// A table without lines; the columns from `numbers` on stand to the right.
fn table(head: &[&str], numbers: usize, rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.iter().copied());
    table.add_rows(rows);
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((u16::from(at == 0), 1));
        if at >= numbers {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

fn hosts(out: &mut String, summary: &Summary, limit: usize) {
    let mut hosts: Vec<_> = summary.hosts().into_iter().collect();
    hosts.sort_by_key(|(address, host)| {
        (std::cmp::Reverse(host.sent_bytes + host.received_bytes), *address)
    });
    if hosts.is_empty() || limit == 0 {
        return;
    }
    let rows = hosts.iter().take(limit).map(|(address, host)| {
        let counts = [host.sent_frames, host.sent_bytes, host.received_frames, host.received_bytes];
        std::iter::once(address.to_string()).chain(counts.map(grouped)).collect()
    });
    let head = ["host", "frames sent", "bytes sent", "frames received", "bytes received"];
    let _ = writeln!(out, "\n{}", table(&head, 1, rows));
    more(out, hosts.len() as u64, limit, "hosts");
    if summary.of_other_hosts > 0 {
        let count = grouped(summary.of_other_hosts);
        let _ = writeln!(
            out,
            " ... beyond {} hosts {count} more ends of frames were not told apart",
            grouped(hosts.len() as u64)
        );
    }
}

fn more(out: &mut String, all: u64, shown: usize, what: &str) {
    if let Some(more) = all.checked_sub(shown as u64).filter(|more| *more > 0) {
        let _ = writeln!(out, " ... and {} more {what}", grouped(more));
    }
}

fn largest(summary: &Summary, limit: usize) -> Vec<&Flow> {
    let mut flows = summary.flows();
    flows.sort_by_key(|flow| std::cmp::Reverse(flow.payload_bytes()));
    flows.truncate(limit);
    flows.sort_by_key(|flow| flow.number);
    flows
}

fn flows(out: &mut String, summary: &Summary, limit: usize) {
    if summary.flow_count() == 0 || limit == 0 {
        return;
    }
    let begin = summary.span.map_or(Duration::ZERO, |(first, _)| first);
    let rows = largest(summary, limit).into_iter().map(|flow| {
        let both = |read: fn(&Half) -> u64| match flow.halves.each_ref().map(read) {
            [0, 0] => "-".into(),
            [one, other] => format!("{}/{}", grouped(one), grouped(other)),
        };
        let rtt = flow.halves.each_ref().map(|half| half.rtt.mean().map(millis));
        let rtt = match rtt {
            [None, None] => "-".into(),
            other => other.map(|rtt| rtt.unwrap_or("-".into())).join("/"),
        };
        vec![
            flow.number.to_string(),
            protocol(flow.protocol).into(),
            endpoint(flow.ends[0], flow.protocol),
            endpoint(flow.ends[1], flow.protocol),
            if flow.protocol == Protocol::Tcp { word(flow.opening()) } else { "-".into() },
            if flow.protocol == Protocol::Tcp { word(flow.ending()) } else { "-".into() },
            seconds(flow.start.saturating_sub(begin)),
            seconds(flow.duration()),
            both(|half| half.segments),
            both(|half| half.payload_bytes),
            both(|half| half.retransmissions),
            both(|half| half.out_of_order),
            both(|half| half.duplicate_acks),
            both(|half| half.zero_windows),
            rtt,
        ]
    });
    let head = [
        "#",
        "flow",
        "from",
        "to",
        "began",
        "ended",
        "at s",
        "for s",
        "packets",
        "bytes",
        "resent",
        "reordered",
        "dup ACKs",
        "zero win",
        "RTT ms",
    ];
    let _ = writeln!(out, "\n{}", table(&head, 6, rows));
    more(out, summary.flow_count(), limit, "flows");
    if summary.put_aside > 0 {
        let count = grouped(summary.put_aside);
        let _ = writeln!(
            out,
            " ... too many were open at a time: {count} quiet ones were put aside, and count as others if they went on"
        );
    }
}

fn anomalies(out: &mut String, summary: &Summary) {
    if summary.anomalies.0.is_empty() {
        return;
    }
    let rows = summary.anomalies.0.iter().map(|(kind, tally)| {
        let mut frames: Vec<String> = tally.frames.iter().map(u64::to_string).collect();
        if tally.count > tally.frames.len() as u64 {
            frames.push("...".into());
        }
        vec![kind.name().into(), format!("{:>7}", grouped(tally.count)), frames.join(" ")]
    });
    let _ = writeln!(out, "\n{}", table(&["to look at", "times", "in frames"], 9, rows));
}

fn skipped(out: &mut String, summary: &Summary, reader: &Reader) {
    for (frame, fault) in &summary.faults {
        let _ = writeln!(out, " frame {frame}: {fault}");
    }
    for skipped in reader.skipped() {
        let _ = writeln!(out, " after frame {}: {}", skipped.after, skipped.reason);
    }
    more(out, reader.skipped_count(), reader.skipped().len(), "records passed over");
}

/// All that is known of one flow.
pub fn flow(flow: &Flow) -> String {
    let mut out = String::new();
    let [from, to] = flow.ends.map(|end| endpoint(end, flow.protocol));
    let _ = writeln!(out, "flow {}: {} {from} -> {to}", flow.number, protocol(flow.protocol));
    let _ = writeln!(
        out,
        " from frame {}, {} frames, {} s",
        flow.first_frame,
        grouped(flow.frames),
        seconds(flow.duration())
    );
    if flow.protocol == Protocol::Tcp {
        let handshake = flow.handshake.map_or(String::new(), |t| format!(" ({} ms)", millis(t)));
        let _ = writeln!(
            out,
            " began: {}{handshake}; ended: {}",
            word(flow.opening()),
            word(flow.ending())
        );
    }
    if flow.icmp_errors > 0 {
        let _ = writeln!(out, " ICMP errors about it: {}", flow.icmp_errors);
    }
    let row = |name: &str, read: &dyn Fn(&Half) -> String| {
        let mut row = vec![name.to_string()];
        row.extend(flow.halves.iter().map(read));
        row
    };
    let count = |name: &str, read: fn(&Half) -> u64| row(name, &|half| grouped(read(half)));
    let rtt = |half: &Half| match half.rtt.mean() {
        Some(mean) => format!("{} {} {}", millis(half.rtt.min), millis(mean), millis(half.rtt.max)),
        None => "-".into(),
    };
    let rows = [
        count("segments", |half| half.segments),
        count("with data", |half| half.data_segments),
        count("bytes", |half| half.payload_bytes),
        count("bytes, each once", |half| half.unique_bytes),
        count("bytes never seen", |half| half.missing_bytes),
        count("retransmissions", |half| half.retransmissions),
        count("out of order", |half| half.out_of_order),
        count("gaps", |half| half.gaps),
        count("duplicate ACKs", |half| half.duplicate_acks),
        count("zero windows", |half| half.zero_windows),
        count("probes", |half| half.probes),
        count("SACK blocks", |half| half.sack_blocks),
        count("congestion marked", |half| half.marked),
        count("SYN", |half| half.syns),
        count("FIN", |half| half.fins),
        count("RST", |half| half.resets),
        count("largest payload", |half| half.largest_payload.into()),
        count("largest window", |half| half.largest_window),
        row("RTT min mean max, ms", &rtt),
        row("options of the SYN", &|half| {
            half.syn_options.map_or("-".into(), |options| options.to_string())
        }),
    ];
    let head = ["", &format!("{from} ->"), &format!("{to} ->")];
    let _ = writeln!(out, "{}", table(&head, 1, rows.into_iter()));
    out
}

/// A line of JSON: the whole summary.
pub fn json(name: &str, summary: &Summary, reader: &Reader, limits: Limits) -> serde_json::Value {
    let (first, last) = summary.span.unwrap_or_default();
    let flows: Vec<_> = largest(summary, limits.flows).into_iter().map(flow_json).collect();
    json!({
        "file": name,
        "frames": summary.frames,
        "bytes": summary.bytes,
        "start": first.as_secs_f64(),
        "duration": (last - first).as_secs_f64(),
        "links": summary.links.iter().map(|link| link_name(*link)).collect::<Vec<_>>(),
        "cut": summary.cut,
        "vlan_tagged": summary.tagged,
        "protocols": summary.protocols(),
        "hosts": summary.hosts(),
        "frames_of_other_hosts": summary.of_other_hosts,
        "flow_count": summary.flow_count(),
        "flows_put_aside": summary.put_aside,
        "flows": flows,
        "anomalies": summary.anomalies,
        "unreadable": summary.faults.iter().map(|(frame, fault)| json!({"frame": frame, "why": fault.to_string()})).collect::<Vec<_>>(),
        "skipped": reader.skipped().iter().map(|s| json!({"after": s.after, "why": s.reason})).collect::<Vec<_>>(),
        "skipped_count": reader.skipped_count(),
    })
}

fn flow_json(flow: &Flow) -> serde_json::Value {
    let mut value = json!(flow);
    value["opening"] = json!(flow.opening());
    value["ending"] = json!(flow.ending());
    value
}

/// The name of an enum's value, as JSON has it.
fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(String::from)).unwrap_or_default()
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Echo => "echo",
    }
}

fn endpoint((address, port): Endpoint, of: Protocol) -> String {
    match (address, of) {
        (_, Protocol::Echo) => address.to_string(),
        (IpAddr::V4(address), _) => format!("{address}:{port}"),
        (IpAddr::V6(address), _) => format!("[{address}]:{port}"),
    }
}

fn link_name(link: LinkType) -> String {
    match link {
        LinkType::Ethernet => "Ethernet".into(),
        LinkType::Null | LinkType::Loop => "loopback".into(),
        LinkType::RawIp => "raw IP".into(),
        LinkType::LinuxSll => "Linux cooked".into(),
        LinkType::LinuxSll2 => "Linux cooked v2".into(),
        LinkType::Other(number) => format!("link type {number} (not read)"),
    }
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

fn millis(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

fn date(time: Duration) -> String {
    match UNIX_EPOCH.checked_add(time).filter(|_| time.as_secs() < 253_402_300_800) {
        Some(time) => humantime::format_rfc3339_micros(time).to_string(),
        None => format!("{} s after the epoch", time.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_dates_have_a_limit() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(date(Duration::from_secs(86_400)), "1970-01-02T00:00:00.000000Z");
        assert!(date(Duration::from_secs(u64::MAX)).contains("after the epoch"));
    }
}
