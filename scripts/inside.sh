#!/bin/bash
# inside.sh script [argument ...]: second half of private.sh, unprivileged, in the copy. Builds,
# installs privately, runs the script, removes everything when it ends, however it ends.
#
# How a server finds an extension that is not in its own directories depends on the server; see
# private_place in postgresql.sh. The settings are in $CACHE_ASIDE_CONF; every test server includes it.
set -euo pipefail
source scripts/postgresql.sh

finish()
{
	local status=$?
	trap - EXIT
	cd /
	[ -n "$CA_KEEP" ] || rm -rf "$CA_WORK" || true
	exit $status
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

copy_installation()
{
	local prefix
	prefix=$(dirname "$("$PG_CONFIG" --bindir)")
	if [ ! -d "$CA_WORK/pgsql/bin" ]; then
		mkdir -p "$CA_WORK/pgsql"
		for dir in bin lib lib64 share include; do
			[ ! -d "$prefix/$dir" ] || cp -a --no-preserve=ownership "$prefix/$dir" "$CA_WORK/pgsql/"
		done
	fi
	PG_CONFIG=$CA_WORK/pgsql/bin/pg_config
}

install_here()
{
	local dest=$CA_WORK/install lib share place
	lib=$("$PG_CONFIG" --pkglibdir)
	share=$("$PG_CONFIG" --sharedir)
	CACHE_ASIDE_CONF=$CA_WORK/install.conf
	place=$(private_place "$PG_CONFIG")
	case $place in
		extension_control_path) echo "$place = '$dest$share:\$system'" >"$CACHE_ASIDE_CONF" ;;
		extension_destdir) echo "$place = '$dest'" >"$CACHE_ASIDE_CONF" ;;
		copy)
			copy_installation
			dest=
			: >"$CACHE_ASIDE_CONF"
			;;
	esac
	[ -z "$dest" ] || echo "dynamic_library_path = '$dest$lib:\$libdir'" >>"$CACHE_ASIDE_CONF"
	if ! make -s -j2 with_llvm=no install "PG_CONFIG=$PG_CONFIG" "DESTDIR=$dest" >"$CA_WORK/build.log" 2>&1; then
		cat "$CA_WORK/build.log"
		echo "The build failed."
		exit 1
	fi
	# Scripts of older releases, from which tests upgrade
	cp test/upgrade/cache_aside--*.sql "$dest$("$PG_CONFIG" --sharedir)/extension/"
	grep 'warning:' "$CA_WORK/build.log" || true
}

forget_other_builds()
{
	local built=$CA_WORK/built-for this
	this=$("$PG_CONFIG" --version --includedir-server)
	[ ! -e "$built" ] || [ "$this" = "$(<"$built")" ] || find . \( -name '*.o' -o -name '*.so' \) -delete
	echo "$this" >"$built"
}

echo "Building for $("$PG_CONFIG" --version), $PG_CONFIG ..."
forget_other_builds
install_here
PATH=$("$PG_CONFIG" --bindir):$PATH
export PATH PG_CONFIG CACHE_ASIDE_CONF
status=0
"$PWD/$1" "${@:2}" || status=$?
exit $status
