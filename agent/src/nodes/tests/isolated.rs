//! The flow with the sandbox that agents have by default.

use std::sync::Arc;
use std::time::Duration;

use patchfleet_domain::outcome::Failure;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::draft::{DraftNetwork, Drafter};
use crate::sandbox::Sandbox;
use crate::sandbox::egress::{HostNetwork, Network};
use crate::sandbox::tests::isolating;
use crate::setup::{Setup, SetupConfig, SetupReport};

const FOLDER: &str = "PATCHFLEET_TEST_FOLDER";

impl Rig {
    /// Drafts by a script in this sandbox.
    fn draft_by(&mut self, script: &str, silence: Duration, sandbox: &Sandbox) {
        let folder = self.bench.root.path().display().to_string();
        let script = script.replace(FOLDER, &folder);
        self.drafter = Drafter::Cli {
            profile: None,
            command: ["sh", "-c", &script].map(str::to_owned).into(),
            timeout: Duration::from_mins(1),
            silence,
            pass_env: Vec::new(),
            network: DraftNetwork::Nothing,
            folders: Vec::new(),
            sandbox: sandbox.clone(),
        };
    }

    async fn run_isolated(&self, sandbox: &Sandbox) -> Result<Report, patchfleet_flow::RunError> {
        let mut deps = self.deps(self.workspace(1).await).await.unwrap();
        deps.tests.sandbox = sandbox.clone();
        self.run_with(deps, Vec::new()).await
    }
}

/// Installs the dependencies of a rig's repository.
async fn set_up(rig: &Rig, sandbox: &Sandbox) -> Result<(NodeDeps, SetupReport), Option<Failure>> {
    set_up_by(rig, sandbox, Arc::new(HostNetwork)).await
}

/// The same through a network.
async fn set_up_by(
    rig: &Rig,
    sandbox: &Sandbox,
    network: Arc<dyn Network>,
) -> Result<(NodeDeps, SetupReport), Option<Failure>> {
    let mut deps = rig.deps(rig.workspace(1).await).await.map_err(Some)?;
    let setup = Setup {
        sandbox,
        operator: &SetupConfig::default(),
        name: &deps.task.repository,
        repository: &deps.config,
        cache: rig.bench.workspaces.setups(),
        workspace: &deps.workspace,
        log: &rig.log,
        network,
        cancel: &CancellationToken::new(),
    };
    let (dependencies, report) = setup.run().await?;
    deps.workspace.dependencies = dependencies;
    deps.tests.sandbox = sandbox.clone();
    Ok((deps, report))
}

/// A rig whose work trees are check-outs of their own, and one whose work trees lie over templates,
/// where that can be had.
async fn both(files: &[(&str, &str)], answers: &[&str], sandbox: &Sandbox) -> Vec<Rig> {
    let mut laid = Rig::answering(files, answers).await;
    let own = Rig::answering(files, answers).await;
    if laid.bench.lay(sandbox).await {
        vec![own, laid]
    } else {
        println!("work trees can't lie over templates here");
        vec![own]
    }
}

async fn sandbox() -> Option<Sandbox> {
    isolating(crate::sandbox::SandboxConfig::default()).await
}

#[tokio::test]
async fn a_draft_and_its_tests_see_nothing_of_the_host_and_the_pull_request_says_so() {
    let Some(sandbox) = sandbox().await else {
        return;
    };
    let looks = "import os, unittest\n\n\nclass Looks(unittest.TestCase):\n    \
                 def test_it_is_apart(self):\n        \
                 self.assertEqual(os.getcwd(), '/workspace')\n        \
                 self.assertFalse(os.path.exists('/' + 'PATCHFLEET_TEST_FOLDER/answers'))\n";
    let mut rig = Rig::with(REPOSITORY).await;
    // Not as an absolute path, by which the draft command would name what it is to be shown.
    let folder = rig.bench.root.path().display().to_string();
    let looks = looks.replace(FOLDER, folder.trim_start_matches('/'));
    let script = format!(
        "test \"$PWD\" = /workspace || exit 9\n\
         test -s \"$PATCHFLEET_REQUEST_FILE\" || exit 8\n\
         echo x >> \"$PATCHFLEET_REQUEST_FILE\" && exit 7\n\
         (cd / && test ! -e .PATCHFLEET_TEST_FOLDER/answers) || exit 6\n\
         cat > test_apart.py <<'END'\n{looks}END\n\
         sed -i 's/a - b/a + b/' calc.py"
    );
    std::fs::create_dir(rig.bench.root.path().join("answers")).unwrap();
    rig.draft_by(&script, Duration::from_secs(20), &sandbox);
    let report = rig.run_isolated(&sandbox).await.unwrap();
    assert_eq!(
        rig.on_branch("calc.py").await,
        "def add(a, b):\n    return a + b"
    );
    let body = rig.desk.drafts.lock().unwrap()[0].body.clone();
    for line in [
        "The draft command ran in the sandbox `namespace`, without network.",
        "The tests ran in the sandbox `namespace`, without network",
    ] {
        assert!(body.contains(line), "{body}");
    }
    let results = report.ctx.get("tests.results").unwrap();
    assert_eq!(results["isolation"]["backend"], "namespace", "{results}");
}

#[tokio::test]
async fn a_command_that_hangs_in_the_sandbox_is_noticed_and_one_that_computes_is_left_alone() {
    let Some(sandbox) = sandbox().await else {
        return;
    };
    let mut rig = Rig::with(REPOSITORY).await;
    rig.draft_by("sleep 600", Duration::from_secs(1), &sandbox);
    let ended = rig.run_isolated(&sandbox).await.unwrap_err();
    let failure = failure(&ended).unwrap();
    assert!(failure.message.contains("hung"), "{failure:?}");

    let mut rig = Rig::with(REPOSITORY).await;
    let computes = "python3 -c 'import time\nwhile time.process_time() < 3: pass'\n\
                    sed -i 's/a - b/a + b/' calc.py";
    rig.draft_by(computes, Duration::from_secs(1), &sandbox);
    rig.run_isolated(&sandbox).await.unwrap();
}

#[tokio::test]
async fn toolchains_of_a_home_and_environments_made_by_tests_work_in_the_sandbox() {
    let Some(sandbox) = sandbox().await else {
        return;
    };
    let cargo: &[(&str, &str)] = &[
        (
            "Cargo.toml",
            "[package]\nname = \"calc\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
        ),
        (
            "src/lib.rs",
            "pub fn add(a: i32, b: i32) -> i32 {\n    a - b\n}\n\n\
             #[test]\nfn adds() {\n    assert_eq!(add(1, 2), 3);\n}\n",
        ),
    ];
    let venv: &[(&str, &str)] = &[
        REPOSITORY[0],
        REPOSITORY[1],
        (
            "run.py",
            "import subprocess, sys, venv\nvenv.create('.venv')\n\
             sys.exit(subprocess.call(['.venv/bin/python', '-m', 'unittest', '-v']))\n",
        ),
        (".patchfleet.yaml", "test: python3 run.py\n"),
    ];
    for (files, file) in [(cargo, "src/lib.rs"), (venv, "calc.py")] {
        for mut rig in both(files, &[], &sandbox).await {
            let script = format!("sed -i 's/a - b/a + b/' {file}");
            rig.draft_by(&script, Duration::from_secs(20), &sandbox);
            rig.run_isolated(&sandbox).await.unwrap();
            assert!(rig.on_branch(file).await.contains("a + b"), "{file}");
        }
    }
}

/// A repository whose tests need something that is installed, beside its own files and at home.
const INSTALLS: &[(&str, &str)] = &[
    REPOSITORY[0],
    (
        "test_calc.py",
        "import os, unittest\nfrom calc import add\nfrom vendored.installed import three\n\n\n\
         class CalcTest(unittest.TestCase):\n    \
         def test_add(self):\n        self.assertEqual(add(1, 2), three)\n        \
         self.assertTrue(os.path.exists(os.path.expanduser('~/.cache/tool')))\n",
    ),
    ("vendored/__init__.py", ""),
    (
        "install.sh",
        "#!/bin/sh\nset -e\necho 'three = 3' > vendored/installed.py\n\
         mkdir -p ~/.cache && touch ~/.cache/tool\necho changed >> calc.py\n\
         git config core.hooksPath /tmp 2>/dev/null || true\n",
    ),
    (".patchfleet.yaml", "setup:\n  - sh install.sh\n"),
];

#[tokio::test]
async fn what_the_setup_phase_installs_is_there_for_drafts_and_tests_and_in_no_change() {
    let Some(sandbox) = sandbox().await else {
        return;
    };
    let sandbox = sandbox.allow(["sh".to_owned()]);
    for mut rig in both(INSTALLS, &[], &sandbox).await {
        let script = "test -s vendored/installed.py && test -e ~/.cache/tool || exit 9\n\
                      echo 'three = 4' > vendored/installed.py\n\
                      grep -q changed calc.py && exit 8\n\
                      sed -i 's/a - b/a + b/' calc.py";
        rig.draft_by(script, Duration::from_secs(20), &sandbox);
        let (deps, report) = set_up(&rig, &sandbox).await.unwrap();
        assert_eq!(report.steps.len(), 1);
        assert_eq!(report.steps[0].command, ["sh", "install.sh"]);
        let ctx = patchfleet_flow::Context::new(serde_json::json!({ "setup": report }));
        rig.run_from(ctx, deps, Vec::new()).await.unwrap();
        let changed = ["diff", "--name-only", "main", "patchfleet/1-x"];
        assert_eq!(rig.bench.origin.ask(&changed).await, "calc.py");
        let body = rig.desk.drafts.lock().unwrap()[0].body.clone();
        let line = "Dependencies were installed by `sh install.sh` in the sandbox `namespace`, with \
                    network to allowed hosts only";
        assert!(body.contains(line), "{body}");
    }
}

/// A repository without the folder that its dependencies are installed in.
const VENDORS: &[(&str, &str)] = &[
    REPOSITORY[0],
    (
        "test_calc.py",
        "import unittest\nfrom calc import add\nfrom vendor.patch import patched\n\n\n\
         class CalcTest(unittest.TestCase):\n    def test_add(self):\n        \
         self.assertEqual(add(1, 2), patched)\n",
    ),
    (
        ".patchfleet.yaml",
        "setup:\n  - sh -c 'mkdir -p vendor/sub && echo three = 3 > vendor/three.py && \
         ln -s three.py vendor/sub/link && mkdir -p vendor/src/.git .tools && \
         echo x > vendor/src/.git/HEAD && echo \"*\" > .tools/.gitignore'\n",
    ),
];

const PATCH: &str = "from vendor.three import three as patched";

#[tokio::test]
async fn what_a_draft_adds_in_an_installed_folder_is_a_part_of_the_change() {
    let Some(sandbox) = sandbox().await else {
        return;
    };
    let sandbox = sandbox.allow(["sh".to_owned()]);
    for mut rig in both(VENDORS, &[], &sandbox).await {
        let script = format!(
            "test -s vendor/three.py && test -L vendor/sub/link || exit 9\n\
             if [ $PATCHFLEET_ROUND = 1 ]; then\n\
             echo '{PATCH}' > vendor/patch.py; echo x > .tools/own; echo '# x' >> vendor/three.py\n\
             else test -s vendor/patch.py && sed -i 's/a - b/a + b/' calc.py; fi"
        );
        rig.draft_by(&script, Duration::from_secs(20), &sandbox);
        let (deps, _) = set_up(&rig, &sandbox).await.unwrap();
        rig.run_with(deps, Vec::new()).await.unwrap();
        let changed = ["diff", "--name-only", "main", "patchfleet/1-x"];
        let changed = rig.bench.origin.ask(&changed).await;
        assert_eq!(changed, "calc.py\nvendor/patch.py");
        let log = rig.log();
        assert_eq!(
            log.matches("left out of the change: ").count(),
            1,
            "each is named once: {log}"
        );
        assert!(log.contains("change: `vendor/three.py`, which"), "{log}");
    }
}

#[tokio::test]
async fn tests_of_a_change_in_an_installed_folder_find_what_was_installed_there() {
    let Some(sandbox) = sandbox().await else {
        return;
    };
    let sandbox = sandbox.allow(["sh".to_owned()]);
    let added = format!("--- /dev/null\n+++ b/vendor/patch.py\n@@ -0,0 +1 @@\n+{PATCH}\n");
    for rig in both(VENDORS, &[&format!("{FIX}{added}")], &sandbox).await {
        let (deps, _) = set_up(&rig, &sandbox).await.unwrap();
        rig.run_with(deps, Vec::new()).await.unwrap();
        let changed = ["diff", "--name-only", "main", "patchfleet/1-x"];
        let changed = rig.bench.origin.ask(&changed).await;
        assert_eq!(changed, "calc.py\nvendor/patch.py");
    }
}

#[tokio::test]
async fn a_setup_that_fails_or_is_refused_a_host_is_a_failure_that_names_command_and_host() {
    let Some(sandbox) = sandbox().await else {
        return;
    };
    let fetch = "import urllib.request\n\
                 urllib.request.urlopen('https://files.example.org/x')\n";
    let cases = [
        (
            "setup: [python3 -c 'print(\"no compiler\"); exit(3)']\n",
            &["failed with exit code 3", "it said last:", "no compiler"][..],
        ),
        (
            "setup: [python3 fetch.py]\n",
            &[
                "it was refused the hosts files.example.org (host_not_allowed)",
                "Tunnel connection failed: 403 Forbidden",
            ],
        ),
        (
            "setup: [python3 -c 'import time; time.sleep(600)']\nsetup_timeout: 1s\n",
            &["did not end within 1 s"],
        ),
        (
            "setup: [no-such-program]\n",
            &["`no-such-program`, which installs dependencies, can't be run"],
        ),
    ];
    for (config, words) in cases {
        let files = [("fetch.py", fetch), (".patchfleet.yaml", config)];
        let rig = Rig::with(&files).await;
        let failure = set_up(&rig, &sandbox).await.err().flatten().unwrap();
        assert_eq!(failure.kind, FailureKind::SetupFailed, "{failure:?}");
        for word in words {
            assert!(failure.message.contains(word), "{}", failure.message);
        }
    }
}

#[tokio::test]
async fn a_setup_that_nobody_asked_for_may_fail_and_is_told_where_the_tests_stay_red() {
    let Some(sandbox) = sandbox().await else {
        return;
    };
    let mut files = REPOSITORY.to_vec();
    files.push(("package-lock.json", "{}"));
    let mut rig = Rig::with(&files).await;
    rig.draft_by("echo '# x' >> calc.py", Duration::from_secs(20), &sandbox);
    let (deps, report) = set_up(&rig, &sandbox).await.unwrap();
    let missing = report.missing().unwrap();
    assert!(
        missing.contains("`npm ci` failed with exit code"),
        "{missing}"
    );
    let ctx = patchfleet_flow::Context::new(serde_json::json!({ "setup": report }));
    let ended = rig.run_from(ctx, deps, Vec::new()).await.unwrap_err();
    let failure = failure(&ended).unwrap();
    assert_eq!(failure.kind, FailureKind::TestsFailed);
    assert!(failure.message.contains(&missing), "{}", failure.message);
}

#[tokio::test]
async fn drafts_and_tests_see_the_history_of_the_repository() {
    let Some(sandbox) = sandbox().await else {
        return;
    };
    let files = &[
        REPOSITORY[0],
        REPOSITORY[1],
        (
            ".patchfleet.yaml",
            "test: sh -c 'test -z \"$(git status --porcelain)\"'\n",
        ),
    ];
    for mut rig in both(files, &[], &sandbox).await {
        let script = "test -z \"$(git status --porcelain)\" || exit 9\n\
                      git show HEAD:calc.py | sed 's/a - b/a + b/' > calc.py";
        rig.draft_by(script, Duration::from_secs(20), &sandbox);
        rig.run_isolated(&sandbox.clone().allow(["sh".to_owned()]))
            .await
            .unwrap();
        assert!(rig.on_branch("calc.py").await.contains("a + b"));
    }
}

#[tokio::test]
async fn a_draft_that_met_its_disk_limit_is_not_paid_again_and_names_the_limit() {
    let config = crate::sandbox::SandboxConfig {
        disk_mib: 64,
        ..crate::sandbox::SandboxConfig::default()
    };
    let Some(sandbox) = isolating(config).await else {
        return;
    };
    let mut rig = Rig::with(REPOSITORY).await;
    let script = "echo begun; head -c 100M /dev/urandom > big; sleep 600";
    rig.draft_by(script, Duration::ZERO, &sandbox);
    let failure = rig.fails().await;
    assert_eq!(
        (failure.kind, failure.retryable),
        (FailureKind::DraftFailed, false)
    );
    let told = ["`sandbox.disk_mib`", "64 MiB", "begun"];
    let is_told = told.iter().all(|text| failure.message.contains(text));
    assert!(is_told, "{failure:?}");
}

#[tokio::test]
async fn over_a_template_a_round_sees_nothing_of_what_tests_and_drafts_before_it_did() {
    let Some(sandbox) = sandbox().await else {
        return;
    };
    let files = &[
        REPOSITORY[0],
        REPOSITORY[1],
        ("doc/a/one", "1\n"),
        ("doc/a/two", "2\n"),
        (
            "run.py",
            "import os, shutil, unittest\nopen('left', 'w')\nshutil.rmtree('doc/a')\n\
                    os.mkdir('doc/a')\nunittest.main('test_calc')\n",
        ),
        (".patchfleet.yaml", "test: python3 run.py\n"),
    ];
    let script = "test -e left && exit 9\n\
                  if [ $PATCHFLEET_ROUND = 1 ]; then\n\
                  mkdir doc/b; mv doc/a/two doc/b/two; rm -r doc/a; echo file > doc/a\n\
                  else test -f doc/a -a -f doc/b/two || exit 7\n\
                  rm doc/a; mkdir doc/a; echo 3 > doc/a/one; sed -i 's/a - b/a + b/' calc.py; fi";
    for mut rig in both(files, &[], &sandbox).await {
        rig.draft_by(script, Duration::from_secs(20), &sandbox);
        rig.run_isolated(&sandbox).await.unwrap();
        let changed = [
            "diff",
            "--no-renames",
            "--name-status",
            "main",
            "patchfleet/1-x",
        ];
        let changed = rig.bench.origin.ask(&changed).await;
        assert_eq!(
            changed.split_whitespace().collect::<Vec<_>>(),
            [
                "M",
                "calc.py",
                "M",
                "doc/a/one",
                "D",
                "doc/a/two",
                "A",
                "doc/b/two"
            ]
        );
    }
}
