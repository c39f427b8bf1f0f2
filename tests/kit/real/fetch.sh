#!/usr/bin/env bash
# Fetches the two source releases that prepare.sh needs into target/real.
# Does nothing, and needs no network, when they are already there and intact.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/release.sh"

fetch() {
    local version=$1 sha256=$2
    is_fetched "$version" "$sha256" && return
    echo "fetching the source release $PACKAGE $version" >&2
    # The hash goes to pip too: it checks before it runs anything of the package.
    if ! echo "$PACKAGE==$version --hash=sha256:$sha256" |
        python3 -m pip download --quiet --disable-pip-version-check --no-deps \
            --no-binary :all: --require-hashes --dest "$RELEASES" -r /dev/stdin; then
        echo "could not fetch $PACKAGE $version: pip's message is above; check the network and that 'python3 -m pip' works" >&2
        exit 1
    fi
    if ! is_fetched "$version" "$sha256"; then
        echo "$RELEASES/$PACKAGE-$version.tar.gz is missing or has another checksum than $sha256: remove it and try again" >&2
        exit 1
    fi
}

mkdir -p "$RELEASES"
fetch "$BEFORE" "$BEFORE_SHA256"
fetch "$AFTER" "$AFTER_SHA256"
