#!/bin/bash
# check-layers.sh [directory]: does each file of src/ know only what src/LAYERS lets it know? The directory
# is a built tree: what a file calls is read from its object.
#
#	include  a header of a folder that its own may not use; any at all in cache_aside.h, which is the ground
#	call     a function or variable, likewise, as the linker sees it
#	circle   a file that another one uses, directly or by others, which it uses itself
#	foreign  a header of hiredis or OpenSSL outside of redis/
#	place    a source file that is in no folder of LAYERS
#	name     an exported function that is not ca_<its file>_<verb> (of init.c: ca_<folder>_init)
#	layers   LAYERS itself is wrong: a folder names one that is not above it
#
# Ends with one line, the figures; exit status 1 when anything was found. LIST=1 prints findings alone, and
# fails never; DOT=1 the picture of folders, for graphviz.
set -euo pipefail
cd "${1:-.}/src"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LC_ALL=C

find . -name '*.[ch]' ! -name lua_text.h | sed 's|^\./||' | sort >"$work/files"
grep -v '^ *#' LAYERS | sed 's/:/ /' >"$work/layers"

# "from to" of our own headers; those that are named without a folder lie beside load.c
sed 's|^|./|' "$work/files" | xargs grep -Ho '^#include "[^"]*"' | sed 's|^\./||; s|:#include "| |; s|"$||' >"$work/named"
awk 'NR == FNR { there[$1]; next } $2 in there' "$work/files" "$work/named" >"$work/includes"

# "from to name" of what is called
find . -name '*.o' | sed 's|^\./||' | sort >"$work/objects"
xargs nm -A -P <"$work/objects" | sed 's/\.o: / /' >"$work/symbols"
awk '$3 ~ /^[TBDRC]$/ { print $2, $1 ".c" }' "$work/symbols" | sort >"$work/defined"
awk '$3 == "U" { print $2, $1 ".c" }' "$work/symbols" | sort | join - "$work/defined" |
	awk '$2 != $3 { print $2, $3, $1 }' | sort >"$work/calls"

# A setting is declared by the file that starts its folder; to read one is no way back into it. Whoever calls
# nobody, or whom nobody calls, is in no circle: taken out until nobody can be, what is left are circles and
# what lies between them.
circles()
{
	awk '$3 !~ /^guc_/ { print $1, $2 }' "$work/calls" | sort -u | awk '
		{ from[NR] = $1; to[NR] = $2 }
		END {
			do {
				delete calls; delete called; gone = 0
				for (i in from) { calls[from[i]]; called[to[i]] }
				for (i in from) if (!(to[i] in calls) || !(from[i] in called)) { delete from[i]; delete to[i]; gone = 1 }
			} while (gone)
			for (i in from) print "circle", from[i], to[i]
		}'
}

may='function folder(path) { return path ~ /\// ? substr(path, 1, index(path, "/") - 1) : "" }
	NR == FNR { for (i = 2; i <= NF; i++) may[$1, $i]; may[$1, $1]; next }
	{ a = folder($1); b = folder($2) }'

findings()
{
	awk 'NF { for (i = 2; i <= NF; i++) if (!($i in above)) print "layers", $1, $i; above[$1] }' "$work/layers"
	awk 'NR == FNR { known[$1]; next } { f = $1; sub(/\/.*/, "", f) }
		!(f in known) && $1 !~ /^(load\.c|cache_aside\.h)$/ { print "place", $1 }' "$work/layers" "$work/files"
	awk "$may"' (a != "" ? $2 != "cache_aside.h" && !((a, b) in may) : $1 == "cache_aside.h") { print "include", $1, $2 }' "$work/layers" "$work/includes"
	awk "$may"' a != "" && !((a, b) in may) { print "call", $1, $2, $3 }' "$work/layers" "$work/calls"
	circles
	awk '$1 ~ /^ca_/ {
		n = split($2, part, "/"); file = part[n]; sub(/\.c$/, "", file)
		if (file == "init" ? $1 != "ca_" part[1] "_init" : $1 != "ca_" file && index($1, "ca_" file "_") != 1) print "name", $2, $1
	}' "$work/defined"
	xargs grep -lE '#include [<"](hiredis|openssl)' <"$work/files" | grep -v '^redis/' | sed 's/^/foreign /' || true
}

[ -s "$work/calls" ] || { echo 'There are no objects: build first.'; exit 1; }
findings | sort -u >"$work/found"
cat "$work/found"
[ -z "${LIST:-}" ] || exit 0
picture='function folder(path) { return path ~ /\// ? substr(path, 1, index(path, "/") - 1) : "" }
	{ a = folder($1); b = folder($2) } a == b || a == "" || b == "" { next }'
if [ -n "${DOT:-}" ]; then
	awk "$picture"' !((a, b) in seen) { seen[a, b]; print "\"" a "\" -> \"" b "\";" }' "$work/calls" |
		sort | { echo 'digraph layers { rankdir = BT;'; cat; echo '}'; }
fi
awk '{ print $1, $2 }' "$work/calls" | sort -u | awk "$picture"' { files++; if (!((a, b) in seen)) folders++; seen[a, b] }
	END { printf "%d dependencies of folders, made by %d of files; ", folders, files }'
echo "$(wc -l <"$work/found") findings"
[ ! -s "$work/found" ]
