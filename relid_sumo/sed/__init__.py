"""SED, Stationarity-Aware Expert Demonstrations: programs plan routes, the simulator scores them, feedback refines.

In the order of the data flow:

- `partition` groups the agents that plan together.
- `ask` writes the prompts (`facts`, `prompt`) and gets the answers from a provider (`providers`, `provider`, `mailbox`,
  `template`).
- `programs` takes the program from an answer (`answers`), gives it its input (`material`), runs it in a sandbox
  (`sandbox`, `program`), checks its plan (`plans`) and measures the driven plan (`feedback`); `attempt` joins the first
  four steps.
- `bench` drives plans in the simulator.
- `loop` runs the rounds, and remembers the best plan of each subset.
- `demonstrate` drives the best plans together and compares them with baselines; `demonstrations` is their file.
- `run_folder`, `results` and `stored` write and read the files of a run; `drawing` draws its routes.
- `run` connects all of these for one run; `settings` lists the settings.
"""
