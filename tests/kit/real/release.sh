# Which published package, and which of its bug fixes, the proof uses.
# Sourced by fetch.sh and prepare.sh.
#
# cachetools 3.1.1 (23 May 2019): "Fix pickling/unpickling of cache keys".
# The fix is the change of FIXED_FILE between the two releases; the later
# release brings the test that shows it.
# shellcheck shell=bash disable=SC2034

PACKAGE=cachetools
BEFORE=3.1.0
AFTER=3.1.1
BEFORE_SHA256=9efcc9fab3b49ab833475702b55edd5ae07af1af7a4c627678980b45e459c460
AFTER_SHA256=8ea2d3ce97850f31e4a08b0e2b5e6c34997d7216a9d2c98e0f3978630d4da69a
BEFORE_DATE=2019-01-29T20:46:18+00:00
AFTER_DATE=2019-05-23T19:50:01+00:00
FIXED_FILE=cachetools/keys.py

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
RELEASES=$ROOT/target/real

# Fails unless the archive of version $1 is here and has the checksum $2.
is_fetched() {
    echo "$2  $RELEASES/$PACKAGE-$1.tar.gz" | sha256sum --check --status 2>/dev/null
}
