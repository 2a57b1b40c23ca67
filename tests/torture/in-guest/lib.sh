#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Functions of the suites in suites/. Each suite gets a directory to work in and the name of the
# side, raw or ours; its output is its log. To be sourced.

# Add a result: TEST ok|fail|skip [FINGERPRINT].
result() { printf '%s\t%s\t%s\n' "$1" "$2" "$(tr '\n\t' '  ' <<<"${3-}" | sed 's/ *$//')" >>"$RESULTS"; }

# A test that is a command or a function: TEST COMMAND...; it stops at its first error, and its
# output is the fingerprint. For suites without errexit, which a condition here would switch off.
try() {
    local test=$1 said status
    shift
    echo "--- $test"
    said=$(
        set -e
        "$@"
    )
    status=$?
    printf '%s\n' "$said"
    if ((status == 0)); then
        result "$test" ok "$said"
    else
        result "$test" fail "$said"
    fi
}

# The one of SHORT NORMAL LONG that this run wants.
sized() {
    case $TORTURE_SIZE in
    short) echo "$1" ;;
    long) echo "$3" ;;
    *) echo "$2" ;;
    esac
}
