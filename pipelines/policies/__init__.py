"""What people do with policies: train, evaluate, compare, promote, train again."""
