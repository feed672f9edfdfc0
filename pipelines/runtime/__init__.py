"""What every job runs on: the dataflow's ends, membership of a consumer group, a clean stop, retries."""
