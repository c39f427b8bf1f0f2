//! The escape suite: ways out of sandboxes, each tried without isolation, where it has to succeed
//! so that it is known to try something, and with isolation, where it must not.
//!
//! As root and as a plain user, where both are to be had. What can't be tried on this host is
//! said, with the reason: `make escape` prints the report.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the report is for people")]

mod host;
mod rows;
mod staged;

use std::collections::BTreeMap;

use host::{Host, Outcome, User, Way};

/// A case, and what it came to each way.
#[derive(Default)]
struct Case {
    exposed: Option<Outcome>,
    isolated: Vec<Outcome>,
    /// Where there are containers, and the case is theirs too.
    contained: Option<Outcome>,
}

/// Cases that are not asked of containers, and why.
const NOT_CONTAINED: &[(&str, &str)] = &[
    (
        "looks_into_sys",
        "engines show `/sys`, read-only; runtimes of languages look there for their limits",
    ),
    (
        "runs_on_a_kernel_without_landlock",
        "the engine's mounts are what keeps files away; Landlock is there where the kernel has it",
    ),
    (
        "runs_on_a_host_that_refuses_user_namespaces",
        "an engine of root makes none",
    ),
];

/// What isolates; each case is tried in both.
const SANDBOXES: [Way; 2] = [Way::Work, Way::Setup];

fn cases(user: User) -> BTreeMap<String, Case> {
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    for way in [Way::Exposed].into_iter().chain(SANDBOXES) {
        let host = Host::prepare(user);
        for outcome in host.try_all(way) {
            add(&mut cases, way, outcome);
        }
        host.assert_untouched(way);
        for staged in staged::ALL {
            let host = Host::prepare(user);
            add(&mut cases, way, staged.attempt(&host, way));
            host.assert_untouched(way);
        }
    }
    match host::has_containers(user) {
        Ok(()) => contain(&mut cases, user),
        Err(why) => println!("{user}: containers can't be tried here: {why}"),
    }
    cases
}

fn contain(cases: &mut BTreeMap<String, Case>, user: User) {
    let is_asked = |name: &str| NOT_CONTAINED.iter().all(|(other, _)| *other != name);
    let host = Host::prepare(user);
    for outcome in host.try_all(Way::Container) {
        if is_asked(&outcome.case) {
            add(cases, Way::Container, outcome);
        }
    }
    host.assert_untouched(Way::Container);
    for staged in staged::ALL.iter().filter(|it| is_asked(it.name)) {
        let host = Host::prepare(user);
        add(cases, Way::Container, staged.attempt(&host, Way::Container));
        host.assert_untouched(Way::Container);
    }
    for (name, why) in NOT_CONTAINED {
        assert!(cases.contains_key(*name), "there is no case {name}");
        println!("{user}: not asked of containers: {name}: {why}");
    }
}

fn add(cases: &mut BTreeMap<String, Case>, way: Way, outcome: Outcome) {
    let case = cases.entry(outcome.case.clone()).or_default();
    match way {
        Way::Exposed => case.exposed = Some(outcome),
        Way::Work | Way::Setup => case.isolated.push(outcome),
        Way::Container => case.contained = Some(outcome),
    }
}

impl Case {
    /// What it came to with isolation of any kind.
    fn kept_apart(&self) -> impl Iterator<Item = &Outcome> {
        self.isolated.iter().chain(&self.contained)
    }
}

fn isolated_through<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> bool {
    outcomes.into_iter().any(|it| it.through == Some(true))
}

/// What is wrong with a case, if anything is; and the line of the report.
fn judge(user: User, name: &str, case: &Case) -> (Option<String>, String) {
    let (Some(exposed), [isolated, _]) = (&case.exposed, &case.isolated[..]) else {
        let wrong = format!("{name}: it was not tried in each way");
        return (Some(wrong), name.to_owned());
    };
    let source = &exposed.source;
    if exposed.bites == "works" {
        let mut all = [exposed].into_iter().chain(case.kept_apart());
        let wrong = all.find(|it| it.through != Some(true));
        let wrong = wrong.map(|it| format!("{name} has to work: {}", it.why));
        return (wrong, format!("works      {name}"));
    }
    let must_bite = exposed.bites == "any" || (exposed.bites == "root" && user.is_mighty());
    let wrong = if isolated_through(&case.isolated) {
        Some(format!("{name} ({source}) gets out of the sandbox"))
    } else if isolated_through(&case.contained) {
        Some(format!("{name} ({source}) gets out of a container"))
    } else if must_bite && exposed.through == Some(false) {
        Some(format!(
            "{name} tries nothing: without isolation it fails too: {}",
            exposed.why
        ))
    } else {
        None
    };
    let line = match exposed.through {
        Some(true) => {
            let container = case
                .contained
                .as_ref()
                .map(|it| format!("; in a container: {}", it.why));
            let (why, container) = (&isolated.why, container.unwrap_or_default());
            format!("contained  {name} ({source}): {why}{container}")
        }
        _ => format!("can't bite {name} ({source}): {}", exposed.why),
    };
    (wrong, line)
}

fn nothing_escapes(user: User) {
    if let Err(why) = host::can_isolate(user) {
        let lacks = why.contains("Landlock") || why.contains("Unknown option");
        assert!(lacks || !host::bubblewrap_works(user), "{user}: {why}");
        println!("{user}: can't run here: {why}");
        return;
    }
    let cases = cases(user);
    assert!(cases.len() >= 105, "only {} cases were tried", cases.len());
    let mut wrong = Vec::new();
    for (name, case) in &cases {
        let (fault, line) = judge(user, name, case);
        println!("{user}: {line}");
        wrong.extend(fault);
    }
    let bitten = cases.values().filter(|case| {
        let exposed = case.exposed.as_ref();
        exposed.is_some_and(|it| it.through == Some(true) && it.bites != "works")
    });
    println!(
        "{user}: {} cases, {} of them bite here",
        cases.len(),
        bitten.count()
    );
    assert!(wrong.is_empty(), "as {user}:\n{}", wrong.join("\n"));
}

#[test]
fn every_row_of_what_was_found_elsewhere_is_shown_by_a_case_or_a_test() {
    rows::check(include_str!("cases.py"), &staged::names());
}

#[test]
fn nothing_escapes_from_the_sandbox_of_this_user() {
    nothing_escapes(User::this());
}

#[test]
fn nothing_escapes_from_the_sandbox_of_a_plain_user() {
    match User::plain() {
        Some(user) => nothing_escapes(user),
        None => println!("this user is a plain one"),
    }
}

/// Asks the proxy for a host twice, and tries to get around it.
const ASK: &str = r#"
import socket
for _ in range(2):
    proxy = socket.create_connection(("127.0.0.1", 3128))
    proxy.sendall(b"CONNECT refused.example:443 HTTP/1.1\r\n\r\n")
    assert b" 403 " in proxy.recv(4096)
for reach in (
    lambda: socket.getaddrinfo("allowed.example", 443),
    lambda: socket.create_connection(("1.1.1.1", 443), 5),
):
    try:
        reach()
    except OSError:
        continue
    raise SystemExit("it got around the proxy")
"#;

fn a_setup_phase_reports_what_it_refused(user: User, way: Way) {
    let can = match way {
        Way::Container => host::has_containers(user),
        Way::Exposed | Way::Work | Way::Setup => host::can_isolate(user),
    };
    if let Err(why) = can {
        println!("{user}: can't run here: {why}");
        return;
    }
    let output = host::set_up(user, way, ASK);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{user}: {errors}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let refused = serde_json::json!([{
        "host": "refused.example", "phase": "setup", "reason": "host_not_allowed", "times": 2
    }]);
    assert_eq!(report["refused_hosts"], refused, "{user}");
    let line = "refused.example was refused in the phase `setup`: host_not_allowed (2 times)";
    assert!(errors.contains(line), "{user}: {errors}");
}

#[test]
fn a_setup_phase_of_this_user_reports_the_hosts_that_it_refused() {
    a_setup_phase_reports_what_it_refused(User::this(), Way::Setup);
}

#[test]
fn a_setup_phase_in_a_container_reports_the_hosts_that_it_refused() {
    a_setup_phase_reports_what_it_refused(User::this(), Way::Container);
}

#[test]
fn a_setup_phase_of_a_plain_user_reports_the_hosts_that_it_refused() {
    match User::plain() {
        Some(user) => a_setup_phase_reports_what_it_refused(user, Way::Setup),
        None => println!("this user is a plain one"),
    }
}
