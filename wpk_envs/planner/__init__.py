"""The inference planner: import a model, optimise its graph, choose an implementation per operator, run the plan."""
