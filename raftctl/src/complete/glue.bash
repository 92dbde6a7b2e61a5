# bash completion of raftctl; `raftctl completion bash` prints it.
_raftctl() {
    local line
    local -a lines=()
    COMPREPLY=()
    mapfile -t lines < <("$1" __complete --breaks "$COMP_WORDBREAKS" \
        --line "${COMP_LINE:0:COMP_POINT}" </dev/null 2>/dev/null)
    if [[ ${lines[0]-} == files ]]; then
        compopt -o default 2>/dev/null
        return
    fi
    for line in "${lines[@]:1}"; do
        COMPREPLY+=("${line%%$'\t'*}")
    done
    if ((${#COMPREPLY[@]} == 1)) && [[ ${COMPREPLY[0]} == *[/:=] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _raftctl raftctl
