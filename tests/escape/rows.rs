//! What was found elsewhere (flaws with a number, issues of products of this kind), and which case
//! or test shows that it is not here. The numbers are those of the sources' list.

use std::fs;
use std::path::Path;

/// What shows a row.
enum Shown {
    /// A case of this suite.
    Case(&'static str),
    /// A test elsewhere: its file and its name.
    Test(&'static str, &'static str),
    /// Nothing here can, and why.
    Not(&'static str),
}

use Shown::{Case, Not, Test};

const SNAPSHOT: &str = "agent/src/workspace/tests.rs";
const CONTENTS: &str = "agent/src/setup/contents/tests.rs";
const GIT: &str = "agent/src/git/tests.rs";
const PUBLISH: &str = "agent/src/nodes/publish/tests.rs";
const E2E: &str = "tests/e2e/sandbox.rs";
const SANDBOX: &str = "agent/src/sandbox/tests.rs";
const LIMITS: &str = "agent/src/sandbox/tests/limits.rs";
const PROXY: &str = "agent/src/sandbox/tests/proxy.rs";
const EGRESS: &str = "agent/src/sandbox/egress/tests/connect.rs";
const PLANTED: Shown = Test(
    E2E,
    "what_a_draft_or_a_test_plants_for_git_is_run_by_nobody",
);
const NESTED: Shown = Test(
    SNAPSHOT,
    "a_snapshot_enters_no_repository_that_lies_in_the_work_tree",
);

const ROWS: &[(u32, &str, &[Shown])] = &[
    (1, "a filter in a nested repository", &[NESTED, PLANTED]),
    (2, "textconv, external diff, fsmonitor", &[PLANTED]),
    (
        3,
        "keys of a configuration that no list ends",
        &[
            PLANTED,
            Test(GIT, "nothing_that_was_planted_in_a_git_folder_is_obeyed"),
        ],
    ),
    (4, "a poll of the status", &[PLANTED]),
    (5, "attributes beside the tree", &[PLANTED]),
    (6, "nested hooks", &[PLANTED]),
    (7, "a gitfile or commondir that leads elsewhere", &[PLANTED]),
    (
        8,
        "a library that opens what it is told",
        &[
            Test(GIT, "nothing_that_was_planted_in_a_git_folder_is_obeyed"),
            Test(
                PUBLISH,
                "what_a_test_does_to_its_clone_the_store_or_the_mirror_never_reaches_the_commit",
            ),
        ],
    ),
    (
        9,
        "configuration that was absent and is made",
        &[
            PLANTED,
            Test("agent/src/nodes/patch/tests.rs", "refused_drafts_say_why"),
        ],
    ),
    (
        10,
        "a link in the way of whoever reads on the host",
        &[
            Case("reads_through_a_link_in_the_work_tree"),
            Case("writes_through_a_link"),
            Test(
                SNAPSHOT,
                "whatever_was_left_in_a_work_tree_a_check_out_makes_it_known_again",
            ),
        ],
    ),
    (
        11,
        "a patch through links",
        &[
            Case("links_a_secret_into_the_work_tree"),
            Test(
                "agent/src/nodes/patch/tests.rs",
                "files_folders_and_links_may_take_each_others_places",
            ),
        ],
    ),
    (
        12,
        "renames and modes",
        &[Test(
            "agent/src/nodes/patch/tests.rs",
            "refused_drafts_say_why",
        )],
    ),
    (
        13,
        "CVE-2026-87766",
        &[Case("has_the_host_make_files_through_a_link")],
    ),
    (
        14,
        "a source that is swapped before it is mounted",
        &[Test(SANDBOX, "a_work_tree_that_is_a_link_is_not_followed")],
    ),
    (
        15,
        "a setuid bubblewrap",
        &[Test(SANDBOX, "a_bubblewrap_that_is_setuid_is_refused")],
    ),
    (
        16,
        "typing into a terminal",
        &[Case("types_into_a_terminal")],
    ),
    (
        17,
        "descriptors and folders that leak",
        &[
            Case("uses_a_descriptor_that_leaked"),
            Case("enters_the_folder_of_another_process"),
        ],
    ),
    (
        18,
        "the helper's own file",
        &[Case("writes_to_the_helpers_file")],
    ),
    (
        19,
        "settings of the kernel",
        &[Case("opens_core_pattern_for_writing")],
    ),
    (
        20,
        "openat2 goes on working",
        &[Case("openat2_for_those_who_use_it")],
    ),
    (
        21,
        "sockets of the host",
        &[
            Case("connects_to_a_socket_of_the_host"),
            Case("connects_to_a_service_of_the_host"),
        ],
    ),
    (
        22,
        "abstract sockets and signals",
        &[
            Case("connects_to_an_abstract_socket"),
            Case("signals_a_process_of_the_host"),
        ],
    ),
    (
        23,
        "a kernel without Landlock",
        &[Case("runs_on_a_kernel_without_landlock")],
    ),
    (
        24,
        "no filter while there is a network",
        &[
            Case("runs_without_a_filter"),
            Case("could_gain_privileges"),
            Case("runs_on_a_kernel_without_filters"),
        ],
    ),
    (
        25,
        "io_uring",
        &[Case("sets_up_io_uring"), Case("registers_with_io_uring")],
    ),
    (
        26,
        "other numbers of calls",
        &[
            Case("calls_by_x32_numbers"),
            Case("calls_by_32_bit_numbers"),
        ],
    ),
    (27, "AF_VSOCK", &[Case("opens_a_vsock")]),
    (28, "control groups", &[Case("makes_a_control_group")]),
    (29, "/sys", &[Case("looks_into_sys")]),
    (
        30,
        "children that come while it is ended",
        &[Case("forks_faster_than_it_is_killed")],
    ),
    (
        31,
        "a double fork",
        &[
            Case("leaves_a_process_behind"),
            Case("stops_itself_past_its_time"),
        ],
    ),
    (
        32,
        "a thread that ends",
        &[Test(SANDBOX, "a_run_outlives_the_thread_that_started_it")],
    ),
    (
        33,
        "memory that runs out in a child",
        &[Test(
            LIMITS,
            "a_grandchild_that_ran_out_of_memory_is_told_though_the_command_ends_well",
        )],
    ),
    (
        34,
        "whom the kernel ends",
        &[Not("a choice, written down in docs/OPERATIONS.md")],
    ),
    (
        35,
        "folders in memory",
        &[
            Test(LIMITS, "folders_in_memory_leave_half_of_it_to_programs"),
            Test(SANDBOX, "folders_in_memory_have_a_size"),
        ],
    ),
    (
        36,
        "a full disk",
        &[Test(
            LIMITS,
            "what_fills_the_disk_is_ended_and_says_what_it_said_until_then",
        )],
    ),
    (
        37,
        "another name inside the tunnel",
        &[Test(
            PROXY,
            "a_tunnel_to_an_allowed_host_that_asks_for_another_one_is_refused",
        )],
    ),
    (
        38,
        "another host inside the encryption",
        &[Not(
            "can't be seen without breaking it; said in docs/SECURITY.md",
        )],
    ),
    (
        39,
        "names with two readings",
        &[
            Test(
                "common/repository/src/hosts/name.rs",
                "what_is_no_name_is_refused",
            ),
            Test(
                "agent/src/properties.rs",
                "a_target_is_allowed_exactly_when_its_name_is_listed",
            ),
        ],
    ),
    (
        40,
        "names that end like others",
        &[Test(
            "common/repository/src/hosts/allow.rs",
            "hosts_match_whole_labels_only",
        )],
    ),
    (
        41,
        "lookups that carry data",
        &[
            Case("finds_a_resolver"),
            Test(
                EGRESS,
                "what_is_no_plain_host_and_port_is_refused_unresolved",
            ),
        ],
    ),
    (
        42,
        "a name that leads inside",
        &[Test(
            "agent/src/sandbox/egress/address.rs",
            "only_addresses_of_the_public_internet_are_public",
        )],
    ),
    (
        43,
        "whoever ignores the proxy",
        &[
            Case("sees_other_interfaces"),
            Case("has_a_route"),
            Test(PROXY, "a_client_that_goes_around_the_proxy_reaches_nobody"),
        ],
    ),
    (
        44,
        "decisions by who asks",
        &[Test(
            PROXY,
            "the_way_to_the_proxy_is_no_child_of_the_command_and_ends_with_it",
        )],
    ),
    (
        45,
        "a firewall that is switched off from inside",
        &[Case("has_capabilities"), Case("could_get_capabilities")],
    ),
    (
        46,
        "submodules that run",
        &[
            Test(
                SNAPSHOT,
                "whatever_was_left_in_a_work_tree_a_check_out_makes_it_known_again",
            ),
            Test(
                CONTENTS,
                "submodules_of_other_hosts_and_protocols_are_refused_and_run_nothing",
            ),
        ],
    ),
    (
        47,
        "a hostile repository that is cloned locally",
        &[Test(
            PUBLISH,
            "what_a_test_does_to_its_clone_the_store_or_the_mirror_never_reaches_the_commit",
        )],
    ),
    (
        48,
        "a library that talks to networks",
        &[Not("git2 is built without its network features")],
    ),
    (
        49,
        "check-outs through links",
        &[
            Test(
                "agent/src/git/tests/work_tree.rs",
                "a_tree_with_names_that_lead_elsewhere_is_not_checked_out",
            ),
            Test(
                SNAPSHOT,
                "whatever_was_left_in_a_work_tree_a_check_out_makes_it_known_again",
            ),
        ],
    ),
    (
        50,
        "many sandboxes on one root",
        &[
            Test(SANDBOX, "many_runs_at_once_do_not_meet"),
            Test(
                "tests/e2e/faults.rs",
                "twenty_tasks_at_once_on_one_root_leave_nothing",
            ),
        ],
    ),
    (
        51,
        "isolation that is silently off",
        &[
            Case("runs_on_a_host_that_refuses_user_namespaces"),
            Test(
                "agent/src/sandbox/fitness.rs",
                "what_bubblewrap_says_names_the_cause_and_what_mends_it",
            ),
        ],
    ),
    (
        52,
        "paths by another name",
        &[
            Case("reads_by_way_of_its_own_root"),
            Case("reads_by_way_of_another_processs_root"),
        ],
    ),
];

/// Looks that each row is shown by what is said to show it, and prints the list.
pub(crate) fn check(cases: &str, staged: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for ((number, what, shown), at) in ROWS.iter().zip(1..) {
        assert_eq!(*number, at, "{what}");
        assert!(!shown.is_empty(), "{what}");
        let mut by = Vec::new();
        for shown in *shown {
            by.push(match shown {
                Case(name) => {
                    let is_there = cases.contains(&format!("def {name}(")) || staged.contains(name);
                    assert!(is_there, "row {number}: there is no case {name}");
                    (*name).to_owned()
                }
                Test(file, name) => {
                    let text = fs::read_to_string(root.join(file)).unwrap();
                    let is_there = text.contains(&format!("fn {name}("));
                    assert!(is_there, "row {number}: there is no {name} in {file}");
                    format!("{name} ({file})")
                }
                Not(why) => (*why).to_owned(),
            });
        }
        println!("row {number:>2}: {what}: {}", by.join(", "));
    }
    assert_eq!(ROWS.len(), 52);
}
