#!/bin/bash
# run-tests.sh: every test of the copy we stand in; see private.sh. One line per test, logs of what
# failed, and at the end "N passed, N failed". A regress script, an isolation spec, a TAP file, the
# format check, the checks of layers and of docs, each strict build and each fuzz target count as one test.
#
# T=word runs those whose name contains the word, ONLY=fills/ those of that folder of test/t; REGRESS=, ISOLATION= and
# TAP= (names, without suffix) select exactly. VERBOSE=1 prints all output. SERVER=/path/redis-server takes that Redis (or
# Valkey), and runs what test/redis-facing lists, unless something else is selected.
#
# JOBS=n TAP files at a time, those first that take long. They wait most of the time: what needs the processors alone
# (builds, fuzz targets) runs beside them, one after the other and with less right to the processors.
set -uo pipefail

logs=$CA_WORK/logs
rm -rf "$logs"
mkdir -p "$logs"
: >"$logs/verdicts"
jobs=${JOBS:-$(n=$(nproc); echo $((n > 4 ? 5 : n + 2)))} # most of a test is waiting
pgxs=$(dirname "$("$PG_CONFIG" --pgxs)")/../..
if [ -n "${SERVER:-}" ]; then
	server=$("$SERVER" --version) || exit 1
	[ -n "${REGRESS+x}${ISOLATION+x}${TAP+x}${T:-}${ONLY:-}" ] || TAP=$(awk -v major="$(sed 's/.*v=\([0-9]*\).*/\1/' <<<"$server")" '/^[a-z]/ && major >= $2 + 0 { print $1 }' test/redis-facing)
fi
chosen=${REGRESS+x}${ISOLATION+x}${TAP+x} # not empty: exactly these

report() # verdict, name, seconds or reason
{
	echo "$1" >>"$logs/verdicts"
	printf '%-8s %-52s %s\n' "$1" "$2" "$3"
}

count() { grep -cxF "$1" "$logs/verdicts"; }

# Prints what comes, as a whole: two may have something to say.
printed()
{
	local text
	text=$(cat)
	[ -z "$text" ] || flock "$logs/printing" cat <<<"$text"
}

show() # title, file, lines
{
	[ -s "$2" ] || return 0
	echo "    ---- $1"
	tail -n "${3:-60}" "$2" | sed 's/^/    /'
}

# Names to run of one kind: selected exactly, by T, or all that were found.
names() # selection, folder, suffix
{
	local name
	if [ -n "$chosen" ]; then
		printf '%s\n' $1
		return
	fi
	(cd "$2" && find * -name "*$3" | LC_ALL=C sort) | while read -r name; do
		name=${name%"$3"}
		case $name in "${ONLY:-}"*"${T:-}"*) echo "$name" ;; esac
	done
}

wanted_extra() # name of a test that is not a file
{
	[ -z "$chosen" ] && case $1 in "${ONLY:-}"*"${T:-}"*) true ;; *) false ;; esac
}

# pg_regress writes "test x ... ok 12 ms" up to 15 and "ok 1 - x 12 ms" since.
run_regress() # kind, make variable, names
{
	local kind=$1 variable=$2 names=$3 log=$logs/$1.log name line verdict
	[ -n "$names" ] || return 0
	make -s installcheck "PG_CONFIG=$PG_CONFIG" REGRESS= ISOLATION= TAP_TESTS= \
		"$variable=$(echo $names)" >"$log" 2>&1
	for name in $names; do
		line=$(grep -E "^(test $name +\.\.\.|(not )?ok [0-9]+ +- $name )" "$log" | tail -n 1)
		case $line in
			"test $name "*" ok "* | ok\ *) verdict=ok ;;
			*) verdict=FAILED ;;
		esac
		report $verdict "$kind/$name" "$(grep -oE '[0-9.]+ ms' <<<"$line")"
	done
	if grep -qE '^test .*FAILED|^not ok' "$log"; then
		[ ! -f regression.diffs ] || show "differences" regression.diffs 400
	elif ! grep -qE '^test .* ok |^ok ' "$log"; then
		show "output" "$log"
		show "initdb" log/initdb.log 5
		show "server log" log/postmaster.log 20
	fi
	if grep -qE 'TRAP:|PANIC|terminated by signal' log/postmaster.log 2>/dev/null; then
		show "server log" log/postmaster.log 200
	fi
	[ -z "${VERBOSE:-}" ] || cat "$log"
	rm -rf tmp_check tmp_check_iso regression.diffs
	[ ! -d log ] || mv log "$logs/$kind"
}

# One TAP file, its servers and logs in a directory of its own. The verdict goes to a file. One that hangs is
# ended: the others are to be judged all the same.
run_tap()
{
	local name=$1 dir=$logs/$1 started=$SECONDS
	mkdir -p "$dir"
	TESTDIR=$dir PGPORT=65432 PGCTLTIMEOUT=180 PG_REGRESS=$pgxs/src/test/regress/pg_regress top_builddir=. \
		TESTDATADIR=$dir/tmp_check TESTLOGDIR=$dir/tmp_check/log \
		timeout -k 30 600 prove -v -I "$pgxs/src/test/perl" -I test/perl "test/t/$name.pl" >"$dir/output" 2>&1 </dev/null
	echo "$? $((SECONDS - started))" >"$dir/verdict"
}

report_tap()
{
	local name=$1 dir=$logs/$1 status seconds file
	read -r status seconds <"$dir/verdict"
	if [ "$status" != 0 ]; then
		report FAILED "t/$name" "$seconds s"
		grep -vE '^ok ' "$dir/output" | tail -n 100 | sed 's/^/    /'
		show "the test's own log" "$dir/tmp_check/log/regress_log_${name##*/}" 15
		for file in "$dir"/tmp_check/log/*.log; do
			show "$(basename "$file")" "$file" 25
		done
	elif grep -qE "^skipped: |\.\. skipped" "$dir/output"; then
		report skipped "t/$name" "$(grep -oE 'skipped: .*|SKIP .*' "$dir/output" | head -n 1)"
	else
		report ok "t/$name" "$seconds s"
	fi
	[ -z "${VERBOSE:-}" ] || cat "$dir/output"
	[ "$status" != 0 ] || rm -rf "$dir/tmp_check"
}

# What is selected of the TAP files. Those that take longest say so in a line of their own and come first, lest
# one of them is begun when all others have ended.
taps()
{
	local all long
	all=$(names "${TAP:-}" test/t .pl)
	long=$(cd test/t && grep -lx '# Begun early: it takes long.' */*.pl | sed 's/\.pl$//')
	grep -xF "$long" <<<"$all"
	grep -vxF "$long" <<<"$all"
}

run_taps()
{
	local name running=()
	for name in "$@"; do
		run_tap "$name" &
		running+=("$name")
		while [ ${#running[@]} -ge "$jobs" ]; do reap; done
	done
	while [ ${#running[@]} -gt 0 ]; do reap; done
}

reap() # waits for one of run_taps' running files to end
{
	local name left=()
	wait -n
	for name in "${running[@]}"; do
		if [ -e "$logs/$name/verdict" ]; then report_tap "$name" | printed; else left+=("$name"); fi
	done
	running=(${left[@]+"${left[@]}"})
}

# Checks that are no server tests: done when the tool is there.
run_check() # name, tool, command ...
{
	local name=$1 tool=$2 started=$SECONDS
	shift 2
	wanted_extra "$name" || return 0
	if ! command -v "$tool" >/dev/null; then
		report skipped "$name" "$tool is not installed"
	elif "$@" >"$logs/$name.log" 2>&1; then
		report ok "$name" "$((SECONDS - started)) s"
	else
		report FAILED "$name" ''
		show "output" "$logs/$name.log" 60
	fi
}

# Every fuzz target as one test, 10 seconds of a processor each, two at a time.
run_fuzz()
{
	local names=() name line status
	for name in $(basename -s .c test/fuzz/targets/*.c); do
		! wanted_extra "fuzz/$name" || names+=("$name")
	done
	[ ${#names[@]} -gt 0 ] || return 0
	FUZZ_SECONDS=${FUZZ_SECONDS:-10} bash scripts/fuzz.sh "${names[@]}" >"$logs/fuzz.log" 2>&1
	status=$?
	for name in "${names[@]}"; do
		line=$(grep -E "^(ok|FAILED) +fuzz/$name " "$logs/fuzz.log")
		case $status:$line in
			77:*) report skipped "fuzz/$name" "$(sed -n 's/^skipped: //p' "$logs/fuzz.log")" ;;
			*:ok*) report ok "fuzz/$name" "$(sed 's/^ok *[^ ]* *//' <<<"$line")" ;;
			*) report FAILED "fuzz/$name" '' ;;
		esac
	done
	[ $status = 0 ] || [ $status = 77 ] || show "output" "$logs/fuzz.log" 200
}

children_end()
{
	trap - INT TERM
	kill $(jobs -p) 2>/dev/null
	wait
	exit 130
}
trap children_end INT TERM

# Versions of clang-format do not agree with each other; one is the measure.
case $(clang-format --version 2>/dev/null) in
	*' version 14.'*) run_check format clang-format bash scripts/format.sh ;;
	*) ! wanted_extra format || report skipped format 'needs clang-format 14' ;;
esac
run_check layers nm bash scripts/check-layers.sh .
run_check docs perl perl scripts/check-docs.pl .
run_check shared perl perl scripts/check-shared.pl .
{
	renice -n 3 -p $BASHPID >/dev/null # more, and it would not get on where others work, too
	run_check strict-gcc gcc bash scripts/lint.sh gcc | printed
	run_check strict-clang clang bash scripts/lint.sh clang | printed
	run_fuzz | printed
} &
run_regress regress REGRESS "$(names "${REGRESS:-}" test/sql .sql)" | printed
run_regress isolation ISOLATION "$(names "${ISOLATION:-}" test/specs .spec)" | printed
run_taps $(taps)
wait

passed=$(count ok)
failed=$(count FAILED)
skipped=$(count skipped)
if [ $((passed + failed + skipped)) = 0 ]; then
	echo "No test has that name."
	exit 1
fi
summary="$passed passed, $failed failed"
[ $skipped = 0 ] || summary="$summary, $skipped skipped"
[ -z "${server:-}" ] || echo "With $server:"
echo "$summary"
[ $failed = 0 ]
