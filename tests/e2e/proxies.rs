//! An office: GitHub is reached over TLS through a proxy that wants a password, or not at all.

use std::path::Path;

use patchfleet_testkit::github::Simulator;
use patchfleet_testkit::proxy::Proxy;
use patchfleet_testkit::tls::{Authority, Terminator};
use serde_json::{Value, json};

use crate::world::World;

struct Office {
    github: Simulator,
    proxy: Proxy,
    folder: tempfile::TempDir,
    _tls: Terminator,
}

impl Office {
    async fn new() -> Self {
        let github = Simulator::start().await.unwrap();
        let authority = Authority::new().unwrap();
        let identity = authority.issue(&["github.invalid"]).unwrap();
        let address = github.base_url().trim_start_matches("http://").to_owned();
        let tls = Terminator::start(&identity, address.parse().unwrap());
        let tls = tls.await.unwrap();
        let proxy = Proxy::with_password("fleet", "hush").await.unwrap();
        proxy.knows("github.invalid:443", tls.address());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("authority.pem"), authority.pem()).unwrap();
        let config = json!({"coordinator": {
            "fleet": {"key": {"env": "E2E_KEY"}},
            "database": {"url": format!("sqlite:{}/tasks.db", folder.path().display())},
            "github": {
                "api_url": "https://github.invalid",
                "token": {"env": "E2E_GITHUB_TOKEN"},
                "webhook_secrets": [{"env": "E2E_KEY"}],
            },
            "api": {"key": {"env": "E2E_KEY"}},
        }});
        let text = toml::to_string(&config).unwrap();
        std::fs::write(folder.path().join("patchfleet.toml"), text).unwrap();
        Self {
            github,
            proxy,
            folder,
            _tls: tls,
        }
    }

    /// What `patchfleet doctor` finds about GitHub, and all that it prints.
    async fn doctor(&self, proxy: &str, no_proxy: &str) -> (Value, String) {
        let path = |name: &str| self.folder.path().join(name);
        #[expect(clippy::disallowed_methods, reason = "the user's shell")]
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_patchfleet"));
        command
            .args(["doctor", "--json", "--config"])
            .arg(path("patchfleet.toml"))
            .env("E2E_KEY", "key-of-this-office-and-no-other-one")
            .env("E2E_GITHUB_TOKEN", self.github.bot_token())
            .env("SSL_CERT_FILE", path("authority.pem"))
            .env("HTTPS_PROXY", proxy)
            .env("NO_PROXY", no_proxy)
            .current_dir(Path::new("/"));
        let output = command.output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let told = format!("{}{}", text(&output.stdout), text(&output.stderr));
        let lines = told.lines();
        let mut checks = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let github = checks.find(|check| check["name"] == "GitHub");
        (github.unwrap_or_else(|| panic!("{told}")), told)
    }
}

#[tokio::test]
async fn github_is_reached_over_tls_through_a_proxy_with_a_password() {
    let office = Office::new().await;
    let address = office.proxy.address();
    let (github, told) = office
        .doctor(&format!("http://fleet:hush@{address}"), "")
        .await;
    let found =
        format!("https://github.invalid/ as patchfleet-bot, through the proxy http://{address}");
    assert_eq!(github["found"], found, "{told}");
    assert_eq!(office.proxy.seen(), ["CONNECT github.invalid:443"]);
    assert!(!told.contains("hush"), "{told}");
}

#[tokio::test]
async fn the_doctor_names_the_proxy_that_lets_nothing_through() {
    let office = Office::new().await;
    let address = office.proxy.address();
    let (github, told) = office
        .doctor(&format!("http://fleet:hushed@{address}"), "")
        .await;
    let found = github["found"].as_str().unwrap();
    let named = format!("through the proxy http://{address}: it wants another user and password");
    assert!(found.contains(&named), "{told}");
    assert!(!told.contains("hushed"), "{told}");

    let (github, told) = office.doctor("http://fleet:hush@127.0.0.1:1", "").await;
    let found = github["found"].as_str().unwrap();
    assert!(
        found.contains("through the proxy http://127.0.0.1:1:"),
        "{told}"
    );
    assert!(found.contains("refused"), "{told}");

    let (github, told) = office.doctor("ftp://fleet:hush@proxy", "").await;
    let found = github["found"].as_str().unwrap();
    assert!(
        found.contains("HTTPS_PROXY") && !told.contains("hush"),
        "{told}"
    );
}

#[tokio::test]
async fn no_proxy_is_honoured() {
    let office = Office::new().await;
    let url = format!("http://fleet:hush@{}", office.proxy.address());
    let (github, told) = office.doctor(&url, "invalid").await;
    assert_eq!(github["health"], "bad", "{told}");
    assert_eq!(office.proxy.seen(), [""; 0]);
}

#[tokio::test]
async fn the_command_line_asks_its_own_host_directly() {
    let world = World::new().await;
    #[expect(clippy::disallowed_methods, reason = "the user's shell")]
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_patchfleet"));
    command
        .args(["task", "--json", "list"])
        .env("PATCHFLEET_URL", world.api_url(""))
        .env("PATCHFLEET_API_KEY", &world.keys.api)
        .env("HTTP_PROXY", "http://127.0.0.1:1");
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
}
