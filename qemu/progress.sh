#!/usr/bin/env bash
# How a step of the set-up reports that it begins, goes on and ends, with sizes and times. To be
# sourced, not run, by the scripts of qemu/ (through lib.sh) and of tests/.
#
#   set-up: NAME: begins; about 1.8 GB, 2 min
#   set-up: NAME: 20 s, 312 MB so far
#   set-up: NAME: done in 105 s, 1.8 GB

# Seconds between two lines of a step that goes on.
LFS_PROGRESS_SECONDS=${LFS_PROGRESS_SECONDS:-20}

# The descriptor that these lines go to: the standard error of the outermost script. A script that
# keeps the output of what it calls in a log, as "built" in tests/lib.sh does, so hides no step.
# A descriptor that was closed on the way (by sudo, for instance) is replaced by our own.
if ! [[ ${LFS_PROGRESS-} =~ ^[0-9]+$ ]] || ! { : >&"$LFS_PROGRESS"; } 2>/dev/null; then
    exec {LFS_PROGRESS}>&2
    export LFS_PROGRESS
fi

# Print one line about the set-up.
progress() { printf 'set-up: %s\n' "$*" >&"$LFS_PROGRESS"; }

# The size of $1, a file or a tree that may be growing, as 612 kB, 48 MB or 1.8 GB; nothing when it
# does not exist.
size_of() {
    { du -sxk -- "$1" 2>/dev/null || true; } | awk '
        $1 < 1000 { print $1 " kB"; exit }
        $1 < 1000000 { printf "%.0f MB\n", $1 / 1000; exit }
        { printf "%.1f GB\n", $1 / 1000000; exit }'
}

# begin_step NAME ABOUT [PATH]: say that step NAME begins. ABOUT is its size and time as expected,
# or empty; PATH is what it makes, whose size is reported. Every LFS_PROGRESS_SECONDS a line says
# that it goes on, until end_step or the end of this script.
begin_step() {
    step_name=$1 step_path=${3-} step_grows=${3-} step_start=$SECONDS
    progress "$1: begins${2:+; $2}"
    watch_step_from "$LFS_PROGRESS_SECONDS"
}

# The same for a step whose result is there and may be up to date: the first line comes only when it
# takes a while.
begin_update() {
    step_name=$1 step_path=${2-} step_grows='' step_start=$SECONDS
    watch_step_from 10
}

# Say after each interval how far the step is; $1 is the first interval. The end of its standard
# input, which this shell holds open, ends the watcher: by end_step or by the death of the shell.
watch_step_from() {
    exec {step_alive}> >(watch_step "$1" >/dev/null)
    step_watcher=$!
}

watch_step() {
    local wait=$1 size status=0
    while :; do
        read -r -t "$wait" || status=$?
        ((status > 128)) || return 0
        size=${step_grows:+$(size_of "$step_grows")}
        progress "$step_name: $((SECONDS - step_start)) s${size:+, $size so far}"
        wait=$LFS_PROGRESS_SECONDS status=0
    done
}

# Keep the watcher's life to the shell that began the step: to be called in a subshell that runs it.
leave_watcher() { exec {step_alive}>&-; }

# End the step's lines without a last one.
stop_watcher() {
    exec {step_alive}>&-
    wait "$step_watcher" || true
}

# Say that the step is done.
end_step() {
    local size
    stop_watcher
    size=${step_path:+$(size_of "$step_path")}
    progress "$step_name: done in $((SECONDS - step_start)) s${size:+, $size}"
}

# End the step with words of its own in place of its time and size.
end_step_as() {
    stop_watcher
    progress "$step_name: $1"
}
