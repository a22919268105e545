"""The agent is killed under load, again and again; systemd starts another.

The shim lives, so the next agent learns how every worker ended meanwhile. An end may be reported
twice only if its report was under way when the agent was killed.
"""

from harness.kills import UNDER_WAY, Kills, code, kill_agent


def run(trial):
    kills = Kills(trial)
    kills.rounds(kill_agent)
    exits = lambda number: [code(number)]
    kills.close(exits, keepers_exit=code(0), repeats=UNDER_WAY)
