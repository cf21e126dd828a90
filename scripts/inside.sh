#!/bin/bash
# inside.sh script [argument ...]: second half of private.sh, unprivileged, in the copy. Builds,
# installs privately, runs the script, removes everything when it ends, however it ends.
#
# How a server finds an extension that is not in its own directories depends on the server:
#   Debian's 15 to 17   extension_destdir
#   18 and newer        extension_control_path
#   any other           a private copy of the whole installation (PostgreSQL finds its files relative
#                       to its programs)
# The settings are in $CACHE_ASIDE_CONF; every test server includes that file.
set -euo pipefail

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

has_setting()
{
	grep -q "^$1	" <<<"$settings"
}

refuse_to_copy()
{
	echo "$("$PG_CONFIG" --version) knows no private place for extensions and is not in a directory of"
	echo "its own, so it cannot be tried here: use 'make install' and then 'make installcheck'."
	exit 1
}

copy_installation()
{
	local bindir prefix
	bindir=$("$PG_CONFIG" --bindir)
	prefix=$(dirname "$bindir")
	case $prefix:$lib:$share in
		/:* | /usr:* | /usr/local:*) refuse_to_copy ;;
		"$prefix:$prefix/"*":$prefix/"*) ;;
		*) refuse_to_copy ;;
	esac
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
	local dest=$CA_WORK/install lib share settings
	lib=$("$PG_CONFIG" --pkglibdir)
	share=$("$PG_CONFIG" --sharedir)
	settings=$("$("$PG_CONFIG" --bindir)/postgres" --describe-config)
	CACHE_ASIDE_CONF=$CA_WORK/install.conf
	if has_setting extension_control_path; then
		echo "extension_control_path = '$dest$share:\$system'" >"$CACHE_ASIDE_CONF"
		echo "dynamic_library_path = '$dest$lib:\$libdir'" >>"$CACHE_ASIDE_CONF"
	elif has_setting extension_destdir; then
		echo "extension_destdir = '$dest'" >"$CACHE_ASIDE_CONF"
		echo "dynamic_library_path = '$dest$lib:\$libdir'" >>"$CACHE_ASIDE_CONF"
	else
		copy_installation
		dest=
		: >"$CACHE_ASIDE_CONF"
	fi
	if ! make -s -j2 with_llvm=no install "PG_CONFIG=$PG_CONFIG" "DESTDIR=$dest" >"$CA_WORK/build.log" 2>&1; then
		cat "$CA_WORK/build.log"
		echo "The build failed."
		exit 1
	fi
	grep 'warning:' "$CA_WORK/build.log" || true
}

echo "Building for $("$PG_CONFIG" --version) ..."
install_here
PATH=$("$PG_CONFIG" --bindir):$PATH
export PATH PG_CONFIG CACHE_ASIDE_CONF
status=0
"$PWD/$1" "${@:2}" || status=$?
exit $status
