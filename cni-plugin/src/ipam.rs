//! Addresses by a delegated plugin (specification, section 4): host-local, static, dhcp or another, found in CNI_PATH.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::call::{Call, Verb};
use crate::error::{CniError, Code};
use crate::program;
use crate::result::CniResult;
use crate::version::Version;

/// The plugin that gives addresses.
pub(crate) struct Ipam<'a> {
    call: &'a Call,
    kind: &'a str,
}

impl<'a> Ipam<'a> {
    /// That of the configuration, which must name one.
    pub(crate) fn expect(call: &'a Call) -> Result<Self, CniError> {
        Self::of(call).ok_or_else(|| {
            let msg = format!("mode {:?} needs \"ipam\"", call.settings.mode);
            CniError::new(Code::InvalidConfig, msg)
        })
    }

    /// That of the configuration, where it names one.
    pub(crate) fn of(call: &'a Call) -> Option<Self> {
        call.settings.ipam.as_ref().map(|ipam| Self { call, kind: &ipam.kind })
    }

    /// Whether it asks the network itself, over the interface in the container.
    pub(crate) fn needs_interface(&self) -> bool {
        self.kind == "dhcp"
    }

    /// The executable.
    pub(crate) fn program(&self) -> Result<PathBuf, CniError> {
        let folders = &self.call.path;
        program::find(self.kind, folders.iter().cloned()).ok_or_else(|| {
            let listed: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
            CniError::new(Code::InvalidConfig, format!("there is no IPAM plugin {:?}", self.kind))
                .because(format!("CNI_PATH is {:?}", listed.join(":")))
        })
    }

    /// Takes addresses: at least one.
    pub(crate) fn add(&self) -> Result<CniResult, CniError> {
        let result = CniResult::from_json(&self.delegate(Verb::Add, &[])?)?;
        let wanted = &self.call.runtime.ips;
        let missing =
            wanted.iter().find(|w| !result.ips.iter().any(|i| i.address.addr() == w.addr()));
        match (result.ips.is_empty(), missing) {
            (true, _) => Err(self.failed("gave no address")),
            (_, Some(ip)) => {
                Err(self.failed(&format!("did not give the address {ip} that the runtime wants")))
            }
            _ => Ok(result),
        }
    }

    /// Whether the addresses are still taken.
    pub(crate) fn check(&self) -> Result<(), CniError> {
        self.delegate(Verb::Check, &[]).map(|_| ())
    }

    /// Gives the addresses back.
    pub(crate) fn del(&self) -> Result<(), CniError> {
        self.delegate(Verb::Del, &[]).map(|_| ())
    }

    /// Gives those of another attachment back.
    pub(crate) fn del_of(
        &self,
        container_id: &str,
        ifname: &str,
        netns: &str,
    ) -> Result<(), CniError> {
        let environment = [
            ("CNI_CONTAINERID", container_id.to_owned()),
            ("CNI_IFNAME", ifname.to_owned()),
            ("CNI_NETNS", netns.to_owned()),
        ];
        self.delegate(Verb::Del, &environment).map(|_| ())
    }

    /// Passes GC or STATUS on: "the plugin must" where the delegated plugin knows it. One that is older has none.
    pub(crate) fn pass_on(&self, verb: Verb) -> Result<(), CniError> {
        if self.versions()?.contains(&Version::V110) {
            self.run(verb, &[], Version::V110)?;
        }
        Ok(())
    }

    /// A verb in the configuration's version, or, where the plugin is older than that, in the newest that both speak.
    fn delegate(&self, verb: Verb, environment: &[(&str, String)]) -> Result<Value, CniError> {
        let version = self.call.input.version;
        match self.run(verb, environment, version) {
            Err(CniError { code: Code::Delegated(1), .. }) => {}
            done => return done,
        }
        let older = self.versions()?.into_iter().filter(|v| *v < version).max();
        let older =
            older.ok_or_else(|| self.failed("speaks no version of CNI that is spoken here"))?;
        self.run(verb, environment, older)
    }

    fn versions(&self) -> Result<Vec<Version>, CniError> {
        let answer = self.run(Verb::Version, &[], self.call.input.version)?;
        let names = answer.get("supportedVersions").and_then(Value::as_array);
        Ok(names
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .filter_map(Version::of_name)
            .collect())
    }

    /// Specification, section 4: "The plugin must … execute the IPAM plugin with … the same environment and input".
    fn run(
        &self,
        verb: Verb,
        environment: &[(&str, String)],
        version: Version,
    ) -> Result<Value, CniError> {
        let mut input: Map<String, Value> = self.call.input.raw.clone();
        input.insert("cniVersion".into(), json!(version.name()));
        // In the version that is spoken; one that nobody understands is none.
        match self.call.input.prev_result() {
            Ok(Some(result)) => input.insert("prevResult".into(), result.to_json(version)),
            _ => input.remove("prevResult"),
        };
        let program = self.program()?;
        let mut command = Command::new(&program);
        command.env("CNI_COMMAND", verb.name()).envs(environment.iter().map(|(k, v)| (k, v)));
        let output = program::run(&mut command, Value::Object(input).to_string().as_bytes())
            .map_err(|e| self.failed("cannot be run").because(e))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let answer = match said.trim() {
            "" => Ok(Value::Null),
            text => serde_json::from_str(text),
        };
        match answer {
            Ok(answer) if output.status.success() => Ok(answer),
            Ok(error) if error.get("code").is_some() => Err(self.told(&error)),
            Ok(_) => Err(self.failed(&format!("failed: {}", output.status)).because(output.stderr)),
            Err(e) => Err(self.failed("answers no JSON").because(format!("{e}: {said}"))),
        }
    }

    /// Its error, with its code.
    fn told(&self, error: &Value) -> CniError {
        let text = |key| error.get(key).and_then(Value::as_str).unwrap_or_default();
        let code = error.get("code").and_then(Value::as_u64).and_then(|c| u32::try_from(c).ok());
        let msg = format!("IPAM plugin {:?}: {}", self.kind, text("msg"));
        CniError::new(Code::Delegated(code.unwrap_or(0)), msg).because(text("details"))
    }

    fn failed(&self, what: &str) -> CniError {
        CniError::new(Code::Network, format!("IPAM plugin {:?} {what}", self.kind))
    }
}
