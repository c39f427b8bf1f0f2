use std::cell::Cell;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::git::ObjectId;
use crate::nodes::patch::parse::{FileDiff, parse};
use crate::process::Spawn;

async fn git(folder: &Path, args: &[&str]) -> String {
    let finished = Spawn::new("git", folder).args(args.iter().copied());
    let finished = finished.run(&CancellationToken::new()).await.unwrap();
    assert!(finished.succeeded(), "{args:?}: {}", finished.stderr_text());
    finished.stdout_text()
}

/// Contents of which some are pieces of others, so that git writes deltas as well.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let noise = |seed: u32, length: usize| -> Vec<u8> {
        let mut state = seed.wrapping_mul(2_654_435_761).max(1);
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        };
        (0..length).map(|_| next()).collect()
    };
    let piece = prop_oneof![
        3 => (0..4_u32, 0..3000_usize).prop_map(move |(seed, length)| noise(seed, length)),
        1 => prop::collection::vec(any::<u8>(), 0..80),
        1 => (any::<u8>(), 0..70_000_usize).prop_map(|(byte, length)| vec![byte; length]),
    ];
    let pieces = prop::collection::vec(piece, 0..5);
    // A zero byte makes it no text for git.
    pieces.prop_map(|pieces| [&[0][..], &pieces.concat()].concat())
}

#[test]
fn a_patch_of_gits_gives_the_content_that_git_gives() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pairs = prop::collection::vec((content(), prop::option::weighted(0.9, content())), 1..12);
    let config = Config {
        failure_persistence: None,
        cases: 16,
        ..Config::default()
    };
    let (literals, deltas) = (Cell::new(0), Cell::new(0));
    let checked = TestRunner::new(config).run(&pairs, |pairs| {
        let folder = tempfile::tempdir().unwrap();
        let diff = runtime.block_on(async {
            let root = folder.path();
            let write = |at: usize, content: &[u8]| {
                std::fs::write(root.join(format!("{at}.png")), content).unwrap();
            };
            git(root, &["init", "-q", "."]).await;
            for (at, (before, _)) in pairs.iter().enumerate() {
                write(at, before);
            }
            git(root, &["add", "-A"]).await;
            let tree = git(root, &["write-tree"]).await;
            for (at, (_, after)) in pairs.iter().enumerate() {
                match after {
                    Some(after) => write(at, after),
                    None => std::fs::remove_file(root.join(format!("{at}.png"))).unwrap(),
                }
            }
            write(pairs.len(), &pairs[0].0);
            git(root, &["add", "-A"]).await;
            git(
                root,
                &["diff", "--cached", "--binary", "--no-renames", tree.trim()],
            )
            .await
        });
        let files = parse(&diff).unwrap();
        let changed = pairs
            .iter()
            .enumerate()
            .filter(|(_, (before, after))| Some(before) != after.as_ref());
        prop_assert_eq!(files.len(), changed.count() + 1);
        for file in files {
            let at: usize = file.path().strip_suffix(".png").unwrap().parse().unwrap();
            let (before, after) = match pairs.get(at) {
                Some((before, after)) => (&before[..], after.clone().unwrap_or_default()),
                None => (&[][..], pairs[0].0.clone()),
            };
            let patch = file.binary.unwrap();
            match patch.method {
                Method::Literal => literals.set(literals.get() + 1),
                Method::Delta => deltas.set(deltas.get() + 1),
            }
            prop_assert!(patch.size() >= after.len());
            prop_assert_eq!(patch.content(before), Ok(after.clone()));
            if file.new.is_some() {
                prop_assert_eq!(ObjectId::of_blob(&after), file.ids.map(|(_, new)| new));
            }
        }
        Ok(())
    });
    if let Err(error) = checked {
        panic!("{error}");
    }
    assert!(literals.get() > 0 && deltas.get() > 0);
}

fn deflated(data: &[u8]) -> Vec<u8> {
    miniz_oxide::deflate::compress_to_vec_zlib(data, 6)
}

/// Lines of base 85, as git writes them.
fn encoded(data: &[u8]) -> Vec<String> {
    let lines = data.chunks(52).map(|line| {
        let length = u8::try_from(line.len()).unwrap();
        let first = if length <= 26 {
            b'A' + length - 1
        } else {
            b'a' + length - 27
        };
        let mut text = char::from(first).to_string();
        for group in line.chunks(4) {
            let mut bytes = [0; 4];
            bytes[..group.len()].copy_from_slice(group);
            let value = u32::from_be_bytes(bytes);
            for power in (0..5).rev() {
                let digit = value / 85_u32.pow(power) % 85;
                text.push(char::from(DIGITS[usize::try_from(digit).unwrap()]));
            }
        }
        text
    });
    lines.collect()
}

fn given(head: &str, data: &[u8], before: &[u8]) -> Result<Vec<u8>, String> {
    let lines = encoded(&deflated(data));
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    hunk(head, &lines)?.content(before)
}

#[test]
fn a_patch_that_is_not_what_it_says_is_refused_in_words() {
    assert_eq!(given("literal 3", b"a\0b", b""), Ok(b"a\0b".to_vec()));
    // Lengths before and after, a copy of 3 from 1, an insertion of `x`.
    let delta = [5, 4, 0b1001_0001, 1, 3, 1, b'x'];
    assert_eq!(given("delta 7", &delta, b"abcde"), Ok(b"bcdx".to_vec()));
    for (head, data, said) in [
        ("literal 2", &b"a\0b"[..], "another length"),
        ("literal 4", b"a\0b", "another length"),
        ("literal 0", b"a", "another length"),
        ("literal -1", b"a", "followed by `literal`"),
        ("figurative 1", b"a", "followed by `literal`"),
        ("delta 6", &delta, "another length"),
        ("delta 1", &[0x80], "no lengths"),
        // For another file, beyond its end, with an unknown step, too short, too long.
        ("delta 3", &[4, 1, 0x90], "does not fit"),
        ("delta 5", &[5, 9, 0b1001_0001, 1, 9], "does not fit"),
        ("delta 3", &[5, 1, 0], "does not fit"),
        ("delta 4", &[5, 2, 1, b'x'], "does not fit"),
        ("delta 5", &[5, 1, 2, b'x', b'y'], "does not fit"),
        ("delta 4", &[5, 2, 2, b'x'], "does not fit"),
    ] {
        let error = given(head, data, b"abcde").unwrap_err();
        assert!(error.contains(said), "{head} {data:?}: {error}");
    }
    for lines in [
        &["~"][..],
        &["A\u{e9}\u{e9}"],
        &["D~~~~~"],
        &["A0000"],
        &["Bab\"cd"],
    ] {
        let error = hunk("literal 1", lines).unwrap_err();
        assert!(error.contains("no base 85"), "{lines:?}: {error}");
    }
    assert!(
        hunk("literal 3", &["C00000"])
            .unwrap()
            .content(b"")
            .unwrap_err()
            .contains("inflated")
    );
}

#[test]
fn nothing_is_inflated_beyond_what_a_patch_says_of_its_length() {
    let bomb = encoded(&deflated(&vec![0; 64 << 20]));
    let bomb: Vec<_> = bomb.iter().map(String::as_str).collect();
    let patch = hunk("literal 1000", &bomb).unwrap();
    assert_eq!(patch.size(), 1000);
    assert!(patch.content(b"").is_err());
    assert_eq!(beginning(&patch.deflated, 1000).unwrap().len(), 1000);
    // What a delta leads to counts as well: 4 GiB out of a few bytes.
    let delta = [1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x80];
    let delta = encoded(&deflated(&delta));
    let delta: Vec<_> = delta.iter().map(String::as_str).collect();
    assert_eq!(hunk("delta 7", &delta).unwrap().size(), 0xffff_ffff);
}

const PICTURE: &str = "diff --git a/p b/p\nnew file mode 100644\nindex 0000000000000000000000000000000000000000..\
    5f85ee8bc1ff1e9d3e2a5b7a9c2ff4d7b4a1b7aa\nGIT binary patch\nliteral 3\nKcmYdfNCE%>hycU@\n\n\
    literal 0\nHcmV?d00001\n\n";

#[test]
fn what_people_and_models_read_of_a_patch_has_no_contents() {
    let text = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n";
    let plain = without_contents(PICTURE);
    assert!(plain.ends_with("\nGIT binary patch\n"), "{plain}");
    let all = format!("{text}{PICTURE}{text}{PICTURE}");
    assert_eq!(
        without_contents(&all),
        format!("{text}{plain}{text}{plain}")
    );
    assert_eq!(without_contents(text), text);
    let files: Vec<FileDiff> = parse(&all.replace('\n', "\r\n")).unwrap();
    assert_eq!(files.iter().filter(|file| file.binary.is_some()).count(), 2);
    // Without the line that ends it, as a tool that trims its answer leaves it.
    assert!(parse(PICTURE.trim_end()).unwrap()[0].binary.is_some());
}
