"""The shim is killed under load, again and again; the agent starts another.

Workers live on without their parent. This kernel (6.1) does not tell a stranger's exit status by
pidfd, so the end of such a worker is unknown; it is never told as 0. No report is sent twice.
"""

from harness.kills import UNKNOWN, Kills, code


def run(trial):
    kills = Kills(trial)
    kills.rounds(lambda node: kill_shim(trial, node))
    exits = lambda number: [code(number), UNKNOWN]
    kills.close(exits, keepers_exit=UNKNOWN, repeats=0)


def kill_shim(trial, node):
    shim, agent = node.shim(), node.pid()
    node.machine.run(f"kill -9 {shim}")
    trial.wait_until("there is another shim", lambda: shims(node) - {shim})
    trial.expect(node.pid() == agent, "the agent is the same")


def shims(node):
    return {process["pid"] for process in node.processes() if process["words"][1:2] == ["shim"]}
