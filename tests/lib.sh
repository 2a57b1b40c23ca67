#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# What the scripts in tests/ share. To be sourced in the project's directory.

# shellcheck source=qemu/progress.sh
. qemu/progress.sh

# Print the head comment of a script: its --help.
show_head() {
    awk 'NR > 2 && !/^#/ { exit } NR > 3 { sub(/^# ?/, ""); print }' "$1"
    exit 0
}

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
    if ! (leave_watcher && "$@") >"$log" 2>&1; then
        stop_watcher
        tail -n 40 "$log" >&2
        echo "${0##*/}: $name failed; the whole output is in $log" >&2
        exit 1
    fi
    if [[ $before && $before == "$(mark_of "$result")" ]]; then end_step 'up to date'; else end_step; fi
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
    cd "tests/$1" &&
        RUSTFLAGS='-C target-feature=+crt-static' ../../qemu/cargo "$target" build --release --locked --target "$lfs_target"
}

# Where in_root_cargo leaves program $2 of crate $1.
cargo_bin() { printf 'build/cargo-tests/%s/%s/release/%s\n' "$1" "$lfs_target" "$2"; }

# The module without its debug information, which would take longer to load than the rest; the
# file's path.
stripped_module() {
    local file=build/test/loggerfs.ko
    mkdir -p build/test
    qemu/build-in-root strip --strip-debug -o "$file" "$(module_file)"
    printf '%s\n' "$file"
}
