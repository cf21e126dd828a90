#!/bin/bash
# matrix.sh [release/server ...]: `make test` on every platform that is promised, each a bare Debian in a chroot where
# the suite installs what it needs. T=, ONLY=, REGRESS=, ISOLATION=, TAP= and JOBS= are passed on. CHROOTS=dir keeps the
# trees, for the next run.
#
# Prints a line per platform and what failed there; ends with "N passed, N failed", the sum over all of them. One
# platform may take MATRIX_SECONDS (3600); one that cannot be made, or whose packages cannot be had, is "skipped", and said.
set -uo pipefail
source "$(dirname "$0")/chroot.sh"

checkout=$(cd "$(dirname "$0")/.." && pwd)

# The Redis of a platform is there before the suite looks for one. What the suite installs itself it installs here, where a
# mirror that fails is told from a test that does.
install_all()
{
	local server=$1
	inside apt-get install -y --no-install-recommends make ca-certificates eatmydata procps "$server" "${server%-server}-sentinel" "${server%-server}-tools"
	copy_checkout root/cache_aside
	inside env CA_GOAL=test /root/cache_aside/scripts/packages.sh
}

versions()
{
	inside sh -c '. /etc/os-release; echo "$PRETTY_NAME"; ls -d /usr/lib/postgresql/* | sed s,.*/,PostgreSQL\ ,
		for server in redis-server valkey-server; do ! command -v $server >/dev/null || $server --version | cut -d " " -f 1-3; done' |
		paste -sd, | sed 's/,/, /g'
}

platform() # release/server
{
	local release=${1%/*} server=${1#*/} status=0
	CHROOT_NAME=matrix-$release-$server
	enter_namespaces "${MATRIX_SECONDS:-3600}" --one "$1"
	make_chroot "$release" install_all "$server"
	rm -rf "$tree/root/cache_aside"
	copy_checkout root/cache_aside
	inside env ONLY="${ONLY:-}" T="${T:-}" ${REGRESS+REGRESS="$REGRESS"} ${ISOLATION+ISOLATION="$ISOLATION"} ${TAP+TAP="$TAP"} \
		${JOBS:+JOBS="$JOBS"} make -C /root/cache_aside test || status=$?
	versions
	exit $status
}

if [ "${1:-}" = --one ]; then
	platform "$2"
fi

[ $# -gt 0 ] || set -- bookworm/redis-server trixie/redis-server trixie/valkey-server sid/valkey-server
summary='^[0-9]+ passed, [0-9]+ failed'
passed=0 failed=0 skipped=0 status=0
output=$(mktemp)
trap 'rm -f "$output"' EXIT
for platform in "$@"; do
	started=$SECONDS
	"$0" --one "$platform" 2>&1 | tee "$output" | grep --line-buffered -vE "$summary|^ok "
	result=${PIPESTATUS[0]}
	if ! grep -qE "$summary" "$output"; then
		if [ "$result" = 77 ]; then skipped=$((skipped + 1)); else failed=$((failed + 1)) status=1; fi
		echo "$platform: no verdict"
		continue
	fi
	read -r p _ f _ s _ < <(grep -E "$summary" "$output" | tail -n 1)
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + ${s:-0}))
	[ "$result" = 0 ] || status=1
	echo "$platform: $p passed, $f failed, ${s:-0} skipped, $((SECONDS - started)) s"
done
echo "$passed passed, $failed failed, $skipped skipped"
exit $status
