"""A worker eats memory until the kernel kills it.

First against the limit of the unit, then against one of its own cgroup, if that has the memory
controller. The kernel takes the worker and nobody else: the agent is the same process
(`OOMPolicy=continue`), the other worker goes on, the slots are free again. Where the worker's
cgroup counts what the kernel kills, its end is told as out of memory.
"""

UNIT = "arroyo-node"
CGROUP = "/sys/fs/cgroup/system.slice/arroyo-node.service"
EAT = "until [ -e /run/{name} ]; do sleep 0.2; done; exec tail /dev/zero"


def run(trial):
    node = trial.node()
    keeper = node.start("keep")
    agent = node.pid()

    eater = start_eater(node, "unit")
    told = "oom_killed" if node.control_file(eater, "memory.events") else "signal"
    used = int(node.machine.run(f"cat {CGROUP}/memory.current"))
    node.machine.run(f"systemctl set-property --runtime {UNIT} MemoryMax={used + (100 << 20)}")
    expect_oom(trial, node, eater, "unit", told)
    node.machine.run(f"systemctl set-property --runtime {UNIT} MemoryMax=infinity")

    eater = start_eater(node, "worker")
    limit = node.control_file(eater, "memory.max")
    if limit:
        node.machine.run(f"echo 32M > {limit}")
        expect_oom(trial, node, eater, "worker", told)
    else:
        trial.leave_out("memory.max of a worker, which has none of its own")
        node.stop(eater, force=True)

    trial.expect(node.pid() == agent, "the agent is the same")
    trial.expect(set(node.alive()) == {keeper}, "the other worker goes on")
    status = node.status()
    trial.expect(status["free_slots"] == status["task_slots"] - 1, "the slots are free again")


def start_eater(node, name):
    return node.start(f"eats-{name}", WORKER_SCRIPT=EAT.format(name=name))


def expect_oom(trial, node, eater, name, told):
    node.machine.run(f"touch /run/{name}")
    exit = node.wait_for_end(eater)["exit"]
    kernel = node.machine.run("dmesg | grep -i 'out of memory' | tail -1")
    trial.expect("(tail)" in kernel, "the kernel has killed it for memory", kernel)
    trial.expect(exit["how"] == told, f"its end is told as {told}", exit)
