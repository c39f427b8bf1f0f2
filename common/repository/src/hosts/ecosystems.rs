//! The registries of each ecosystem: data, and nothing else.
//!
//! A host is here when a usual client asks it for packages, their metadata or its own toolchain
//! while it installs what a lock file names. Code hosts are names of their own at the end and in
//! no other list, because whoever reaches one may also push to it.

use super::name::HostName;

/// A named list of hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ecosystem {
    /// Its name in configurations.
    pub name: &'static str,
    hosts: &'static [&'static str],
    /// Whether it hosts code that anybody may push, so that it is only ever allowed by name.
    pub is_code_host: bool,
}

const fn registry(name: &'static str, hosts: &'static [&'static str]) -> Ecosystem {
    Ecosystem {
        name,
        hosts,
        is_code_host: false,
    }
}

const fn code_host(name: &'static str, hosts: &'static [&'static str]) -> Ecosystem {
    Ecosystem {
        name,
        hosts,
        is_code_host: true,
    }
}

/// In alphabetical order, code hosts last.
const ECOSYSTEMS: &[Ecosystem] = &[
    registry("dart", &["pub.dev", "pub.dartlang.org"]),
    // The runtime itself, its standard library and the registry that Deno and npm clients share.
    registry(
        "deno",
        &["deno.land", "dl.deno.land", "jsr.io", "npm.jsr.io"],
    ),
    registry("dotnet", &["api.nuget.org", "globalcdn.nuget.org"]),
    registry("elixir", &["hex.pm", "repo.hex.pm", "builds.hex.pm"]),
    // Modules, their checksums, and toolchains (`GOTOOLCHAIN`), which are modules too.
    registry("go", &["proxy.golang.org", "sum.golang.org"]),
    // The wrapper's distributions are redirected to `github` by `services.gradle.org`: a project
    // whose wrapper is not in the image needs that name as well.
    registry(
        "gradle",
        &[
            "services.gradle.org",
            "downloads.gradle.org",
            "plugins.gradle.org",
            "plugins-artifacts.gradle.org",
            "repo.maven.apache.org",
            "repo1.maven.org",
        ],
    ),
    registry("haskell", &["hackage.haskell.org"]),
    registry("maven", &["repo.maven.apache.org", "repo1.maven.org"]),
    // `nodejs.org` has the headers that native modules are compiled against.
    registry(
        "node",
        &[
            "registry.npmjs.org",
            "registry.yarnpkg.com",
            "repo.yarnpkg.com",
            "nodejs.org",
        ],
    ),
    // Composer's archives come from the code hosts themselves: name `github` where they are used.
    registry("php", &["packagist.org", "repo.packagist.org"]),
    registry("python", &["pypi.org", "files.pythonhosted.org"]),
    registry("ruby", &["rubygems.org", "index.rubygems.org"]),
    // The sparse index, downloads, and `rustup`'s toolchains.
    registry(
        "rust",
        &[
            "crates.io",
            "index.crates.io",
            "static.crates.io",
            "static.rust-lang.org",
        ],
    ),
    code_host(
        "github",
        &[
            "github.com",
            "api.github.com",
            "codeload.github.com",
            "raw.githubusercontent.com",
            "objects.githubusercontent.com",
            "release-assets.githubusercontent.com",
        ],
    ),
    code_host("gitlab", &["gitlab.com"]),
];

impl Ecosystem {
    /// The ecosystem of a name.
    pub fn named(name: &str) -> Option<Self> {
        ECOSYSTEMS.iter().find(|it| it.name == name).copied()
    }

    /// All that are registries.
    pub fn registries() -> impl Iterator<Item = Self> {
        ECOSYSTEMS.iter().filter(|it| !it.is_code_host).copied()
    }

    /// The names of all, for messages.
    pub fn names() -> String {
        let names: Vec<_> = ECOSYSTEMS.iter().map(|it| it.name).collect();
        names.join(", ")
    }

    /// The hosts from which the ecosystem's packages are fetched.
    pub fn hosts(&self) -> Vec<HostName> {
        let parse = |host: &&str| HostName::parse(host).expect("a test reads every host");
        self.hosts.iter().map(parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_is_a_canonical_name_and_code_hosts_are_in_no_registrys_list() {
        let pushable: Vec<&str> = ECOSYSTEMS
            .iter()
            .filter(|it| it.is_code_host)
            .flat_map(|it| it.hosts)
            .copied()
            .collect();
        for ecosystem in ECOSYSTEMS {
            for (host, name) in ecosystem.hosts.iter().zip(ecosystem.hosts()) {
                assert_eq!(name.as_str(), *host);
                assert!(ecosystem.is_code_host || !pushable.contains(host), "{host}");
            }
        }
        assert!(Ecosystem::registries().all(|it| !it.is_code_host));
    }
}
