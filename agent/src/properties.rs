//! What holds for every input that a stranger may write, whatever it is.
//!
//! Called by the fuzz targets in `fuzz/` and by property tests here, so that both look for the
//! same faults. Each function panics when its property does not hold. No part of the product.

use std::time::Duration;

use patchfleet_model::{Answer, Broken, Origin, Protocol, Target as ModelTarget};
use patchfleet_repository::RepositoryConfig;

use crate::git::work_tree_properties;
use crate::nodes::{patch_properties, test_properties};
use crate::sandbox::egress::{AllowList, ClientHelloReader, Entry, HostName, Target};
use crate::sandbox::properties as sandbox_properties;

/// A target of CONNECT has one reading, and is allowed exactly when its name is on the list.
pub fn connect_target(text: &str) {
    let Ok(target) = Target::parse(text) else {
        return;
    };
    let host = target.host.as_str();
    assert_canonical(&target.host);
    if text.is_ascii() {
        let plain = text.to_ascii_lowercase();
        let rest = plain
            .strip_prefix(host)
            .expect("nothing but case changes in ASCII");
        let rest = rest.strip_prefix('.').unwrap_or(rest);
        let port = rest.strip_prefix(':').expect("a port follows").parse();
        assert_eq!(port, Ok(443_u16));
    }
    let entries = ["allowed.test", "*.below.test"].map(str::parse::<Entry>);
    let list = AllowList::new(entries.iter().flatten());
    let is_listed = host == "allowed.test" || host.ends_with(".below.test");
    assert_eq!(list.contains(&target.host), is_listed, "{host}");
}

/// A TLS client's first message names the same host however it is cut into pieces.
pub fn client_hello(bytes: &[u8]) {
    let read = |size: usize| {
        let mut reader = ClientHelloReader::default();
        bytes
            .chunks(size)
            .find_map(|piece| reader.push(piece).transpose())
    };
    let whole = read(bytes.len().max(1));
    for size in [1, 5, 64] {
        if let (Some(Ok(whole)), Some(Ok(pieces))) = (&whole, read(size)) {
            assert_canonical(whole);
            assert_eq!(*whole, pieces);
        }
    }
}

/// A draft that is taken leads to plain files within the repository alone.
pub fn patch(text: &str) {
    patch_properties::draft(text);
}

/// A path that is taken stays within the repository, and is neither git's nor protected.
pub fn path(text: &str) {
    patch_properties::path(text);
}

/// A `.patchfleet.yaml` that is taken asks for nothing beyond what it may; an error of one that is
/// not names a place that the text has.
pub fn repository_config(text: &str) {
    let config = match RepositoryConfig::parse(text) {
        Ok(config) => config,
        Err(error) => {
            // A carriage return ends a line of YAML by itself.
            let lines = text.split(['\n', '\r']).count();
            let is_in_text = error.position.is_none_or(|(line, _)| line <= lines + 1);
            assert!(is_in_text, "{error} in {text:?}");
            assert!(!error.into_failure().retryable);
            return;
        }
    };
    let limit = Duration::from_hours(1);
    assert!(config.test_timeout() > Duration::ZERO && config.test_timeout() <= limit);
    assert!(config.setup_timeout.is_none_or(|it| it <= limit));
    let commands = config.test.iter().chain(&config.setup).flatten();
    for command in commands {
        assert!(!command.is_empty(), "{text:?}");
    }
    let network: Vec<_> = config.network.into_iter().flatten().collect();
    let nothing = RepositoryConfig::parse_within(text, &AllowList::default());
    assert_eq!(nothing.is_ok(), network.is_empty(), "{text:?}");
    let all = RepositoryConfig::parse_within(text, &AllowList::new(&network));
    assert!(all.is_ok(), "{text:?}");
}

/// Attributes of a repository have one reading, by which files that nobody touched do not change.
/// The rules end at the first NUL, the path at the second.
pub fn attributes(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    work_tree_properties::attributes(part(), part(), part());
}

/// An output of tests makes nobody claim what it does not say. Standard error begins at the first
/// NUL.
pub fn test_output(text: &str) {
    let (stdout, stderr) = text.split_once('\0').unwrap_or((text, ""));
    test_properties::output(stdout, stderr);
}

/// A run ended as its report says, and did not succeed where the report says nothing.
pub fn run_report(text: &str) {
    sandbox_properties::report(text);
}

/// An answer of a model's server comes to the same end and the same usage however it is cut into pieces,
/// also for the gateway, which reads what passes on to somebody else. The first byte chooses the protocol.
pub fn model_answer(bytes: &[u8]) {
    let Some((protocol, body)) = bytes.split_first() else {
        return;
    };
    let known = Protocol::ALL;
    let protocol = known[usize::from(protocol.wrapping_sub(b'0')) % known.len()];
    let origin = Origin {
        provider: protocol.name().to_owned(),
        model: "m".to_owned(),
    };
    let target = ModelTarget::new(protocol, origin);
    let decode = |size: usize| {
        let mut decoder = target.decoder(300);
        for piece in body.chunks(size) {
            decoder.push(piece);
        }
        decoder.end()
    };
    let read = |size: usize| {
        let mut reading = target.reading(300);
        for piece in body.chunks(size) {
            reading.push(piece);
        }
        reading.end()
    };
    let all = body.len().max(1);
    let (whole, passed) = (decode(all), read(all));
    assert_sound(&whole);
    for size in [1, 7, 64] {
        assert_eq!(whole, decode(size), "{protocol}: pieces of {size}");
        assert_eq!(passed, read(size), "{protocol}: pieces of {size}");
    }
}

/// Usage has classes that fit, and the calls of an answer have ids that differ.
fn assert_sound(ended: &Result<Answer, Broken>) {
    let usage = match ended {
        Ok(answer) => answer.usage,
        Err(broken) => broken.usage_so_far,
    };
    assert!(usage.reasoning <= usage.output, "{usage:?}");
    if let Ok(answer) = ended {
        let ids: Vec<_> = answer.calls().iter().map(|it| it.id.as_str()).collect();
        let different: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(ids.len(), different.len(), "{ids:?}");
    }
}

fn assert_canonical(name: &HostName) {
    let text = name.as_str();
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    assert!(text.bytes().all(is_plain), "{text:?}");
    assert!(
        text.contains('.') && text.split('.').all(|label| !label.is_empty()),
        "{text:?}"
    );
    assert!(text.parse::<std::net::IpAddr>().is_err(), "{text:?}");
    assert_eq!(HostName::parse(text).as_ref(), Ok(name));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// Rules of each kind for every file.
    const ATTRIBUTES: &[&str] = &[
        "* text=auto ident",
        "* text=auto eol=crlf",
        "* text eol=crlf ident",
        "* text",
        "* -text ident",
    ];

    /// The files of the seed corpus of a fuzz target.
    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../fuzz/seeds")
            .join(target);
        let files = std::fs::read_dir(folder).unwrap();
        files
            .map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .collect()
    }

    fn text_seeds(target: &str) -> Vec<String> {
        seeds(target)
            .into_iter()
            .map(|it| String::from_utf8(it).unwrap())
            .collect()
    }

    /// A seed with a part of it replaced by something else.
    fn near<T: Clone + std::fmt::Debug + 'static>(
        seeds: Vec<Vec<T>>,
        part: impl Strategy<Value = Vec<T>>,
    ) -> impl Strategy<Value = Vec<T>> {
        let seed = prop::sample::select(seeds);
        (seed, any::<prop::sample::Index>(), 0..6_usize, part).prop_map(|(seed, at, gone, part)| {
            let at = at.index(seed.len() + 1);
            let end = (at + gone).min(seed.len());
            [&seed[..at], &part, &seed[end..]].concat()
        })
    }

    fn near_text(target: &str) -> impl Strategy<Value = String> {
        let seeds = text_seeds(target)
            .iter()
            .map(|seed| seed.chars().collect())
            .collect();
        let odd = prop::sample::select(
            "./:@[]%\\~\0\n\u{200c}\u{ff0e}aA1x-_ü*"
                .chars()
                .collect::<Vec<_>>(),
        );
        near(seeds, prop::collection::vec(odd, 0..4)).prop_map(|text| text.into_iter().collect())
    }

    proptest! {
        #[test]
        fn a_target_is_allowed_exactly_when_its_name_is_listed(
            near in near_text("connect_target"),
            far in "(?s).{0,80}",
        ) {
            connect_target(&near);
            connect_target(&far);
        }

        #[test]
        fn a_first_message_names_one_host_however_it_is_cut(
            near in near(seeds("client_hello"), prop::collection::vec(any::<u8>(), 0..4)),
            far in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            client_hello(&near);
            client_hello(&far);
        }

        #[test]
        fn a_draft_that_is_taken_stays_within_the_repository(near in near_text("patch")) {
            patch(&near);
        }

        #[test]
        fn a_path_that_is_taken_stays_within_the_repository(
            near in near_text("path"),
            far in "(?s).{0,80}",
        ) {
            path(&near);
            path(&far);
        }

        #[test]
        fn a_configuration_that_is_taken_asks_for_nothing_beyond_what_it_may(
            near in near_text("repository_config"),
            far in "(?s)[a-z_:\\[\\]{}&*'\"!|> \n-]{0,80}",
        ) {
            repository_config(&near);
            repository_config(&far);
        }

        #[test]
        fn attributes_change_no_file_that_nobody_touched(
            near in near(seeds("attributes"), prop::collection::vec(any::<u8>(), 0..4)),
            content in "(?s)[\r\n\0a$: Id\u{1a}]{0,40}",
            rules in 0..ATTRIBUTES.len(),
        ) {
            attributes(&near);
            attributes(format!("{}\0file\0{content}", ATTRIBUTES[rules]).as_bytes());
        }

        #[test]
        fn an_output_of_tests_claims_no_more_than_it_says(near in near_text("test_output")) {
            test_output(&near);
        }

        #[test]
        fn an_answer_of_a_model_ends_the_same_however_it_is_cut(
            near in near(seeds("model_answer"), prop::collection::vec(any::<u8>(), 0..4)),
            far in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            model_answer(&near);
            model_answer(&far);
        }

        #[test]
        fn a_run_ended_as_its_report_says(near in near_text("run_report")) {
            run_report(&near);
        }
    }

    /// What holds for all bytes.
    type Property = Box<dyn Fn(&[u8])>;

    #[test]
    fn every_fuzz_target_has_seeds_a_line_in_the_makefile_and_holds_for_its_seeds() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let makefile = std::fs::read_to_string(root.join("Makefile")).unwrap();
        let targets = std::fs::read_dir(root.join("fuzz/fuzz_targets")).unwrap();
        let targets = targets.map(|it| it.unwrap().path());
        let targets: Vec<_> = targets
            .map(|it| it.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        let text =
            |property: fn(&str)| move |bytes: &[u8]| property(&String::from_utf8_lossy(bytes));
        for target in &targets {
            assert!(makefile.contains(target.as_str()), "{target}");
            let property: Property = match target.as_str() {
                "attributes" => Box::new(attributes),
                "client_hello" => Box::new(client_hello),
                "connect_target" => Box::new(text(connect_target)),
                "model_answer" => Box::new(model_answer),
                "patch" => Box::new(text(patch)),
                "path" => Box::new(text(path)),
                "repository_config" => Box::new(text(repository_config)),
                "run_report" => Box::new(text(run_report)),
                "test_output" => Box::new(text(test_output)),
                other => panic!("no property test for {other}"),
            };
            let seeds = seeds(target);
            assert!(!seeds.is_empty(), "{target}");
            for seed in &seeds {
                property(seed);
            }
        }
        assert_eq!(targets.len(), 9, "{targets:?}");
    }

    #[test]
    fn seeds_reach_what_is_behind_the_first_check() {
        let targets = text_seeds("connect_target");
        assert!(targets.iter().any(|it| Target::parse(it).is_ok()));
        let is_read =
            |bytes: &Vec<u8>| matches!(ClientHelloReader::default().push(bytes), Ok(Some(_)));
        assert_eq!(
            seeds("client_hello")
                .iter()
                .filter(|it| is_read(it))
                .count(),
            3
        );
        let drafts = text_seeds("patch");
        let taken = drafts
            .iter()
            .filter(|it| patch_properties::draft(it))
            .count();
        assert_eq!(taken, drafts.len() - 1, "all but the link");
        let configs = text_seeds("repository_config");
        assert!(configs.iter().any(|it| RepositoryConfig::parse(it).is_ok()));
    }
}
