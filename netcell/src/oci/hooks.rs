//! Hooks: programs of the host that run at points of a container's life, with its state on their standard input (config.md, "POSIX-platform Hooks").

use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{SigSet, SigmaskHow};
use oci_spec::runtime::Hook;

/// How often a hook with a time-out is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Bytes of a failed hook's standard error that are told.
const TOLD_MAX: u64 = 4096;

/// Runs the hooks of one point in their order; the first that fails ends it. `state` is the container's state as JSON.
pub fn run(point: &str, hooks: Option<&Vec<Hook>>, state: &str) -> Result<()> {
    for hook in hooks.into_iter().flatten() {
        run_one(hook, state).with_context(|| format!("{point} hook {}", hook.path().display()))?;
    }
    Ok(())
}

fn run_one(hook: &Hook, state: &str) -> Result<()> {
    let mut errors = std::fs::File::from(platform::host::file::memory_file(c"hook")?);
    let mut command = Command::new(hook.path());
    let mut words = hook.args().iter().flatten();
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    let variables = hook.env().iter().flatten().filter_map(|variable| variable.split_once('='));
    // "env … has the same semantics as environ": nothing of the runtime's own.
    command.args(words).env_clear().envs(variables);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(errors.try_clone()?);
    let mut child = spawn(&mut command)?;
    let input = child.stdin.take();
    let status = thread::scope(|scope| {
        scope.spawn(move || input.map(|mut input| input.write_all(state.as_bytes())));
        wait(&mut child, hook.timeout())
    })?;
    if status.success() {
        return Ok(());
    }
    let mut text = Vec::new();
    errors.rewind()?;
    errors.take(TOLD_MAX).read_to_end(&mut text)?;
    bail!("{status}: {}", String::from_utf8_lossy(&text).trim());
}

/// Starts it with no signal blocked, whatever this thread blocks.
fn spawn(command: &mut Command) -> Result<Child> {
    let blocked = SigSet::empty().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let child = command.spawn();
    blocked.thread_set_mask()?;
    Ok(child?)
}

fn wait(child: &mut Child, timeout_s: Option<i64>) -> Result<ExitStatus> {
    let Some(seconds) = timeout_s.and_then(|seconds| u64::try_from(seconds).ok()) else {
        return Ok(child.wait()?);
    };
    let end = Instant::now().checked_add(Duration::from_secs(seconds));
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            child.kill()?;
            child.wait()?;
            ensure!(false, "it did not end within {seconds} seconds");
        }
        thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shell(script: &str, timeout: Option<u32>) -> Hook {
        let hook = json!({
            "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["A=b"], "timeout": timeout,
        });
        serde_json::from_value(hook).expect("a hook")
    }

    #[test]
    fn a_hook_has_the_state_and_its_environment_and_nothing_else() {
        let script =
            r#"read -r state; test "$state" = '{"id":"x"}' && test "$A" = b && test -z "$HOME""#;
        let hooks = vec![shell(script, None)];
        run("prestart", Some(&hooks), "{\"id\":\"x\"}\n").expect("success");
    }

    #[test]
    fn a_hook_that_fails_or_hangs_is_told() {
        let failed = run("poststop", Some(&vec![shell("echo no >&2; exit 3", Some(60))]), "{}");
        let told = format!("{:#}", failed.expect_err("status 3"));
        assert!(told.contains("poststop hook /bin/sh: exit status: 3: no"), "{told}");
        let hung = run("poststart", Some(&vec![shell("exec sleep 600", Some(1))]), "{}");
        assert!(format!("{:#}", hung.expect_err("a time-out")).contains("within 1 seconds"));
    }

    #[test]
    fn a_hook_has_no_signal_blocked() {
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).expect("a mask");
        let script = "read -r s; grep -q '^SigBlk:.0000000000000000$' /proc/self/status";
        let done = run("prestart", Some(&vec![shell(script, None)]), "{}\n");
        before.thread_set_mask().expect("a mask");
        done.expect("an empty mask");
    }

    #[test]
    fn a_hook_that_does_not_read_the_state_is_no_failure() {
        let state = "x".repeat(1 << 20);
        run("prestart", Some(&vec![shell("exit 0", None)]), &state).expect("success");
    }
}
