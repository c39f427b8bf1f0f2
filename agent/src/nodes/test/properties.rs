//! What holds for every output of a test run; see [`crate::properties`].

use super::TestResults;
use super::count::Count;
use super::names::{mended, parse};

/// Reads an output, as the node does: it claims nothing that the output does not say.
pub(crate) fn output(stdout: &str, stderr: &str) {
    let results = TestResults {
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
        returncode: Some(0),
        duration_ms: 1,
        timed_out: false,
        tree: "1".repeat(40).parse().expect("forty digits are an id"),
        is_cut: false,
        exceeded: None,
        isolation: None,
        parts: Vec::new(),
    };
    if let Some(count) = Count::read(&results) {
        assert_eq!(count.fewer_than(count), None);
        let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
        let is_said = digits(stdout) + digits(stderr) > 0 || count.tests == 0;
        assert!(is_said, "{count:?} in {stdout:?} and {stderr:?}");
        let cut = TestResults {
            is_cut: true,
            ..results
        };
        assert_eq!(Count::read(&cut), None);
    }
    let tests = parse(stdout, stderr);
    for name in tests.keys() {
        assert!(!name.is_empty() && !name.starts_with(char::is_whitespace));
    }
    assert_eq!(mended(&tests, &tests, true), [""; 0]);
}
