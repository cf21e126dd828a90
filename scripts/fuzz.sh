#!/bin/bash
# fuzz.sh [target ...]: builds the fuzz targets of test/fuzz (all, or these) and runs each for
# FUZZ_SECONDS (60), FUZZ_JOBS (2) at a time. SEED=n repeats a run: the same inputs in the same order, as
# many as the time allows. See test/fuzz/fuzz.h.
#
# ENGINE=own       gcc's sanitizers and our driver (the default: it needs gcc alone, and repeats)
# ENGINE=libfuzzer clang's; finds more in long runs
# HEX=digits       runs the one target on this input instead
set -uo pipefail

cd "$(dirname "$0")/.."
export PG_CONFIG=${PG_CONFIG:-pg_config}
engine=${ENGINE:-own}
seconds=${FUZZ_SECONDS:-60}
seed=${SEED:-1}
jobs=${FUZZ_JOBS:-2}
out=${CA_WORK:-$(mktemp -d "${TMPDIR:-/tmp}/ca-fuzz.XXXXXX")}/fuzz-$engine
[ -n "${CA_WORK:-}" ] || trap 'rm -rf "$(dirname "$out")"' EXIT
trap 'kill $(jobs -p) 2>/dev/null; exit 130' INT TERM
names=("$@")
[ $# -gt 0 ] || names=($(basename -s .c test/fuzz/targets/*.c))

# Exit status 77: not possible here, as automake has it.
unable()
{
	echo "skipped: $1"
	exit 77
}

check_tools()
{
	local compiler=gcc flags=-fsanitize=address,undefined
	[ "$engine" = own ] || compiler=clang flags=-fsanitize=fuzzer,address,undefined
	command -v $compiler >/dev/null || unable "$compiler is not installed"
	echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' >"$out/probe.c"
	[ "$engine" != own ] || echo 'int main(void) { return 0; }' >>"$out/probe.c"
	$compiler $flags -o "$out/probe" "$out/probe.c" 2>/dev/null || unable "$compiler has no sanitizers here"
	[ -e "$("$PG_CONFIG" --pkglibdir)/libpgcommon.a" ] || [ -e "$("$PG_CONFIG" --libdir)/libpgcommon.a" ] ||
		unable "PostgreSQL was installed without libpgcommon.a"
}

build()
{
	make -s -j"$jobs" -f test/fuzz/Makefile "OUT=$out" "ENGINE=$engine" "${names[@]}" >"$out/build.log" 2>&1 && return
	cat "$out/build.log"
	echo "The fuzz targets do not build."
	exit 1
}

run() # target; what it says goes to a file
{
	local corpus=test/fuzz/corpus/$1 found=$out/$1.found words=() grown=$out/$1.corpus
	rm -f "$found"
	if [ "$engine" = own ]; then
		"$out/$1" "-seconds=$seconds" "-seed=$seed" "-artifact=$found" "$corpus"
	else
		[ ! -e "$corpus.dict" ] || words=("-dict=$corpus.dict")
		mkdir -p "$grown"
		"$out/$1" "-max_total_time=$seconds" "-seed=$seed" "-exact_artifact_path=$found" -timeout=10 \
			-max_len=20000 -print_final_stats=1 "${words[@]}" "$grown" "$corpus"
	fi >"$out/$1.log" 2>&1
	echo $? >"$out/$1.status"
}

report() # target
{
	local status=$(<"$out/$1.status") found=$out/$1.found
	if [ "$status" = 0 ]; then
		printf 'ok       fuzz/%-20s %s\n' "$1" \
			"$(grep -oE '^[0-9]+ inputs|number_of_executed_units: *[0-9]+' "$out/$1.log" | tail -n 1)"
		return
	fi
	failed=1
	printf 'FAILED   fuzz/%-20s seed %s\n' "$1" "$seed"
	grep -vE '^(#|INFO|stat::)' "$out/$1.log" | head -n 40 | sed 's/^/    /'
	[ -s "$found" ] || return
	echo "    To run this input again: make fuzz F=$1 HEX=$(od -An -v -tx1 "$found" | tr -d ' \n')"
}

mkdir -p "$out"
check_tools
build
failed=0
if [ -n "${HEX:-}" ]; then
	perl -e 'print pack("H*", shift)' "$HEX" >"$out/replayed"
	"$out/${names[0]}" "$out/replayed"
	exit
fi
for name in "${names[@]}"; do
	rm -f "$out/$name.status"
done
running=0
for name in "${names[@]}"; do
	run "$name" &
	running=$((running + 1))
	[ $running -lt "$jobs" ] || { wait -n; running=$((running - 1)); }
done
wait
for name in "${names[@]}"; do
	report "$name"
done
exit $failed
