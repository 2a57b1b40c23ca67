#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# What the scripts in tests/ share. To be sourced in the project's directory.

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

# Run a make target quietly; its output is shown when it fails.
built() {
    local target=$1 log=build/log/make-$1.log start=$SECONDS
    mkdir -p build/log
    echo "building $target ..." >&2
    if ! "${MAKE:-make}" --no-print-directory "$target" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "${0##*/}: make $target failed; the whole output is in $log" >&2
        exit 1
    fi
    echo "$target: built in $((SECONDS - start)) s" >&2
}

# The stock kernel's name, from the module that was built for it.
kernel_release() {
    tr '\0' '\n' <"$(module_file)" | LC_ALL=C sed -n 's/^vermagic=\([^ ]*\).*/\1/p' | head -n 1
}

# Named, so that RUSTFLAGS is for the programs alone and not for their builds' own tools.
lfs_target=x86_64-unknown-linux-gnu

# Build the crate tests/$1 in the build root, as static programs.
in_root_cargo() {
    local crate=$1 log=build/log/cargo-$1.log start=$SECONDS
    mkdir -p build/log
    echo "building tests/$crate ..." >&2
    if ! (
        cd "tests/$crate"
        RUSTFLAGS='-C target-feature=+crt-static' ../../qemu/cargo "../../build/cargo-tests/$crate" \
            build --release --locked --target "$lfs_target"
    ) >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "${0##*/}: tests/$crate does not build; the whole output is in $log" >&2
        exit 1
    fi
    echo "tests/$crate: built in $((SECONDS - start)) s" >&2
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
