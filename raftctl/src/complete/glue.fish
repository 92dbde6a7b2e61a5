# fish completion of raftctl; `raftctl completion fish` prints it.
function __raftctl_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l lines ($words[1] __complete -- $words "$current" </dev/null 2>/dev/null)
    if test "$lines[1]" = files
        __fish_complete_path "$current"
    else if test (count $lines) -gt 1
        printf '%s\n' $lines[2..-1]
    end
end
complete -c raftctl -f -a '(__raftctl_complete)'
