# zsh completion of raftctl; `raftctl completion zsh` prints it.
_raftctl() {
    local line
    local -a lines plain open
    lines=("${(@f)$("${(Q)words[1]}" __complete -- "${(@Q)words[1,CURRENT]}" </dev/null 2>/dev/null)}")
    if [[ $lines[1] == files ]]; then
        _files
        return
    fi
    for line in "${(@)lines[2,-1]}"; do
        line=${line%%$'\t'*}
        if [[ $line == *[/:=] ]]; then
            open+=("$line")
        else
            plain+=("$line")
        fi
    done
    compadd -S '' -a -- open
    compadd -a -- plain
}
if (($+functions[compdef])); then
    compdef _raftctl raftctl
fi
