"""SED, Stationarity-Aware Expert Demonstrations: programs plan routes, the simulator judges, feedback refines them.

In the order of the job: `partition` (who plans together), `material` and `facts` (what is known), `prompt` (what is
asked), `llm`, `letters` and `template` (who answers), `answers` (the program in an answer), `sandbox` and `program`
(running it), `plans` (checking what it gave), `attempt` (these three in a row), `bench` (driving plans), `feedback`
(what that did), `loop` (rounds and samples), `demonstrate` (what the held plans are worth), `kept` and `report` (what
stays of it), `run` (all of it).
"""
