"""What cases are made of.

    cases ─▶ kills ─▶ trial ─▶ node ─▶ machine ─▶ link     the guest
    main ─┬─────────────┴──▶ disks ─┬─▶ host               this machine
          ├─▶ recipe ───────────────┘
          └─▶ requirements, places, log

A case gets a `Trial` and nothing else.
"""
