#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Functions of the scripts in tests/. To be sourced in the project's directory.

# shellcheck source=qemu/progress.sh
. qemu/progress.sh

# Print the head comment of a script: its --help.
show_head() {
    awk 'NR > 2 && !/^#/ { exit } NR > 3 { sub(/^# ?/, ""); print }' "$(script_path)"
    exit 0
}

# parse_options TABLE WORD...: read the words of the command line as the table says. Each of its lines
# is an option, NAME in capitals when it needs a value (NUMBER: a whole number above 0), and what it does:
#
#   --seed N seed               the variable is the value
#   --short short=yes           the variable is that word
#   --lower NAME lowers+        the array gets the value
#   --only NAME words+ --only   the array gets that word, and the value if there is one
#
# or several of these, with commas between them. --help prints the script's head.
parse_options() {
    local _table=$1 _line _kind _actions
    shift
    while (($#)); do
        _line=$(option_line "$1" <<<"$_table")
        if [[ $1 == --help || $1 == -h ]]; then
            show_head "$0"
        elif [[ ! $_line ]]; then
            echo "${0##*/}: unknown word '$1'; see $(script_path) --help" >&2
            exit 2
        fi
        read -r _kind _actions <<<"$_line"
        if [[ ! $_kind =~ ^[A-Z]+$ ]]; then
            option_actions "$_line"
        elif (($# == 1)); then
            echo "${0##*/}: $1 needs a value" >&2
            exit 1
        elif [[ $_kind == NUMBER && ! $2 =~ ^[1-9][0-9]{0,8}$ ]]; then
            echo "${0##*/}: $1 takes a whole number above 0, not '$2'" >&2
            exit 2
        else
            option_actions "$_actions" "$2"
            shift
        fi
        shift
    done
}

# What the table says of option $1.
option_line() { OPTION=$1 awk '$1 == ENVIRON["OPTION"] { $1 = ""; print; exit }'; }

# Do what an option's line says: ACTIONS [VALUE]. The names of its own are none that a table uses.
option_actions() {
    local _action _target _word _actions=()
    IFS=, read -r -a _actions <<<"$1"
    shift
    for _action in "${_actions[@]}"; do
        read -r _target _word <<<"$_action"
        case $_target in
        *=*) printf -v "${_target%%=*}" %s "${_target#*=}" ;;
        *+)
            local -n _array=${_target%+}
            _array+=(${_word:+"$_word"} "$@")
            unset -n _array
            ;;
        *) printf -v "$_target" %s "$1" ;;
        esac
    done
}

# This script's path in the project.
script_path() { realpath --relative-to=. -- "$(cd -- "$OLDPWD" && realpath -- "$0")"; }

# The kernel series that is built for.
series() { printf '%s\n' "${SERIES:-$(<qemu/series)}"; }

# Where loggerfs.ko comes to lie for this series.
module_file() {
    if [[ $(series) == "$(<qemu/series)" ]]; then
        echo build/loggerfs.ko
    else
        echo "build/$(series)/loggerfs.ko"
    fi
}

# Where the debug kernel's module comes to lie.
debug_module_file() {
    local file
    file=$(module_file)
    printf 'build/debug%s\n' "${file#build}"
}

# build_step NAME LOG RESULT COMMAND...: run COMMAND as a step of the set-up (qemu/progress.sh) that makes
# the file RESULT. Its output goes to LOG, and is shown when it fails.
build_step() {
    local name=$1 log=$2 result=$3 before
    shift 3
    mkdir -p "$(dirname -- "$log")"
    before=$(mark_of "$result")
    if [[ $before ]]; then begin_update "$name" "$result"; else begin_step "$name" '' "$result"; fi
    if ! (leave_watcher && LFS_STEP=$name "$@") >"$log" 2>&1; then
        stop_watcher
        tail -n 40 "$log" >&2
        echo "${0##*/}: $name failed; the whole output is in $log" >&2
        exit 1
    fi
    if [[ $before && $before == "$(mark_of "$result")" ]]; then end_step_as 'up to date'; else end_step; fi
}

# What changes when file $1 is made anew; nothing when there is none.
mark_of() { stat -c '%i %Y %s' -- "$1" 2>/dev/null || true; }

# Run a make target that builds.
built() {
    local result
    case $1 in
    module) result=$(module_file) ;;
    module-debug) result=$(debug_module_file) ;;
    logctl) result=build/cargo/$lfs_target/release/logctl ;;
    esac
    build_step "$1" "build/log/make-$1.log" "$result" "${MAKE:-make}" --no-print-directory "$1"
}

# choose_machine TIME: get what a guest needs, and find out once for all guests of this run whether KVM
# works. Without it the processor is emulated, and the run takes about TIME.
choose_machine() {
    qemu/guest >/dev/null
    LOGGERFS_ACCEL=$(qemu/run --accel)
    export LOGGERFS_ACCEL
    say_accel "$LOGGERFS_ACCEL" "$1"
}
say_accel() {
    [[ $1 == kvm ]] ||
        progress "no usable KVM: the guest's processor is emulated; what follows takes about $2 on two processors"
}

# The stock kernel's name, from the module that was built for it.
kernel_release() {
    tr '\0' '\n' <"$(module_file)" | LC_ALL=C sed -n 's/^vermagic=\([^ ]*\).*/\1/p' | head -n 1
}

# Named, so that RUSTFLAGS is for the programs alone and not for their builds' own tools.
lfs_target=x86_64-unknown-linux-gnu

# Build the crate tests/$1 in the build root, as static programs.
in_root_cargo() {
    build_step "tests/$1" "build/log/cargo-$1.log" "$(cargo_bin "$1" "lfs-${1/guest/tests}")" cargo_build "$1"
}
cargo_build() {
    local target=$PWD/build/cargo-tests/$1
    cd tests &&
        RUSTFLAGS='-C target-feature=+crt-static' ../qemu/cargo "$target" \
            build --release --locked --target "$lfs_target" --package "lfs-${1/guest/tests}"
}

# Where in_root_cargo leaves program $2 of crate $1.
cargo_bin() { printf 'build/cargo-tests/%s/%s/release/%s\n' "$1" "$lfs_target" "$2"; }

# The module without its debug information, which would take longer to load than the rest; the
# file's path.
stripped_module() {
    local file=build/test/loggerfs.ko
    mkdir -p build/test
    # Another script may pack the file for its guest meanwhile.
    qemu/build-in-root strip --strip-debug -o "$file.$$" "$(module_file)"
    mv -f "$file.$$" "$file"
    printf '%s\n' "$file"
}
