//! `[agents.sandbox.container]`: the image, the engine that runs it, and how much a run may use.

use patchfleet_config::{Faults, Rules};
use serde::Deserialize;

/// The section, with its defaults.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContainerConfig {
    /// The program that runs containers: `podman` or `docker`, or its path.
    pub engine: String,
    /// The image, which brings the programs.
    pub image: String,
    /// Whether an image that is not there is pulled when the agent tests its host. Otherwise it is
    /// a fault of the host.
    pub pull: bool,
    /// Another runtime of the engine, such as `runsc` for a kernel of its own.
    pub runtime: Option<String>,
    /// Memory of a run, in MiB.
    pub memory_mib: u64,
    /// Processors of a run, in parts of one.
    pub cpus: f64,
    /// Most processes and threads of a run.
    pub processes: u64,
}

impl Default for ContainerConfig {
    fn default() -> Self {
        Self {
            engine: "podman".to_owned(),
            image: String::new(),
            pull: false,
            runtime: None,
            memory_mib: 1024,
            cpus: 0.5,
            processes: 256,
        }
    }
}

impl ContainerConfig {
    /// Hundredths of a processor.
    pub(in crate::sandbox) fn cpu_percent(&self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "validated to be between 0.01 and 1024"
        )]
        let percent = (self.cpus * 100.0).round() as u64;
        percent
    }
}

impl Rules for ContainerConfig {
    fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        // Anything else would be an option of the engine's.
        let is_word = |text: &str| {
            !text.is_empty() && !text.starts_with('-') && !text.contains(char::is_whitespace)
        };
        let engine = "name `podman` or `docker`, or the path of one";
        faults.rule(is_word(&self.engine), &["engine"], engine);
        faults.rule(
            is_word(&self.image),
            &["image"],
            "the backend `container` needs an image: name one, as `engine` knows it",
        );
        faults.rule(
            self.runtime.as_deref().is_none_or(is_word),
            &["runtime"],
            "name a runtime of the engine, such as `runsc`",
        );
        let too_little = "no program can work with so little";
        faults.rule(self.memory_mib >= 64, &["memory_mib"], too_little);
        faults.rule(self.processes >= 16, &["processes"], too_little);
        let cpus = (0.01..=1024.0).contains(&self.cpus);
        faults.rule(cpus, &["cpus"], "write a number such as 0.5 or 2");
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{Backend, SandboxConfig};

    fn blamed(container: ContainerConfig) -> Vec<String> {
        let config = SandboxConfig {
            backend: Backend::Container,
            container,
            ..SandboxConfig::default()
        };
        let faults = config.faults();
        let fields = faults.first().map(|fault| fault.fields.clone());
        fields.unwrap_or_default()
    }

    fn of_image() -> ContainerConfig {
        ContainerConfig {
            image: "registry.example.org/tools@sha256:0123".to_owned(),
            ..ContainerConfig::default()
        }
    }

    #[test]
    fn containers_need_an_image_and_words_that_are_no_options_of_an_engine() {
        assert_eq!(blamed(of_image()), [""; 0]);
        assert_eq!(blamed(ContainerConfig::default()), ["container.image"]);
        for word in ["--privileged", "a b", ""] {
            let mut config = of_image();
            word.clone_into(&mut config.image);
            assert_eq!(blamed(config), ["container.image"], "{word}");
            let mut config = of_image();
            word.clone_into(&mut config.engine);
            assert_eq!(blamed(config), ["container.engine"], "{word}");
            let mut config = of_image();
            config.runtime = Some(word.to_owned());
            assert_eq!(blamed(config), ["container.runtime"], "{word}");
        }
        for cpus in [0.0, -1.0, f64::NAN] {
            let config = ContainerConfig { cpus, ..of_image() };
            assert_eq!(blamed(config), ["container.cpus"], "{cpus}");
        }
        // Without containers nobody asks for an image.
        assert!(SandboxConfig::default().faults().first().is_none());
    }
}
