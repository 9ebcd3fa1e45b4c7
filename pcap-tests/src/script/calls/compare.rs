//! What a call gave besides its value, compared with what the script says.

use std::net::SocketAddr;

use super::{Effect, Prepared, address, option_bytes, value};
use crate::script::kernel::Returned;
use crate::script::numbers;
use crate::script::syntax::{Call, Expr};

/// Compares what a call gave besides its value with what the script says; what differs, as (expected, came).
pub fn compare(
    call: &Call,
    prepared: &Prepared,
    returned: &Returned,
) -> Result<(), (String, String)> {
    let argument = |n: usize| call.arguments.get(n);
    match prepared.effect {
        Effect::Value => compare_option(argument(3), &returned.data),
        Effect::Number => {
            let wanted = match argument(2) {
                Some(Expr::List(list)) => list.first().and_then(value),
                _ => None,
            };
            let found = int_of(&returned.data);
            same(wanted, found)
        }
        Effect::Polled => {
            let list: &[Expr] = match argument(0) {
                Some(Expr::List(list)) => list,
                Some(single) => std::slice::from_ref(single),
                None => &[],
            };
            for (entry, found) in list.iter().zip(&returned.events) {
                let Expr::Struct(members) = entry else { continue };
                let wanted = members.iter().find(|(name, _)| name == "revents");
                let Some(wanted) = wanted.and_then(|(_, expr)| value(expr)) else { continue };
                // Linux's numbers of both are the same.
                if wanted != i64::from(*found) {
                    let text = |events| format!("revents={}", numbers::bits(events, "POLL"));
                    return Err((text(wanted), text(i64::from(*found))));
                }
            }
            Ok(())
        }
        _ => match (call.name.as_str(), returned.address) {
            ("accept" | "accept4", Some(found)) => compare_address(argument(1), found),
            ("recvfrom", Some(found)) => compare_address(argument(4), found),
            _ => compare_bytes(call, &returned.data),
        },
    }
}

fn compare_address(wanted: Option<&Expr>, found: SocketAddr) -> Result<(), (String, String)> {
    let Some(expr @ Expr::Struct(_)) = wanted else { return Ok(()) };
    let plain = SocketAddr::new(found.ip().to_canonical(), found.port());
    match address(expr) {
        Ok(wanted) if wanted == plain || wanted == found => Ok(()),
        Ok(wanted) => Err((wanted.to_string(), plain.to_string())),
        Err(why) => Err((why, plain.to_string())),
    }
}

/// Bytes that a script names are compared.
fn compare_bytes(call: &Call, found: &[u8]) -> Result<(), (String, String)> {
    let is_receive = matches!(call.name.as_str(), "read" | "recv" | "recvfrom");
    match call.arguments.get(1) {
        Some(Expr::Text(wanted)) if is_receive && !wanted.starts_with(found) => {
            let text = |bytes: &[u8]| format!("{:?}", String::from_utf8_lossy(bytes));
            Err((text(wanted), text(found)))
        }
        _ => Ok(()),
    }
}

fn int_of(bytes: &[u8]) -> Option<i64> {
    bytes.first_chunk().map(|bytes| i64::from(i32::from_ne_bytes(*bytes)))
}

fn same(wanted: Option<i64>, found: Option<i64>) -> Result<(), (String, String)> {
    match (wanted, found) {
        (Some(wanted), Some(found)) if wanted != found => {
            Err((format!("[{wanted}]"), format!("[{found}]")))
        }
        _ => Ok(()),
    }
}

fn compare_option(wanted: Option<&Expr>, found: &[u8]) -> Result<(), (String, String)> {
    match wanted {
        Some(Expr::List(list)) => {
            let wanted = list.first().and_then(value);
            let found = match found {
                [byte] => Some(i64::from(*byte)),
                bytes => int_of(bytes),
            };
            same(wanted, found)
        }
        Some(Expr::Text(wanted)) => {
            let end = found.iter().position(|byte| *byte == 0).unwrap_or(found.len());
            let text = |bytes: &[u8]| format!("{:?}", String::from_utf8_lossy(bytes));
            if found[..end] == wanted[..] {
                Ok(())
            } else {
                Err((text(wanted), text(&found[..end])))
            }
        }
        Some(expr @ Expr::Struct(_)) => match option_bytes(expr, found.len()) {
            Ok(wanted) if wanted == found => Ok(()),
            Ok(wanted) => Err((format!("{wanted:?}"), format!("{found:?}"))),
            Err(why) => Err((why, format!("{found:?}"))),
        },
        _ => Ok(()),
    }
}

/// Compares the events of an epoll_wait with the script's: those that are ready, in the order in which they were added.
pub fn compare_waited(
    call: &Call,
    list: &[(i64, i16, i64)],
    most: usize,
    returned: &Returned,
) -> Result<(), (String, String)> {
    let wanted: &[Expr] = match call.arguments.get(1) {
        Some(Expr::List(list)) => list,
        Some(single @ Expr::Struct(_)) => std::slice::from_ref(single),
        _ => return Ok(()),
    };
    let ready = list.iter().zip(&returned.events).filter(|(_, events)| **events != 0).take(most);
    let found: Vec<(i64, i64)> =
        ready.map(|((.., data), events)| (i64::from(*events), *data)).collect();
    let read = |expr: &Expr| {
        let Expr::Struct(members) = expr else { return None };
        let member = |name: &str| {
            members.iter().find(|(known, _)| known == name).and_then(|(_, expr)| value(expr))
        };
        let data = member("fd").or(member("ptr")).or(member("u32")).or(member("u64"));
        Some((member("events")?, data?))
    };
    let text = |events: &[(i64, i64)]| {
        let one = |(events, data): &(i64, i64)| {
            format!("{{events={}, fd={data}}}", numbers::bits(*events, "EPOLL"))
        };
        events.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let wanted: Vec<(i64, i64)> = wanted.iter().filter_map(read).collect();
    if wanted == found { Ok(()) } else { Err((text(&wanted), text(&found))) }
}
