# What the launchers share; sourced by them.

# usage COUNT ARGUMENTS...: unless there are that many, show the caller's usage line and exit 2.
usage() {
    if (($# - 1 < $1)); then
        echo "$(basename "$0"): error: usage:$(sed -n 's/^#   tools\/[a-z_.]*//p' "$0")" >&2
        exit 2
    fi
}

# launch TOOL PROCESSES ARGUMENTS...: run tools/TOOL in that many processes of this machine.
launch() {
    if ! [[ "$2" =~ ^[1-9][0-9]*$ ]]; then
        echo "$(basename "$0"): error: PROCESSES: got '$2'; it must be an integer >= 1" >&2
        exit 2
    fi
    exec "${PYTHON:-python}" -m torch.distributed.run \
        --nnodes="${NNODES:-1}" \
        --node-rank="${NODE_RANK:-0}" \
        --master-addr="${MASTER_ADDR:-127.0.0.1}" \
        --master-port="${PORT:-29500}" \
        --nproc-per-node="$2" \
        "$tools/$1" "${@:3}" --launcher pytorch
}
