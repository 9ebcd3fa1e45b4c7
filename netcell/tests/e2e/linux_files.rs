//! What programs see of files, pipes, locks, readiness and sockets is what they see on Linux: the same program, line by line.

use crate::harness::{Scratch, host, netcell, run, same_as_host};

const PYTHON: &str = "/usr/bin/python3";
const LAYER_FILES: &str = include_str!("linux_files/layer_files.py");
const PRELUDE: &str = include_str!("linux_files/prelude.py");

/// Where a program works inside: behaviours are those of the filesystem there.
enum Place<'a> {
    /// tmpfs, at /tmp.
    Memory,
    /// A directory of the host, mapped read-write.
    Volume,
    /// A directory of the host's tree below the image's layer in memory; what is in it was made by this program.
    Layer(&'a str),
}

/// Output lines of a program that must succeed.
fn lines(output: &std::process::Output, side: &str) -> Vec<String> {
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{side}: {:?}\n{text}\n{errors}", output.status);
    text.lines().map(str::to_owned).collect()
}

/// Runs a program on the host and inside; every line must be the same, but for those that begin with an exception's label,
/// which must differ (an exception that is not needed any more goes).
fn same(program: &str, place: &Place<'_>, exceptions: &[(&str, &str)]) {
    let source = format!("{PRELUDE}{program}");
    let program = [PYTHON, "-c", &source];
    let (outside, inner) = (Scratch::new(), Scratch::of_image());
    if let Place::Layer(prepare) = place {
        for folder in [&outside, &inner] {
            lines(&run(&mut host(&[PYTHON, "-c", prepare], folder.path()), b""), "preparation");
        }
    }
    let expected = lines(&run(&mut host(&program, outside.path()), b""), "host");
    let folder = inner.path().to_string_lossy().into_owned();
    let volume = match place {
        Place::Volume => format!("{folder}:/v"),
        Place::Memory | Place::Layer(_) => String::new(),
    };
    let flags = match place {
        Place::Memory => vec!["--workdir", "/tmp"],
        Place::Volume => vec!["--volume", &volume, "--workdir", "/v"],
        Place::Layer(_) => vec!["--rootfs", "/", "--workdir", &folder],
    };
    let given = lines(&run(&mut netcell(&flags, &program), b""), "sandbox");
    let excepted = |line: &str| exceptions.iter().any(|(label, _)| line.starts_with(label));
    let mut differences = Vec::new();
    for at in 0..expected.len().max(given.len()) {
        let (want, got) = (expected.get(at), given.get(at));
        let label = want.or(got).map_or("", |line| line.as_str());
        if (want == got) == excepted(label) {
            differences.push(format!("Linux:   {want:?}\nsandbox: {got:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn tools_that_read_proc() {
    // Not here, as nothing inside says it: /proc/net/unix, and the constants of Tcp in /proc/net/snmp.
    same_as_host(&[], include_str!("linux_files/tools.sh"));
}

/// A test for each program, in a place, with exceptions and their reasons.
macro_rules! conformance {
    ($($test:ident: $file:literal in $place:expr $(, except $label:literal because $reason:literal)*;)*) => {$(
        #[test]
        fn $test() {
            same(include_str!(concat!("linux_files/", $file)), &$place, &[$(($label, $reason)),*]);
        }
    )*};
}

conformance! {
    open_flags_and_errors: "open.py" in Place::Memory;
    openat2_resolve_flags: "resolve.py" in Place::Memory;
    permissions_of_users_and_modes: "permissions.py" in Place::Memory;
    names_directories_and_roots: "names.py" in Place::Memory;
    times_sizes_holes_and_copies: "times_and_space.py" in Place::Memory;
    pipes_and_fifos: "pipes.py" in Place::Memory;
    record_locks_and_flock: "locks.py" in Place::Memory;
    poll_select_and_epoll: "readiness.py" in Place::Memory;
    eventfd_signalfd_timerfd_memfd_inotify: "events.py" in Place::Memory;
    names_on_a_volume: "names.py" in Place::Volume;
    times_sizes_and_holes_on_a_volume: "times_and_space.py" in Place::Volume;
    permissions_on_a_volume: "permissions.py" in Place::Volume;
    locks_on_a_volume: "locks.py" in Place::Volume;
    inotify_on_a_volume: "events.py" in Place::Volume,
        except "xattr" because "extended attributes of a volume are the host's: EOPNOTSUPP";
    files_of_the_image_below_the_layer: "layer.py" in Place::Layer(LAYER_FILES),
        except "xattr of below" because "the host's extended attributes are not shown: EOPNOTSUPP",
        except "xattr after write" because "so the copy has none",
        except "shared map follows" because "as in overlayfs: a mapping made before the copy stays with the lower file",
        except "rename lower dir" because "as in overlayfs without redirect_dir: EXDEV, mv(1) copies",
        except "move its dir out" because "EXDEV as above",
        except "dir over empty lower" because "follows from the one before",
        except "exchange" because "EXDEV: it is a lower directory that would move",
        except "list at end" because "the directory kept its name";
    unix_sockets: "unix_sockets.py" in Place::Memory;
    terminals_and_devices: "terminals.py" in Place::Memory,
        except "packet mode" because "TIOCPKT is not offered: ENOTTY",
        except "null:" because "lseek of /dev/null tells the offset that was asked for";
    internet_sockets_over_loopback: "inet.py" in Place::Memory,
        except "4 reuse both" because "SO_REUSEADDR counts as it was at bind(2), not as it was set later",
        except "4 listen both" because "follows from the one before",
        except "4 nonblocking connect" because "over loopback the handshake is done before the call returns",
        except "4 connect when done" because "so the connection is known to be there",
        except "4 nonblocking refused" because "and so is the refusal",
        except "4 after refused" because "which was told by connect(2)",
        except "4 connect again" because "after which the socket is fresh",
        except "u4 reuse" because "as for streams: the flag at bind(2) counts",
        except "u4 last bound" because "follows from the one before",
        except "6 reuse both" because "SO_REUSEADDR counts as it was at bind(2), not as it was set later",
        except "6 listen both" because "follows from the one before",
        except "6 nonblocking connect" because "over loopback the handshake is done before the call returns",
        except "6 connect when done" because "so the connection is known to be there",
        except "6 nonblocking refused" because "and so is the refusal",
        except "6 after refused" because "which was told by connect(2)",
        except "6 connect again" because "after which the socket is fresh",
        except "u6 reuse" because "as for streams: the flag at bind(2) counts",
        except "u6 last bound" because "follows from the one before";
}
