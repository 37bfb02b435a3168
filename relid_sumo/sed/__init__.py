"""SED, Stationarity-Aware Expert Demonstrations: programs plan routes, the simulator judges them, feedback betters them.

Read in the order of the job: `partition` (who plans together), `prompt` (what is asked), `llm` (who is asked), `answers`
(the program in an answer), `sandbox` and `program` (running it), `plans` (checking what it gave), `feedback` (driving it
and what that did to the others), `loop` (rounds and samples), `report` (what came of it).
"""
