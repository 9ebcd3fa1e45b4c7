//! Scenarios: what is expected, what is wrong with a file, and that one seed is one run.

use super::*;

/// A scenario with something said of its link, and something expected of its flow.
fn text(link: &str, expect: &str) -> String {
    format!(
        "title = \"t\"\n[[link]]\nbetween = [\"a\", \"b\"]\nrate = \"10Mbit\"\ndelay = \"5ms\"\n{link}\n\
         [[flow]]\nfrom = \"a\"\nto = \"b\"\nbytes = \"500kB\"\nexpect = {{ {expect} }}\n"
    )
}

fn complaints(text: &str) -> Vec<String> {
    let plan = Plan::parse(text).unwrap();
    plan.play(plan.seed, None).unwrap().complaints().collect()
}

#[test]
fn what_comes_as_expected_is_no_complaint_and_what_does_not_is_one() {
    assert_eq!(complaints(&text("", "goodput = \">= 8Mbit\", timeouts = \"= 0\"")), [""; 0]);
    let found = complaints(&text("", "goodput = \">= 11Mbit\", rtt = \"< 1ms\""));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("a -> b: goodput ") && found[0].ends_with("expected >= 11Mbit/s"));
    let dead = text("loss = \"100%\"", "");
    assert_eq!(complaints(&dead), ["a -> b: send: no route to host"]);
    assert_eq!(complaints(&text("loss = \"100%\"", "fails = true")), [""; 0]);
    assert_eq!(complaints(&text("", "fails = true")).len(), 1);
}

#[test]
fn one_seed_is_one_run_and_another_seed_is_another() {
    let plan = Plan::parse(&text("loss = \"3%\"\nburst = 3\nreorder = \"2%\"", "")).unwrap();
    let run = |seed| {
        let mut frames = Vec::new();
        let mut tape = |link: usize, time: Duration, bytes: &[u8]| {
            frames.push((link, time, bytes.to_vec()));
        };
        plan.play(seed, Some(&mut tape)).unwrap();
        frames
    };
    let first = run(1);
    assert!(first.len() > 300);
    assert!(first == run(1));
    assert!(first != run(2));
}

#[test]
fn mistakes_are_told_with_their_place() {
    let good = text("", "");
    for (from, to, told) in [
        ("rate = ", "rat = ", "unknown field `rat`"),
        ("10Mbit", "10 parsecs", "a rate such as"),
        ("5ms", "5", "a time such as"),
        ("\"b\"]", "\"a\"]", "two or more different hosts"),
        ("to = \"b\"", "to = \"c\"", "a flow names c, which is on no link"),
        ("rate = ", "mtu = 100\nrate = ", "an mtu is 1280 to 65535"),
        ("rate = ", "down = [{ from = \"2s\", until = \"1s\" }]\nrate = ", "ends before it begins"),
        ("rate = ", "burst = 0\nrate = ", "burst is a number of frames"),
        ("bytes = ", "times = 0\nbytes = ", "no connection"),
    ] {
        let error = Plan::parse(&good.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
    let refused =
        format!("{good}[[host]]\nname = \"a\"\nsysctl = {{ \"net.ipv4.tcp_nonsense\" = 1 }}\n");
    let error = Plan::parse(&refused).unwrap().play(1, None).unwrap_err().to_string();
    assert!(error.contains("host a: net/ipv4/tcp_nonsense"), "{error}");
    let unknown = good.replace("bytes = ", "congestion = \"warp\"\nbytes = ");
    let error = Plan::parse(&unknown).unwrap().play(1, None).unwrap_err().to_string();
    assert!(error.contains("warp is not known"), "{error}");
}
