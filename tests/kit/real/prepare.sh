#!/usr/bin/env bash
# prepare.sh DEST: a real package with a real bug, from the releases that
# fetch.sh brought. Works offline. Afterwards DEST holds
#   repository/  git history on branch main: both releases, then a commit that
#                takes the published fix back out and leaves its test in
#   issue.json   GitHub's `issues` payload about the bug
#   fix.diff     the published fix: what changed between the two releases
#   fix.sh       draft command: run in the worktree, puts the fix back
# The test command is `python3 -m unittest -v`: red before fix.sh, green after.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/release.sh"

die() {
    echo "prepare.sh: $1" >&2
    exit 1
}

# git without anyone's configuration, as the same author each time.
in_repository() {
    GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null \
        GIT_AUTHOR_NAME=$PACKAGE GIT_AUTHOR_EMAIL=releases@example.org GIT_AUTHOR_DATE=$date \
        GIT_COMMITTER_NAME=$PACKAGE GIT_COMMITTER_EMAIL=releases@example.org GIT_COMMITTER_DATE=$date \
        git -C "$repository" "$@"
}

commit_release() {
    local version=$1 sha256=$2
    is_fetched "$version" "$sha256" ||
        die "$PACKAGE $version is not in $RELEASES: run tests/kit/real/fetch.sh"
    find "$repository" -mindepth 1 -maxdepth 1 ! -name .git -exec rm -rf {} +
    tar -xzf "$RELEASES/$PACKAGE-$version.tar.gz" -C "$repository" --strip-components=1
    in_repository add --all
    in_repository commit --quiet --message "Release $version"
    in_repository tag "v$version"
}

destination=${1:?usage: prepare.sh DEST}
mkdir -p "$destination"
[ -z "$(ls -A "$destination")" ] || die "$destination is not empty: name a new folder"
destination=$(cd "$destination" && pwd)
repository=$destination/repository
mkdir "$repository"

date=$BEFORE_DATE
in_repository init --quiet --initial-branch=main
commit_release "$BEFORE" "$BEFORE_SHA256"
date=$AFTER_DATE
commit_release "$AFTER" "$AFTER_SHA256"

in_repository diff "v$BEFORE" "v$AFTER" -- "$FIXED_FILE" >"$destination/fix.diff"
[ -s "$destination/fix.diff" ] || die "$FIXED_FILE does not differ between $BEFORE and $AFTER"
in_repository apply --reverse --index "$destination/fix.diff"
in_repository commit --quiet --message "Simplify the cache keys"

cp "$HERE/issue.json" "$destination/issue.json"
cat >"$destination/fix.sh" <<'FIX'
#!/bin/sh
# Draft command: puts the published fix back into the worktree it is run in.
set -eu
git apply "$(dirname "$0")/fix.diff"
FIX
chmod +x "$destination/fix.sh"
