"""Agent and shim are killed together under load, again and again.

Nobody is left who knows the workers but the journal. The next agent finds them by pid, start time
and boot, and watches them by pidfd; how they end is unknown, never 0.
"""

from harness.kills import UNDER_WAY, UNKNOWN, Kills, code, kill_agent


def run(trial):
    kills = Kills(trial)
    kills.rounds(lambda node: kill_agent(node, also=[node.shim()]))
    exits = lambda number: [code(number), UNKNOWN]
    kills.close(exits, keepers_exit=UNKNOWN, repeats=UNDER_WAY)
