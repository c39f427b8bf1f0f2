//! Files that are no text.

use super::*;
use crate::git::ObjectId;

/// 3000 bytes of noise, others for each number.
const NOISE: &str = "noise() { python3 -c \"import random,sys; \
    sys.stdout.buffer.write(b'\\0' + random.Random($1).randbytes(3000))\"; }";

#[tokio::test]
async fn files_that_are_no_text_are_changed_as_git_would_change_them() {
    let base = "noise 1 > p.png; noise 2 > q.png; printf 'a\\0\\377' > small; echo text > t; \
        echo 'a b' | iconv -t UTF-16 > wide.txt; printf x > other; ln -s x link; mkdir d; echo 1 > d/f";
    for edit in [
        "noise 3 > new.png; printf x >> p.png; chmod +x q.png; : > small; \
            echo 'a c' | iconv -t UTF-16 > wide.txt",
        "noise 3 > p.png; cat p.png q.png > both.png; noise 4 > t",
        "mv p.png moved.png; mv q.png r.png; printf x >> r.png; echo text > small",
        "mv p.png r; mv q.png p.png; mv r q.png; cp small copy",
        "rm p.png; mkdir p.png; echo 1 > p.png/f",
        "rm -r d q.png; noise 4 > d",
        "rm link; noise 4 > link",
        // What had been the link's target is its content now.
        "rm link; printf x > link",
        "chmod +x p.png; printf x >> p.png; printf '\\0' > '\u{fc} \"q\" .bin'; mkdir into; \
            mv q.png into; seq 100000 > late; printf '\\0\\377' >> late",
    ] {
        let edit = format!("{NOISE}; {edit}");
        let (delta, made, expected) = tree_after(&format!("{NOISE}; {base}"), &edit).await;
        delta.unwrap_or_else(|error| panic!("{edit}: {}", error.message));
        assert_eq!(made, expected, "{edit}");
    }
}

#[tokio::test]
async fn the_contents_of_files_that_are_no_text_count_and_are_named() {
    let large = "head -c 2000000 /dev/urandom > a/big.png; noise 1 > small.png";
    let (delta, ..) = tree_after("mkdir a; echo 1 > a/x", &format!("{NOISE}; {large}")).await;
    let said = delta.unwrap_err().message;
    assert!(
        said.contains("most of all in `a/big.png` 1954 KiB, `small.png` 3 KiB"),
        "{said}"
    );
    assert!(
        said.contains("at most 1024 KiB") && said.contains("`max_kib`"),
        "{said}"
    );
    // What goes counts for nothing, nor what is moved.
    let base = "head -c 2000000 /dev/urandom > big.png; head -c 2000000 /dev/urandom > too.png";
    let (delta, made, expected) = tree_after(base, "rm big.png; mv too.png a.png").await;
    delta.unwrap();
    assert_eq!(made, expected);
}

#[tokio::test]
async fn contents_for_another_file_or_with_a_secret_are_refused() {
    let key = "\\0token = ghp_0123456789abcdefghijABCDEFGHIJ012345";
    let (delta, ..) = tree_after(": > x", &format!("printf '{key}' > key.bin")).await;
    let said = delta.unwrap_err().message;
    assert!(
        said.contains("`key.bin` is refused") && said.contains("a secret"),
        "{said}"
    );

    let rig = Rig::with(&[("p", "\0a")]).await;
    let deps = async || rig.deps(rig.workspace(1).await).await.unwrap();
    let id = |content: &[u8]| ObjectId::of_blob(content).unwrap();
    let patch = |before: &ObjectId, after: &ObjectId| {
        // The content is `a\0b`.
        format!(
            "diff --git a/p b/p\nindex {before}..{after} 100644\nGIT binary patch\nliteral 3\n\
             KcmYdfNCE%>hycU@\n\n"
        )
    };
    let (before, after) = (id(b"\0a"), id(b"a\0b"));
    for (diff, said) in [
        (
            patch(&id(b"other"), &after),
            "not that for which the diff was made",
        ),
        (patch(&before, &id(b"other")), "not what it says to give"),
        (
            patch(&before, &after).replace(after.as_str(), &after.as_str()[..9]),
            "--full-index",
        ),
    ] {
        let error = patched(deps().await, &diff).await.unwrap_err();
        assert!(error.message.contains(said), "{diff}: {}", error.message);
    }
    patched(deps().await, &patch(&before, &after))
        .await
        .unwrap();
}
