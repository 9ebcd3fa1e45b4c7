//! The `linux.seccomp` object as a filter of the sandbox's kernel.

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{self, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompOperator};
use sentry::seccomp::{Action, Comparison, Condition, Profile, Rule};
use sentry_abi::Errno;

/// The filter. Errors name what cannot be had.
pub fn profile(asked: &LinuxSeccomp) -> Result<Profile> {
    ensure!(asked.listener_path().is_none(), "listenerPath: nobody can be asked about calls");
    let default = action(asked.default_action(), asked.default_errno_ret())?;
    let rules = asked.syscalls().iter().flatten().map(|rule| {
        let names = rule.names().clone();
        let action = action(rule.action(), rule.errno_ret())?;
        let args = rule.args().as_deref().unwrap_or_default();
        let conditions = args.iter().map(condition).collect::<Result<Vec<_>>>()?;
        // As runc has it: conditions that stand twice for one argument are alternatives, each a rule of its own.
        let mut indices: Vec<_> = conditions.iter().map(|condition| condition.index).collect();
        indices.sort_unstable();
        let twice = indices.windows(2).any(|pair| pair[0] == pair[1]);
        let alternatives = match twice {
            true => conditions.into_iter().map(|condition| vec![condition]).collect(),
            false => vec![conditions],
        };
        let rule = |conditions| Rule { names: names.clone(), conditions, action };
        Ok(alternatives.into_iter().map(rule).collect::<Vec<_>>())
    });
    let rules = rules.collect::<Result<Vec<_>>>()?.concat();
    Ok(Profile { default, rules })
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<Action> {
    Ok(match action {
        LinuxSeccompAction::ScmpActAllow => Action::Allow,
        LinuxSeccompAction::ScmpActLog => Action::Log,
        LinuxSeccompAction::ScmpActTrap => Action::Trap,
        LinuxSeccompAction::ScmpActTrace => Action::Trace,
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => Action::KillTask,
        LinuxSeccompAction::ScmpActKillProcess => Action::KillProcess,
        LinuxSeccompAction::ScmpActNotify => {
            bail!("SCMP_ACT_NOTIFY: nobody can be asked about calls")
        }
        LinuxSeccompAction::ScmpActErrno => {
            let number = errno.unwrap_or(Errno::EPERM.number() as u32);
            let known = i32::try_from(number).ok().and_then(Errno::from_number);
            Action::Fail(known.with_context(|| format!("errnoRet {number} is no error of Linux"))?)
        }
    })
}

fn condition(arg: &runtime::LinuxSeccompArg) -> Result<Condition> {
    ensure!(arg.index() < 6, "args: there is no argument {}", arg.index());
    let (comparison, value) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => (Comparison::NotEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpLt => (Comparison::Less, arg.value()),
        LinuxSeccompOperator::ScmpCmpLe => (Comparison::LessOrEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpEq => (Comparison::Equal, arg.value()),
        LinuxSeccompOperator::ScmpCmpGe => (Comparison::GreaterOrEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpGt => (Comparison::Greater, arg.value()),
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            (Comparison::MaskedEqual(arg.value()), arg.value_two().unwrap_or(0))
        }
    };
    Ok(Condition { index: arg.index(), comparison, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(value: serde_json::Value) -> Result<Profile> {
        profile(&serde_json::from_value(value).expect("a profile"))
    }

    #[test]
    fn a_profile_is_taken_word_by_word() {
        let taken = of(json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
            "syscalls": [
                { "names": ["read", "write"], "action": "SCMP_ACT_ALLOW" },
                { "names": ["clone"], "action": "SCMP_ACT_ERRNO", "args": [
                    { "index": 0, "value": 4, "valueTwo": 5, "op": "SCMP_CMP_MASKED_EQ" },
                    { "index": 1, "value": 6, "op": "SCMP_CMP_GT" },
                ] },
                { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [
                    { "index": 0, "value": 0, "op": "SCMP_CMP_EQ" },
                    { "index": 0, "value": 8, "op": "SCMP_CMP_EQ" },
                ] },
            ],
        }));
        let taken = taken.expect("a profile");
        assert_eq!(taken.default, Action::Fail(Errno::ENOSYS));
        let told: Vec<_> =
            taken.rules.iter().map(|rule| (rule.action, &*rule.conditions)).collect();
        let equal = |value| Condition { index: 0, comparison: Comparison::Equal, value };
        let both = [
            Condition { index: 0, comparison: Comparison::MaskedEqual(4), value: 5 },
            Condition { index: 1, comparison: Comparison::Greater, value: 6 },
        ];
        let expected: [(Action, &[Condition]); 4] = [
            (Action::Allow, &[]),
            (Action::Fail(Errno::EPERM), &both),
            (Action::Allow, &[equal(0)]),
            (Action::Allow, &[equal(8)]),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        for profile in [
            json!({ "defaultAction": "SCMP_ACT_NOTIFY" }),
            json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5000 }),
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x" }),
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{
                "names": ["read"], "action": "SCMP_ACT_ALLOW",
                "args": [{ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" }],
            }] }),
        ] {
            assert!(of(profile.clone()).is_err(), "{profile}");
        }
    }
}
