#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Functions of the cases in short/, calls/ and programs/. To be sourced.
#
# A case is a script that defines two functions and ends with `trial "$@"`:
#
#   prepare   makes the initial tree, in the present directory
#   act       does the operations; its output is compared between filesystems, so it
#             prints nothing that differs between two runs
#
# Both stop at their first error. Called as
#
#   CASE DIR            does both in a new directory in DIR, and prints PASS or FAIL
#   CASE DIR prepare    does one of them in DIR itself, as ./trials does
#
# A line `# trial: WORDS` is for ./trials:
#
#   again=no     do not act once more after the undo (it takes too long, or cannot)
#   alike=no     the trees of two runs differ (random numbers, times, in files)
#   times=strict after the undo every file has its modification time back
#   lowers=...   only over this one

trial() {
    local dir=${1?"a directory to work in"} phase=${2-} status=0 place
    case $phase in
    prepare | act) run_phase "$dir" "$phase" ;;
    *)
        place=$(mktemp -d "$dir/trial.XXXXXX")
        chmod 755 "$place"
        for phase in prepare act; do
            # A process of its own: after a condition, errexit would be off in a subshell.
            bash "$0" "$place" "$phase" || status=$?
            ((status == 0)) || break
        done
        chattr -R -f -i -a "$place" || true
        rm -rf -- "$place"
        case $status in
        0) echo PASS ;;
        77) echo SKIP ;;
        *) echo "FAIL (status $status)" && exit 1 ;;
        esac
        ;;
    esac
}

run_phase() {
    set -euo pipefail
    umask 022
    cd -- "$1"
    export HOME=/run/trial-home TMPDIR=/tmp LC_ALL=C.UTF-8 TZ=UTC
    mkdir -p "$HOME"
    "$2"
}

# The case cannot run here: a program is not there, or the filesystem does not have something.
skip() {
    echo "skipped: $*" >&2
    exit 77
}

need() {
    local program
    for program in "$@"; do
        type -P "$program" >/dev/null || skip "no $program"
    done
}

# The filesystem that the present directory is on must be one of these, through a mount of LoggerFS too.
need_lower() { [[ " $* " == *" ${TRIALS_LOWER:-$(stat -f -c %T .)} "* ]] || skip "not over ${TRIALS_LOWER-}"; }

# Fail with a sentence.
fail() {
    echo "FAIL: $*"
    exit 1
}

# Print the exit status of a command, without its output.
status_of() {
    local status=0
    "$@" >/dev/null 2>&1 || status=$?
    echo "status $status: $*"
}

# Some files and directories, of $1 files.
some_tree() {
    local n
    for ((n = 0; n < $1; n++)); do
        mkdir -p "d$((n % 3))/e$((n % 2))"
        printf 'file %d\n%s\n' "$n" "$(printf '%*s' $((n * 37 % 300)) '' | tr ' ' x)" >"d$((n % 3))/e$((n % 2))/f$n"
    done
}

# Wait until a command succeeds, 60 seconds at most.
wait_for() {
    local n
    for ((n = 0; n < 300; n++)); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.2
    done
    fail "waited in vain for: $*"
}

# Python with calls.py at hand; its program is standard input.
python() { PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$lib_dir python3 -S -; }
lib_dir=$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")
