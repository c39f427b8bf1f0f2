#!/bin/sh
# make.sh: makes an image for the containers of tests, of this host's own files, unless it is there;
# prints its name. No registry is asked.
# A shell and a few programs with their libraries. Whatever else a test needs is the host's, shown
# by `sandbox.read_only`.
set -eu
# Another version of this file makes another image.
name=localhost/patchfleet-test:$(cksum <"$0" | cut -d ' ' -f 1)
if command -v flock >/dev/null; then
    # Tests are many processes: one makes it, the others wait.
    exec 9>"${TMPDIR:-/tmp}/.patchfleet-test-image.$(id -u).lock"
    flock 9
fi
if ! podman image exists "$name"; then
    root=$(mktemp -d)
    trap 'rm -rf "$root"' EXIT
    cd "$root"
    mkdir -p dev etc proc run sys tmp usr/bin usr/lib usr/lib64 usr/sbin
    chmod 755 .
    chmod 1777 tmp
    for folder in bin lib lib64 sbin; do ln -s "usr/$folder" "$folder"; done
    for program in cat env id ls mkdir sh sleep touch true; do
        file=$(readlink -f "$(PATH=/usr/bin:/bin which "$program")")
        cp "$file" "usr/bin/$program"
        # Libraries where the loader looks for them; a static program has none.
        for library in $(ldd "$file" | grep -o '/[^ )]*' | sort -u); do
            mkdir -p ".$(dirname "$library")"
            cp -L "$library" ".$library"
        done
    done
    tar --owner=0 --group=0 -cf - . | podman import --quiet - "$name" >/dev/null
fi
echo "$name"
