//! What holds for every input that a stranger may write, whatever it is.
//!
//! Called by the fuzz targets in `fuzz/` and by property tests here, so that both look for the
//! same faults. Each function panics when its property does not hold. No part of the product.

use crate::nodes::patch_properties;
use crate::sandbox::egress::{AllowList, ClientHelloReader, Entry, HostName, Target};

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
    }
}
