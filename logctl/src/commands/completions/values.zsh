# Values of the mount: operations, points, and names of deleted files.

_logctl_values() { # KIND
    local value about
    local -a values shown directories shown_directories
    while IFS=$'\t' read -r value about; do
        if [[ $value == */ ]]; then
            directories+=("$value") shown_directories+=("$value  $about")
        else
            values+=("$value") shown+=("$value  $about")
        fi
    done < <(logctl complete-values "$1" -- "${(Q)PREFIX}" 2>/dev/null)
    local ret=1
    (( $#directories )) && compadd -V "logctl-$1" -l -S '' -d shown_directories -a directories && ret=0
    (( $#values )) && compadd -V "logctl-$1" -l -d shown -a values && ret=0
    return ret
}

# The blank before an action keeps _alternative from adding arguments of its own.
_logctl_operations() {
    _alternative 'operations:operation: _logctl_values operations' 'files:file:_files'
}

_logctl_points() {
    _logctl_values points
}

_logctl_deleted() {
    _alternative 'deleted:deleted file: _logctl_values deleted' 'files:file:_files'
}
