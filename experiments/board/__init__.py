"""What `experiments.leaderboard` is made of: submissions, how they are verified, and the table of accepted ones."""
