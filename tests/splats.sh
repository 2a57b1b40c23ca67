#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Finds and decodes the complaints of a debug kernel. To be sourced by tests/debug, which has
# set $kernel, the debug kernel's directory.
# shellcheck disable=SC2154  # see above

# Patterns that no sound kernel prints. The report of kmemleak is checked for the same ones as the
# log.
splat_words='BUG:|WARNING:|KASAN|UBSAN|ODEBUG:|Oops|general protection|kernel BUG at|refcount_t'
splat_words+='|possible circular|possible recursive|INFO: possible|INFO: task|suspicious RCU'
splat_words+='|inconsistent lock state|DEBUG_LOCKS_WARN_ON|(list_add|list_del) corruption'
splat_words+='|Busy inodes|still in use|blocked for more than|unreferenced object|panicked|Kernel panic'

# Write to DIR/splats every complaint of DIR/console.log and DIR/kmemleak, with the test during
# which it came; the frames of modules in MODULE-DIR get their lines.
splats() {
    local dir=$1
    find_splats "$dir" >"$dir/splats.raw"
    # A complaint that cannot be decoded counts all the same.
    decode "$2" <"$dir/splats.raw" >"$dir/splats" || true
    [[ -s $dir/splats ]] || cp -- "$dir/splats.raw" "$dir/splats"
}

# Each block begins at a bad line, and ends with its trace or where the next one begins.
find_splats() {
    {
        tr -d '\r' <"$1/console.log"
        if [[ -e $1/kmemleak ]]; then cat "$1/kmemleak"; fi
    } | awk -v words="$splat_words" '
        { sub(/^\[ *[0-9]+\.[0-9]+\]( *\[ *[TC][0-9]+\])? /, "") }
        /^lfs-tests: / { during = substr($0, 12); left = 0; next }
        # One report may say several bad words in its first lines.
        $0 ~ words && left < 247 {
            printf "%s--- during %s:\n", (n++ ? "\n" : ""), during
            left = 250
        }
        left { print; left-- }
        # The report of KASAN on the memory follows the trace.
        /<\/TASK>/ && left > 60 { left = 60 }
        /---\[ end trace|Kernel Offset:/ { left = 0 }'
}

# Lines and whole names in place of offsets and mangled names. Only the modules carry lines;
# the kernel's own frames keep their offsets.
decode() {
    local root
    root=$(qemu/debug-kernel --root)
    # shellcheck disable=SC2016  # the inner shell expands it
    LFS_ROOT=$root LFS_KERNEL_DIR=$kernel qemu/build-in-root env LLVM=-19 bash -c '
        /kernel/source/scripts/decode_stacktrace.sh /kernel/source/vmlinux "$PWD" "$1" 2>/dev/null | c++filt' \
        decode "$1" | sed -E 's/([a-z0-9_])\[[0-9a-f]{8,16}\]/\1/g'
}

splat_count() { grep -c '^--- during ' "$1/splats.raw" || true; }

# The first line of each complaint.
splat_heads() { awk '/^--- during / { getline; print }' "$1/splats"; }
