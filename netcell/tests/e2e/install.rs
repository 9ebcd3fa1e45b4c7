//! `netcell install` and `uninstall` on a made-up root.

use std::path::Path;
use std::process::Command;

use crate::harness::{NETCELL, Scratch, run};

fn netcell(arguments: &[&str], prefix: &Path) -> (bool, String, String) {
    let mut command = Command::new(NETCELL);
    command.args(arguments).arg("--prefix").arg(prefix);
    let output = run(&mut command, b"y\n");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_change_is_shown_made_on_consent_and_taken_back() {
    let root = Scratch::new();
    let daemon = root.path().join("etc/docker/daemon.json");
    std::fs::create_dir_all(daemon.parent().expect("a folder")).expect("folders");
    std::fs::write(&daemon, "{\n  \"log-level\": \"warn\"\n}\n").expect("a file");
    let before = std::fs::read_to_string(&daemon).expect("a file");
    let only = ["install", "--only", "docker"];

    let (success, shown, _) = netcell(&[&only[..], &["--dry-run"]].concat(), root.path());
    assert!(success && shown.contains("+  \"runtimes\": { \"netcell\""), "{shown}");
    assert_eq!(std::fs::read_to_string(&daemon).expect("a file"), before);

    let (success, shown, errors) = netcell(&only, root.path());
    assert!(
        !success && shown.contains("+++") && errors.contains("--yes"),
        "nobody was asked: {errors}"
    );
    assert_eq!(std::fs::read_to_string(&daemon).expect("a file"), before);

    let (success, _, errors) = netcell(&[&only[..], &["--yes"]].concat(), root.path());
    assert!(success, "{errors}");
    let installed = root.path().join("usr/local/bin/netcell");
    let version =
        |program: &Path| Command::new(program).arg("--version").output().expect("a program").stdout;
    assert_eq!(version(&installed), version(Path::new(NETCELL)));
    let (success, shown, _) = netcell(&[&only[..], &["--yes"]].concat(), root.path());
    assert!(success && shown.contains("Nothing to do"), "{shown}");

    let (success, _, errors) = netcell(&["uninstall", "--yes"], root.path());
    assert!(success, "{errors}");
    assert_eq!(std::fs::read_to_string(&daemon).expect("a file"), before);
    assert!(!installed.exists());
}

#[test]
fn without_the_plugin_or_the_folder_it_says_what_to_do() {
    let root = Scratch::new();
    let (success, _, errors) =
        netcell(&["install", "--yes", "--cni-plugin", "/nonexistent"], root.path());
    assert!(!success && errors.contains("/nonexistent"), "{errors}");
    let (success, _, errors) = netcell(&["install", "--yes"], &root.path().join("none"));
    assert!(!success && errors.contains("no folder"), "{errors}");
}

/// The pages are made from the commands, so what is asked of them is what a reader and a shell need.
#[test]
fn manuals_are_read_by_man_and_completions_by_bash() {
    let root = Scratch::new();
    let (success, _, errors) = netcell(&["install", "--only", "manuals", "--yes"], root.path());
    assert!(success, "{errors}");
    let share = root.path().join("usr/local/share");
    let pages = std::fs::read_dir(share.join("man/man1")).expect("pages");
    let mut names: Vec<_> = pages.flatten().map(|page| page.file_name()).collect();
    names.sort();
    assert!(names.iter().any(|name| name == "netcell-trace-replay.1"), "{names:?}");
    assert!(!names.iter().any(|name| name == "netcell-attend.1"), "hidden commands: {names:?}");
    let mut formatted = Command::new("man");
    formatted.arg("--local-file").arg("--warnings").arg(share.join("man/man1/netcell-run.1"));
    let output = run(formatted.env("MANWIDTH", "80"), b"");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("netcell-run") && text.contains("--strace"), "{text}");

    let completions = share.join("bash-completion/completions/netcell");
    let script = "source \"$1\"; COMP_WORDS=(netcell ru); COMP_CWORD=1; _netcell netcell ru netcell; echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    let output = run(bash.args(["-c", script, "bash"]).arg(&completions), b"");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "run");

    let (success, _, errors) = netcell(&["uninstall", "--yes"], root.path());
    assert!(success && !completions.exists(), "{errors}");
}
