//! What the processes of a world are told, and the repository they work on.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use patchfleet_testkit::github::Simulator;
use rand::Rng as _;
use serde_json::{Value, json};

use super::{NEVER, Plan, REPOSITORY, World};

/// Keys of one world; each is found nowhere else, so that a search for it means something.
pub(crate) struct Keys {
    pub(crate) github: String,
    pub(crate) webhook: String,
    pub(crate) api: String,
    pub(crate) fleet: String,
    pub(crate) http: String,
    pub(crate) model: String,
}

impl Keys {
    pub(super) fn make(github: String) -> Self {
        let random = |what: &str| format!("{what}{:032x}", rand::rng().random::<u128>());
        Self {
            github,
            webhook: random("webhook"),
            api: random("api"),
            fleet: random("fleet"),
            http: random("http"),
            model: random("model"),
        }
    }

    pub(crate) fn for_coordinator(&self, database: &str) -> Vec<(&'static str, String)> {
        let mut all = self.for_agent();
        all.extend([
            ("E2E_GITHUB_TOKEN", self.github.clone()),
            ("E2E_WEBHOOK_SECRET", self.webhook.clone()),
            ("E2E_API_KEY", self.api.clone()),
            ("E2E_DATABASE_URL", database.to_owned()),
        ]);
        all
    }

    pub(super) fn for_agent(&self) -> Vec<(&'static str, String)> {
        vec![
            ("E2E_FLEET_KEY", self.fleet.clone()),
            ("E2E_HTTP_KEY", self.http.clone()),
            ("E2E_MODEL_KEY", self.model.clone()),
        ]
    }
}

/// An address of the loopback's own; any port.
pub(crate) fn address() -> SocketAddr {
    let [_, b, c, d] = rand::rng().random::<u32>().to_be_bytes();
    let d = d.clamp(2, 254);
    SocketAddr::from((Ipv4Addr::new(127, b.max(1), c, d), 0))
}

/// The sample repository on GitHub.
pub(super) fn repository(github: &Simulator, folder: &Path, plan: &Plan) {
    let seed = folder.join("seed");
    copy(&kit("sample/repository"), &seed);
    if let Some(text) = plan.repository_config {
        std::fs::write(seed.join(".patchfleet.yaml"), text).unwrap();
    }
    let marker = folder.join("marker").display().to_string();
    for (path, content) in plan.more_files {
        let path = seed.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content.replace("MARKER", &marker)).unwrap();
    }
    if plan.submodule {
        add_submodule(&seed);
        let source = seed.display().to_string();
        github.import_repository(REPOSITORY, &source).unwrap();
    } else {
        github.create_repository(REPOSITORY, &seed).unwrap();
    }
}

/// Makes the folder a repository that names its own commit as that of a submodule.
fn add_submodule(seed: &Path) {
    let script = "cd \"$0\" && git init -q -b main && git add -A && \
        git config user.name t && git config user.email t@localhost && git commit -qm sample && \
        git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),vendor/lib && \
        git commit -qm submodule";
    let made = shell(script, seed);
    assert!(made.status.success(), "{made:?}");
}

/// Runs a script with a folder as its `$0`, as somebody at the host would.
pub(crate) fn shell(script: &str, folder: &Path) -> std::process::Output {
    #[expect(clippy::disallowed_methods, reason = "a person's shell")]
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg(script).arg(folder).output().unwrap()
}

/// Something of the test kit's.
pub(crate) fn kit(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/kit")
        .join(path)
        .canonicalize()
        .unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (source, name) = entry.map(|it| (it.path(), it.file_name())).unwrap();
        if source.is_dir() {
            copy(&source, &to.join(name));
        } else {
            std::fs::copy(&source, to.join(name)).unwrap();
        }
    }
}

/// Writes the coordinator's file; ports that were had before are asked for again.
pub(super) fn coordinator(world: &World) -> String {
    let mut tree = json!({"coordinator": {
        "listen": world.ready.http,
        "fleet": {"listen": world.ready.fleet, "key": {"env": "E2E_FLEET_KEY"}},
        "database": {"url": {"env": "E2E_DATABASE_URL"}},
        "github": {
            "api_url": world.github.base_url(),
            "token": {"env": "E2E_GITHUB_TOKEN"},
            "webhook_secrets": [{"env": "E2E_WEBHOOK_SECRET"}],
        },
        "api": {"key": {"env": "E2E_API_KEY"}},
        "intake": {"sweep": world.plan.sweep, "max_attempts": world.plan.max_attempts},
    }});
    if world.plan.sweep != NEVER {
        // It is to be swept although nothing was ever heard of it.
        tree["coordinator"]["intake"]["repositories"] = json!([REPOSITORY]);
    }
    if let Some(budgets) = &world.plan.budgets {
        tree["coordinator"]["budgets"] = budgets.clone();
    }
    if let Some(lease) = world.plan.lease {
        tree["coordinator"]["fleet"]["lease"] = json!(lease);
        tree["coordinator"]["fleet"]["heartbeat"] = json!("200ms");
    }
    if let Some(tokens) = world.plan.task_tokens {
        tree["coordinator"]["budgets"] = json!({"task": {"tokens": tokens}});
    }
    trace(world, &mut tree);
    if world.plan.together {
        tree["agents"] = json!([agent_tree(world)]);
    }
    write(world.folder(), "coordinator", &tree)
}

/// Writes the agent's file.
pub(super) fn agent(world: &World) -> String {
    let mut tree = json!({"agents": [agent_tree(world)]});
    trace(world, &mut tree);
    write(world.folder(), "agent", &tree)
}

/// Writes the file of an agent beside the usual one.
pub(super) fn agent_beside(world: &World, id: &str, command: &str) -> String {
    let mut agent = agent_tree(world);
    agent["id"] = json!(id);
    agent.as_object_mut().unwrap().remove("http");
    agent["draft"] = json!({"mode": "cli", "command": [command]});
    write(world.folder(), id, &json!({"agents": [agent]}))
}

/// Writes the file of an agent of that type, named after it.
pub(super) fn specialist(world: &World, agent_type: &str) -> String {
    let mut agent = agent_tree(world);
    agent["id"] = json!(format!("{agent_type}-1"));
    agent["type"] = json!(agent_type);
    agent.as_object_mut().unwrap().remove("http");
    write(world.folder(), agent_type, &json!({"agents": [agent]}))
}

fn trace(world: &World, tree: &mut Value) {
    if let Some(endpoint) = &world.plan.traces {
        tree["traces"] = json!({"endpoint": endpoint});
    }
}

fn agent_tree(world: &World) -> Value {
    let answers = &world.plan.answers;
    let draft = if let Some(draft) = &world.plan.draft {
        draft.clone()
    } else if let Some(model) = &world.plan.drafting_model {
        json!({"mode": world.plan.drafting_mode, "model": model})
    } else if let Some((program, url)) = &world.plan.model {
        let path = world.draft_folder().join("draft.py");
        std::fs::write(&path, program).unwrap();
        json!({
            "mode": "cli",
            "command": ["python3", path],
            "model": {"url": url, "key": {"env": "E2E_MODEL_KEY"}, "header": "bearer"},
        })
    } else if answers.is_empty() {
        json!({
            "mode": "cli",
            "command": ["sh", script(world)],
            "folders": [world.draft_folder()],
        })
    } else {
        json!({"mode": "replay", "replay_dir": replay_folder(world, answers)})
    };
    let mut agent = json!({
        "id": "general-1",
        "type": "general",
        "coordinator": {
            "url": format!("http://{}", world.ready.fleet),
            "key": {"env": "E2E_FLEET_KEY"},
        },
        "workspace": {"root": world.folder().join("workspaces")},
        "draft": draft,
    });
    if let Some(model) = &world.plan.reviewing_model {
        agent["review"] = json!({ "model": model });
    }
    if let Some(model) = &world.plan.summarizing_model {
        agent["summary"] = json!({ "model": model });
    }
    if let Some(slots) = world.plan.slots {
        agent["slots"] = json!(slots);
    }
    if world.plan.agent_metrics {
        agent["http"] = json!({"listen": world.agent_address(), "key": {"env": "E2E_HTTP_KEY"}});
    }
    if let Some(image) = &world.plan.container {
        agent["sandbox"] = json!({
            "backend": "container",
            // Programs and libraries are the host's, so that the image is small.
            "read_only": ["/usr"],
            "container": {"image": image, "cpus": 2.0},
        });
    } else if !world.plan.isolated {
        agent["sandbox"] = json!({"backend": "none", "required": false});
    } else if !world.isolates {
        agent["sandbox"] = json!({"required": false});
    } else if !world.plan.shown.is_empty() {
        agent["sandbox"] = json!({"read_only": world.plan.shown});
    }
    agent
}

/// Makes a folder that the draft command may write, whichever user it is.
pub(super) fn make_open_folder(path: &Path) {
    std::fs::create_dir(path).unwrap();
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(path, all).unwrap();
}

/// A draft command that is counted, waits while there is a gate, and mends the sample.
fn script(world: &World) -> String {
    let place = world.draft_folder();
    let answer = place.join("answer.diff");
    std::fs::copy(kit("sample/answers/1.diff"), &answer).unwrap();
    let text = format!(
        "set -e\ngate='{folder}/gate'\necho round $PATCHFLEET_ROUND >> '{folder}/drafts'\n\
         while [ -e \"$gate\" ]; do sleep 0.02; done\n\
         git apply '{answer}' || git apply --reverse --check '{answer}'\n\
         marker='{}'\n{}\n",
        world.marker_folder().display(),
        world.plan.afterwards,
        answer = answer.display(),
        folder = place.display()
    );
    let path = place.join("draft.sh");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn replay_folder(world: &World, answers: &[String]) -> String {
    let (title, body) = issue();
    let folder = world.folder().join("answers");
    let place = folder.join(patchfleet_agent::fingerprint(&title, &body));
    std::fs::create_dir_all(&place).unwrap();
    for (round, answer) in (1..).zip(answers) {
        std::fs::write(place.join(format!("{round}.diff")), answer).unwrap();
    }
    folder.display().to_string()
}

/// Title and body of the sample's issue.
pub(crate) fn issue() -> (String, String) {
    let text = std::fs::read_to_string(kit("sample/issue.json")).unwrap();
    let payload: Value = serde_json::from_str(&text).unwrap();
    let field = |name: &str| payload["issue"][name].as_str().unwrap().to_owned();
    (field("title"), field("body"))
}

fn write(folder: &Path, name: &str, tree: &Value) -> String {
    let path = folder.join(format!("{name}.toml"));
    std::fs::write(&path, toml::to_string(tree).unwrap()).unwrap();
    path.display().to_string()
}
