//! What people and programs read of the command line, held by whole snapshots: lists, histories,
//! findings, help and errors, as the real program writes them.

mod doctor;
mod errors;
mod help;
mod tasks;

use std::path::Path;

use crate::world::World;

/// What varies from run to run, and what stands for it.
const VARIES: [(&str, &str); 19] = [
    // Hosts isolate by different versions of bubblewrap and limit by different control groups, or
    // not at all.
    (
        r"(?m)^(ok|--|!!)  (limits) +.*(\n +→ .*)?$",
        "[as the host is]  $2",
    ),
    (
        r#"("name":"limits"),.*\}"#,
        r#"$1,"found":"[as the host is]"}"#,
    ),
    (
        r"(?m)^(ok|--|!!)  ([\w-]+: sandbox) +.*(\n +→ .*)?$",
        "[as the host is]  $2",
    ),
    (
        r#"("name":"[\w-]+: sandbox"),.*\}"#,
        r#"$1,"found":"[as the host is]"}"#,
    ),
    (
        r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}",
        "[id]",
    ),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "[moment]"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[time]"),
    (r"127\.\d+\.\d+\.\d+:\d{3,5}", "[address]"),
    (r"[0-9a-f]{40}", "[commit]"),
    (r"after \d+\.\d s", "after [seconds]"),
    (r#""(duration_ms|id)":\d+"#, r#""$1":"[number]""#),
    (r"schema \d+", "schema [number]"),
    (
        r"git version \d[\w.]*( \([^)]*\))?",
        "git version [version]",
    ),
    (r"(ok  (?:prlimit|python3) +)/\S+", "$1[path]"),
    (
        r#"("(?:prlimit|python3)","health":"good","found":")[^"]+"#,
        "$1[path]",
    ),
    (r"/(usr/)?bin/sh\b", "[path]/sh"),
    // Of another protocol's server it depends on who speaks first.
    (
        "received unexpected message from connection|invalid HTTP version parsed",
        "[no HTTP/1]",
    ),
    // Tests run as whoever runs them.
    (r"--  user +this is root[^\n]*\n[^\n]*\n", ""),
    (r#"\{"name":"user","health":"notice"[^\n]*\n"#, ""),
];

/// A user at a shell: the commands that were typed, and all that came of them.
pub(crate) struct Transcript<'a> {
    folder: &'a Path,
    environment: Vec<(&'static str, String)>,
    text: String,
}

impl<'a> Transcript<'a> {
    /// A shell in that folder, which knows nothing of Patchfleet.
    fn new(folder: &'a Path) -> Self {
        Self {
            folder,
            environment: Vec::new(),
            text: String::new(),
        }
    }

    /// A shell whose environment says where the coordinator is and what opens its API.
    pub(crate) fn of_operator(world: &'a World) -> Self {
        let mut shell = Self::new(world.folder());
        shell.environment = vec![
            ("PATCHFLEET_URL", world.api_url("")),
            ("PATCHFLEET_API_KEY", world.keys.api.clone()),
        ];
        shell
    }

    /// Runs a command, and gives what it wrote to standard output.
    pub(crate) async fn run(&mut self, args: &[&str]) -> String {
        #[expect(clippy::disallowed_methods, reason = "the user's shell")]
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_patchfleet"));
        let inherited = std::env::vars_os().map(|(name, _)| name);
        for name in inherited.filter(|name| name.to_string_lossy().starts_with("PATCHFLEET")) {
            command.env_remove(name);
        }
        command.args(args).current_dir(self.folder);
        command.envs(self.environment.iter().cloned());
        let output = command.output().await.unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        let code = output.status.code().unwrap();
        let mut parts = vec![format!("$ patchfleet {}\n{out}", args.join(" "))];
        if !err.is_empty() {
            parts.push(format!("(standard error) {err}"));
        }
        if code != 0 {
            parts.push(format!("(exit code {code})\n"));
        }
        parts.push("\n".to_owned());
        self.text.extend(parts);
        out
    }

    /// Adds a text of the test's own under a heading.
    fn note(&mut self, heading: &str, text: &str) {
        self.text.extend(["# ", heading, "\n", text, "\n\n"]);
    }

    /// Compares all of it with the snapshot of that name.
    pub(crate) fn matches(&self, name: &str) {
        let mut settings = insta::Settings::clone_current();
        settings.set_omit_expression(true);
        settings.set_prepend_module_to_snapshot(false);
        let folder = literally(&self.folder.display().to_string());
        settings.add_filter(&folder, "[folder]");
        for (varies, stands_for) in VARIES {
            settings.add_filter(varies, stands_for);
        }
        settings.bind(|| insta::assert_snapshot!(name, self.text));
    }
}

/// A path as a pattern that matches nothing else.
fn literally(path: &str) -> String {
    path.replace('.', r"\.")
}
