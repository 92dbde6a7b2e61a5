source <(raftctl completion bash 2>/dev/null)
