# Values of the mount: operations, points, and names of deleted files.

# Appends the values of a kind that begin with a text to COMPREPLY, without the first CUT letters of each.
_logctl_values() { # KIND TEXT CUT
    local value about values=() shown=()
    while IFS=$'\t' read -r value about; do
        value=${value:$3}
        values+=("$value")
        shown+=("$value  ${about:0:${COLUMNS:-80}-${#value}-4}")
    done < <("${COMP_WORDS[0]}" "${mount[@]}" complete-values "$1" -- "$2" 2>/dev/null)
    # A list explains its values; a single value, or one of a menu, is inserted as it is.
    if [[ $1 != deleted && ${#values[@]} -gt 1 && ${COMP_TYPE:-9} -ne 37 && ${COMP_TYPE:-9} -ne 42 ]]; then
        COMPREPLY+=("${shown[@]}")
    else
        COMPREPLY+=("${values[@]}")
    fi
}

# The names of files, also of those that were deleted.
_logctl_deleted() { # TEXT
    local text=${1//[\\\"\']/}
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$text")
    _logctl_values deleted "$text" 0
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]]; then
        compopt -o nospace 2>/dev/null
    fi
}

# Sets `verb`, `place` (the index behind it) and `mount` from the words before the present one.
_logctl_verb() {
    local i word
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case $word in
        -m | --mount | --color)
            if [[ ${COMP_WORDS[i + 1]-} == '=' ]]; then ((i++)); fi
            ((i++))
            if [[ $word != --color && $i -lt $COMP_CWORD ]]; then
                mount=(--mount "${COMP_WORDS[i]//[\\\"\']/}")
            fi
            ;;
        -*) ;;
        *)
            place=$((i + 1))
            verb=$word
            # FILE COMMAND is the same as COMMAND FILE.
            if [[ " COMMANDS help " != *" $word "* ]]; then
                verb=FILE
                if ((place < COMP_CWORD)); then verb=${COMP_WORDS[place++]}; fi
            fi
            return
            ;;
        esac
    done
}

_logctl_completion() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} cut=0
    local verb='' place=0 mount=() kind=''
    COMPREPLY=()
    # readline takes `--to=12` for three words, and `@~3` for two.
    if [[ $cur == '=' ]]; then
        cur=''
    elif [[ $prev == '=' ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]-}
    elif [[ $cur == '@' ]]; then
        cut=$((${#cur} - ${#2}))
    elif [[ $prev == '@' ]]; then
        cur=@$cur prev=${COMP_WORDS[COMP_CWORD - 2]-}
        # It replaces $2, with the @ or without.
        cut=$((${#cur} - ${#2}))
    fi
    if [[ $prev == '=' ]]; then prev=${COMP_WORDS[COMP_CWORD - 3]-}; fi
    _logctl_verb
    case $verb,$prev in
    ,*) _logctl "$1" "$2" "$3" ;;
    FILE,*) mapfile -t COMPREPLY < <(compgen -W 'readlog revert status undo' -- "$cur") ;;
    *,--to | *,--at) kind=points ;;
    *,--open) kind=operations ;;
    *,--user) mapfile -t COMPREPLY < <(compgen -u -- "$cur") ;;
    *,--color) _logctl "$1" "$2" "$3" ;;
    *,-m | *,--mount | *,-o | *,--out | *,--by | *,--pid | *,--tree | *,--session | *,--since | *,--until | \
        *,--path | *,--last | *,--count | log,-n | versions,-n | deleted,-n) ;;
    *)
        case $verb,$cur in
        *,-*) _logctl "$1" "$2" "$3" ;;
        help,* | completions,*) _logctl "$1" "$2" "$3" ;;
        show,* | undo,* | diff,* | revert,* | log,*)
            # Other words are files, which the shell completes.
            if [[ -z $cur || $cur == [0-9@#]* ]]; then kind=operations; fi
            ;;
        restore,* | cat,* | versions,*) _logctl_deleted "$cur" ;;
        mount-past,*) if ((COMP_CWORD == place)); then kind=points; fi ;;
        run,*) if ((COMP_CWORD == place)); then mapfile -t COMPREPLY < <(compgen -c -- "$cur"); fi ;;
        esac
        ;;
    esac
    if [[ $kind ]]; then _logctl_values "$kind" "$cur" "$cut"; fi
}

if [[ ${BASH_VERSINFO[0]} -eq 4 && ${BASH_VERSINFO[1]} -ge 4 || ${BASH_VERSINFO[0]} -gt 4 ]]; then
    complete -F _logctl_completion -o nosort -o bashdefault -o default logctl
else
    complete -F _logctl_completion -o bashdefault -o default logctl
fi
