
# Values of the mount: operations, points, and names of deleted files.
function __logctl_values
    logctl complete-values $argv[1] -- (commandline -ct) 2>/dev/null
end

for verb in show undo diff revert log
    complete -c logctl -n "__fish_logctl_using_subcommand $verb" -k -a "(__logctl_values operations)"
end
for verb in restore cat versions
    complete -c logctl -n "__fish_logctl_using_subcommand $verb" -k -a "(__logctl_values deleted)"
end
complete -c logctl -n "__fish_logctl_using_subcommand mount-past" -k -a "(__logctl_values points)"
complete -c logctl -n "__fish_logctl_using_subcommand restore" -l to -x -k -a "(__logctl_values points)"
for verb in cat blame
    complete -c logctl -n "__fish_logctl_using_subcommand $verb" -l at -x -k -a "(__logctl_values points)"
end
for verb in revert log
    complete -c logctl -n "__fish_logctl_using_subcommand $verb" -l open -x -k -a "(__logctl_values operations)"
end
