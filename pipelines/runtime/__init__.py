"""What the jobs share: the dataflow's ends, a clean stop, retries, membership."""
