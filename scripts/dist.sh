#!/bin/bash
# dist.sh: release archives of the last commit in DIST (dist/): .tar.gz, and .zip as PGXN takes it. The same commit
# gives the same bytes on every machine: names, order, times and rights are git's, and gzip writes no time.
set -euo pipefail
export TZ=UTC # a zip has local times
cd "$(dirname "$0")/.."

version=$(sed -n 's/^ "version": "\(.*\)",/\1/p; s/^  "version": "\(.*\)",/\1/p' META.json | head -n 1)
name=cache_aside-$version
dist=${DIST:-dist}
[ -z "$(git status --porcelain --untracked-files=no)" ] || echo "What is not committed is not in it."
mkdir -p "$dist"
git -c core.abbrev=40 archive --format=tar --prefix="$name/" HEAD | gzip -n -9 >"$dist/$name.tar.gz"
git archive --format=zip -9 --prefix="$name/" HEAD >"$dist/$name.zip"
(cd "$dist" && sha256sum "$name.tar.gz" "$name.zip")
