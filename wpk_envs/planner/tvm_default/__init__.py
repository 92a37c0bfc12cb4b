"""TVM's default schedule as a candidate: operators as TVM defines them, lowered as they are, not tuned."""
