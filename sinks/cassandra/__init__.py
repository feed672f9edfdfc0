"""The index and the policy store on Cassandra."""
