//! Installing into a made-up root, and taking it back to the byte.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// A folder that stands for `/`, and goes away.
struct Prefix(PathBuf);

impl Prefix {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let path =
            std::env::temp_dir().join(format!("netcell-install-{}-{name}", std::process::id()));
        fs::create_dir(&path).expect("a folder");
        let prefix = Self(path);
        for (file, text) in files {
            let path = prefix.0.join(file);
            fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
            fs::write(path, text).expect("a file");
        }
        prefix
    }

    /// Every file below it with its content.
    fn files(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&self.0).expect("below").display().to_string();
                    found.insert(name, fs::read_to_string(&path).expect("text"));
                }
            }
        }
        found
    }

    fn install(&self, parts: &[Part]) -> Result<()> {
        Plan::install(&self.0, parts, &sources())?.carry_out()
    }

    fn uninstall(&self) -> Result<()> {
        Plan::uninstall(&self.0)?.carry_out()
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const PAGE: &str = "usr/local/share/man/man1/netcell.1";

fn sources() -> Sources {
    Sources {
        netcell: b"netcell 1".to_vec(),
        cni_plugin: Some(b"plugin 1".to_vec()),
        shim: Some(b"shim 1".to_vec()),
        manuals: vec![Manual::new("man/man1/netcell.1", b"page 1".to_vec())],
    }
}

const V2: &str = "version = 2\nroot = \"/x\"\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n  runtime_type = \"io.containerd.runc.v2\"\n";
const V3: &str = "# mine\nversion = 3\n\n[plugins]\n  [plugins.'io.containerd.cri.v1.runtime']\n    enable_cdi = true\n";

#[test]
fn every_shape_of_configuration_is_extended_and_comes_back() {
    let containerd = [V2, V3, "", "\n"];
    let docker = [
        "{}",
        "{ }\n",
        "{\n  \"log-level\": \"warn\",\n  \"x\": {\"runtimes\": {}}\n}\n",
        "{\"runtimes\": {}}",
        "{\n\t\"a\": [\"}\", \"\\\"runtimes\\\": {\"],\n\t\"runtimes\": {\n\t\t\"crun\": {\"path\": \"/c\"}\n\t}\n}",
        "",
    ];
    for (number, (toml, json)) in containerd.iter().cycle().zip(docker).enumerate() {
        let prefix = Prefix::new(&format!("shape{number}"), &[(CONTAINERD, toml), (DOCKER, json)]);
        if json.is_empty() {
            fs::remove_file(prefix.0.join(DOCKER)).expect("a file");
            fs::remove_file(prefix.0.join(CONTAINERD)).expect("a file");
        }
        let before = prefix.files();
        prefix.install(&[]).expect("installed");
        let after = prefix.files();
        let config: serde_json::Value = serde_json::from_str(&after[DOCKER]).expect("JSON");
        assert_eq!(config["runtimes"]["netcell"]["path"], "/usr/local/bin/netcell", "{json}");
        let config: toml::Table = after[CONTAINERD].parse().expect("TOML");
        let plugin = if before.get(CONTAINERD).is_some_and(|text| text == V3) {
            "io.containerd.cri.v1.runtime"
        } else {
            "io.containerd.grpc.v1.cri"
        };
        let entry = &config["plugins"][plugin]["containerd"]["runtimes"]["netcell"];
        assert_eq!(entry["runtime_type"].as_str(), Some("io.containerd.netcell.v1"));
        let programs = [NETCELL, SHIM, CNI_PLUGIN, PAGE].map(|file| &*after[file]);
        assert_eq!(programs, ["netcell 1", "shim 1", "plugin 1", "page 1"]);
        let mode = fs::metadata(prefix.0.join(CNI_PLUGIN)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        let again = Plan::install(&prefix.0, &[], &sources()).expect("a plan");
        assert!(again.changes().is_empty(), "a second time changes nothing: {again:?}");
        prefix.uninstall().expect("uninstalled");
        assert_eq!(prefix.files(), before, "{toml:?} {json:?}");
    }
}

#[test]
fn parts_follow_the_folders_that_are_there_or_what_is_named() {
    let prefix = Prefix::new("parts", &[]);
    prefix.install(&[]).expect("installed");
    let names: Vec<_> = prefix.files().into_keys().collect();
    assert_eq!(names, [SAMPLE, CNI_PLUGIN, PAGE, MANIFEST]);
    prefix.install(&[Part::Docker]).expect("installed");
    assert!(prefix.files().contains_key(DOCKER) && prefix.files().contains_key(NETCELL));
    prefix.uninstall().expect("uninstalled");
    assert!(prefix.files().is_empty());
    for part in [Part::Cni, Part::Containerd] {
        let without = Sources { cni_plugin: None, shim: None, ..sources() };
        assert!(Plan::install(&prefix.0, &[part], &without).is_err());
    }
}

#[test]
fn an_upgrade_replaces_what_was_installed_and_nothing_else() {
    let prefix = Prefix::new("upgrade", &[(NETCELL, "a distribution's")]);
    let error = prefix.install(&[Part::Docker]).expect_err("somebody else's file");
    assert!(error.to_string().contains("was not installed by netcell"), "{error:#}");
    fs::remove_file(prefix.0.join(NETCELL)).expect("a file");
    prefix.install(&[Part::Docker]).expect("installed");
    let newer = Sources { netcell: b"netcell 2".to_vec(), ..sources() };
    let plan = Plan::install(&prefix.0, &[Part::Docker], &newer).expect("a plan");
    assert_eq!(plan.changes().len(), 1);
    plan.carry_out().expect("upgraded");
    assert_eq!(prefix.files()[NETCELL], "netcell 2");
    // What stood there before was installed by hand: it stays.
    let own = Prefix::new("own", &[(NETCELL, "netcell 1")]);
    own.install(&[Part::Docker]).expect("installed");
    own.uninstall().expect("uninstalled");
    assert_eq!(own.files().into_keys().collect::<Vec<_>>(), [NETCELL]);
}

#[test]
fn what_cannot_be_edited_safely_is_refused_and_nothing_changes() {
    let theirs = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.netcell]\nruntime_type = \"x\"\n";
    let inline = "version = 2\nplugins = { \"io.containerd.grpc.v1.cri\" = {} }\n";
    for (number, (file, text)) in [
        (CONTAINERD, "version = 1\n"),
        (CONTAINERD, "root = \"/x\"\n"),
        (CONTAINERD, "not toml"),
        (CONTAINERD, theirs),
        (CONTAINERD, inline),
        (CONTAINERD, "version = 2\n# netcell install: begin\n"),
        (DOCKER, "[]"),
        (DOCKER, "{"),
        (DOCKER, "{\"runtimes\": []}"),
        (DOCKER, "{\"runtimes\": {\"netcell\": {\"path\": \"/theirs\"}}}"),
    ]
    .into_iter()
    .enumerate()
    {
        let prefix = Prefix::new(&format!("refused{number}"), &[(file, text)]);
        let before = prefix.files();
        assert!(prefix.install(&[]).is_err(), "{text}");
        assert_eq!(prefix.files(), before);
    }
}

#[test]
fn links_that_lead_out_and_notes_that_name_others_are_refused() {
    let (prefix, outside) =
        (Prefix::new("links", &[]), Prefix::new("outside", &[("daemon.json", "{}")]));
    fs::create_dir_all(prefix.0.join("etc/docker")).expect("folders");
    symlink(outside.0.join("daemon.json"), prefix.0.join(DOCKER)).expect("a link");
    assert!(prefix.install(&[Part::Docker]).is_err());
    assert_eq!(outside.files()["daemon.json"], "{}");
    fs::remove_file(prefix.0.join(DOCKER)).expect("a link");
    // A link within the prefix is followed, and stays one.
    fs::write(prefix.0.join("etc/docker/real.json"), "{}").expect("a file");
    symlink("real.json", prefix.0.join(DOCKER)).expect("a link");
    prefix.install(&[Part::Docker]).expect("installed");
    assert!(fs::symlink_metadata(prefix.0.join(DOCKER)).is_ok_and(|m| m.is_symlink()));
    for theirs in [
        "../../etc/passwd",
        "usr/local/share/man/man1/../../netcell-x.1",
        "usr/local/share/man/man1/ls.1",
    ] {
        let note = serde_json::json!({ "files": [theirs] });
        fs::write(prefix.0.join(MANIFEST), note.to_string()).expect("a file");
        assert!(prefix.uninstall().is_err(), "{theirs}");
    }
}

#[test]
fn a_failure_half_way_takes_back_what_was_done() {
    let prefix = Prefix::new("half", &[]);
    let plan = Plan::install(&prefix.0, &[Part::Cni, Part::Docker], &sources()).expect("a plan");
    // Since the plan was made, a folder has come where a file shall be.
    fs::create_dir_all(prefix.0.join(DOCKER).join("x")).expect("a folder");
    assert!(plan.carry_out().is_err());
    assert!(prefix.files().is_empty(), "{:?}", prefix.files());
}

#[test]
fn the_diff_shows_what_changes_with_its_surroundings() {
    let change = |before: Option<&str>, after: Option<&str>| Change {
        path: "/f".into(),
        before: before.map(|t| t.into()),
        after: after.map(|t| t.into()),
        mode: 0,
    };
    let shown =
        diff(&change(Some("1\n2\n3\n4\n5\n6\n7\n8\n"), Some("1\n2\n3\n4\nnew\n5\n6\n7\n8\n")));
    assert_eq!(shown, "--- /f\n+++ /f\n@@ -2,6 +2,7 @@\n 2\n 3\n 4\n+new\n 5\n 6\n 7\n");
    assert_eq!(diff(&change(None, Some("a\n"))), "--- /dev/null\n+++ /f\n@@ -0,0 +1,1 @@\n+a\n");
    assert_eq!(diff(&change(Some("a\n"), None)), "--- /f\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-a\n");
    let mut program = change(None, None);
    program.after = Some(vec![0xff; 9]);
    assert!(diff(&program).contains("nothing becomes 9 bytes"));
}
