#!/usr/bin/env bash
# A SLURM cluster of this machine alone, for tests: .ci/slurm.sh start DIR [NODES], .ci/slurm.sh stop DIR. As root, with
# Debian's slurm-wlm and munge. All it writes is below DIR: export SLURM_CONF=DIR/slurm.conf to use it.
set -euo pipefail
action=$1 folder=$(realpath -m "$2")

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'; }

start() {
    mkdir -p "$folder"/{state,spool,munge}
    chmod 755 "$folder"
    chmod 700 "$folder/munge"
    dd if=/dev/urandom of="$folder/munge/key" bs=1 count=1024 status=none
    chmod 400 "$folder/munge/key"
    local cores memory
    cores=$(nproc --all)  # OMP_NUM_THREADS would be obeyed
    memory=$(($(free -m | awk '/^Mem:/ {print $2}') * 9 / 10))
    cat >"$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits until its credential has expired: by default two minutes.
AuthInfo=socket=$folder/munge/socket,cred_expire=5
SlurmctldPort=$(port)
SlurmdPort=$(port)
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
KillWait=10
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MaxArraySize=1001
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    export SLURM_CONF=$folder/slurm.conf
    munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" \
        --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"
    slurmctld -c
    slurmd -c
    for _ in $(seq 100); do
        sinfo --noheader --format=%t 2>/dev/null | grep -qx idle && return
        sleep 0.2
    done
    tail -n 5 "$folder"/*.log >&2
    stop
    echo "SLURM did not start: see $folder/*.log" >&2
    exit 1
}

stop() {
    export SLURM_CONF=$folder/slurm.conf
    scancel --user="$(id -u)" 2>/dev/null || true
    # No job runs any more, or what is left of it is ended by slurmd.
    for _ in $(seq 50); do
        [ -z "$(squeue --noheader 2>/dev/null)" ] && break
        sleep 0.2
    done
    for file in slurmd.pid slurmctld.pid munge/pid; do
        [ -f "$folder/$file" ] || continue
        pid=$(cat "$folder/$file")
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 50); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.2
        done
        kill -9 "$pid" 2>/dev/null || true
    done
}

"$action"
