#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Results of tests, as tests/run and tests/debug gather and print them: a line for each in the
# file $results. To be sourced by a script that has set $results and $started.
# shellcheck disable=SC2154  # see above

# Add a result: WHERE NAME SECONDS ok|fail|skip REASON.
result() { printf '%s\t%s\t%s\t%s\t%s\n' "$@" >>"$results"; }

# The results of guest $1, of which all is in directory $2, or the one that says why there are none.
collect() {
    local name=$1 dir=$2 status
    status=$(<"$dir/status")
    if [[ -s $dir/results.tsv ]]; then
        # Every guest makes its lowers and takes them away.
        sed -E "s/^([a-z0-9]+\t(lower-made|nothing-left-behind))\t/\1-$name\t/" "$dir/results.tsv" >>"$results"
    else
        # The guest died: the results until then.
        sed -nE 's#^(ok|FAIL|skip) +([a-z0-9]+)/([^ ]+) \(([0-9.]+) s\):? ?(.*)#\2\t\3\t\4\t\1\t\5#p' \
            "$dir/output.log" | sed 's/\tFAIL\t/\tfail\t/' >>"$results"
    fi
    if [[ ! -s $dir/results.tsv ]] || ((status > 1)); then
        result "$name" guest 0 fail \
            "the guest ended with status $status: $(tail -n 20 "$dir/output.log" "$dir/errors.log" | tr '\n\t' '  ')"
    fi
}

# JUnit into file $1, for CI systems.
junit() {
    awk -F '\t' '
        function esc(s) { gsub(/&/, "\\&amp;", s); gsub(/</, "\\&lt;", s); gsub(/>/, "\\&gt;", s); gsub(/"/, "\\&quot;", s); gsub(/[\001-\010\013-\037]/, "?", s); return s }
        { n++; if ($4 == "fail") f++; if ($4 == "skip") s++
          line = sprintf("  <testcase classname=\"%s\" name=\"%s\" time=\"%s\"", esc($1), esc($2), $3)
          if ($4 == "fail") line = line "><failure message=\"" esc($5) "\"/></testcase>"
          else if ($4 == "skip") line = line "><skipped message=\"" esc($5) "\"/></testcase>"
          else line = line "/>"
          lines[n] = line }
        END { print "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
              printf "<testsuite name=\"loggerfs\" tests=\"%d\" failures=\"%d\" skipped=\"%d\">\n", n, f, s
              for (i = 1; i <= n; i++) print lines[i]
              print "</testsuite>" }' "$results" >"$1"
}

# Print failures and the last line, write JUnit to file $1; fails when a test did, or none ran.
sum_up() {
    local passed failed skipped
    junit "$1"
    awk -F '\t' '$4 == "fail" { printf "FAIL %s/%s (%s s): %s\n", $1, $2, $3, $5 }' "$results"
    skipped=$(awk -F '\t' '$4 == "skip"' "$results" | wc -l)
    passed=$(awk -F '\t' '$4 == "ok"' "$results" | wc -l)
    failed=$(awk -F '\t' '$4 == "fail"' "$results" | wc -l)
    echo "all tests: $((SECONDS - started)) s, $skipped skipped; results: $1" >&2
    echo "$passed passed, $failed failed"
    ((failed == 0 && passed > 0))
}
