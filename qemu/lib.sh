#!/usr/bin/env bash
# What all scripts in qemu/ share: where the cache is, how a step reports its
# progress, how an error is said, and how one cached thing is made exactly once.
# To be sourced, not run.

# shellcheck disable=SC2034  # the scripts that source this file use these
LFS_QEMU=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
LFS_PROJECT=$(dirname -- "$LFS_QEMU")
LFS_CACHE=${LOGGERFS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/loggerfs}
LFS_SUITE=trixie
LFS_ARCH=amd64
LFS_FLAVOUR=cloud-amd64
# shellcheck source=qemu/progress.sh
. "$LFS_QEMU/progress.sh"

# Say one sentence on stderr.
say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# Say what happened and what to do, and stop with status 1.
die() {
    say "$*"
    exit 1
}

# Print the head comment of the calling script: its --help.
show_help() {
    awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$1"
    exit 0
}

# step NAME ABOUT PATH COMMAND...: run COMMAND as a step of the set-up (progress.sh); its output goes
# to a log whose end is shown when it fails.
step() {
    local name=$1 log=$LFS_CACHE/log/${1//[^A-Za-z0-9.]/-}.log status=0
    mkdir -p "$LFS_CACHE/log"
    begin_step "$1" "$2" "$3"
    shift 3
    # Not "if ! ...": a condition would switch off errexit in what it runs.
    set +e
    (
        set -e
        leave_watcher
        "$@"
    ) >"$log" 2>&1 </dev/null
    status=$?
    set -e
    if ((status != 0)); then
        stop_watcher
        tail -n 25 "$log" >&2
        die "$name failed after $((SECONDS - step_start)) s; the whole output is in $log; run the command again to resume."
    fi
    end_step
}

# Hash of standard input and of the named files, short enough for a file name.
hash_of() { { cat "$@" -; } | sha256sum | cut -c1-12; }

# The non-comment lines of a package list, joined by commas.
package_list() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$1" | tr -d ' ' | sort -u | paste -sd, -; }

# make_once TARGET FUNCTION: unless TARGET exists, call FUNCTION with a scratch
# path beside it and move the result into place; two runs never collide.
# TARGET must be a path in the cache. Leftovers of killed runs are removed.
make_once() {
    local target=$1 make=$2 part=$1.part lock
    [[ -e $target ]] && return 0
    mkdir -p "$(dirname -- "$target")" "$LFS_CACHE/lock"
    exec {lock}>"$LFS_CACHE/lock/$(basename -- "$target")"
    if ! flock -n "$lock"; then
        begin_step "waiting for another run that makes $(basename -- "$target")" '' "$part"
        flock "$lock"
        end_step
    fi
    if [[ ! -e $target ]]; then
        rm -rf --one-file-system -- "$part"
        "$make" "$part"
        sync -f "$(dirname -- "$part")"
        mv -T -- "$part" "$target"
    fi
    exec {lock}>&-
}

# When root works for a user through sudo, let that user use the cache too.
share_cache() {
    [[ ${SUDO_UID-} ]] || return 0
    chown "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$LFS_CACHE" "$LFS_CACHE"/{lock,log} 2>/dev/null || true
}

# Stop unless run by root, who alone can make and enter a build root.
need_root() {
    ((EUID == 0)) || die "making or entering the Debian build root needs root; run this command as root (for example with sudo -E)."
}

# Stop unless the cache's disk has $1 MiB free.
need_space() {
    local free
    mkdir -p "$LFS_CACHE" || die "cannot make the cache directory $LFS_CACHE; set LOGGERFS_CACHE to a directory you can write."
    free=$(df -BM --output=avail "$LFS_CACHE" | tr -dc '0-9\n' | tail -n 1)
    ((free >= $1)) || die "only $free MiB are free in $LFS_CACHE and $1 MiB are needed; free some space or set LOGGERFS_CACHE to a larger disk."
}

# need_host_packages PACKAGE=FILE...: install the packages whose FILE (a command
# or an absolute path) is missing; without root, name them exactly.
need_host_packages() {
    local pair file missing=()
    for pair in "$@"; do
        file=${pair#*=}
        if [[ $file == /* ]]; then
            [[ -e $file ]] || missing+=("${pair%%=*}")
        else
            PATH=$PATH:/usr/sbin:/sbin type -P "$file" >/dev/null || missing+=("${pair%%=*}")
        fi
    done
    ((${#missing[@]} == 0)) && return 0
    ((EUID == 0)) || die "this machine lacks ${missing[*]}; have root run: apt-get install ${missing[*]}"
    type -P apt-get >/dev/null || die "this machine lacks ${missing[*]} and has no apt-get; install them with its own package manager."
    step "installing on this machine: ${missing[*]}" '' '' install_host_packages "${missing[@]}"
}

install_host_packages() {
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600)
    "${apt[@]}" update
    "${apt[@]}" install -y --no-install-recommends "$@"
}

# The kernel series to build for: SERIES in the environment, or qemu/series.
kernel_series() {
    local series
    series=${SERIES:-$(<"$LFS_QEMU/series")}
    [[ $series =~ ^[0-9]+\.[0-9]+$ ]] || die "'$series' is no kernel series; write one such as 7.2 into qemu/series or into SERIES."
    printf '%s\n' "$series"
}
