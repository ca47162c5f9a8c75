"""A real SLURM of two nodes on this machine: its controller, two daemons, and munge."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "squeue", "runuser")
_KEY = Path("/etc/munge/munge.key")
_PATIENCE_SECONDS = 60
# A job of `urgent` pre-empts those of `main`, which are queued again.
_CONFIGURATION = """\
ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
MpiDefault=none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=2000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=2000
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=3
PartitionName=urgent Nodes=n1,n2 MaxTime=INFINITE PriorityTier=10
"""


def why_not() -> str:
    """Returns why no SLURM can be started here, or nothing."""
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: slurm-wlm and munge)"
    if os.getuid() != 0:
        return "only root can start munge and SLURM here"
    return "" if _KEY.exists() else f"there is no {_KEY}"


@contextmanager
def started(folder: Path) -> Iterator[dict[str, str]]:
    """Gives the environment in which SLURM's commands reach a cluster with its files in `folder`.

    Raises:
        TimeoutError: its nodes do not answer.
    """
    for name in ("state", "spool", "log", "run"):
        (folder / name).mkdir(parents=True)
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    shutil.chown(folder / "run", "munge")
    configuration = folder / "slurm.conf"
    configuration.write_text(
        _CONFIGURATION.format(folder=folder, host=socket.gethostname(), ports=_free_ports(3))
    )
    environment = os.environ | {"SLURM_CONF": str(configuration)}
    run = folder / "run"
    commands = [
        [
            *("runuser", "-u", "munge", "--", "munged", "-F", "--force"),
            f"--socket={run}/munge.socket",
            f"--key-file={_KEY}",
            f"--pid-file={run}/munged.pid",
            f"--log-file={run}/munged.log",
            f"--seed-file={run}/munged.seed",
        ],
        ["slurmctld", "-f", str(configuration), "-D"],
        ["slurmd", "-f", str(configuration), "-N", "n1", "-D"],
        ["slurmd", "-f", str(configuration), "-N", "n2", "-D"],
    ]
    processes: list[subprocess.Popen] = []
    try:
        for number, command in enumerate(commands):
            with open(folder / "log" / f"{number}.out", "w") as log:
                processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            time.sleep(1)
        _wait_for_nodes(environment)
        yield environment
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for_nodes(environment: dict[str, str]) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    command = ["srun", "--immediate=20", "--nodes=2", "true"]
    while subprocess.run(command, env=environment, capture_output=True).returncode:
        if time.monotonic() > until:
            raise TimeoutError("the nodes of SLURM do not answer")
        time.sleep(1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
