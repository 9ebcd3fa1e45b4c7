//! Level SOL_SOCKET: what every family stores alike (socket(7)). Families look here first and then at what is theirs.

use sentry_abi::Errno;
use sentry_abi::socket::*;
use sentry_kernel::Result;
use sentry_kernel::cred::{Capabilities, Credentials};
use sentry_kernel::sync::{Mutex, Rank};

use super::value;

/// net.core.wmem_default and rmem_default, in bytes.
pub const BUFFER_DEFAULT: usize = 212_992;
/// net.core.wmem_max and rmem_max, in bytes; a buffer may be double.
pub const BUFFER_MAX: usize = 4 << 20;
const SNDBUF_MIN: usize = 4608;
const RCVBUF_MIN: usize = 2304;

/// The state behind the options that every socket has.
#[derive(Clone, Debug)]
pub struct Values {
    /// SO_SNDBUF as Linux tells it (twice what was asked).
    pub sndbuf: usize,
    /// SO_RCVBUF likewise.
    pub rcvbuf: usize,
    /// SO_RCVTIMEO in nanoseconds.
    pub rcvtimeo_ns: Option<u64>,
    /// SO_SNDTIMEO in nanoseconds.
    pub sndtimeo_ns: Option<u64>,
    /// SO_RCVLOWAT in bytes.
    pub rcvlowat: i32,
    /// SO_REUSEADDR
    pub reuse_address: bool,
    /// SO_REUSEPORT
    pub reuse_port: bool,
    /// SO_KEEPALIVE
    pub keep_alive: bool,
    /// SO_BROADCAST
    pub broadcast: bool,
    /// SO_DONTROUTE
    pub dont_route: bool,
    /// SO_OOBINLINE
    pub oob_inline: bool,
    /// SO_NO_CHECK
    pub no_check: bool,
    /// SO_PRIORITY
    pub priority: i32,
    /// SO_LINGER
    pub linger: Linger,
    /// SO_TIMESTAMP
    pub timestamp: bool,
    /// SO_TIMESTAMPNS
    pub timestamp_ns: bool,
    /// SO_PASSCRED
    pub pass_credentials: bool,
    /// SO_MARK
    pub mark: i32,
}

impl Default for Values {
    fn default() -> Self {
        Self {
            sndbuf: BUFFER_DEFAULT,
            rcvbuf: BUFFER_DEFAULT,
            rcvtimeo_ns: None,
            sndtimeo_ns: None,
            rcvlowat: 1,
            reuse_address: false,
            reuse_port: false,
            keep_alive: false,
            broadcast: false,
            dont_route: false,
            oob_inline: false,
            no_check: false,
            priority: 0,
            linger: Linger::default(),
            timestamp: false,
            timestamp_ns: false,
            pass_credentials: false,
            mark: 0,
        }
    }
}

/// The common options of one socket.
#[derive(Debug)]
pub struct Common {
    values: Mutex<Values>,
}

impl Default for Common {
    fn default() -> Self {
        Self { values: Mutex::new(Rank::LEAF, Values::default()) }
    }
}

impl Common {
    /// A copy of the values now.
    pub fn values(&self) -> Values {
        self.values.lock().clone()
    }

    /// Options that start as another socket's (an accepted one inherits its listener's).
    pub fn inherit(other: &Common) -> Self {
        Self { values: Mutex::new(Rank::LEAF, other.values()) }
    }

    /// SO_SNDBUF in bytes.
    pub fn sndbuf(&self) -> usize {
        self.values.lock().sndbuf
    }

    /// SO_PASSCRED
    pub fn passes_credentials(&self) -> bool {
        self.values.lock().pass_credentials
    }

    /// SO_RCVTIMEO and SO_SNDTIMEO in nanoseconds.
    pub fn timeouts_ns(&self) -> (Option<u64>, Option<u64>) {
        let values = self.values.lock();
        (values.rcvtimeo_ns, values.sndtimeo_ns)
    }

    /// Sets an option of this level. Errors: ENOPROTOOPT for one that is not common, EINVAL, EPERM, EDOM.
    // tidy: table
    pub fn set(&self, creds: &Credentials, name: i32, bytes: &[u8]) -> Result<()> {
        let privileged = creds.has(Capabilities::NET_ADMIN);
        let number = value::int(bytes);
        let mut v = self.values.lock();
        match name {
            SO_SNDBUF => v.sndbuf = buffer(number?, SNDBUF_MIN),
            SO_RCVBUF => v.rcvbuf = buffer(number?, RCVBUF_MIN),
            SO_SNDBUFFORCE | SO_RCVBUFFORCE if !privileged => return Err(Errno::EPERM.into()),
            SO_SNDBUFFORCE => v.sndbuf = buffer(number?, SNDBUF_MIN),
            SO_RCVBUFFORCE => v.rcvbuf = buffer(number?, RCVBUF_MIN),
            SO_RCVTIMEO_OLD | SO_RCVTIMEO_NEW => v.rcvtimeo_ns = value::timeout_ns(bytes)?,
            SO_SNDTIMEO_OLD | SO_SNDTIMEO_NEW => v.sndtimeo_ns = value::timeout_ns(bytes)?,
            SO_RCVLOWAT => v.rcvlowat = low_water(number?),
            SO_REUSEADDR => v.reuse_address = number? != 0,
            SO_REUSEPORT => v.reuse_port = number? != 0,
            SO_KEEPALIVE => v.keep_alive = number? != 0,
            SO_BROADCAST => v.broadcast = number? != 0,
            SO_DONTROUTE => v.dont_route = number? != 0,
            SO_OOBINLINE => v.oob_inline = number? != 0,
            SO_NO_CHECK => v.no_check = number? != 0,
            SO_PRIORITY => match number? {
                priority @ 0..=6 => v.priority = priority,
                priority if privileged => v.priority = priority,
                _ => return Err(Errno::EPERM.into()),
            },
            SO_LINGER => v.linger = value::object(bytes)?,
            SO_TIMESTAMP_OLD => (v.timestamp, v.timestamp_ns) = (number? != 0, false),
            SO_TIMESTAMPNS_OLD => (v.timestamp, v.timestamp_ns) = (false, number? != 0),
            SO_PASSCRED => v.pass_credentials = number? != 0,
            SO_MARK if !privileged => return Err(Errno::EPERM.into()),
            SO_MARK => v.mark = number?,
            SO_DEBUG if number? != 0 && !privileged => return Err(Errno::EACCES.into()),
            SO_DEBUG if number? == 0 => {}
            _ => return Err(Errno::ENOPROTOOPT.into()),
        }
        Ok(())
    }

    /// The value of an option of this level. Errors: ENOPROTOOPT for one that is not common.
    // tidy: table
    pub fn option(&self, name: i32) -> Result<Vec<u8>> {
        let v = self.values.lock();
        Ok(match name {
            SO_SNDBUF => value::from_int(v.sndbuf as i32),
            SO_RCVBUF => value::from_int(v.rcvbuf as i32),
            SO_RCVTIMEO_OLD | SO_RCVTIMEO_NEW => value::from_timeout_ns(v.rcvtimeo_ns),
            SO_SNDTIMEO_OLD | SO_SNDTIMEO_NEW => value::from_timeout_ns(v.sndtimeo_ns),
            SO_RCVLOWAT => value::from_int(v.rcvlowat),
            SO_SNDLOWAT => value::from_int(1),
            SO_REUSEADDR => value::from_flag(v.reuse_address),
            SO_REUSEPORT => value::from_flag(v.reuse_port),
            SO_KEEPALIVE => value::from_flag(v.keep_alive),
            SO_BROADCAST => value::from_flag(v.broadcast),
            SO_DONTROUTE => value::from_flag(v.dont_route),
            SO_OOBINLINE => value::from_flag(v.oob_inline),
            SO_NO_CHECK => value::from_flag(v.no_check),
            SO_PRIORITY => value::from_int(v.priority),
            SO_LINGER => value::from_object(&v.linger),
            SO_TIMESTAMP_OLD => value::from_flag(v.timestamp),
            SO_TIMESTAMPNS_OLD => value::from_flag(v.timestamp_ns),
            SO_PASSCRED => value::from_flag(v.pass_credentials),
            SO_MARK => value::from_int(v.mark),
            SO_DEBUG | SO_BSDCOMPAT => value::from_int(0),
            _ => return Err(Errno::ENOPROTOOPT.into()),
        })
    }
}

/// What a buffer option stores: twice the wish (Linux counts its own overhead), within bounds.
fn buffer(asked: i32, min: usize) -> usize {
    let asked = usize::try_from(asked).unwrap_or(BUFFER_MAX);
    (asked.min(BUFFER_MAX) * 2).max(min)
}

/// SO_RCVLOWAT: negative means all that is possible, zero means one.
fn low_water(asked: i32) -> i32 {
    if asked < 0 { i32::MAX } else { asked.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_options_have_linux_defaults_layouts_and_errors() {
        let root = Credentials::root();
        let user = Credentials::user(1000, 1000, std::sync::Arc::from([]));
        // name, default, a value to set (as an int), what is read back
        let rows = [
            (SO_SNDBUF, 212_992, 10_000, 20_000),
            (SO_RCVBUF, 212_992, 1, 2304),
            (SO_RCVLOWAT, 1, 0, 1),
            (SO_REUSEADDR, 0, 5, 1),
            (SO_KEEPALIVE, 0, 1, 1),
            (SO_BROADCAST, 0, 1, 1),
            (SO_PRIORITY, 0, 6, 6),
            (SO_PASSCRED, 0, -1, 1),
        ];
        for (name, default, set, read) in rows {
            let common = Common::default();
            assert_eq!(common.option(name).unwrap(), value::from_int(default), "default of {name}");
            assert!(common.set(&user, name, &[1, 2]).unwrap_err().is(Errno::EINVAL));
            common.set(&user, name, &value::from_int(set)).unwrap();
            assert_eq!(common.option(name).unwrap(), value::from_int(read), "option {name}");
        }
        let common = Common::default();
        assert!(common.set(&user, SO_PRIORITY, &value::from_int(7)).unwrap_err().is(Errno::EPERM));
        common.set(&root, SO_PRIORITY, &value::from_int(7)).unwrap();
        assert!(common.set(&root, 9999, &[0; 4]).unwrap_err().is(Errno::ENOPROTOOPT));
        assert!(common.option(9999).unwrap_err().is(Errno::ENOPROTOOPT));
    }

    #[test]
    fn timeouts_are_nanoseconds_and_zero_is_for_ever() {
        let (common, root) = (Common::default(), Credentials::root());
        let time = SockTimeval { sec: 1, usec: 500_000 };
        common.set(&root, SO_RCVTIMEO_OLD, time.as_bytes()).unwrap();
        assert_eq!(common.timeouts_ns(), (Some(1_500_000_000), None));
        assert_eq!(common.option(SO_RCVTIMEO_OLD).unwrap(), time.as_bytes());
        let bad = SockTimeval { sec: 1, usec: 1_000_000 };
        assert!(common.set(&root, SO_SNDTIMEO_OLD, bad.as_bytes()).unwrap_err().is(Errno::EDOM));
        common.set(&root, SO_RCVTIMEO_OLD, SockTimeval::default().as_bytes()).unwrap();
        assert_eq!(common.timeouts_ns(), (None, None));
    }

    use zerocopy::IntoBytes;
}
