"""Where Dagster's runs and steps are pods: what these ask for, what fits, how they end, logs."""
