#!/bin/sh
# Prints what an agent wrote, for cache_aside.redis_credential_command: redis-credential.sh FILE
#
# FILE has lines "user NAME", "password SECRET" and "lease SECONDS", as redis.ctmpl renders them. The agent writes it anew
# before the lease ends; what is left of the lease is counted from the time of the file. A file that others may read
# is refused, and so is one whose lease has ended: the agent does not run any more.
set -eu
export LC_ALL=C

die()
{
	echo "$*" >&2
	exit 1
}

file=${1:?"usage: $0 FILE"}
[ -f "$file" ] || die "$file is not there: does the agent run?"
case $(stat -c %A "$file") in
	-??????---) ;;
	*) die "$file can be read by everybody: set perms = \"0640\" in the template" ;;
esac
# As one: the agent replaces the file as a whole.
lines=$(cat "$file")
written=$(stat -c %Y "$file")
lease=$(printf '%s\n' "$lines" | sed -n 's/^lease \([0-9][0-9]*\)$/\1/p')
if [ -n "$lease" ]; then
	left=$((written + lease - $(date +%s)))
	[ $left -gt 0 ] || die "the lease of $file ended $((-left)) seconds ago: does the agent run?"
fi
printf '%s\n' "$lines" | grep -E '^(user|password) '
[ -z "$lease" ] || echo "expires $left"
